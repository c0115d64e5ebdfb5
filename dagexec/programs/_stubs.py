"""Tools as a model that writes programs sees them: Python functions with types and docstrings."""

# A schema is any JSON: what the checker calls unknown here is meant.
# pyright: reportUnknownArgumentType=false, reportUnknownMemberType=false
# pyright: reportUnknownVariableType=false

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Iterable, Mapping
from typing import Any, Final, cast

from dagexec._tools.functions import unwrapped
from dagexec._tools.tool import Tool
from dagexec.programs._machine import identifier

_NAMES: Final = {
    "string": "str",
    "integer": "int",
    "number": "float",
    "boolean": "bool",
    "null": "None",
    "array": "list",
    "object": "dict",
}
# How deep a type is written out, and how many values of an enumeration.
_DEEPEST: Final = 4
_VALUES: Final = 12
_KINDS: Final = {str: "str", int: "int", float: "float", bool: "bool", type(None): "None"}


def stubs(tools: Iterable[Tool[..., Any]]) -> str:
    """Return tools as Python stubs: signature, return type, docstring, descriptions of arguments.

    They say what JSON schemas say, in fewer characters: a third for small tools.
    """
    return "\n\n".join(stub(tool) for tool in tools)


def stub(tool: Tool[..., Any]) -> str:
    """Return one tool as a Python function without a body."""
    schema = tool.parameters
    properties: Mapping[str, Any] = schema.get("properties", {})
    required = schema.get("required", ())
    names = sorted(properties, key=lambda name: name not in required)
    params: list[str] = []
    for name in names:
        text = f"{name}: {type_text(properties[name], schema)}"
        if name not in required:
            text += f" = {properties[name].get('default', '...')!r}".replace("'...'", "...")
        params.append(text)
    # Arguments may be given in the schema's own order: others only by name.
    if names != list(properties):
        params.insert(0, "*")
    returns = _returned(tool)
    head = f"def {identifier(tool.name)}({', '.join(params)}){f' -> {returns}' if returns else ''}:"
    lines = [line.rstrip() for line in tool.description.strip().splitlines()]
    lines += [
        f"{name}: {' '.join(str(each['description']).split())}"
        for name, each in properties.items()
        if isinstance(each, dict) and each.get("description")
    ]
    if tool.effect in ("write", "idempotent"):
        lines.append("Changes something.")
    text = "\n    ".join(lines).replace('"""', "'''")
    return f'{head}\n    """{text}"""' if lines else f"{head} ..."


def type_text(  # noqa: C901, PLR0911 - the forms of a schema
    node: Any, root: Mapping[str, Any], depth: int = 0
) -> str:
    """Return a JSON Schema as a Python type, as far as one can say it."""
    if not isinstance(node, dict) or depth > _DEEPEST:
        return "Any"
    schema = cast("dict[str, Any]", node)
    if "$ref" in schema:
        return type_text(_at(str(schema["$ref"]), root), root, depth + 1)
    if "const" in schema:
        return f"Literal[{schema['const']!r}]"
    if "enum" in schema:
        values = [repr(each) for each in schema["enum"]]
        more = ["..."] if len(values) > _VALUES else []
        return f"Literal[{', '.join([*values[:_VALUES], *more])}]"
    for key in ("anyOf", "oneOf"):
        if key in schema:
            parts = [type_text(each, root, depth + 1) for each in schema[key]]
            return " | ".join(dict.fromkeys(parts))
    kind = schema.get("type")
    if isinstance(kind, list):
        parts = [type_text({**schema, "type": each}, root, depth + 1) for each in kind]
        return " | ".join(dict.fromkeys(parts))
    if kind == "array":
        items = schema.get("items")
        return f"list[{type_text(items, root, depth + 1)}]" if items else "list"
    if kind == "object" and schema.get("properties"):
        fields = [
            f"{name!r}: {type_text(each, root, depth + 1)}"
            for name, each in schema["properties"].items()
        ]
        return f"{{{', '.join(fields)}}}"
    return _NAMES.get(str(kind), "Any")


def _at(pointer: str, root: Mapping[str, Any]) -> Any:
    found: Any = root
    for part in pointer.removeprefix("#/").split("/"):
        found = found.get(part) if isinstance(found, dict) else None
    return found


def _returned(tool: Tool[..., Any]) -> str:
    """Return the type that a tool returns, "" where it does not say."""
    function = unwrapped(tool.raw)
    try:
        found = typing.get_type_hints(function).get("return", inspect.Signature.empty)
    except Exception:  # noqa: BLE001 - of names that are not there at run time
        written: object = getattr(function, "__annotations__", {}).get("return")
        return written if isinstance(written, str) else ""
    return "" if found is inspect.Signature.empty else _hint(found, 0)


def _hint(hint: Any, depth: int) -> str:  # noqa: C901, PLR0911 - the forms of a hint
    """Return a type hint as a program sees its values: those of JSON."""
    if hint in _KINDS:
        return _KINDS[hint]
    if hint is None:
        return "None"
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Annotated:
        return _hint(args[0], depth)
    if origin in (typing.Union, types.UnionType):
        return " | ".join(dict.fromkeys(_hint(each, depth) for each in args))
    if origin is typing.Literal:
        return f"Literal[{', '.join(repr(each) for each in args)}]"
    if origin in (list, tuple, set, frozenset):
        inner = [_hint(each, depth + 1) for each in args if each is not Ellipsis]
        return f"list[{' | '.join(dict.fromkeys(inner))}]" if inner else "list"
    if origin is dict:
        return f"dict[{', '.join(_hint(each, depth + 1) for each in args)}]"
    if hint in (list, tuple, set, frozenset):
        return "list"
    if hint is dict:
        return "dict"
    fields = _fields(hint) if depth < _DEEPEST else {}
    if fields:
        parts = [f"{name!r}: {_hint(each, depth + 1)}" for name, each in fields.items()]
        return f"{{{', '.join(parts)}}}"
    return "Any"


def _fields(hint: Any) -> dict[str, Any]:
    """Return the fields of a TypedDict, a dataclass or a pydantic model."""
    known = hasattr(hint, "__dataclass_fields__") or hasattr(hint, "model_fields")
    if not (typing.is_typeddict(hint) or known):
        return {}
    try:
        hints = typing.get_type_hints(hint)
    except Exception:  # noqa: BLE001 - of names that are not there at run time
        return {}
    names = getattr(hint, "model_fields", None) or getattr(hint, "__dataclass_fields__", hints)
    return {name: each for name, each in hints.items() if name in names}
