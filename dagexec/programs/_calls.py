"""Calls in a program: of tools, of its own functions, of Python's, and of methods."""

# A value of a program is of any type: what the checker calls unknown here is meant.
# pyright: reportUnknownArgumentType=false, reportUnknownLambdaType=false
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false

from __future__ import annotations

import ast
from collections.abc import Awaitable, Callable
from typing import Any, Final

from dagexec.programs._containers import Containers, mapping
from dagexec.programs._expressions import iterable
from dagexec.programs._functions import member
from dagexec.programs._machine import Code, Function, ToolFunction
from dagexec.programs._patterns import REPLACED, matches
from dagexec.programs._promise import Promise
from dagexec.programs._scopes import Frame, Scope
from dagexec.programs._values import (
    CHANGING,
    CHANGING_NAMES,
    METHOD_RATES,
    USUAL,
    Builtin,
    fits,
    keys,
    method,
    ordered,
    rate_of,
    rated,
    whole,
)

# Functions that look at the first level of their arguments only.
_SHALLOW: Final = frozenset(
    ["len", "list", "tuple", "range", "zip", "enumerate", "reversed", "bool"]
)
# Methods that look at, or move, all items of a list; from so many on they are charged for.
_MOVING: Final = ("insert", "pop", "remove", "reverse")
_LARGE: Final = 1_000
_REPLACING: Final = ("sub", "subn")
# Functions whose own form takes no stars.
_PLAIN: Final = ("isinstance", "sorted", "next", "any", "all", "sum", "set", "frozenset")
# Functions whose result is no container.
_SCALAR: Final = ("len", "str", "repr", "int", "float", "bool", "abs", "round", "ord")


class Calls(Containers):
    """Compiles calls."""

    # ---------------------------------------------------------------------------------------- calls

    def _Await(self, node: ast.Await, scope: Scope) -> Code:
        return self.expr(node.value, scope)

    def _Call(self, node: ast.Call, scope: Scope) -> Code:  # noqa: C901, PLR0911 - forms of a call
        function = node.func
        if isinstance(function, ast.Attribute):
            module = self.module_of(function.value, scope)
            if module is not None:
                return self._module_call(node, module, function.attr, scope)
            if function.attr in CHANGING_NAMES:
                return self._changing(node, function, scope)
            return self._method(node, function, scope)
        if isinstance(function, ast.Name) and scope.find(function.id) is None:
            name = function.id
            special = getattr(self, f"_call_{name}", None)
            if name in self.tools:
                special = None
            if special is not None and not (spreads(node) and name in _PLAIN):
                code: Code | None = special(node, scope)
                if code is not None:
                    return code
            found = self.builtins.get(name)
            if type(found) is ToolFunction and not spreads(node):
                return self._tool_call(node, found, scope)
            if type(found) is Builtin and not spreads(node):
                return self._builtin_call(node, found, scope)
        return self._any_call(node, self.expr(function, scope), scope)

    def _module_call(self, node: ast.Call, module: str, name: str, scope: Scope) -> Code:
        if module == "asyncio":
            if name == "gather":
                values_of = self.spread_values(node.args, scope)

                async def gather(frame: Frame) -> Any:
                    return await values_of(frame)

                return Code(gather, waits=True)
            return self.expr(node.args[0] if node.args else ast.Constant(None), scope)
        if module == "re" and name in _REPLACING and not spreads(node):
            return self._replacing(node, name, None, scope)
        function = member(module, name)
        if type(function) is not Builtin:
            return self._any_call(node, Code(lambda _frame: function), scope)
        if spreads(node):
            return self._any_call(node, Code(lambda _frame: function), scope)
        return self._builtin_call(node, function, scope)

    def _any_call(self, node: ast.Call, function: Code, scope: Scope) -> Code:
        values_of = self.spread_values(node.args, scope)
        named_of = self._named(node, scope)
        machine, pipe = self.machine, self.pipe
        line = node.lineno if self.spread else None

        async def run(frame: Frame) -> Any:
            called = await function.run(frame) if function.waits else function.run(frame)
            args, named = await values_of(frame), await named_of(frame)
            if line is not None:
                pipe.line = line
            return await machine.call(called, args, named)

        return Code(run, waits=True)

    def _named(self, node: ast.Call, scope: Scope) -> Callable[[Frame], Awaitable[dict[str, Any]]]:
        codes = [(each.arg, self.expr(each.value, scope)) for each in node.keywords]
        pipe = self.pipe

        async def run(frame: Frame) -> dict[str, Any]:
            named: dict[str, Any] = {}
            for name, code in codes:
                value = await code.run(frame) if code.waits else code.run(frame)
                if name is None:
                    named.update(mapping(await pipe.force(value)))
                else:
                    named[name] = value
            return named

        return run

    def _tool_call(self, node: ast.Call, tool: ToolFunction, scope: Scope) -> Code:
        parts = [self.expr(each, scope) for each in node.args]
        parts += [self.expr(each.value, scope) for each in node.keywords]
        names = [each.arg or "" for each in node.keywords]
        count, pipe = len(node.args), self.pipe

        def combine(*values: Any) -> Any:
            named = dict(zip(names, values[count:], strict=True))
            return pipe.call(tool.callee, tool.bind(list(values[:count]), named))

        if not parts:
            return Code(
                self._at(node.lineno, lambda _frame: combine())
                if self.spread
                else lambda _frame: combine()
            )
        return self.strict(node, parts, combine)

    def _builtin_call(self, node: ast.Call, function: Builtin, scope: Scope) -> Code:
        parts = [self.expr(each, scope) for each in node.args]
        parts += [self.expr(each.value, scope) for each in node.keywords]
        names = tuple(each.arg or "" for each in node.keywords)
        count, call, operate = len(node.args), function.call, self.pipe.operate
        deep = function.name not in _SHALLOW
        scalar = function.name in (
            "len",
            "str",
            "repr",
            "int",
            "float",
            "bool",
            "abs",
            "round",
            "ord",
        )

        def apply(*values: Any) -> Any:
            return call(*values[:count], **dict(zip(names, values[count:], strict=True)))

        chosen = rated(apply, rate_of(call)) if names else call

        def combine(*values: Any) -> Any:
            return operate(chosen, values, deep=deep, copied=scalar, scalar=scalar)

        if not parts:
            return Code(lambda _frame: call())
        return self.strict(node, parts, combine)

    def _method(self, node: ast.Call, function: ast.Attribute, scope: Scope) -> Code:
        if spreads(node):
            return self._spread_method(node, function, scope)
        name = function.attr
        if name in _REPLACING:
            return self._replacing(node, name, self.expr(function.value, scope), scope)
        parts = [self.expr(function.value, scope)]
        parts += [self.expr(each, scope) for each in node.args]
        parts += [self.expr(each.value, scope) for each in node.keywords]
        names = tuple(each.arg or "" for each in node.keywords)
        count, operate = len(node.args) + 1, self.pipe.operate
        deep = name not in ("get", "items", "keys", "values", "copy")

        def apply(value: Any, *given: Any) -> Any:
            named = dict(zip(names, given[count - 1 :], strict=True))
            return method(value, name, given[: count - 1], named)

        apply.rate = METHOD_RATES.get(name, USUAL)  # type: ignore[attr-defined]
        return self.strict(node, parts, lambda *values: operate(apply, values, deep=deep))

    def _replacing(self, node: ast.Call, name: str, owner: Code | None, scope: Scope) -> Code:
        """Compile `re.sub`, whose replacement may be a function of the program."""
        values_of, named_of = self.spread_values(node.args, scope), self._named(node, scope)
        pipe, places = self.pipe, REPLACED if owner is None else REPLACED[1:4]
        line = node.lineno if self.spread else None

        def otherwise(pattern: Any, args: list[Any], named: dict[str, Any]) -> Any:
            if owner is None:
                return member("re", name).call(*args, **named)
            return method(pattern, name, tuple(args), named)

        async def run(frame: Frame) -> Any:
            pattern = None
            if owner is not None:
                pattern = await owner.run(frame) if owner.waits else owner.run(frame)
            args, named = await values_of(frame), await named_of(frame)
            if line is not None:
                pipe.line = line
            given = {"pattern": pattern, **dict(zip(places, args, strict=False)), **named}
            if type(given.get("repl")) is Function and "string" in given:
                return await self._replaced(name, await pipe.force_deep(given))
            return pipe.operate(otherwise, (pattern, args, named), deep=True)

        return Code(run, waits=True)

    async def _replaced(self, name: str, given: dict[str, Any]) -> Any:
        """Put what a function of the program returns in the place of each match."""
        pipe, text, parts, at, size = self.pipe, given["string"], list[str](), 0, 0
        number = 0
        for found in matches(given):
            begin, end = found.span()
            new = await pipe.force_deep(await self.machine.call(given["repl"], [found], {}))
            if new is not None and type(new) is not str:
                msg = f"expected str instance, {type(new).__name__} found"
                raise TypeError(f"sequence item {len(parts) + (at < begin)}: {msg}")
            size += begin - at + len(new or "")
            fits(size, "the text")
            parts += [each for each in (text[at:begin], new) if each]
            at, number = end, number + 1
        made = pipe.copying("".join([*parts, text[at:]]))
        return made if name == "sub" else (made, number)

    def _spread_method(self, node: ast.Call, function: ast.Attribute, scope: Scope) -> Code:
        base, name = self.expr(function.value, scope), function.attr
        values_of, named_of = self.spread_values(node.args, scope), self._named(node, scope)
        pipe = self.pipe

        async def run(frame: Frame) -> Any:
            value = await base.run(frame) if base.waits else base.run(frame)
            args, named = await values_of(frame), await named_of(frame)
            everything = await pipe.force_deep([value, args, named])
            return method(everything[0], name, tuple(everything[1]), everything[2])

        return Code(run, waits=True)

    def _changing(self, node: ast.Call, function: ast.Attribute, scope: Scope) -> Code:
        """Compile a call of a method that changes its container."""
        name = function.attr
        base = self.expr(function.value, scope)
        values_of, named_of = self.spread_values(node.args, scope), self._named(node, scope)
        pipe, change = self.pipe, self.change
        single = (
            self.expr(node.args[0], scope)
            if name == "append" and not spreads(node) and len(node.args) == 1
            else None
        )
        line = node.lineno if self.spread else None

        async def append(frame: Frame) -> Any:
            target = await base.run(frame) if base.waits else base.run(frame)
            assert single is not None  # noqa: S101 - chosen below
            value = await single.run(frame) if single.waits else single.run(frame)
            if type(target) is Promise:
                target = await pipe.force(target)
            if type(target) is not list:
                return method(target, name, (value,), {})
            await pipe.before_change(target)
            if not len(target) & 255:
                fits(len(target), "the list")
                pipe.grown(target)
            target.append(value)
            if pipe.tries and pipe.takes_back:
                pipe.undo(target.pop)
            return None

        async def run(frame: Frame) -> Any:
            target = await base.run(frame) if base.waits else base.run(frame)
            args, named = await values_of(frame), await named_of(frame)
            if line is not None:
                pipe.line = line
            return await change(await pipe.force(target), name, args, named)

        return Code(append if single is not None else run, waits=True)

    async def change(self, target: Any, name: str, args: list[Any], named: dict[str, Any]) -> Any:
        """Change a container by one of its methods, so that an outer `try` can take it back."""
        pipe = self.pipe
        if name not in CHANGING.get(type(target), ()):
            return method(target, name, tuple(args), named)
        await pipe.before_change(target)
        if type(target) is list and name == "sort":
            await self._sort(target, args, named)
            return None
        if type(target) is list and name in ("append", "extend", "insert", "pop"):
            given = [await pipe.force(each) for each in args[:1]] if name != "append" else args[:1]
            args = [*given, *args[1:]]
            if name == "extend":
                args = [pipe.copying(list(whole(iterable(args[0]))))] if len(args) == 1 else args
        elif type(target) is dict and name in ("setdefault", "pop"):
            args = [
                await pipe.force_deep(each) if not place else each
                for place, each in enumerate(args)
            ]
        else:
            args = [await pipe.force_deep(each) for each in args]
            if name == "remove":
                await pipe.force_deep(target)
        self._keep_of(target, name, args)
        if len(args) == 1 and hasattr(args[0], "__len__"):
            fits(len(target) + len(args[0]), "the container")
        found = method(target, name, tuple(args), named)
        pipe.grown(target)
        return found

    def _move(self, target: Any, name: str, args: list[Any]) -> None:
        """Count what it takes to look at, or move, the items of a list."""
        if name in _MOVING and len(target) > _LARGE and (args or name != "pop"):
            self.pipe.charge(len(target) >> (12 if name in ("pop", "insert") else 7))

    def keep(self, target: Any) -> None:
        """Keep what a container holds, for a `try` that may have to take a change back."""
        if self.pipe.takes_back:
            self.pipe.undo(refill, target, self.pipe.copying(target.copy()))

    def _keep_of(  # noqa: C901 - one form for each method
        self, target: Any, name: str, args: list[Any]
    ) -> None:
        """Keep what takes back one change: an item where that is all that changes."""
        pipe, size = self.pipe, len(target)
        self._move(target, name, args)
        keys(args if type(target) is not list else ())
        if not pipe.takes_back:
            return
        place = args[0] if args and type(args[0]) is int else -1
        if name in ("append", "extend") and type(target) is list:
            pipe.undo(_cut, target, size)
        elif name == "insert" and type(target) is list and type(args[0]) is int:
            pipe.undo(target.pop, max(size + place, 0) if place < 0 else min(place, size))
        elif name == "pop" and type(target) is list and -size <= place < size:
            pipe.undo(target.insert, place % size, target[place])
        elif name == "add" and type(target) is set and len(args) == 1:
            if args[0] not in target:
                pipe.undo(target.discard, args[0])
        elif name == "setdefault" and args:
            if args[0] not in target:
                pipe.undo(target.pop, args[0], None)
        else:
            self.keep(target)

    async def _sort(self, target: list[Any], args: list[Any], named: dict[str, Any]) -> None:
        if args:
            msg = "sort() takes no positional arguments"
            raise TypeError(msg)
        made = await self.sorted_by(target, named)
        self.keep(target)
        target[:] = made

    async def sorted_by(self, values: Any, named: dict[str, Any]) -> list[Any]:
        """Return values in order, by the keys that a function of the program gives."""
        pipe = self.pipe
        key = await pipe.force(named.get("key"))
        backwards = bool(await pipe.force(named.get("reverse", False)))
        others = [name for name in named if name not in ("key", "reverse")]
        if others:
            msg = f"sort() got an unexpected keyword argument {others[0]!r}"
            raise TypeError(msg)
        items = self.pipe.copying(list(whole(iterable(values))))
        if key is None:
            return pipe.copying(sorted(ordered(await pipe.force_deep(items)), reverse=backwards))
        keys = [await self.machine.call(key, [item], {}) for item in items]
        ranks = ordered(await pipe.force_deep(keys))
        order = sorted(range(len(items)), key=ranks.__getitem__, reverse=backwards)
        return pipe.copying([items[place] for place in order])


def _cut(target: list[Any], size: int) -> None:
    del target[size:]


def refill(target: Any, items: Any) -> None:
    if type(target) is list:
        target[:] = items
    else:
        target.clear()
        target.update(items)


def spreads(node: ast.Call) -> bool:
    return any(isinstance(each, ast.Starred) for each in node.args) or any(
        each.arg is None for each in node.keywords
    )
