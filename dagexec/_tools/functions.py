"""What can be learned of a function before it runs: its kind, its texts, its annotations."""

from __future__ import annotations

import inspect
import re
import sys
import types
from collections.abc import Mapping
from functools import partial
from typing import (
    Annotated,
    Any,
    Final,
    Literal,
    Union,
    cast,
    get_args,
    get_origin,
    get_type_hints,
)

from dagexec._errors import ToolDefinitionError
from dagexec._tools.context import CallContext

_CONTEXT: Final = re.compile(
    r"(?:\w+\.)*(?:Optional\[(?:\w+\.)*CallContext\]|CallContext)(?:\s*\|\s*None)?"
    r"|None\s*\|\s*(?:\w+\.)*CallContext"
)


def label(function: object) -> str:
    """Return how a function is named in an error."""
    return repr(getattr(function, "__name__", None) or type(function).__name__)


def unwrapped(function: Any) -> Any:
    """Return the plain function or class inside partials, wrappers, methods and callables."""
    while True:
        if isinstance(function, partial):
            function = function.func
        elif isinstance(function, staticmethod | classmethod | types.MethodType):
            function = cast("Any", function).__func__
        elif hasattr(function, "__wrapped__"):
            function = function.__wrapped__
        elif not inspect.isroutine(function) and not inspect.isclass(function):
            return type(function).__call__
        else:
            return function


def documentation(function: Any, target: Any) -> tuple[str, dict[str, str]]:
    """Return the description and the parameters' texts of a Google, NumPy or Sphinx docstring."""
    doc: str | None = getattr(target, "__doc__", None)
    inner = function.func if isinstance(function, partial) else function
    if not doc and not inspect.isroutine(inner) and not inspect.isclass(inner):
        doc = type(inner).__doc__  # of an object that can be called
    if not doc:
        return "", {}
    from docstring_parser import ParseError, parse

    try:
        parsed = parse(inspect.cleandoc(doc))
    except ParseError:
        return inspect.cleandoc(doc), {}
    texts = {
        name.strip().lstrip("*"): (item.description or "").strip()
        for item in parsed.params
        for name in item.arg_name.split(",")
    }
    return (parsed.description or "").strip(), {name: text for name, text in texts.items() if text}


def own_name(function: Any) -> str:
    """Return what names a callable: the function in it, or its class."""
    while isinstance(function, partial):
        function = function.func
    return str(getattr(function, "__name__", type(function).__name__))


def _innermost(function: Any) -> Any:
    while True:
        if isinstance(function, partial):
            function = function.func
        elif isinstance(function, staticmethod | classmethod):
            function = cast("Any", function).__func__
        else:
            return function


def _call_of(function: Any) -> Any:
    """Return the `__call__` of an object; a class is called by its metaclass."""
    return None if inspect.isclass(function) else getattr(function, "__call__", None)  # noqa: B004 - wanted as a function


def is_async(function: Any) -> bool:
    inner = _innermost(function)
    return inspect.iscoroutinefunction(inner) or (
        not inspect.isclass(inner) and inspect.iscoroutinefunction(_call_of(inner))
    )


def refuse_generators(function: Any) -> None:
    inner = _innermost(function)
    candidates = (inner, _call_of(inner))
    if any(
        inspect.isgeneratorfunction(item) or inspect.isasyncgenfunction(item) for item in candidates
    ):
        msg = (
            f"{label(function)} is a generator; a tool returns one value:"
            " return a list, or collect what it yields"
        )
        raise ToolDefinitionError(msg)


def binding(function: Any) -> Literal["", "self", "cls"]:
    """Say whether the first parameter is given by the class or instance a tool is looked up on."""
    if isinstance(function, classmethod):
        return "cls"
    inner = function
    if not inspect.isfunction(inner):
        return ""
    qualified = inspect.unwrap(inner).__qualname__.rpartition("<locals>.")[2]
    first = next(iter(inspect.unwrap(inner).__code__.co_varnames), "")
    if "." not in qualified or first not in {"self", "cls"}:
        return ""
    return "self" if first == "self" else "cls"


# --- annotations ----------------------------------------------------------------------------------


def is_context(annotation: Any) -> bool:
    if isinstance(annotation, str):
        return _CONTEXT.fullmatch(annotation.strip().strip("'\"")) is not None
    if annotation is CallContext:
        return True
    origin = get_origin(annotation)
    if origin is Annotated:
        return is_context(get_args(annotation)[0])
    if origin is Union or origin is types.UnionType:
        members = [item for item in get_args(annotation) if item is not type(None)]
        return len(members) == 1 and is_context(members[0])
    return False


def resolved(function: object, target: Any, parameter: inspect.Parameter) -> Any:
    """Return a parameter's annotation with every name in it looked up."""
    annotation = parameter.annotation
    if annotation is inspect.Parameter.empty:
        return Any
    module = sys.modules.get(getattr(target, "__module__", "") or "")
    spaces = getattr(target, "__globals__", None) or vars(module) if module else {}
    closure = _closure(target)
    fault: Exception
    try:
        return _evaluated(annotation, spaces, closure)
    except Exception as error:  # noqa: BLE001 - an annotation is any expression
        fault = error
    if isinstance(fault, NameError):
        try:
            # A class of the function in which the tool is defined.
            return _evaluated(annotation, spaces, {**_caller(), **closure})
        except Exception as error:  # noqa: BLE001 - as above
            fault = error
    msg = (
        f"the annotation of {parameter.name!r} in {label(function)} cannot be resolved ({fault});"
        " import or define what it names at module level, outside of `if TYPE_CHECKING:`,"
        " or describe the parameters with Tool.from_schema"
    )
    raise ToolDefinitionError(msg) from fault


def _evaluated(annotation: Any, spaces: dict[str, Any], names: Mapping[str, Any]) -> Any:
    def holder() -> None: ...

    holder.__annotations__ = {"value": annotation}
    return get_type_hints(holder, spaces, dict(names), include_extras=True)["value"]


def _closure(target: Any) -> dict[str, Any]:
    names: dict[str, Any] = {item.__name__: item for item in getattr(target, "__type_params__", ())}
    code = getattr(target, "__code__", None)
    for name, cell in zip(
        getattr(code, "co_freevars", ()), getattr(target, "__closure__", None) or (), strict=False
    ):
        try:
            names[name] = cell.cell_contents
        except ValueError:  # assigned later
            continue
    return names


def _caller() -> dict[str, Any]:
    """Return the local names of the nearest frame outside of dagexec."""
    # As pydantic does, for the same reason.
    frame = sys._getframe(1)  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
    while frame.f_back is not None and _own(frame):
        frame = frame.f_back
    return dict(frame.f_locals)


def _own(frame: types.FrameType) -> bool:
    name = str(frame.f_globals.get("__name__", ""))
    return name == "dagexec" or name.startswith("dagexec.")
