"""What the parts of a program share while it runs: its pipeline, functions and errors."""

# A value of a program is of any type: what the checker calls unknown here is meant.
# pyright: reportUnknownArgumentType=false, reportUnknownLambdaType=false
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false

from __future__ import annotations

import ast
import keyword
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, final

from dagexec.programs._errors import LimitReached
from dagexec.programs._memory import HOLDERS
from dagexec.programs._pipeline import Pipeline
from dagexec.programs._promise import Callee
from dagexec.programs._scopes import MISSING, Frame
from dagexec.programs._values import Builtin, weigh

# Functions of a program that have begun and not ended: each takes several of Python's own frames.
DEPTH: Final = 60


class Code(NamedTuple):
    """A compiled part: call `run` with a frame; what it returns is to be awaited if it `waits`."""

    run: Callable[[Frame], Any]
    waits: bool = False


class Jump:
    """What a statement returns that is not followed by the next one."""

    __slots__ = ("value",)

    def __init__(self, value: Any = None) -> None:
        """Keep what `return` gives."""
        self.value = value


BREAK: Final = Jump()
CONTINUE: Final = Jump()


# Names that mean something of their own wherever they stand in a program, or nothing at all.
RENAMED: Final = frozenset([
    "bytearray", "bytes", "callable", "classmethod", "compile", "delattr", "dir", "enumerate",
    "eval", "exec", "filter", "getattr", "globals", "hasattr", "hash", "id", "iter", "locals",
    "map", "memoryview", "next", "object", "reversed", "setattr", "super", "type", "vars", "zip",
])  # fmt: skip


def identifier(name: str) -> str:
    """Return the name of a tool as an identifier: `get-user` is `get_user` in a program.

    `filter` is `filter_`, as other names are that Python has for what programs do.
    """
    text = "".join(each if each.isalnum() or each == "_" else "_" for each in name)
    if not text.isidentifier():
        text = f"_{text}"
    return f"{text}_" if keyword.iskeyword(text) or text in RENAMED else text


@final
@dataclass(frozen=True, slots=True)
class ToolFunction:
    """A tool, as a value of a program: what it is called with, in order."""

    callee: Callee
    params: tuple[str, ...]

    def bind(self, args: list[Any], named: dict[str, Any]) -> dict[str, Any]:
        """Return the arguments by name; raise TypeError as Python does."""
        name = self.callee.name
        if len(args) > len(self.params):
            msg = (
                f"{name}() takes {len(self.params)} positional arguments but {len(args)} were given"
            )
            raise TypeError(msg)
        bound = dict(zip(self.params, args, strict=False))
        for key, value in named.items():
            if key in bound:
                msg = f"{name}() got multiple values for argument {key!r}"
                raise TypeError(msg)
            bound[key] = value
        return bound

    def __repr__(self) -> str:
        """As Python writes a function, without an address."""
        return f"<function {self.callee.name}>"


@final
@dataclass(frozen=True, slots=True)
class Function:
    """A function that the program defined, with the frame that it was defined in."""

    name: str
    params: Params
    body: Code
    frame: Frame
    defaults: dict[str, Any]
    # A lambda's body is an expression.
    expression: bool = False
    # What the program wrote, for the programs behind it.
    node: ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda | None = None

    def __repr__(self) -> str:
        """As Python writes a function, without an address."""
        return f"<function {self.name}>"


HOLDERS[Function] = lambda function: (function.frame, function.defaults)


@final
@dataclass(frozen=True, slots=True)
class Params:
    """The parameters of a function."""

    plain: tuple[str, ...]
    positional_only: int = 0
    named: tuple[str, ...] = ()
    rest: str | None = None
    rest_named: str | None = None


@final
@dataclass(frozen=True, slots=True)
class Calling:
    """A function of Python that calls functions of the program."""

    name: str
    run: Callable[[Machine, list[Any], dict[str, Any]], Awaitable[Any]]

    def __repr__(self) -> str:
        """As Python writes it."""
        return f"<built-in function {self.name}>"


@final
@dataclass(frozen=True, slots=True, eq=False)
class Partial:
    """A function with some of its arguments, as `functools.partial` gives it."""

    function: Any
    args: tuple[Any, ...]
    named: dict[str, Any]

    def __repr__(self) -> str:
        """As Python begins it; its arguments may be large."""
        return f"functools.partial({self.function!r}, …)"


HOLDERS[Partial] = lambda partial: (partial.function, partial.args, partial.named)
_CALLABLE: Final = (Function, ToolFunction, Builtin, Calling, Partial)


def is_callable(value: Any) -> bool:
    """Whether a program may call a value."""
    return isinstance(value, _CALLABLE) or (
        isinstance(value, type) and issubclass(value, BaseException)
    )


@final
class Machine:
    """The state of one program beside its variables."""

    def __init__(self, pipe: Pipeline) -> None:
        """Begin at the top."""
        self.pipe = pipe
        # The exceptions that are being handled, innermost last: for a bare `raise`.
        self.handled: list[BaseException] = []

    async def call(self, function: Any, args: list[Any], named: dict[str, Any]) -> Any:
        """Call what a program calls: a function of its own, a tool, or one of Python's."""
        pipe = self.pipe
        pipe.steps += 1
        if pipe.steps > pipe.pause_at:
            await pipe.breathe()
        function = await pipe.force(function)
        if type(function) is Function:
            return await self.run(function, args, named)
        if type(function) is ToolFunction:
            return self.pipe.call(function.callee, function.bind(args, named))
        if type(function) is Builtin:
            return self.builtin(function, args, named)
        if type(function) is Partial:
            args, named = [*function.args, *args], {**function.named, **named}
            return await self.call(function.function, args, named)
        if type(function) is Calling:
            return await function.run(self, args, named)
        if isinstance(function, type) and issubclass(function, BaseException):
            given = [await self.pipe.force_deep(each) for each in args]
            weigh(given)
            return function(*given)
        msg = f"{type(function).__name__!r} object is not callable"
        raise TypeError(msg)

    def builtin(self, function: Builtin, args: list[Any], named: dict[str, Any]) -> Any:
        """Call a function of Python, or promise to."""
        names = tuple(named)
        count = len(args)
        call = function.call

        def apply(*values: Any) -> Any:
            return call(*values[:count], **dict(zip(names, values[count:], strict=True)))

        return self.pipe.operate(apply, (*args, *named.values()), deep=True)

    async def run(self, function: Function, args: list[Any], named: dict[str, Any]) -> Any:
        """Run a function of the program to its end; return what it returns."""
        frame = Frame(function.frame)
        bind(function, args, named, frame.vars)
        pipe, line = self.pipe, self.pipe.line
        frames = pipe.frames
        frames.append(frame)
        if len(frames) > DEPTH + 1:  # the first is the program's own
            frames.pop()
            msg = f"functions of a program may call one another {DEPTH} deep; write a loop instead"
            raise LimitReached(msg)
        try:
            body = function.body
            ended = await body.run(frame) if body.waits else body.run(frame)
        finally:
            frames.pop()
        pipe.line = line
        if function.expression:
            return ended
        return None if ended is None else ended.value


def bind(function: Function, args: list[Any], named: dict[str, Any], into: dict[str, Any]) -> None:
    """Give a function's parameters their values; raise TypeError as Python does."""
    params = function.params
    plain = params.plain
    if len(args) > len(plain) and params.rest is None:
        raise TypeError(_too_many(function, len(args)))
    into.update(zip(plain, args, strict=False))
    if params.rest is not None:
        into[params.rest] = tuple(args[len(plain) :])
    _bind_named(function, named, into)
    for kind, names in (("positional", plain), ("keyword-only", params.named)):
        _fill_in(function, kind, names, into)


def _bind_named(function: Function, named: dict[str, Any], into: dict[str, Any]) -> None:
    params, name = function.params, function.name
    others: dict[str, Any] = {}
    by_name = (*params.plain[params.positional_only :], *params.named)
    for key, value in named.items():
        if key in by_name:
            if key in into:
                msg = f"{name}() got multiple values for argument {key!r}"
                raise TypeError(msg)
            into[key] = value
        elif params.rest_named is not None:
            others[key] = value
        else:
            msg = f"{name}() got an unexpected keyword argument {key!r}"
            raise TypeError(msg)
    if params.rest_named is not None:
        into[params.rest_named] = others


def _fill_in(function: Function, kind: str, names: tuple[str, ...], into: dict[str, Any]) -> None:
    """Give what was not given its default; raise TypeError for what has none."""
    missing: list[str] = []
    for key in names:
        if key not in into:
            value = function.defaults.get(key, MISSING)
            if value is MISSING:
                missing.append(key)
            else:
                into[key] = value
    if missing:
        raise TypeError(_missing(function.name, kind, missing))


def _too_many(function: Function, given: int) -> str:
    plain = function.params.plain
    least = len([each for each in plain if each not in function.defaults])
    takes = str(len(plain)) if least == len(plain) else f"from {least} to {len(plain)}"
    plural = "" if takes == "1" else "s"
    were = "was" if given == 1 else "were"
    return f"{function.name}() takes {takes} positional argument{plural} but {given} {were} given"


def _missing(name: str, kind: str, missing: list[str]) -> str:
    quoted = [repr(each) for each in missing]
    if len(quoted) == 1:
        return f"{name}() missing 1 required {kind} argument: {quoted[0]}"
    last = f" and {quoted[-1]}" if len(quoted) == 2 else f", and {quoted[-1]}"  # noqa: PLR2004
    text = ", ".join(quoted[:-1]) + last
    return f"{name}() missing {len(quoted)} required {kind} arguments: {text}"
