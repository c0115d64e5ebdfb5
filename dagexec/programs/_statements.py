"""Statements of a program, compiled to closures: see `_expressions`.

A statement returns None when the next one follows, else a `Jump`: what `break`, `continue` or
`return` says.
"""

# A value of a program is of any type: what the checker calls unknown here is meant.
# pyright: reportUnknownArgumentType=false, reportUnknownLambdaType=false
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false

from __future__ import annotations

import ast
from contextlib import suppress
from typing import Any, final

from dagexec.programs._assignments import PASS
from dagexec.programs._check import modules_of
from dagexec.programs._containers import all_names
from dagexec.programs._entries import Squash
from dagexec.programs._errors import LimitReached, with_line
from dagexec.programs._expressions import iterated
from dagexec.programs._functions import MODULES, member
from dagexec.programs._machine import BREAK, CONTINUE, Code, Function, Jump
from dagexec.programs._pipeline import Pipeline
from dagexec.programs._promise import Promise
from dagexec.programs._scopes import MISSING, Frame, Scope, scope_of, weight_of
from dagexec.programs._stepped import Stepping
from dagexec.programs._values import Builtin, weigh


@final
class Statements(Stepping):
    """Compiles a program."""

    def program(
        self, tree: ast.Module, known: set[str], *, imports: bool = True
    ) -> tuple[Code, Scope]:
        """Compile a whole program; `known` are variables that there are already."""
        self.imported = modules_of(tree) if imports else {}
        self.whole, self.known = tree, frozenset(known)
        scope = scope_of(tree.body, sorted(known), None)
        first = [node for node in tree.body if not node.lineno]
        if not first:
            return self.block(tree.body, scope), scope
        before, own = self.block(first, scope), self.block(tree.body[len(first) :], scope)

        async def run(frame: Frame) -> Jump | None:
            await before.run(frame)
            jump: Jump | None = await own.run(frame) if own.waits else own.run(frame)
            return jump

        return Code(run, waits=True), scope

    def block(self, body: list[ast.stmt], scope: Scope) -> Code:  # noqa: C901 - two forms
        """Compile statements that stand one below the other."""
        steps: list[tuple[int, Code, int]] = []
        for node in body:
            self.spread = node.end_lineno != node.lineno and not hasattr(node, "body")
            steps.append((node.lineno, self.statement(node, scope), weight_of(node)))
        pipe = self.pipe
        plain = [(line, code.run, weight) for line, code, weight in steps]
        if steps and not steps[0][0]:
            return _without_lines(pipe, [code for _, code, _ in steps])
        if not any(code.waits for _, code, _ in steps):

            def run(frame: Frame) -> Jump | None:
                for line, step, weight in plain:
                    pipe.line = line
                    pipe.steps += weight
                    jump: Jump | None = step(frame)
                    if jump is not None:
                        return jump
                return None

            return Code(run)

        async def waiting(frame: Frame) -> Jump | None:
            for line, code, weight in steps:
                pipe.line = line
                pipe.steps += weight
                jump: Jump | None = await code.run(frame) if code.waits else code.run(frame)
                if jump is not None:
                    return jump
            return None

        return Code(waiting, waits=True)

    def statement(self, node: ast.stmt, scope: Scope) -> Code:
        """Compile one statement."""
        compiled: Code = getattr(self, f"_{type(node).__name__}")(node, scope)
        return compiled

    def _Pass(self, _node: ast.Pass, _scope: Scope) -> Code:
        return PASS

    def _Global(self, _node: ast.Global, _scope: Scope) -> Code:
        return PASS

    def _Nonlocal(self, _node: ast.Nonlocal, _scope: Scope) -> Code:
        return PASS

    def _Import(self, node: ast.Import, scope: Scope) -> Code:
        stores = [self.store_name(each.asname or each.name, scope) for each in node.names]

        def run(frame: Frame) -> None:
            for store in stores:
                store(frame, Builtin("module", lambda: None))

        return Code(run)

    def _ImportFrom(self, node: ast.ImportFrom, scope: Scope) -> Code:
        module = node.module or ""
        if module not in MODULES:
            return PASS  # `typing`: annotations are not evaluated
        stores = [
            (self.store_name(each.asname or each.name, scope), member(module, each.name))
            for each in node.names
        ]

        def run(frame: Frame) -> None:
            for store, value in stores:
                store(frame, value)

        return Code(run)

    # ---------------------------------------------------------------------------------- simple ones

    def _Expr(self, node: ast.Expr, scope: Scope) -> Code:
        value = self.expr(node.value, scope)
        run = value.run
        if not value.waits:

            def plain(frame: Frame) -> None:
                run(frame)

            return Code(plain)

        async def waiting(frame: Frame) -> None:
            await run(frame)

        return Code(waiting, waits=True)

    def _Return(self, node: ast.Return, scope: Scope) -> Code:
        if node.value is None:
            return Code(lambda _frame: Jump(None))
        value = self.expr(node.value, scope)
        run = value.run
        if not value.waits:
            return Code(lambda frame: Jump(run(frame)))

        async def waiting(frame: Frame) -> Jump:
            return Jump(await run(frame))

        return Code(waiting, waits=True)

    def _Break(self, _node: ast.Break, _scope: Scope) -> Code:
        return Code(lambda _frame: BREAK)

    def _Continue(self, _node: ast.Continue, _scope: Scope) -> Code:
        return Code(lambda _frame: CONTINUE)

    # --------------------------------------------------------------------------------- control flow

    def _If(self, node: ast.If, scope: Scope) -> Code:
        test = self.expr(node.test, scope)
        body, other = self.block(node.body, scope), self.block(node.orelse, scope)
        force = self.pipe.force

        async def run(frame: Frame) -> Jump | None:
            value = await test.run(frame) if test.waits else test.run(frame)
            if type(value) is Promise:
                value = await force(value)
            chosen = body if value else other
            jump: Jump | None = await chosen.run(frame) if chosen.waits else chosen.run(frame)
            return jump

        return Code(run, waits=True)

    def _While(self, node: ast.While, scope: Scope) -> Code:
        test = self.expr(node.test, scope)
        body, other = self.block(node.body, scope), self.block(node.orelse, scope)
        pipe, line = self.pipe, node.lineno

        async def run(frame: Frame) -> Jump | None:
            while True:
                pipe.line = line or pipe.line
                value = await test.run(frame) if test.waits else test.run(frame)
                if type(value) is Promise:
                    value = await pipe.force(value)
                if not value:
                    break
                pipe.steps += 1
                if pipe.steps > pipe.pause_at:
                    await pipe.breathe()
                jump = await body.run(frame) if body.waits else body.run(frame)
                if jump is not None and jump is not CONTINUE:
                    return None if jump is BREAK else jump
            return await other.run(frame) if other.waits else other.run(frame)  # type: ignore[no-any-return]

        return Code(run, waits=True)

    def _For(self, node: ast.For, scope: Scope) -> Code:
        return self.stepped(node, scope) or self._looping(node, scope)

    def _looping(self, node: ast.For, scope: Scope) -> Code:
        source, target = self.expr(node.iter, scope), self.target(node.target, scope)
        simple = (
            self.store_name(node.target.id, scope) if isinstance(node.target, ast.Name) else None
        )
        body, other = self.block(node.body, scope), self.block(node.orelse, scope)
        pipe, line = self.pipe, node.lineno

        async def run(frame: Frame) -> Jump | None:
            values = await source.run(frame) if source.waits else source.run(frame)
            if type(values) is Promise:
                values = await pipe.force(values)
            step, waits = body.run, body.waits
            iterator = iterated(values)
            while True:
                pipe.line = line or pipe.line
                item = next(iterator, MISSING)
                if item is MISSING:
                    break
                pipe.steps += 1
                if pipe.steps > pipe.pause_at:
                    await pipe.breathe()
                if simple is not None:
                    simple(frame, item)
                else:
                    await target(frame, item)
                jump = await step(frame) if waits else step(frame)
                if jump is not None and jump is not CONTINUE:
                    return None if jump is BREAK else jump
            return await other.run(frame) if other.waits else other.run(frame)  # type: ignore[no-any-return]

        return Code(run, waits=True)

    def _FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef, scope: Scope) -> Code:
        params, defaults_of = self.params(node.args, scope)
        inner = scope_of(node.body, all_names(params), scope)
        body = self.block(node.body, inner)
        store = self.store_name(node.name, scope)

        async def run(frame: Frame) -> None:
            given = await defaults_of(frame)
            store(frame, Function(node.name, params, body, frame, given, node=node))

        return Code(run, waits=True)

    def _AsyncFunctionDef(self, node: ast.AsyncFunctionDef, scope: Scope) -> Code:
        return self._FunctionDef(node, scope)

    # --------------------------------------------------------------------------------------- errors

    def _Raise(self, node: ast.Raise, scope: Scope) -> Code:
        machine = self.machine
        value = None if node.exc is None else self.expr(node.exc, scope)

        async def run(frame: Frame) -> None:
            if value is None:
                if not machine.handled:
                    msg = "No active exception to reraise"
                    raise RuntimeError(msg)
                raise machine.handled[-1]
            error = await value.run(frame) if value.waits else value.run(frame)
            error = await self.pipe.force(error)
            if isinstance(error, type) and issubclass(error, Exception):
                error = error()
            if not isinstance(error, Exception):
                msg = "exceptions must derive from BaseException"
                raise TypeError(msg)
            raise error

        return Code(run, waits=True)

    def _Assert(self, node: ast.Assert, scope: Scope) -> Code:
        test = self.expr(node.test, scope)
        message = None if node.msg is None else self.expr(node.msg, scope)
        pipe = self.pipe

        async def run(frame: Frame) -> None:
            value = await test.run(frame) if test.waits else test.run(frame)
            if await pipe.force(value):
                return
            if message is None:
                raise AssertionError
            text = await message.run(frame) if message.waits else message.run(frame)
            text = await pipe.force_deep(text)
            weigh(text)
            raise AssertionError(text)

        return Code(run, waits=True)

    def _Try(self, node: ast.Try, scope: Scope) -> Code:
        inner = self._handled(node, scope) if node.handlers else self.block(node.body, scope)
        if not node.finalbody:
            return self.chosen(node, scope, inner) or inner
        last = self.block(node.finalbody, scope)

        async def run(frame: Frame) -> Jump | None:
            jump, error = await self._attempt(inner, frame)
            after = await last.run(frame) if last.waits else last.run(frame)
            if after is not None:
                return after  # type: ignore[no-any-return]
            if error is not None:
                raise error
            return jump

        return Code(run, waits=True)

    def _handled(self, node: ast.Try, scope: Scope) -> Code:  # noqa: C901 - as Python has it
        body, other = self.block(node.body, scope), self.block(node.orelse, scope)
        handlers = [
            (
                None if each.type is None else self.expr(each.type, scope),
                None if each.name is None else self.store_name(each.name, scope),
                None if each.name is None else self._dropped(ast.Name(each.name), scope),
                self.block(each.body, scope),
            )
            for each in node.handlers
        ]
        handled = self.machine.handled

        async def run(frame: Frame) -> Jump | None:
            jump: Jump | None
            jump, error = await self._attempt(body, frame)
            if error is None:
                if jump is not None:
                    return jump
                return await other.run(frame) if other.waits else other.run(frame)  # type: ignore[no-any-return]
            for kind, store, drop, block in handlers:
                if kind is not None:
                    kinds = await kind.run(frame) if kind.waits else kind.run(frame)
                    if not isinstance(error, _error_types(kinds)):
                        continue
                if store is not None:
                    # With its traceback it would hold all that was under way.
                    store(frame, error.with_traceback(None))
                handled.append(error)
                try:
                    jump = await block.run(frame) if block.waits else block.run(frame)
                finally:
                    handled.pop()
                if drop is not None:
                    with suppress(NameError):  # the handler may have deleted it
                        await drop(frame)
                return jump
            raise error

        return Code(run, waits=True)

    async def _attempt(self, body: Code, frame: Frame) -> tuple[Jump | None, Exception | None]:
        """Run the body of a `try` until all of it has retired; return what it raised.

        What ran ahead of the entry that raised is taken back: variables and containers are as they
        were when Python would have raised.
        """
        pipe = self.pipe
        begin = pipe.enter_try()
        handled = len(self.machine.handled)
        jump: Jump | None = None
        error: Exception | None = None
        try:
            try:
                try:
                    jump = await body.run(frame) if body.waits else body.run(frame)
                except LimitReached:
                    await pipe.drain()
                    raise
                except Exception as raised:  # noqa: BLE001 - the program's own, for its handlers
                    error = raised
                    with_line(error, pipe.line)
                await pipe.drain()
            except Squash as squash:
                entry = squash.entry
                if entry.index < begin or entry.error is None:
                    raise
                pipe.take_back(entry)
                del self.machine.handled[handled:]
                error, jump = entry.error, None
                with_line(error, entry.line)
        finally:
            pipe.leave_try()
        if isinstance(error, LimitReached):
            raise error
        return jump, error


def _without_lines(pipe: Pipeline, steps: list[Code]) -> Code:
    """Compile statements of an earlier program, of which this one has no lines."""

    async def run(frame: Frame) -> Jump | None:
        for code in steps:
            pipe.steps += 1
            jump: Jump | None = await code.run(frame) if code.waits else code.run(frame)
            if jump is not None:
                return jump
        return None

    return Code(run, waits=True)


def _error_types(kinds: Any) -> tuple[type[Exception], ...]:
    chosen = kinds if type(kinds) is tuple else (kinds,)
    if not all(isinstance(each, type) and issubclass(each, BaseException) for each in chosen):
        msg = "catching classes that do not inherit from BaseException is not allowed"
        raise TypeError(msg)
    return chosen
