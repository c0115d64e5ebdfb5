"""The arguments of a call: read as leniently as is safe, and sent back as every server takes them.

Servers send a JSON object as text, and also nothing, `null`, an object, the object twice, `{}` and
then the object, a brace or a token of a template behind it. What can be read in one way only is
read so. What is no single object cannot run: it goes back as `{"INVALID_JSON": "…"}`, Anthropic's
own word for it, because a text that is no JSON makes servers refuse the whole conversation.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any, Final, cast

from dagexec import Tool
from dagexec.lowlevel import CannotRun, schemas
from planners._core.edge import is_dict, is_list, listed, mended

# As deep as dagexec takes arguments; values are checked before anything recurses into them.
MAX_DEPTH: Final = 100
INVALID: Final = "INVALID_JSON"

_KINDS: Final = {"list": "an array", "str": "a string", "bool": "a boolean"}
_TOKEN: Final = r"(?:</?[A-Za-z_:|]+>|<\|[^<>]{0,40}>|\[/?[A-Z_]+\]|```(?:json)?)"  # noqa: S105
_BEFORE: Final = re.compile(rf"\s*(?:{_TOKEN}\s*)?")
_BEHIND: Final = re.compile(rf"[\s}}\]]*(?:{_TOKEN}\s*){{0,2}}")
# An exponent that may be beyond the largest float.
_HUGE: Final = re.compile(r"[0-9.][eE]\+?[0-9]{3}")
_DECODER: Final = json.JSONDecoder()


def read(arguments: Any) -> dict[str, Any]:
    """Return the arguments that a provider sent, as an object; raise CannotRun."""
    value = arguments
    escapes = True
    if isinstance(value, str):
        escapes = "\\u" in value  # else what is inside is as whole as the text
        value = _parsed(mended(value))
        if isinstance(value, str) and value.lstrip().startswith("{"):  # encoded twice
            escapes = escapes or "\\u" in value
            value = _parsed(value)
    value = mended(value) if escapes else value
    if value is None:
        return {}
    if is_dict(value) and value.keys() == {INVALID} and isinstance(value[INVALID], str):
        value = _parsed(value[INVALID])  # as it was sent back before, or by Anthropic itself
    if not is_dict(value):
        what = _KINDS.get(type(value).__name__, "a number")
        raise CannotRun(
            f"The arguments must be a JSON object with a name for each argument, not {what}."
        )
    check_depth(value)
    return value


def of_tool(arguments: Any, tool: Tool[..., Any]) -> dict[str, Any]:
    """Return arguments for a tool: without needless nulls, and with what was encoded twice."""
    schema = tool.parameters
    found: dict[str, Any] = schemas.without_nulls(read(arguments), schema, schema)
    properties: dict[str, Any] = schema.get("properties") or {}
    for name, value in found.items():
        if isinstance(value, str) and value.lstrip()[:1] in ("{", "[") and name in properties:
            found[name] = _decoded(value, properties[name], schema)
    return found


def _decoded(text: str, part: Any, schema: Any) -> Any:
    """Return the array or object that a text holds where the schema takes no text."""
    if schemas.accepts(part, "string", schema):
        return text
    try:
        value: Any = json.loads(text)
    except (ValueError, RecursionError):
        return text
    return cast("Any", value) if isinstance(value, dict | list) else text


def is_object(text: str) -> bool:
    """Whether a text can be read as arguments: what came of them is whole."""
    try:
        read(text)
    except CannotRun:
        return False
    return True


def as_text(arguments: Any) -> str:
    """Return arguments as the text of a JSON object, whatever they were: for a request."""
    if isinstance(arguments, str) and _is_plain(arguments):
        return arguments
    return json.dumps(as_object(arguments), ensure_ascii=False)


def as_object(arguments: Any) -> dict[str, Any]:
    """Return arguments as an object with finite numbers and whole characters: for a request."""
    try:
        value: dict[str, Any] = _finite(read(arguments))
    except CannotRun:
        if is_dict(arguments) and arguments.keys() == {INVALID}:
            return mended(arguments)
        if not isinstance(arguments, str):
            try:
                arguments = json.dumps(arguments, default=str)
            except (ValueError, RecursionError):
                arguments = "(nested too deeply)"
        return {INVALID: mended(arguments)}
    return value


def _is_plain(text: str) -> bool:
    """Whether a text is a JSON object that every server reads as we do."""
    if not text.startswith("{") or "\\u" in text or mended(text) is not text or _HUGE.search(text):
        return False
    try:
        json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return False
    return True


def _refuse(name: str) -> None:
    raise ValueError(name)


def _finite(value: Any) -> Any:
    """Return a value without the numbers that JSON has no words for."""
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if is_dict(value):
        return {key: _finite(item) for key, item in value.items()}
    return [_finite(item) for item in value] if is_list(value) else value


def _parsed(text: str) -> Any:
    if not text.strip():
        return None
    try:
        try:
            return json.loads(text)
        except json.JSONDecodeError as error:
            found = _last_object(text)
            if found is not None:
                return found
            shown = text[max(0, error.pos - 20) : error.pos + 20]
            raise CannotRun(
                f"The arguments are not valid JSON: {error.msg} at character {error.pos},"
                f" near {shown!r}. Write them again as one JSON object."
            ) from None
    except RecursionError:
        raise CannotRun(_TOO_DEEP) from None
    except ValueError as error:  # a number of thousands of digits
        raise CannotRun(f"The arguments cannot be read: {error}.") from None


def _last_object(text: str) -> dict[str, Any] | None:
    """Return the one object that a text holds, perhaps more than once or behind `{}`."""
    start = _BEFORE.match(text)
    at = 0 if start is None else start.end()
    found: dict[str, Any] | None = None
    while text.startswith("{", at):
        try:
            value, at = _DECODER.raw_decode(text, at)
        except json.JSONDecodeError:
            return None
        if found and value not in ({}, found):
            return None
        found = found or value
        while text[at : at + 1].isspace():
            at += 1
    return found if _BEHIND.fullmatch(text, at) else None


_TOO_DEEP: Final = f"The arguments are nested more than {MAX_DEPTH} deep. Write them flatter."


def check_depth(args: dict[str, Any]) -> None:
    """Raise CannotRun for what is nested too deeply."""
    level: list[Any] = [args]
    for _ in range(MAX_DEPTH):
        level = inside(level)
        if not level:
            return
    raise CannotRun(_TOO_DEEP)


def inside(level: list[Any]) -> list[Any]:
    """Return the containers directly inside of containers."""
    return [
        item
        for node in level
        for item in (node.values() if is_dict(node) else listed(node))
        if isinstance(item, dict | list)
    ]
