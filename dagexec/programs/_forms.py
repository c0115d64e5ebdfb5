"""Functions of Python's in a form of their own: they call functions, print, or stop early."""

# A value of a program is of any type: what the checker calls unknown here is meant.
# pyright: reportUnknownArgumentType=false, reportUnknownLambdaType=false
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false

from __future__ import annotations

import ast
import operator
from collections.abc import Callable
from typing import Any

from dagexec.programs._calls import Calls
from dagexec.programs._expressions import iterable
from dagexec.programs._machine import Code
from dagexec.programs._operators import BINARY
from dagexec.programs._scopes import Frame, Scope
from dagexec.programs._values import Builtin, key_of, keys, ordered, text_of, whole


class Forms(Calls):
    """Compiles calls of such functions."""

    def _call_sorted(self, node: ast.Call, scope: Scope) -> Code | None:
        if not any(each.arg == "key" for each in node.keywords) or len(node.args) != 1:
            return None
        values, named_of, pipe = self.expr(node.args[0], scope), self._named(node, scope), self.pipe

        async def run(frame: Frame) -> Any:
            found = await values.run(frame) if values.waits else values.run(frame)
            named = await named_of(frame)
            return await self.sorted_by(await pipe.force(found), named)

        return Code(run, waits=True)

    def _call_max(self, node: ast.Call, scope: Scope) -> Code | None:
        return self._extreme(node, scope, operator.gt)

    def _call_min(self, node: ast.Call, scope: Scope) -> Code | None:
        return self._extreme(node, scope, operator.lt)

    def _extreme(
        self, node: ast.Call, scope: Scope, better: Callable[[Any, Any], Any]
    ) -> Code | None:
        if not any(each.arg == "key" for each in node.keywords):
            return None
        values_of, named_of, pipe = (
            self.spread_values(node.args, scope),
            self._named(node, scope),
            self.pipe,
        )
        name = node.func.id if isinstance(node.func, ast.Name) else ""

        async def run(frame: Frame) -> Any:
            values, named = await values_of(frame), await named_of(frame)
            items = (
                self.pipe.copying(list(whole(iterable(await pipe.force(values[0])))))
                if len(values) == 1
                else values
            )
            key = named["key"]
            if not items:
                if "default" in named:
                    return named["default"]
                msg = f"{name}() arg is an empty sequence"
                raise ValueError(msg)
            ranks = [await self.machine.call(key, [item], {}) for item in items]
            ranks = ordered(await pipe.force_deep(ranks))
            best = 0
            for place in range(1, len(items)):
                if better(ranks[place], ranks[best]):
                    best = place
            return items[best]

        return Code(run, waits=True)

    def _call_map(self, node: ast.Call, scope: Scope) -> Code | None:
        values_of, pipe, machine = self.spread_values(node.args, scope), self.pipe, self.machine

        async def run(frame: Frame) -> Any:
            function, *sources = await values_of(frame)
            lists = [whole(iterable(await pipe.force(each))) for each in sources]
            return pipe.copying(
                [
                    await machine.call(function, list(items), {})
                    for items in zip(*lists, strict=False)
                ]
            )

        return Code(run, waits=True)

    def _call_filter(self, node: ast.Call, scope: Scope) -> Code | None:
        values_of, pipe, machine = self.spread_values(node.args, scope), self.pipe, self.machine

        async def run(frame: Frame) -> Any:
            function, source = await values_of(frame)
            kept: list[Any] = []
            for item in whole(iterable(await pipe.force(source))):
                found = item if function is None else await machine.call(function, [item], {})
                if await pipe.force(found):
                    kept.append(item)
            return pipe.copying(kept)

        return Code(run, waits=True)

    def _call_isinstance(self, node: ast.Call, scope: Scope) -> Code | None:
        operate = self.pipe.operate
        return self.strict(
            node,
            [self.expr(each, scope) for each in node.args],
            lambda *values: operate(is_instance, values, scalar=True),
        )

    def _call_print(self, node: ast.Call, scope: Scope) -> Code:
        values_of, named_of, pipe = (
            self.spread_values(node.args, scope),
            self._named(node, scope),
            self.pipe,
        )

        async def run(frame: Frame) -> Any:
            values, named = await values_of(frame), await named_of(frame)
            between, end = named.get("sep"), named.get("end")

            def write(*given: Any) -> str:
                *items, sep, last = given
                text = (" " if sep is None else sep).join(map(text_of, items))
                return text + ("\n" if last is None else last)

            inputs = (*values, between, end)
            pipe.emit(pipe.operate(write, inputs, deep=True, copied=True, scalar=True))

        return Code(run, waits=True)

    def _call_any(self, node: ast.Call, scope: Scope) -> Code | None:
        return self._until(node, scope, stop=True)

    def _call_all(self, node: ast.Call, scope: Scope) -> Code | None:
        return self._until(node, scope, stop=False)

    def _until(self, node: ast.Call, scope: Scope, *, stop: bool) -> Code | None:
        """Look at the values of a generator one after the other, until one decides."""
        if len(node.args) != 1 or not isinstance(node.args[0], ast.GeneratorExp):
            return None
        each, force = self.comprehension(node.args[0], scope, [node.args[0].elt]), self.pipe.force

        async def run(frame: Frame) -> Any:
            async def decides(values: list[Any]) -> bool:
                return bool(await force(values[0])) is stop

            return stop if await each(frame, decides) else not stop

        return Code(run, waits=True)

    def _call_next(self, node: ast.Call, scope: Scope) -> Code | None:
        if not node.args or not isinstance(node.args[0], ast.GeneratorExp):
            return None
        each = self.comprehension(node.args[0], scope, [node.args[0].elt])
        default = self.expr(node.args[1], scope) if len(node.args) > 1 else None

        async def run(frame: Frame) -> Any:
            found: list[Any] = []

            async def first(values: list[Any]) -> bool:
                found.append(values[0])
                return True

            if await each(frame, first):
                return found[0]
            if default is None:
                raise StopIteration
            return await default.run(frame) if default.waits else default.run(frame)

        return Code(run, waits=True)

    def _call_dict(self, node: ast.Call, scope: Scope) -> Code | None:
        values_of, named_of = self.spread_values(node.args, scope), self._named(node, scope)
        pipe = self.pipe

        async def run(frame: Frame) -> Any:
            values, named = await values_of(frame), await named_of(frame)
            if len(values) > 1:
                msg = f"dict expected at most 1 argument, got {len(values)}"
                raise TypeError(msg)
            made: dict[Any, Any] = {}
            for given in values:
                source = await pipe.force(given)
                if type(source) is dict:
                    made.update(source)
                    continue
                for place, pair in enumerate(whole(iterable(source))):
                    items = self.pipe.copying(list(whole(iterable(await pipe.force(pair)))))
                    if len(items) != 2:  # noqa: PLR2004 - key and value
                        msg = (
                            f"dictionary update sequence element #{place} has length {len(items)};"
                            " 2 is required"
                        )
                        raise ValueError(msg)
                    made[key_of(await pipe.force_deep(items[0]))] = items[1]
            made.update(named)
            return pipe.copying(made)

        return Code(run, waits=True)

    def _call_set(self, node: ast.Call, scope: Scope) -> Code | None:
        return self._hashed(node, scope, set)

    def _call_frozenset(self, node: ast.Call, scope: Scope) -> Code | None:
        return self._hashed(node, scope, frozenset)

    def _hashed(self, node: ast.Call, scope: Scope, kind: type) -> Code | None:
        if len(node.args) != 1 or node.keywords:
            return None
        values, pipe = self.expr(node.args[0], scope), self.pipe

        async def run(frame: Frame) -> Any:
            found = await values.run(frame) if values.waits else values.run(frame)
            items = list(whole(iterable(await pipe.force(found))))
            return pipe.copying(kind(keys(await pipe.force_deep(items))))

        return Code(run, waits=True)

    def _call_sum(self, node: ast.Call, scope: Scope) -> Code | None:
        """Add the values of a generator one by one: what fails between two stops the second."""
        if len(node.args) != 1 or not isinstance(node.args[0], ast.GeneratorExp) or node.keywords:
            return None
        each = self.comprehension(node.args[0], scope, [node.args[0].elt])
        add, operate = BINARY["Add"], self.pipe.operate

        async def run(frame: Frame) -> Any:
            total: list[Any] = [0]

            async def more(values: list[Any]) -> bool:
                total[0] = operate(add, (total[0], values[0]), scalar=True)
                return False

            await each(frame, more)
            return total[0]

        return Code(run, waits=True)


def is_instance(value: Any, kinds: Any) -> bool:
    chosen = kinds if type(kinds) is tuple else (kinds,)
    named = [each.kind if type(each) is Builtin else each for each in chosen]
    types = [each for each in named if isinstance(each, type)]
    if len(types) < len(named):
        msg = "isinstance() arg 2 must be a type, a tuple of types, or a union"
        raise TypeError(msg)
    return isinstance(value, tuple(types))
