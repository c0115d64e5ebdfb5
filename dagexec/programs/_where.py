"""Where in a program something went wrong, for a model to read: line, caret, and the values there.

It is found out after the error, from the text: a program that goes well pays nothing for it.
"""

# A value of a program is of any type: what the checker calls unknown here is meant.
# pyright: reportUnknownArgumentType=false, reportUnknownLambdaType=false
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false

from __future__ import annotations

import ast
import re
import reprlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from dagexec._core.secrets import shown
from dagexec._errors import text_of
from dagexec.programs._errors import ToolError, quoted
from dagexec.programs._machine import identifier
from dagexec.programs._promise import DONE, Promise
from dagexec.programs._values import CONTAINERS

# Characters of a value that is shown.
_SHOWN: Final = 160
_BITS: Final = 500
_PLAIN: Final = (str, int, float, bool, type(None))
_QUOTED: Final = re.compile(r"'([^']*)'")
_DIVIDES: Final = (ast.Div, ast.FloorDiv, ast.Mod)


def pointed(source: str, line: int, error: BaseException) -> str:
    """Return the line of an error, with a caret where it is clear which part raised it."""
    return quoted(source.splitlines(), line, _column(source, line, error))


def _column(source: str, line: int, error: BaseException) -> int:
    """Return the column (from 1) of the part that raised, 0 if there are several that may have."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return 0
    on_line: list[Any] = [node for node in ast.walk(tree) if getattr(node, "lineno", 0) == line]
    found = [node for node in on_line if _raises(node, error)]
    if len(found) != 1:
        return 0
    text = source.splitlines()[line - 1].encode()
    return len(text[: found[0].col_offset].decode("utf-8", "ignore")) + 1


def _raises(node: Any, error: BaseException) -> bool:
    """Whether a part of a line may raise an error of this kind."""
    for kind, test in _PARTS:
        if isinstance(error, kind):
            return test(node, error)
    return isinstance(node, ast.BinOp | ast.Call | ast.Subscript)


def _calls_tool(node: Any, error: Any) -> bool:
    called = node.func if isinstance(node, ast.Call) else None
    return isinstance(called, ast.Name) and called.id == identifier(error.tool)


def _is_named(node: Any, error: Any) -> bool:
    named = _QUOTED.search(str(error))
    return isinstance(node, ast.Name) and named is not None and node.id == named[1]


def _looks_up(node: Any, _error: Any) -> bool:
    if isinstance(node, ast.Subscript):
        return True
    called = node.func if isinstance(node, ast.Call) else None
    return isinstance(called, ast.Attribute) and called.attr in ("pop", "remove", "index")


def _divides(node: Any, _error: Any) -> bool:
    return isinstance(node, ast.BinOp | ast.AugAssign) and isinstance(node.op, _DIVIDES)


# Which parts of a line may raise an error, by its type.
_PARTS: Final[tuple[tuple[Any, Callable[[Any, Any], bool]], ...]] = (
    (ToolError, _calls_tool),
    (NameError, _is_named),
    ((KeyError, IndexError), _looks_up),
    (ZeroDivisionError, _divides),
    (AttributeError, lambda node, _error: isinstance(node, ast.Attribute)),
    (ValueError, lambda node, _error: isinstance(node, ast.Call)),
)


def values_at(source: str, line: int, variables: Mapping[str, Any]) -> str:
    """Return what the variables on a line of the program's own level held, one on a line."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return ""
    functions = [
        node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    if any(node.lineno <= line <= (node.end_lineno or 0) for node in functions):
        return ""  # its names are those of a call that has ended
    names = [
        node.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load) and node.lineno == line
    ]
    shown = [
        f"    {name} = {brief(variables[name])}"
        for name in dict.fromkeys(names)
        if name in variables and _is_data(variables[name])
    ]
    return "\n".join(shown[:5])


def operands(inputs: Sequence[Any]) -> str:
    """Return what the inputs of an operation were that raised."""
    known = [_there(each) for each in inputs]
    shown = [brief(each) for each in known if _is_data(each)]
    return f"    the values there: {', '.join(shown)}" if shown else ""


def call_text(tool: str, args: Mapping[str, Any]) -> str:
    """Return a call as a line of a program, its arguments short and without what is secret."""
    listed = shown(tool, args).items()
    given = ", ".join(f"{name}={brief(value, 60)}" for name, value in listed)
    return f"{identifier(tool)}({given})"


def _there(value: Any) -> Any:
    while type(value) is Promise and value.state is DONE:
        value = value.value
    return value


def _is_data(value: Any) -> bool:
    value = _there(value)
    return type(value) in _PLAIN or type(value) in CONTAINERS


def brief(value: Any, limit: int = _SHOWN) -> str:
    """Return a value as Python writes it, at most `limit` characters: beginning and end of it."""
    writer = _Brief()
    writer.maxstring = writer.maxother = limit
    writer.maxlevel = 4
    writer.maxlist = writer.maxtuple = writer.maxset = writer.maxdict = 8
    text = writer.repr(_there(value))
    if len(text) <= limit:
        return text
    half = (limit - 3) // 2
    return f"{text[: limit - half - 3]} … {text[-half:]}"


class _Brief(reprlib.Repr):
    """Writes promises as what they came to; those that came to nothing as three dots."""

    fillvalue = "…"

    def repr1(self, x: Any, level: int) -> str:
        x = _there(x)
        if type(x) is int and x.bit_length() > _BITS:
            return f"<an int of {x.bit_length()} bits>"
        return "…" if type(x) is Promise else super().repr1(x, level)


def failure_text(error: BaseException, line: int, source: str, values: str) -> str:
    """Return an error, the line that raised it with a caret, and `values` that the line had."""
    parts = (error_line(error, line), pointed(source, line, error), values)
    return "\n".join(part for part in parts if part.strip())


def error_line(error: BaseException, line: int) -> str:
    """Return an error in one line, as Python does, with the line of the program."""
    name, text = type(error).__name__, text_of(error)
    return f"line {line}: {name}{': ' if text else ''}{text}"
