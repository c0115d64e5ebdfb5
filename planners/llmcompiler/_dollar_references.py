"""References in a text plan, `$1` and `${1.items[0]}`, and a plan written as such a text.

A bare `$1` has no path, so `$1.50` and `$1,000` are money. A number is a reference only where a
call with that smaller number exists; everything else is text. `$$` stands for a dollar sign where a
reference could begin, as in `$$1`; elsewhere two dollar signs are two.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Container, Iterable
from math import inf, isnan
from typing import Any, Final, cast

from dagexec import BadReference, Call, DagexecError, Ref, Template
from dagexec.lowlevel import MARKS, Braces
from planners._core.edge import is_dict, is_list

_NUMBER: Final = r"([1-9][0-9]{0,8})"
_FIRST: Final = r"\{?[1-9]"
# Dollar signs before what begins like a reference: each two of them are one, and what is left over
# may be a reference. Its path in braces ends where `Braces` says.
_DOLLAR: Final = re.compile(
    rf"(?<!\$)(\$++)(?:{_NUMBER}(?![0-9]|\.[0-9]|,[0-9]{{3}}(?![0-9]))|\{{{_NUMBER}(?=[.\[}}])"
    rf"|(?={_FIRST}))"
)
_ESCAPED: Final = re.compile(rf"(?<!\$)\$++(?={_FIRST})")
_ESCAPED_BEFORE: Final = re.compile(rf"(?<!\$)\$++(?={_FIRST}|\Z)")
# What a text could have for the label of a line.
_LABEL: Final = re.compile(r"(?<!\$)\$\{?([0-9][0-9.]{0,60}[A-Za-z]?)")
_PLAIN: Final = re.compile(r"[1-9][0-9]{0,8}")
_NAME: Final = re.compile(r"[^\W\d][\w.$-]*")
_HIGHEST: Final = 10**9


def referenced(value: Any, exists: Callable[[int], bool]) -> Any:
    """Return a literal with references in it where its texts have them, in JSON's form.

    Raises BadReference for a path that cannot be read. What JSON's forms hold is left to them.
    """
    if isinstance(value, str):
        return _text(value, exists)
    if is_list(value):
        return [referenced(item, exists) for item in value]
    if is_dict(value) and MARKS.isdisjoint(value):
        return {key: referenced(item, exists) for key, item in value.items()}
    return value


def unreadable(label: str) -> BadReference:
    """Return the error of a reference to a line that is no call that can be read."""
    return BadReference(
        f"${label} refers to a line that cannot be read as a call: write that one again, as in"
        f" 1. tool(...), and then this one; the text ${label} is written $${label}"
    )


def refuse(value: Any, labels: Container[str]) -> None:
    """Raise BadReference if a text refers to one of these labels, which are no numbers of calls."""
    level: list[Any] = [value]
    while level:
        for text in level:
            if isinstance(text, str) and "$" in text:
                _refuse(text, labels)
        level = [
            item
            for node in level
            for item in (node.values() if is_dict(node) else node if is_list(node) else ())
        ]


def _refuse(text: str, labels: Container[str]) -> None:
    for found in _LABEL.finditer(text):
        word, following = found[1], text[found.end() : found.end() + 1]
        for end in range(len(word), 0, -1):
            label = word[:end]
            if (word[end:] or following)[:1].isalnum() or _PLAIN.fullmatch(label):
                continue
            if label in labels:
                raise unreadable(label)


def _text(text: str, exists: Callable[[int], bool]) -> str | dict[str, str]:
    if "$" not in text:
        return text
    parts: list[str | Ref] = []
    position = 0
    braces = Braces(text)
    behind = 0
    for match in _DOLLAR.finditer(text):
        dollars, bare, braced = match.groups()
        if match.start() < behind:  # inside of the one before
            continue
        pairs, single = divmod(len(dollars), 2)
        number = bare or braced
        end = braces.end(match.end()) if braced else match.end()
        parts.append(text[position : match.start()] + "$" * pairs)
        position = match.start() + 2 * pairs
        if not single or number is None or end < 0:
            continue
        behind = end + bool(braced)
        if exists(int(number)):
            parts.append(_reference(number, text[match.end() : end] if braced else ""))
            position = behind
    parts.append(text[position:])
    found = [part for part in parts if part != ""]
    if len(found) == 1 and isinstance(found[0], Ref):
        return {"$ref": str(found[0])}
    if any(isinstance(part, Ref) for part in found):
        return {"$template": str(Template.from_parts(found))}
    return "".join(map(str, found))


def _reference(number: str, path: str) -> Ref:
    try:
        return Ref.parse(number + path)
    except BadReference:
        msg = (
            f"the path of ${{{number}{path}}} cannot be read: it is made of .name, [0] and"
            ' ["any key"]; a dollar sign before a number or a brace is written $$'
        )
        raise BadReference(msg) from None


# ------------------------------------------------------------------------------------------ writing


def written(calls: Iterable[Call], known: Iterable[int] = ()) -> str:
    """Return calls as the text of a plan; reading it gives the same calls.

    `known` are the numbers of earlier calls. Raises DagexecError for what a text plan cannot say:
    ids that are no numbers, `after`, problems, and values that are not JSON.
    """
    numbers = set(known)
    lines: list[str] = []
    for call in calls:
        number = _number(call)
        if number in numbers:
            raise DagexecError(f"the number {number} is used twice")
        lines.append(f"{number}. {call.tool}({_arguments(call, numbers)})\n")
        numbers.add(number)
    last = max(numbers, default=0)
    return "".join(lines) + f"{last + 1}. join()<END_OF_PLAN>\n"


def _number(call: Call) -> int:
    plain = call.id.isascii() and call.id.isdecimal() and not call.id.startswith("0")
    if not plain or int(call.id) >= _HIGHEST:
        raise DagexecError(f"in a text plan calls have numbers; {call.id!r} is none")
    if call.after or call.problem is not None:
        what = "after" if call.after else "problem"
        raise DagexecError(f"a text plan cannot say what `{what}` of call {call.id!r} says")
    return int(call.id)


def _arguments(call: Call, numbers: Collection[int]) -> str:
    known = {str(number) for number in numbers if number < int(call.id)}
    args: dict[str, Any] = call.to_dict()["args"]
    rest = {name: value for name, value in args.items() if not _NAME.fullmatch(name)}
    parts = [f"{name}={_value(args[name], known)}" for name in args if name not in rest]
    if rest:
        parts.append(f"**{_object(rest, known)}")
    return ", ".join(parts)


def _value(value: Any, known: Collection[str]) -> str:
    if isinstance(value, str):
        return _quoted(_ESCAPED.sub(_doubled, value))
    if is_dict(value):
        return _object(value, known)
    if is_list(value):
        return f"[{', '.join(_value(item, known) for item in value)}]"
    return _scalar(value)


def _object(value: dict[Any, Any], known: Collection[str]) -> str:
    if not MARKS.isdisjoint(value):
        return _short(value, known) or _json(value)
    pairs = (f"{_key(key)}: {_value(item, known)}" for key, item in value.items())
    return f"{{{', '.join(pairs)}}}"


def _short(value: dict[Any, Any], known: Collection[str]) -> str:
    """Return a reference as `$1` or `${1.path}`, a template as text, '' where that is not it."""
    if set(value) == {"$ref"}:
        ref = Ref.parse(value["$ref"])
        if ref.call in known:
            return _quoted(f"${{{ref!s}}}") if ref.path else f"${ref.call}"
    elif "$template" in value:
        template = Template.parse(value["$template"])
        # One reference alone would be read as itself, with its type.
        if template.refs and len(template.parts) > 1:
            known_refs = all(ref.call in known for ref in template.refs)
            return _quoted(_template(template)) if known_refs else ""
    return ""


def _template(template: Template) -> str:
    """Return a template as text, whose dollar signs are doubled before a reference alone."""
    return "".join(
        f"${{{part!s}}}"
        if isinstance(part, Ref)
        else (_ESCAPED_BEFORE if following else _ESCAPED).sub(_doubled, part)
        for part, following in zip(template.parts, (*template.parts[1:], None), strict=True)
    )


def _doubled(found: re.Match[str]) -> str:
    return found[0] * 2


def _json(value: Any) -> str:
    """Return what stands inside JSON's forms, where a dollar sign is itself."""
    if isinstance(value, str):
        return _quoted(value)
    if is_dict(value):
        return f"{{{', '.join(f'{_key(key)}: {_json(item)}' for key, item in value.items())}}}"
    if isinstance(value, tuple):  # of a `Literal`; all others are lists by now
        return _json(list(cast("tuple[Any, ...]", value)))
    if is_list(value):
        return f"[{', '.join(map(_json, value))}]"
    return _scalar(value)


def _key(key: object) -> str:
    return _quoted(key) if isinstance(key, str) else _scalar(key)


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _scalar(value: object) -> str:
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, float) and (isnan(value) or abs(value) == inf):
        return "NaN" if isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, int | float):
        return repr(value)
    raise DagexecError(f"a text plan holds JSON values, not {type(value).__name__}")
