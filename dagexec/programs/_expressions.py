"""Expressions of a program, compiled to closures.

A part that never has to wait for a value is a plain function of its frame; one that may is a
coroutine function. What a part returns may be a `Promise`: only where control flow looks at it, or
where a container is changed by it, the value itself is waited for.
"""

# A value of a program is of any type: what the checker calls unknown here is meant.
# pyright: reportUnknownArgumentType=false, reportUnknownLambdaType=false
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false

from __future__ import annotations

import ast
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Any, Final

from dagexec.programs._errors import LimitReached, with_line
from dagexec.programs._functions import EXCEPTIONS, FUNCTIONS
from dagexec.programs._machine import Code, Function, Machine, ToolFunction
from dagexec.programs._operators import BINARY, COMPARE, QUICK_NUMBERS, UNARY
from dagexec.programs._promise import Promise
from dagexec.programs._scopes import MISSING, Frame, Scope
from dagexec.programs._sets import in_order, steps_of
from dagexec.programs._values import Builtin

_KINDS: Final[dict[str, type]] = {
    "bool": bool,
    "dict": dict,
    "float": float,
    "frozenset": frozenset,
    "int": int,
    "list": list,
    "range": range,
    "set": set,
    "str": str,
    "tuple": tuple,
}
_NUMBERS: Final = (int, float, bool)
# What numbers are that take no memory to speak of.
_USUAL: Final = 1 << 2_000
_SCALARS: Final = (int, float, bool, str, type(None))
# Names that `asyncio` has here: nothing has to be gathered, so they give back what they are given.
_PASSING: Final = ("create_task", "ensure_future", "run")
# Functions that look at the first level of their arguments only.
_SHALLOW: Final = frozenset(
    {"len", "list", "tuple", "range", "zip", "enumerate", "reversed", "bool"}
)
_CONVERSIONS: Final = {-1: "", 114: "r", 115: "s", 97: "a"}


class Expressions:
    """Compiles expressions; statements are compiled by its subclass."""

    def __init__(self, machine: Machine, tools: Mapping[str, ToolFunction]) -> None:
        """Compile for one machine."""
        self.machine = machine
        self.pipe = machine.pipe
        self.tools = tools
        self.builtins: dict[str, Any] = {
            name: Builtin(name, call, _KINDS.get(name)) for name, call in FUNCTIONS.items()
        }
        self.builtins.update(EXCEPTIONS)
        self.builtins["__name__"] = "__main__"
        self.builtins.update(tools)
        # The lines that the statement at hand stands on: in one that stands on several, each part
        # says where it stands.
        self.spread = False

    # ----------------------------------------------------------------------------- putting together

    def expr(self, node: ast.expr, scope: Scope) -> Code:
        """Compile any expression."""
        compiled: Code = getattr(self, f"_{type(node).__name__}")(node, scope)
        guarded = getattr(node, "guarded", None)
        return compiled if guarded is None else self._guarded(compiled, pure=guarded)

    async def _attempt(self, body: Code, frame: Frame) -> tuple[Any, Exception | None]:
        """Run a part until all of it has retired; return its value, or what it raised."""
        raise NotImplementedError

    def _guarded(self, code: Code, *, pure: bool) -> Code:
        """Give the error of an expression as its value; see `_gathers`."""
        pipe = self.pipe

        async def run(frame: Frame) -> Any:
            if not pure:
                value, error = await self._attempt(code, frame)
                return value if error is None else error
            guard = pipe.begin_guard()
            try:
                value = await code.run(frame) if code.waits else code.run(frame)
            except LimitReached:
                raise
            except Exception as raised:  # noqa: BLE001 - the program's own
                value = with_line(raised, pipe.line)
            finally:
                pipe.guard = guard.outer
            return pipe.end_guard(guard, value)

        return Code(run, waits=True)

    def strict(self, node: ast.expr, parts: list[Code], combine: Callable[..., Any]) -> Code:
        """Evaluate parts from left to right, then combine them, without waiting for a value."""
        if self.spread:
            combine = self._at(node.lineno, combine)
        runs = [part.run for part in parts]
        if not any(part.waits for part in parts):
            if len(runs) == 1:
                only = runs[0]
                return Code(lambda frame: combine(only(frame)))
            if len(runs) == 2:  # noqa: PLR2004 - the commonest
                left, right = runs
                return Code(lambda frame: combine(left(frame), right(frame)))
            return Code(lambda frame: combine(*[run(frame) for run in runs]))

        async def waiting(frame: Frame) -> Any:
            return combine(
                *[await part.run(frame) if part.waits else part.run(frame) for part in parts]
            )

        return Code(waiting, waits=True)

    def waiting(
        self, node: ast.expr, parts: list[Code], combine: Callable[..., Awaitable[Any]]
    ) -> Code:
        """Evaluate parts from left to right, then combine them by what may wait for values."""
        pipe, line = self.pipe, node.lineno if self.spread else None

        async def run(frame: Frame) -> Any:
            values = [await part.run(frame) if part.waits else part.run(frame) for part in parts]
            if line is not None:
                pipe.line = line
            return await combine(*values)

        return Code(run, waits=True)

    def _at(self, line: int, combine: Callable[..., Any]) -> Callable[..., Any]:
        pipe = self.pipe

        def placed(*values: Any) -> Any:
            pipe.line = line
            return combine(*values)

        return placed

    # -------------------------------------------------------------------------- names and constants

    def _Constant(self, node: ast.Constant, _scope: Scope) -> Code:
        value = node.value
        return Code(lambda _frame: value)

    def _Name(self, node: ast.Name, scope: Scope) -> Code:
        name = node.id
        depth = scope.find(name)
        fallback = self.builtins.get(name, MISSING)
        if depth is None:
            if fallback is MISSING:
                return Code(lambda _frame: _no_name(name))
            return Code(lambda _frame: fallback)
        owner = scope
        for _ in range(depth):
            assert owner.parent is not None  # noqa: S101 - `find` counted them
            owner = owner.parent
        top = owner.parent is None
        if depth == 0:
            return Code(_local(name, fallback if top else MISSING, top=top))
        return Code(_outer(name, depth, fallback if top else MISSING, top=top))

    def _NamedExpr(self, node: ast.NamedExpr, scope: Scope) -> Code:
        value = self.expr(node.value, scope)
        store = self.store_name(node.target.id, scope)

        async def run(frame: Frame) -> Any:
            found = await value.run(frame) if value.waits else value.run(frame)
            store(frame, found)
            return found

        return Code(run, waits=True)

    def store_name(self, name: str, scope: Scope) -> Callable[[Frame, Any], None]:
        """Return what gives a variable its value."""
        depth = scope.find(name) or 0
        pipe = self.pipe

        def store(frame: Frame, value: Any) -> None:
            for _ in range(depth):
                frame = frame.parent  # type: ignore[assignment] # `find` counted them
            if pipe.tries and pipe.takes_back:
                pipe.undo(restore, frame.vars, name, frame.vars.get(name, MISSING))
            frame.vars[name] = value

        return store

    # ------------------------------------------------------------------------------------ operators

    def _BinOp(self, node: ast.BinOp, scope: Scope) -> Code:
        kind = type(node.op).__name__
        apply, operate = BINARY[kind], self.pipe.operate
        numbers = kind != "Mult"
        deep = kind == "Mod"
        quick, made = QUICK_NUMBERS.get(kind, apply), self.pipe.copying

        def combine(left: Any, right: Any) -> Any:
            if type(left) in _NUMBERS and type(right) in _NUMBERS:
                found = quick(left, right)
                if -_USUAL < found < _USUAL or type(found) is float:
                    return found
                return made(found)
            scalar = numbers and (is_scalar(left) or is_scalar(right))
            return operate(apply, (left, right), deep=deep, scalar=scalar)

        return self.strict(
            node, [self.expr(node.left, scope), self.expr(node.right, scope)], combine
        )

    def _UnaryOp(self, node: ast.UnaryOp, scope: Scope) -> Code:
        apply, operate = UNARY[type(node.op).__name__], self.pipe.operate

        def combine(value: Any) -> Any:
            return operate(apply, (value,), scalar=True) if type(value) is Promise else apply(value)

        return self.strict(node, [self.expr(node.operand, scope)], combine)

    def _Compare(self, node: ast.Compare, scope: Scope) -> Code:
        parts = [self.expr(each, scope) for each in (node.left, *node.comparators)]
        applies = [COMPARE[type(each).__name__] for each in node.ops]
        deep = not any(isinstance(each, ast.Is | ast.IsNot) for each in node.ops)
        operate = self.pipe.operate

        def compare(apply: Callable[[Any, Any], Any], left: Any, right: Any) -> Any:
            if type(left) in _NUMBERS and type(right) in _NUMBERS:
                return apply(left, right)
            return operate(apply, (left, right), deep=deep, copied=deep, scalar=True)

        if len(applies) == 1:
            only = applies[0]
            return self.strict(node, parts, lambda left, right: compare(only, left, right))
        force = self.pipe.force

        async def run(frame: Frame) -> Any:
            first, *others = parts
            left = await first.run(frame) if first.waits else first.run(frame)
            result: Any = True
            for apply, part in zip(applies, others, strict=True):
                if not await force(result):
                    return result.value if type(result) is Promise else result
                right = await part.run(frame) if part.waits else part.run(frame)
                result = compare(apply, left, right)
                left = right
            return result

        return Code(run, waits=True)

    def _BoolOp(self, node: ast.BoolOp, scope: Scope) -> Code:
        parts = [self.expr(each, scope) for each in node.values]
        stops = isinstance(node.op, ast.Or)
        force = self.pipe.force

        async def run(frame: Frame) -> Any:
            value: Any = None
            for number, part in enumerate(parts):
                value = await part.run(frame) if part.waits else part.run(frame)
                if number + 1 == len(parts):
                    break
                if type(value) is Promise:
                    value = await force(value)
                if bool(value) is stops:
                    break
            return value

        return Code(run, waits=True)

    def _IfExp(self, node: ast.IfExp, scope: Scope) -> Code:
        test = self.expr(node.test, scope)
        body, other = self.expr(node.body, scope), self.expr(node.orelse, scope)
        force = self.pipe.force

        async def run(frame: Frame) -> Any:
            value = await test.run(frame) if test.waits else test.run(frame)
            if type(value) is Promise:
                value = await force(value)
            chosen = body if value else other
            return await chosen.run(frame) if chosen.waits else chosen.run(frame)

        return Code(run, waits=True)


def _local(name: str, fallback: Any, *, top: bool) -> Callable[[Frame], Any]:
    def load(frame: Frame) -> Any:
        value = frame.vars.get(name, MISSING)
        if value is MISSING:
            if fallback is not MISSING:
                return fallback
            if top:
                _no_name(name)
            msg = f"cannot access local variable {name!r} where it is not associated with a value"
            raise UnboundLocalError(msg)
        return value

    return load


def _outer(name: str, depth: int, fallback: Any, *, top: bool) -> Callable[[Frame], Any]:
    def load(frame: Frame) -> Any:
        for _ in range(depth):
            frame = frame.parent  # type: ignore[assignment] # the scopes counted them
        value = frame.vars.get(name, MISSING)
        if value is MISSING:
            if fallback is not MISSING:
                return fallback
            if top:
                _no_name(name)
            msg = (
                f"cannot access free variable {name!r} where it is not associated with a value in"
                " enclosing scope"
            )
            raise NameError(msg)
        return value

    return load


def _no_name(name: str) -> Any:
    msg = f"name {name!r} is not defined"
    raise NameError(msg)


def restore(variables: dict[Any, Any], name: Any, value: Any) -> None:
    if value is MISSING:
        variables.pop(name, None)
    else:
        variables[name] = value


def is_scalar(value: Any) -> bool:
    """Whether a value is no container, as far as is known."""
    return value.scalar if type(value) is Promise else type(value) in _SCALARS


def iterable(value: Any) -> Any:
    """Return what may be iterated over: Python's own types only."""
    if isinstance(value, type | Builtin | Function | ToolFunction):
        msg = f"{type(value).__name__!r} object is not iterable"
        raise TypeError(msg)
    iter(value)
    return in_order(value)


def iterated(value: Any) -> Iterator[Any]:
    """Iterate over a value that may be changed meanwhile: of Python's own types only."""
    if type(value) in (set, frozenset):
        return steps_of(value)
    return iter(iterable(value))
