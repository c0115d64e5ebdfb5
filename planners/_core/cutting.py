"""Long results: the beginning and the end are shown, and how to get at what lies between.

The way on (`next_cursor`, `has_more`, a total) often stands at the end. What is JSON is cut between
the items of its longest list, any other text between lines.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

# Below this limit, in characters, an end would be too short to say anything.
_BOTH: Final = 1_000
# The part of a limit that the beginning gets: 14,000 of 20,000.
_HEAD: Final = 0.7
# A border is looked for in the last part of the beginning, and the first of the end.
_NEAR: Final = 0.25
_BLANK: Final = " \t\r\n"


@dataclass(frozen=True, slots=True)
class Cut:
    """Where a text is cut, and what is left out: `first` and `last` are positions of items."""

    head: int
    tail: int
    path: str | None = None
    first: int = 0
    last: int = 0
    count: int = 0


# How a result is referred to: a part of it, and all of it.
IN_JSON: Final = (
    '{{"$ref": "{}"}} passes the first of them',
    '{{"$ref": "{}"}} passes the whole value on',
)
IN_TEXT: Final = ("${{{}}} is the first of them", "${} is the whole value")


def cut(text: str, limit: int | None, number: int | None, forms: tuple[str, str] = IN_JSON) -> str:
    """Return a text of at most `limit` characters, and a note if there was more.

    `number` is that of the call, None where its value cannot be referred to.
    """
    if limit is None or len(text) <= limit:
        return text
    if limit < _BOTH:
        return f"{text[:limit]}\n{_note(text, Cut(limit, len(text)), number, forms)}"
    found = _between_items(text, limit) or _between_lines(text, limit)
    end = text[found.tail :]
    return f"{text[: found.head]}\n{_note(text, found, number, forms)}\n{end}"


def _note(text: str, found: Cut, number: int | None, forms: tuple[str, str]) -> str:
    shown = found.head + len(text) - found.tail
    told = [f"cut: {shown} of {len(text)} characters shown"]
    if found.path is not None:
        place = f" of {found.path.removeprefix('.')!r}" if found.path else ""
        told.append(f"items {found.first} to {found.last} of {found.count}{place} are not shown")
    if number is not None:
        if found.path is not None:
            told.append(forms[0].format(f"{number}{found.path}[{found.first}]"))
        told.append(forms[1].format(number))
    return f"[{'; '.join(told)}]"


def _between_lines(text: str, limit: int) -> Cut:
    head = int(limit * _HEAD)
    tail = len(text) - (limit - head)
    before = text.rfind("\n", int(head * (1 - _NEAR)), head)
    behind = text.find("\n", tail, tail + int((limit - head) * _NEAR))
    return Cut(head if before < 0 else before, tail if behind < 0 else behind + 1)


def _between_items(text: str, limit: int) -> Cut | None:
    """Return where to cut between the items of the longest list, None if there is no such place."""
    found = _longest_list(text)
    if found is None:
        return None
    path, spans = found
    head = int(limit * _HEAD)
    tail = len(text) - (limit - head)
    kept = [index for index, (_, end) in enumerate(spans) if end <= head]
    shown = [index for index, (start, _) in enumerate(spans) if start >= tail]
    first = kept[-1] + 1 if kept else 0
    beyond = shown[0] if shown else len(spans)
    if not kept or first >= beyond:
        return None  # one item alone is longer than what is shown, or all lie in one part
    end = spans[first - 1][1]
    begin = spans[beyond][0] if shown else spans[-1][1]
    if begin < tail:  # the list ends before the last part: what is behind it is cut by lines
        begin = max(tail, spans[-1][1])
    return Cut(end, begin, path, first, beyond - 1, len(spans))


def _longest_list(text: str) -> tuple[str, list[tuple[int, int]]] | None:
    """Return the path and the spans of the items of the longest list in a JSON text."""
    start = _skip(text, 0)
    try:
        if text[start : start + 1] == "[":
            return "", [(begin, end) for _, begin, end in _members(text, start)]
        if text[start : start + 1] != "{":
            return None
        lists = [
            (end - begin, key, begin)
            for key, begin, end in _members(text, start)
            if text[begin] == "["
        ]
        if not lists:
            return None
        _, key, begin = max(lists)
        plain = key.isascii() and key.replace("_", "").replace("-", "").isalnum()
        path = f".{key}" if plain else f"[{json.dumps(key)}]"
        return path, [(inner, end) for _, inner, end in _members(text, begin)]
    except (ValueError, RecursionError, IndexError):
        return None


def _members(text: str, start: int) -> Iterator[tuple[str, int, int]]:
    """Yield key, begin and end of each member of the JSON array or object that starts there."""
    decode = json.JSONDecoder().raw_decode
    is_object = text[start] == "{"
    place = _skip(text, start + 1)
    while text[place] not in "]}":
        key = ""
        if is_object:
            key, place = decode(text, place)
            place = _skip(text, _skip(text, place) + 1)
        _, end = decode(text, place)
        yield key, place, end
        place = _skip(text, end)
        if text[place] == ",":
            place = _skip(text, place + 1)


def _skip(text: str, place: int) -> int:
    while text[place : place + 1] and text[place] in _BLANK:
        place += 1
    return place
