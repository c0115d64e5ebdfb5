"""Loops over `map(…)` and `filter(…)`, which call a function as each turn begins."""

# A value of a program is of any type: what the checker calls unknown here is meant.
# pyright: reportUnknownArgumentType=false, reportUnknownMemberType=false
# pyright: reportUnknownVariableType=false

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import Any, cast

from dagexec.programs._check import is_stepped
from dagexec.programs._chosen import Choosing
from dagexec.programs._expressions import iterated
from dagexec.programs._machine import BREAK, CONTINUE, Code, Jump
from dagexec.programs._scopes import MISSING, Frame, Scope


class Stepping(Choosing):
    """Compiles such loops."""

    def block(self, body: list[ast.stmt], scope: Scope) -> Code:
        """Compile statements that stand one below the other."""
        raise NotImplementedError

    def stepped(self, node: ast.For, scope: Scope) -> Code | None:
        """Compile a loop over one of these, None for any other loop."""
        if not is_stepped(node.iter):
            return None
        call = cast("ast.Call", node.iter)
        name = cast("ast.Name", call.func).id
        if scope.find(name) is not None:
            return None
        parts = [self.expr(each, scope) for each in call.args]
        target = self.target(node.target, scope)
        body, other = self.block(node.body, scope), self.block(node.orelse, scope)
        pipe, item_of, line = self.pipe, self._item_of, node.lineno

        async def run(frame: Frame) -> Jump | None:
            given = [await each.run(frame) if each.waits else each.run(frame) for each in parts]
            function = await pipe.force(given[0])
            sources = [iterated(await pipe.force(each)) for each in given[1:]]
            while True:
                pipe.line = line or pipe.line
                item = await item_of(name, function, sources)
                if item is MISSING:
                    break
                await target(frame, item)
                jump = await body.run(frame) if body.waits else body.run(frame)
                if jump is not None and jump is not CONTINUE:
                    return None if jump is BREAK else jump
            return await other.run(frame) if other.waits else other.run(frame)  # type: ignore[no-any-return]

        return Code(run, waits=True)

    async def _item_of(self, name: str, function: Any, sources: list[Iterator[Any]]) -> Any:
        """Return what the next turn is given, `MISSING` at the end."""
        pipe, machine = self.pipe, self.machine
        while True:
            pipe.steps += 1
            if pipe.steps > pipe.pause_at:
                await pipe.breathe()
            items: list[Any] = []
            for each in sources:
                item = next(each, MISSING)
                if item is MISSING:
                    return MISSING
                items.append(item)
            if name == "map":
                return await machine.call(function, items, {})
            kept = items[0] if function is None else await machine.call(function, items, {})
            if await pipe.force(kept):
                return items[0]
