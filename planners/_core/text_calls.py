"""Calls that a model wrote as text, because its server reads none from it.

A reply counts that is nothing but calls of known tools, in one of the forms in which models are
trained to write them: Hermes' `<tool_call>{…}</tool_call>`, Mistral's `[TOOL_CALLS] […]`,
`<function=name>…</function>`, Llama's `[f(x=1)]`, or JSON with a tool's name and its arguments.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Collection, Iterator
from typing import Any, Final, cast

from planners._core.edge import is_dict, is_list

Found = tuple[str, Any]

_FENCE: Final = re.compile(r"\A```\w*\s*(.*?)\s*```\Z", re.DOTALL)
_TAG: Final = re.compile(r"<(?:tool_call|function_call)>\s*(.*?)\s*(?:</\w+>|\Z)", re.DOTALL)
_FUNCTION: Final = re.compile(r"<function=([\w.-]+)>\s*(.*?)\s*</function>", re.DOTALL)
_PARAMETER: Final = re.compile(r"<parameter=([\w.-]+)>\n?(.*?)\n?</parameter>", re.DOTALL)
_MISTRAL: Final = "[TOOL_CALLS]"
_NAMED: Final = re.compile(r"\s*([\w.-]+)\s*(?:\[ARGS\])?\s*(?=\{)")
_ARGUMENTS: Final = ("arguments", "parameters", "args", "input")
_MARKS: Final = ("<tool_call>", "<function", _MISTRAL, "[", "{", "```")


def read(text: str, names: Collection[str]) -> list[Found]:
    """Return the calls that a text consists of, as names and arguments; empty for any other."""
    text = text.strip()
    if not text.startswith(_MARKS):
        return []
    fenced = _FENCE.match(text)
    found = _read(text if fenced is None else fenced[1])
    return found if all(name in names for name, _ in found) else []


def _read(text: str) -> list[Found]:
    if text.startswith(_MISTRAL):
        return _mistral(text)
    for pattern, each in ((_FUNCTION, _function), (_TAG, _tagged)):
        matches = list(pattern.finditer(text))
        rest = re.sub(r"</?(?:tool_call|function_call)>", "", pattern.sub("", text))
        if matches and not rest.strip():
            calls = [call for match in matches for call in each(match)]
            return calls if len(calls) >= len(matches) else []
    return _listed(text) or _python(text)


def _mistral(text: str) -> list[Found]:
    found: list[Found] = []
    for part in text.split(_MISTRAL)[1:]:
        named = _NAMED.match(part)
        if named is None:
            calls = _listed(part.strip())
            if not calls:
                return []
            found += calls
        else:
            found.append((named[1], part[named.end() :].strip()))
    return found


def _function(match: re.Match[str]) -> Iterator[Found]:
    parts = _PARAMETER.findall(match[2])
    if parts:
        yield match[1], {name: _value(value) for name, value in parts}
    elif not match[2] or match[2].startswith("{"):
        yield match[1], match[2]


def _value(text: str) -> Any:
    """Return what a parameter's text stands for: JSON other than a text, or itself."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return text
    return text if isinstance(value, str) else value


def _tagged(match: re.Match[str]) -> Iterator[Found]:
    inner = match[1]
    yield from _read(inner) if inner.startswith("<function=") else _listed(inner)


def _listed(text: str) -> list[Found]:
    """Return the calls of JSON: one, a list of them, or one on each line."""
    try:
        value: Any = json.loads(text)
    except RecursionError:
        return []
    except ValueError:
        lines = text.splitlines()
        parts = [_listed(line) for line in lines if line.strip()] if len(lines) > 1 else []
        return [call for part in parts for call in part] if all(parts) else []
    calls = [_call(each) for each in (value if is_list(value) else [value])]
    return [call for call in calls if call is not None] if all(calls) else []


def _call(value: Any) -> Found | None:
    if not is_dict(value):
        return None
    inner = value["function"] if is_dict(value.get("function")) else value
    name = inner.get("name", inner.get("function"))
    args = next((inner[key] for key in _ARGUMENTS if key in inner), None)
    if isinstance(name, str) and isinstance(args, dict | str):
        return name, cast("dict[str, Any] | str", args)
    return None


def _python(text: str) -> list[Found]:
    """Return the calls of `[f(x=1), g()]`; what is no literal makes it text."""
    try:
        tree = ast.parse(text, mode="eval").body
        if not isinstance(tree, ast.List) or not tree.elts:
            return []
        return [_python_call(each) for each in tree.elts]
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return []


def _python_call(node: ast.expr) -> Found:
    if not isinstance(node, ast.Call) or node.args or any(k.arg is None for k in node.keywords):
        raise ValueError
    if any(isinstance(each, ast.Constant) and each.value is ... for each in ast.walk(node)):
        raise ValueError  # values that the model left out
    args = {str(each.arg): ast.literal_eval(each.value) for each in node.keywords}
    return ast.unparse(node.func), args
