"""The program in a model's text: fenced blocks, as models write them."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Final, NamedTuple

from dagexec.programs import identifier

_FENCE: Final = re.compile(r"^ {0,3}(```+|~~~+)[ \t]*([\w.+-]*)([^\n]*)$", re.MULTILINE)
_THOUGHT: Final = re.compile(r"<think(?:ing)?>.*?(?:</think(?:ing)?>|\Z)", re.DOTALL)
_OURS: Final = "program"
_PYTHON: Final = frozenset({"python", "py", "python3", "tool_code"})


def program_in(text: str, functions: Collection[str]) -> tuple[str, bool] | None:
    """Return the program of a text and whether its block was closed; None without one.

    Several blocks are one program. Blocks of Python count only in a text without a block of ours
    that ends with one that calls a function: code that an answer shows is no program.
    """
    if "</think>" in text and "<think" not in text:  # servers that drop the opening tag
        text = text.rpartition("</think>")[2]
    text = _THOUGHT.sub("", text)
    found = list(_blocks(text))
    chosen = [each for each in found if each.kind == _OURS]
    if not chosen and found and found[-1].is_last and _counts(found[-1], functions):
        chosen = [each for each in found if _counts(each, functions)]
    if not chosen:
        return None
    return "\n".join(each.body for each in chosen), all(each.closed for each in chosen)


class _Block(NamedTuple):
    """One fenced block of a text."""

    kind: str
    body: str
    closed: bool
    # Whether nothing is behind it.
    is_last: bool


def _counts(block: _Block, functions: Collection[str]) -> bool:
    return block.kind in _PYTHON and _calls_one(block.body, functions)


def _calls_one(body: str, functions: Collection[str]) -> bool:
    called = set(re.findall(r"\b(\w+)\s*\(", body))
    return not called.isdisjoint(map(identifier, functions))


def _blocks(text: str) -> list[_Block]:
    """Return the fenced blocks of a text, in order."""
    found: list[_Block] = []
    last = len(text.rstrip())
    opening: re.Match[str] | None = None
    for line in _FENCE.finditer(text):
        if opening is None:
            opening = line
        elif _closes(opening[1], line):
            body = text[opening.end() + 1 : line.start()].rstrip("\n")
            is_last = line.end() >= last
            found.append(_Block(opening[2].lower(), body, closed=True, is_last=is_last))
            opening = None
    if opening is not None:
        body = text[opening.end() + 1 :].rstrip("\n")
        found.append(_Block(opening[2].lower(), body, closed=False, is_last=True))
    return found


def _closes(fence: str, line: re.Match[str]) -> bool:
    """Whether a line is the end of a block that began with this fence."""
    return line[1].startswith(fence) and not line[2] and not line[3].strip(" \t")
