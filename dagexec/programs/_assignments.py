"""Assignments in a program: to names, to parts of containers, to several targets; and `del`."""

# A value of a program is of any type: what the checker calls unknown here is meant.
# pyright: reportUnknownArgumentType=false, reportUnknownLambdaType=false
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false

from __future__ import annotations

import ast
from collections.abc import Awaitable, Callable
from typing import Any, Final

from dagexec.programs._expressions import iterable, restore
from dagexec.programs._forms import Forms
from dagexec.programs._machine import Code
from dagexec.programs._operators import AUGMENTED, IN_PLACE
from dagexec.programs._promise import DONE, Promise
from dagexec.programs._scopes import MISSING, Frame, Scope
from dagexec.programs._values import COPIES, MUTABLE, fits, key_of, whole

PASS: Final = Code(lambda _frame: None)


class Assignments(Forms):
    """Compiles what gives variables and containers their values."""

    def _Assign(self, node: ast.Assign, scope: Scope) -> Code:
        value = self.expr(node.value, scope)
        target = node.targets[0]
        if len(node.targets) == 1 and isinstance(target, ast.Name):
            return self._assign_name(value, self.store_name(target.id, scope))
        stores = [self.target(each, scope) for each in node.targets]

        async def run(frame: Frame) -> None:
            given = await value.run(frame) if value.waits else value.run(frame)
            for store in stores:
                await store(frame, given)

        return Code(run, waits=True)

    def _assign_name(self, value: Code, store: Callable[[Frame, Any], None]) -> Code:
        run = value.run
        if not value.waits:

            def plain(frame: Frame) -> None:
                store(frame, run(frame))

            return Code(plain)

        async def waiting(frame: Frame) -> None:
            store(frame, await run(frame))

        return Code(waiting, waits=True)

    def _AnnAssign(self, node: ast.AnnAssign, scope: Scope) -> Code:
        if node.value is None:
            return PASS
        return self._Assign(ast.Assign([node.target], node.value), scope)

    def _AugAssign(self, node: ast.AugAssign, scope: Scope) -> Code:
        kind = type(node.op).__name__
        value, augmented = self.expr(node.value, scope), self._augmented
        if isinstance(node.target, ast.Name):
            load = self.expr(ast.Name(node.target.id, ast.Load()), scope).run
            store = self.store_name(node.target.id, scope)

            async def change(frame: Frame) -> None:
                old = load(frame)
                given = await value.run(frame) if value.waits else value.run(frame)
                store(frame, await augmented(kind, old, given))

            return Code(change, waits=True)
        assert isinstance(node.target, ast.Subscript)  # noqa: S101 - checked before it is compiled
        base, key = self.expr(node.target.value, scope), self.expr(node.target.slice, scope)
        pipe, put = self.pipe, self._put

        async def change_item(frame: Frame) -> None:
            owner = await base.run(frame) if base.waits else base.run(frame)
            name = await key.run(frame) if key.waits else key.run(frame)
            owner, name = await pipe.force(owner), key_of(await pipe.force_deep(name))
            old = _item_of(owner, name)
            given = await value.run(frame) if value.waits else value.run(frame)
            await put(owner, name, await augmented(kind, old, given))

        return Code(change_item, waits=True)

    async def _augmented(self, kind: str, old: Any, given: Any) -> Any:
        """Return what `old op= given` assigns; lists, sets and dicts change in place."""
        pipe = self.pipe
        if type(old) is Promise and (old.state is DONE or not old.scalar):
            old = await pipe.force(old)
        if type(old) in MUTABLE and kind in IN_PLACE:
            await pipe.before_change(old)
            if type(old) is list:
                given = await pipe.force(given)
                if kind == "Add":
                    given = self.pipe.copying(list(whole(iterable(given))))
            else:
                given = await pipe.force_deep(given)
            if type(old) is list and kind == "Add":
                fits(len(old) + len(given), "the sum")
                self._keep_of(old, "extend", [given])
            elif type(old) is list:
                AUGMENTED[kind](old, given)  # raises where Python would, or where it is too large
                self.keep(old)
            else:
                self.keep(old)
            changed = IN_PLACE[kind](old, given)
            pipe.grown(changed)
            return changed
        scalar = kind != "Mult" and (type(old) is Promise or type(old) not in MUTABLE)
        scalar = scalar and type(old) is not tuple
        return pipe.operate(AUGMENTED[kind], (old, given), deep=kind == "Mod", scalar=scalar)

    def _Delete(self, node: ast.Delete, scope: Scope) -> Code:
        drops = [self._dropped(each, scope) for each in node.targets]

        async def run(frame: Frame) -> None:
            for drop in drops:
                await drop(frame)

        return Code(run, waits=True)

    def _dropped(self, node: ast.expr, scope: Scope) -> Callable[[Frame], Awaitable[None]]:
        pipe = self.pipe
        if isinstance(node, ast.Name):
            name = node.id
            load = self.expr(ast.Name(name, ast.Load()), scope).run
            depth = scope.find(name) or 0

            async def drop(frame: Frame) -> None:
                load(frame)
                for _ in range(depth):
                    frame = frame.parent  # type: ignore[assignment] # the scopes counted them
                if pipe.takes_back:
                    pipe.undo(restore, frame.vars, name, frame.vars.get(name, MISSING))
                frame.vars.pop(name, None)

            return drop
        assert isinstance(node, ast.Subscript)  # noqa: S101 - checked before it is compiled
        base, key = self.expr(node.value, scope), self._key(node.slice, scope)

        async def drop_item(frame: Frame) -> None:
            owner = await base.run(frame) if base.waits else base.run(frame)
            name = await key(frame)
            owner = await pipe.force(owner)
            if type(owner) not in (list, dict):
                msg = f"{type(owner).__name__!r} object doesn't support item deletion"
                raise TypeError(msg)
            await pipe.before_change(owner)
            self.keep(owner)
            del owner[name]

        return drop_item

    def _key(self, node: ast.expr, scope: Scope) -> Callable[[Frame], Awaitable[Any]]:
        """Return what evaluates an index or a slice, with all that is in it."""
        pipe = self.pipe
        if isinstance(node, ast.Slice):
            codes = [
                self.expr(each or ast.Constant(None), scope)
                for each in (node.lower, node.upper, node.step)
            ]

            async def bounds(frame: Frame) -> Any:
                found = [await c.run(frame) if c.waits else c.run(frame) for c in codes]
                return slice(*await pipe.force_deep(found))

            return bounds
        code = self.expr(node, scope)

        async def key(frame: Frame) -> Any:
            found = await code.run(frame) if code.waits else code.run(frame)
            return key_of(await pipe.force_deep(found))

        return key

    # -------------------------------------------------------------------------------------- targets

    def target(self, node: ast.expr, scope: Scope) -> Callable[[Frame, Any], Awaitable[None]]:
        """Return what assigns a value to a name, a part of a container, or several of them."""
        if isinstance(node, ast.Name):
            store = self.store_name(node.id, scope)

            async def name(frame: Frame, value: Any) -> None:
                store(frame, value)

            return name
        if isinstance(node, ast.Subscript):
            base, key, pipe = self.expr(node.value, scope), self._key(node.slice, scope), self.pipe

            async def item(frame: Frame, value: Any) -> None:
                owner = await base.run(frame) if base.waits else base.run(frame)
                place = await key(frame)
                await self._put(await pipe.force(owner), place, value)

            return item
        assert isinstance(node, ast.Tuple | ast.List)  # noqa: S101 - checked before it is compiled
        return self._unpacked(node.elts, scope)

    def _unpacked(
        self, elements: list[ast.expr], scope: Scope
    ) -> Callable[[Frame, Any], Awaitable[None]]:
        starred = next(
            (place for place, each in enumerate(elements) if isinstance(each, ast.Starred)), None
        )
        stores = [
            self.target(each.value if isinstance(each, ast.Starred) else each, scope)
            for each in elements
        ]
        pipe = self.pipe

        async def unpack(frame: Frame, value: Any) -> None:
            parts = _parts(await pipe.force(value), len(stores), starred)
            if starred is not None:
                pipe.copying(parts[starred])
            for store, part in zip(stores, parts, strict=True):
                await store(frame, part)

        return unpack

    async def _put(self, owner: Any, place: Any, value: Any) -> None:
        pipe = self.pipe
        if type(owner) not in (list, dict):
            msg = f"{type(owner).__name__!r} object does not support item assignment"
            raise TypeError(msg)
        await pipe.before_change(owner)
        if isinstance(place, slice) and type(owner) is list:
            value = pipe.copying(list(whole(iterable(await pipe.force(value)))))
            fits(len(owner) + len(value), "the list")
            self.keep(owner)
            pipe.charge((len(owner) >> COPIES.items) + 1)
            owner[place] = value
            pipe.grown(owner)
            return
        if pipe.takes_back:
            if type(owner) is dict:
                pipe.undo(restore, owner, place, owner.get(place, MISSING))
            elif type(place) is int and -len(owner) <= place < len(owner):
                pipe.undo(owner.__setitem__, place, owner[place])
        if not len(owner) & 127:
            fits(len(owner), "the container")
            pipe.grown(owner)
        owner[place] = value


def _item_of(owner: Any, place: Any) -> Any:
    if type(owner) not in (list, dict):
        if type(owner) in (str, tuple, range):
            owner[place]  # its own error first, as in Python
            msg = f"{type(owner).__name__!r} object does not support item assignment"
        else:
            msg = f"{type(owner).__name__!r} object is not subscriptable"
        raise TypeError(msg)
    return owner[place]


def _parts(value: Any, count: int, starred: int | None) -> list[Any]:
    """Return what each target of an unpacking gets; raise as Python does."""
    try:
        items = list(whole(iterable(value)))
    except TypeError:
        msg = f"cannot unpack non-iterable {type(value).__name__} object"
        raise TypeError(msg) from None
    if starred is None:
        if len(items) < count:
            msg = f"not enough values to unpack (expected {count}, got {len(items)})"
            raise ValueError(msg)
        if len(items) > count:
            msg = f"too many values to unpack (expected {count})"
            raise ValueError(msg)
        return items
    if len(items) < count - 1:
        msg = f"not enough values to unpack (expected at least {count - 1}, got {len(items)})"
        raise ValueError(msg)
    after = count - starred - 1
    end = len(items) - after
    return [*items[:starred], items[starred:end], *items[end:]]
