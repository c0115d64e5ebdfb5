"""A `try` round one value, which holds nothing up: the value, or what the handler has in its place.

The commonest `try` of all does one thing with a value, and the same thing with another one if the
first cannot be had:

```python
for x in xs:
    try:
        results.append(tool(x))
    except ToolError as error:
        results.append({"error": str(error)})
```

Whatever happens, one item is appended. So the program need not wait for the call: it appends the
promise of the one value or the other, and goes on. The value is a `Guard`'s, whose error is a value
too; see `_promise`. What is not of this form is run to its end before what comes behind it.
"""

# A value of a program is of any type: what the checker calls unknown here is meant.
# pyright: reportUnknownArgumentType=false, reportUnknownMemberType=false
# pyright: reportUnknownVariableType=false

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any, Final, NamedTuple, final

from dagexec.programs._assignments import Assignments
from dagexec.programs._errors import LimitReached, with_line
from dagexec.programs._gathers import Purity
from dagexec.programs._machine import Code, Jump
from dagexec.programs._scopes import MISSING, Frame, Scope

_SCALARS: Final = (int, float, bool, str, type(None))
# What a handler's value may be made of: nothing that waits, calls a tool, or changes anything.
_PLAIN: Final = (
    ast.Constant, ast.Dict, ast.FormattedValue, ast.JoinedStr, ast.List, ast.Name, ast.Tuple,
    ast.Load,
)  # fmt: skip
_WRITERS: Final = ("str", "repr")


class _Form(NamedTuple):
    """One statement that does something with a value: what it does, where, and the value."""

    kind: str
    place: str
    value: ast.expr
    # The variable whose container is changed.
    name: str = ""


class _Handler(NamedTuple):
    """What has one kind of error: its types, the name that it gets, and the value in its place."""

    kinds: tuple[type[Exception], ...]
    name: str | None
    value: Code
    line: int


@final
class _Kept:
    """An error that is a value of the program, and was not raised."""

    __slots__ = ("value",)

    def __init__(self, value: Exception) -> None:
        self.value = value


class Given(ast.expr):
    """Stands in a statement for a value that is there already."""

    _fields = ()


class Choosing(Assignments):
    """Compiles such a `try`."""

    # The text of the whole program, and the variables that it finds.
    whole: ast.Module
    known: frozenset[str] = frozenset()
    _given: Any = None

    def statement(self, node: ast.stmt, scope: Scope) -> Code:
        """Compile one statement."""
        raise NotImplementedError

    @cached_property
    def _pure(self) -> Purity:
        return Purity(self.whole)

    @cached_property
    def _stored(self) -> frozenset[str]:
        """The names that the program gives to anything but what a handler has."""
        found: set[str] = set(self.known)
        for node in ast.walk(self.whole):
            if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
                found.add(node.id)
            elif isinstance(node, ast.arg):
                found.add(node.arg)
            elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                found.add(node.name)
            elif isinstance(node, ast.alias):
                found.add(node.asname or node.name)
        return frozenset(found)

    def _Given(self, _node: Given, _scope: Scope) -> Code:
        def load(_frame: Frame) -> Any:
            return self._given

        return Code(load)

    def chosen(self, node: ast.Try, scope: Scope, otherwise: Code) -> Code | None:
        """Compile a `try` of this form, None for any other; `otherwise` runs it to its end."""
        form = _form(node.body)
        if form is None or node.orelse or node.finalbody or not self._calls(form.value):
            return None
        handlers: list[_Handler] = []
        needed: set[str] = set()
        for each in node.handlers:
            handler = self._handler(each, form, scope, needed)
            if handler is None:
                return None
            handlers.append(handler)
        self.spread = node.body[0].end_lineno != node.body[0].lineno
        value = self.expr(form.value, scope)
        store = self.statement(_with_given(node.body[0]), scope)
        return self._choosing(node, form, (value, store, otherwise), handlers, needed)

    def _calls(self, value: ast.expr) -> bool:
        """Whether a value is asked for by a call, and nothing is changed by that."""
        called = any(isinstance(each, ast.Call) for each in ast.walk(value))
        return called and self._pure.holds(value)

    def _handler(
        self, node: ast.ExceptHandler, form: _Form, scope: Scope, needed: set[str]
    ) -> _Handler | None:
        other = _form(node.body)
        kinds = self._kinds(node.type, scope)
        if other is None or other[:2] != form[:2] or kinds is None or node.name in self._stored:
            return None
        for name in _names_in(other.value, node.name):
            if scope.find(name) != 0:
                return None
            needed.add(name)
        if not self._is_plain(other.value, node.name, scope):
            return None
        self.spread = False
        value = self.expr(other.value, scope)
        return None if value.waits else _Handler(kinds, node.name, value, other.value.lineno)

    def _kinds(self, node: ast.expr | None, scope: Scope) -> tuple[type[Exception], ...] | None:
        if node is None:
            return (Exception,)
        found: list[type[Exception]] = []
        for each in node.elts if isinstance(node, ast.Tuple) else [node]:
            if not isinstance(each, ast.Name) or scope.find(each.id) is not None:
                return None
            kind = self.builtins.get(each.id)
            if not (isinstance(kind, type) and issubclass(kind, Exception)):
                return None
            found.append(kind)
        return tuple(found)

    def _is_plain(self, node: ast.AST, error: str | None, scope: Scope) -> bool:
        """Whether a handler's value is made of texts, numbers and the error."""
        if isinstance(node, ast.Call):
            called = node.func
            ok = isinstance(called, ast.Name) and called.id in _WRITERS and len(node.args) == 1
            name = getattr(called, "id", "")
            ok = ok and scope.find(name) is None and name not in self.tools and not node.keywords
            return ok and self._is_plain(node.args[0], error, scope)
        if isinstance(node, ast.Attribute):
            owner = node.value
            if not (isinstance(owner, ast.Call) and node.attr == "__name__"):
                return False
            name = owner.func.id if isinstance(owner.func, ast.Name) else ""
            alone = len(owner.args) == 1 and scope.find("type") is None
            alone = alone and "type" not in self.tools
            return name == "type" and alone and self._is_plain(owner.args[0], error, scope)
        return isinstance(node, _PLAIN) and all(
            self._is_plain(each, error, scope) for each in ast.iter_child_nodes(node)
        )

    def _choosing(
        self,
        node: ast.Try,
        form: _Form,
        codes: tuple[Code, Code, Code],
        handlers: list[_Handler],
        needed: set[str],
    ) -> Code:
        pipe, line = self.pipe, node.body[0].lineno
        value, store, otherwise = codes
        kind = {"append": list, "item": dict}.get(form.kind)
        held = () if kind is None else _names_in(ast.parse(form.place, mode="eval").body, None)
        scalars = needed | {each for each in held if each != form.name}

        async def run(frame: Frame) -> Jump | None:
            # Which way it goes must not depend on what has come by now: calls are named by it.
            found = {name: await pipe.force(frame.vars.get(name, MISSING)) for name in scalars}
            fits = all(type(each) in _SCALARS for each in found.values())
            if kind is not None:
                fits = fits and type(await pipe.force(frame.vars.get(form.name))) is kind
            if not fits:
                jump: Jump | None = await otherwise.run(frame)
                return jump
            pipe.line = line or pipe.line
            guard = pipe.begin_guard()
            try:
                given = await value.run(frame) if value.waits else value.run(frame)
                given = _Kept(given) if isinstance(given, Exception) else given
            except LimitReached:
                raise
            except Exception as raised:  # noqa: BLE001 - the program's own
                given = with_line(raised, pipe.line)
            finally:
                pipe.guard = guard.outer
            given = pipe.end_guard(guard, given)
            pipe.line = line or pipe.line
            self._given = pipe.operate(_choice(handlers, found), (given,))
            jump = await store.run(frame) if store.waits else store.run(frame)
            self._given = None
            return jump

        return Code(run, waits=True)


def _choice(handlers: list[_Handler], variables: Mapping[str, Any]) -> Callable[[Any], Any]:
    """Return what gives a value, or in the place of an error what its handler has."""

    def choose(value: Any) -> Any:
        if type(value) is _Kept:
            return value.value
        if not isinstance(value, Exception):
            return value
        for kinds, name, code, line in handlers:
            if isinstance(value, LimitReached) or not isinstance(value, kinds):
                continue
            frame = Frame(None)
            frame.vars.update(variables)
            if name is not None:
                frame.vars[name] = value.with_traceback(None)
            try:
                return code.run(frame)
            except Exception as raised:  # noqa: BLE001 - the program's own
                raise with_line(raised, line)  # noqa: B904 - it is the same
        raise value

    return choose


def _form(body: list[ast.stmt]) -> _Form | None:
    """Return what one statement does with a value."""
    node = body[0] if len(body) == 1 else None
    if isinstance(node, ast.Return) and node.value is not None:
        return _Form("return", "", node.value)
    if isinstance(node, ast.Assign) and len(node.targets) == 1:
        target = node.targets[0]
        if isinstance(target, ast.Name):
            return _Form("name", target.id, node.value)
        if (
            isinstance(target, ast.Subscript)
            and isinstance(target.value, ast.Name)
            and isinstance(target.slice, ast.Name | ast.Constant)
        ):
            return _Form("item", ast.unparse(target), node.value, target.value.id)
    call = node.value if isinstance(node, ast.Expr) else None
    if (
        isinstance(call, ast.Call)
        and isinstance(call.func, ast.Attribute)
        and call.func.attr == "append"
        and isinstance(call.func.value, ast.Name)
        and len(call.args) == 1
        and not call.keywords
        and not isinstance(call.args[0], ast.Starred)
    ):
        return _Form("append", ast.unparse(call.func), call.args[0], call.func.value.id)
    return None


def _with_given(node: ast.stmt) -> ast.stmt:
    """Return a statement of such a form with a value that is there already."""
    given = ast.copy_location(Given(), node)
    made: ast.stmt
    if isinstance(node, ast.Return):
        made = ast.Return(given)
    elif isinstance(node, ast.Assign):
        made = ast.Assign(node.targets, given)
    else:
        assert isinstance(node, ast.Expr)  # noqa: S101 - `_form` found it
        assert isinstance(node.value, ast.Call)  # noqa: S101 - `_form` found it
        made = ast.Expr(ast.copy_location(ast.Call(node.value.func, [given], []), node))
    return ast.copy_location(made, node)


def _names_in(node: ast.AST, error: str | None) -> set[str]:
    """Return the variables that a value is made of, but for the error and what writes it."""
    names = {each.id for each in ast.walk(node) if isinstance(each, ast.Name)}
    return names - {error or "", *_WRITERS, "type"}
