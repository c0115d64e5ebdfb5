"""Containers and texts in a program: parts, displays, comprehensions, f-strings; and lambdas."""

# A value of a program is of any type: what the checker calls unknown here is meant.
# pyright: reportUnknownArgumentType=false, reportUnknownLambdaType=false
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false

from __future__ import annotations

import ast
from collections.abc import Awaitable, Callable
from typing import Any, Final, NamedTuple, TypeAlias

from dagexec.programs._expressions import Expressions, iterable, iterated
from dagexec.programs._functions import member
from dagexec.programs._machine import Code, Function, Params
from dagexec.programs._pipeline import Pipeline
from dagexec.programs._promise import Promise
from dagexec.programs._scopes import MISSING, Frame, Scope, comprehension_scope, scope_of, weight_of
from dagexec.programs._values import (
    QUICK,
    RATES,
    Builtin,
    attribute,
    fits,
    formatted,
    key_of,
    keys,
    repr_of,
    text_of,
    weigh,
    whole,
)

_CONVERSIONS: Final = {-1: "", 114: "r", 115: "s", 97: "a"}


# Items of a display from which on it is remembered.
_MANY: Final = 50
# Takes the values of one turn of a comprehension; returns whether that was the last.
Take: TypeAlias = Callable[[list[Any]], Awaitable[bool]]


class _Loop(NamedTuple):
    """One `for` of a comprehension."""

    source: Code
    store: Callable[[Frame, Any], Awaitable[None]]
    tests: list[Code]
    # Where its source stands, where that has to be said.
    line: int | None


class Containers(Expressions):
    """Compiles what makes containers and texts, and what takes parts of them."""

    imported: dict[str, str]

    # ------------------------------------------------------------------------------ parts of values

    def _Subscript(self, node: ast.Subscript, scope: Scope) -> Code:
        operate = self.pipe.operate
        base = self.expr(node.value, scope)
        if isinstance(node.slice, ast.Slice):
            bounds = (node.slice.lower, node.slice.upper, node.slice.step)
            parts = [base, *[self.expr(each or ast.Constant(None), scope) for each in bounds]]
            return self.strict(node, parts, lambda *values: operate(_sliced, values))

        def combine(value: Any, key: Any) -> Any:
            if type(value) is Promise or type(key) is Promise or type(key) is tuple:
                return operate(_item, (value, key), deep=type(key) is tuple)
            return _item(value, key)

        return self.strict(node, [base, self.expr(node.slice, scope)], combine)

    def _Attribute(self, node: ast.Attribute, scope: Scope) -> Code:
        name = node.attr
        module = self.module_of(node.value, scope)
        if module is not None:
            value = member(module, name)
            return Code(lambda _frame: value)
        if isinstance(node.value, ast.Call) and name == "__name__":
            kind = self.expr(node.value.args[0], scope)
            return self.strict(
                node,
                [kind],
                lambda value: self.pipe.operate(
                    lambda it: type(it).__name__, (value,), scalar=True
                ),
            )
        return self.strict(
            node,
            [self.expr(node.value, scope)],
            lambda value: self.pipe.operate(lambda it: _attribute(it, name), (value,)),
        )

    def module_of(self, node: ast.expr, scope: Scope) -> str | None:
        """Return the module that a name stands for, if it was imported by the program."""
        if isinstance(node, ast.Name) and scope.find(node.id) is not None:
            return self.imported.get(node.id)
        return None

    def _List(self, node: ast.List, scope: Scope) -> Code:
        return self._display(node, node.elts, scope, list)

    def _Tuple(self, node: ast.Tuple, scope: Scope) -> Code:
        return self._display(node, node.elts, scope, tuple)

    def _display(
        self, node: ast.expr, items: list[ast.expr], scope: Scope, kind: Callable[[Any], Any]
    ) -> Code:
        if not any(isinstance(each, ast.Starred) for each in items):
            parts = [self.expr(each, scope) for each in items]
            if not parts:
                return Code(lambda _frame: kind(()))
            if len(parts) > _MANY:
                copying = self.pipe.copying
                return self.strict(node, parts, lambda *values: copying(kind(values)))
            return self.strict(node, parts, lambda *values: kind(values))
        values_of, pipe = self.spread_values(items, scope), self.pipe

        async def run(frame: Frame) -> Any:
            return pipe.copying(kind(await values_of(frame)))

        return Code(run, waits=True)

    def _Set(self, node: ast.Set, scope: Scope) -> Code:
        values_of, pipe = self.spread_values(node.elts, scope), self.pipe

        async def run(frame: Frame) -> Any:
            return pipe.copying(set(keys(await pipe.force_deep(await values_of(frame)))))

        return Code(run, waits=True)

    def _Dict(self, node: ast.Dict, scope: Scope) -> Code:
        keys = node.keys
        values = [self.expr(each, scope) for each in node.values]
        if all(isinstance(each, ast.Constant) for each in keys):
            names = [each.value for each in keys if isinstance(each, ast.Constant)]
            if not names:
                return Code(lambda _frame: {})
            return self.strict(node, values, lambda *given: dict(zip(names, given, strict=True)))
        codes = [None if each is None else self.expr(each, scope) for each in keys]
        pipe = self.pipe

        async def run(frame: Frame) -> Any:
            made: dict[Any, Any] = {}
            for key, value in zip(codes, values, strict=True):
                name = None
                if key is not None:
                    name = await key.run(frame) if key.waits else key.run(frame)
                given = await value.run(frame) if value.waits else value.run(frame)
                if key is None:
                    given = await pipe.force(given)
                    made.update(mapping(given))
                else:
                    made[key_of(await pipe.force_deep(name))] = given
            return pipe.copying(made)

        return Code(run, waits=True)

    def spread_values(
        self, items: list[ast.expr], scope: Scope
    ) -> Callable[[Frame], Awaitable[list[Any]]]:
        """Return what evaluates items from left to right, those with a star spread out."""
        codes = [
            (
                self.expr(each.value if isinstance(each, ast.Starred) else each, scope),
                isinstance(each, ast.Starred),
            )
            for each in items
        ]
        pipe = self.pipe

        async def run(frame: Frame) -> list[Any]:
            found: list[Any] = []
            for code, starred in codes:
                value = await code.run(frame) if code.waits else code.run(frame)
                if starred:
                    value = await pipe.force(value)
                    found.extend(whole(iterable(value)))
                    fits(len(found), "the container")
                    pipe.copying(found)
                else:
                    found.append(value)
            return found

        return run

    def _JoinedStr(self, node: ast.JoinedStr, scope: Scope) -> Code:
        parts: list[Code] = []
        shapes: list[tuple[str, bool]] = []
        for each in node.values:
            if isinstance(each, ast.FormattedValue):
                parts.append(self.expr(each.value, scope))
                spec = each.format_spec
                if spec is not None:
                    parts.append(self.expr(spec, scope))
                shapes.append((_CONVERSIONS[each.conversion], spec is not None))
            else:
                parts.append(self.expr(each, scope))
                shapes.append(("text", False))
        operate = self.pipe.operate

        def write(*values: Any) -> str:
            left = iter(values)
            texts: list[str] = []
            size = 0
            for conversion, has_spec in shapes:
                text = _written(next(left), conversion, next(left) if has_spec else "")
                size += len(text)
                fits(size, "the text")
                texts.append(text)
            return "".join(texts)

        if not parts:
            return Code(lambda _frame: "")
        return self.strict(
            node,
            parts,
            lambda *values: operate(write, values, deep=True, copied=True, scalar=True),
        )

    # -------------------------------------------------------------------- functions, comprehensions

    def _Lambda(self, node: ast.Lambda, scope: Scope) -> Code:
        params, defaults_of = self.params(node.args, scope)
        inner = scope_of([ast.Expr(node.body)], all_names(params), scope)
        body = self.expr(node.body, inner)
        pipe, weight = self.pipe, weight_of(node.body) - 1
        if weight:
            body = _heavy(pipe, body, weight)

        async def run(frame: Frame) -> Any:
            given = await defaults_of(frame)
            return Function("<lambda>", params, body, frame, given, expression=True, node=node)

        return Code(run, waits=True)

    def params(
        self, args: ast.arguments, scope: Scope
    ) -> tuple[Params, Callable[[Frame], Awaitable[dict[str, Any]]]]:
        """Return the parameters of a function, and what evaluates their defaults."""
        plain = [each.arg for each in (*args.posonlyargs, *args.args)]
        named = [each.arg for each in args.kwonlyargs]
        params = Params(
            tuple(plain),
            len(args.posonlyargs),
            tuple(named),
            args.vararg.arg if args.vararg else None,
            args.kwarg.arg if args.kwarg else None,
        )
        first = len(plain) - len(args.defaults)
        codes = [
            (name, self.expr(each, scope))
            for name, each in zip(plain[first:], args.defaults, strict=True)
        ]
        codes += [
            (name, self.expr(each, scope))
            for name, each in zip(named, args.kw_defaults, strict=True)
            if each is not None
        ]

        async def defaults_of(frame: Frame) -> dict[str, Any]:
            return {
                name: await code.run(frame) if code.waits else code.run(frame)
                for name, code in codes
            }

        return params, defaults_of

    def _ListComp(self, node: ast.ListComp, scope: Scope) -> Code:
        return self._collected(node, scope, [node.elt], list)

    def _GeneratorExp(self, node: ast.GeneratorExp, scope: Scope) -> Code:
        return self._collected(node, scope, [node.elt], list)

    def _SetComp(self, node: ast.SetComp, scope: Scope) -> Code:
        return self._collected(node, scope, [node.elt], set)

    def _DictComp(self, node: ast.DictComp, scope: Scope) -> Code:
        return self._collected(node, scope, [node.key, node.value], dict)

    def _collected(
        self,
        node: ast.ListComp | ast.GeneratorExp | ast.SetComp | ast.DictComp,
        scope: Scope,
        parts: list[ast.expr],
        kind: type,
    ) -> Code:
        each, pipe = self.comprehension(node, scope, parts), self.pipe

        async def run(frame: Frame) -> Any:
            found: Any = kind()

            async def take(values: list[Any]) -> bool:
                if kind is list:
                    found.append(values[0])
                elif kind is set:
                    found.add(key_of(await pipe.force_deep(values[0])))
                else:
                    found[key_of(await pipe.force_deep(values[0]))] = values[1]
                if not len(found) & 127:
                    fits(len(found), "the container")
                    pipe.grown(found)
                return False

            await each(frame, take)
            return found

        return Code(run, waits=True)

    def comprehension(
        self,
        node: ast.ListComp | ast.GeneratorExp | ast.SetComp | ast.DictComp,
        scope: Scope,
        parts: list[ast.expr],
    ) -> Callable[[Frame, Take], Awaitable[bool]]:
        """Return what runs the loops of a comprehension and hands each value on.

        It ends early, and returns True, when the function that takes the values says so.
        """
        inner = comprehension_scope(node.generators, scope)
        loops = [
            _Loop(
                self.expr(generator.iter, inner if number else scope),
                self.target(generator.target, inner),
                [self.expr(each, inner) for each in generator.ifs],
                generator.iter.lineno if self.spread else None,
            )
            for number, generator in enumerate(node.generators)
        ]
        values = [self.expr(each, inner) for each in parts]
        line = parts[0].lineno if self.spread else None
        pipe, weight = self.pipe, weight_of(node)

        async def run(frame: Frame, take: Take) -> bool:
            looped = pipe, loops, values, (line, weight), (frame, Frame(frame))
            return await _looped(*looped, take=take)

        return run

    def target(self, node: ast.expr, scope: Scope) -> Callable[[Frame, Any], Awaitable[None]]:
        """Return what assigns a value to a target; see the statements."""
        raise NotImplementedError


def _heavy(pipe: Pipeline, code: Code, weight: int) -> Code:
    """Count more than one step for a large expression."""

    async def run(frame: Frame) -> Any:
        pipe.steps += weight
        return await code.run(frame) if code.waits else code.run(frame)

    return Code(run, waits=True)


async def _looped(
    pipe: Pipeline,
    loops: list[_Loop],
    values: list[Code],
    place: tuple[int | None, int],
    frames: tuple[Frame, Frame],
    *,
    take: Take,
) -> bool:
    """Run loops inside one another; `frames` are that of the first source and that of the rest."""
    around, frame = frames
    line, weight = place
    loop, inner = loops[0], loops[1:]
    found = await loop.source.run(around) if loop.source.waits else loop.source.run(around)
    found = await pipe.force(found)
    if loop.line is not None:
        pipe.line = loop.line
    for item in iterated(found):
        pipe.steps += weight
        if pipe.steps > pipe.pause_at:
            await pipe.breathe()
        await loop.store(frame, item)
        if not await _passes(pipe, loop.tests, frame):
            continue
        if inner:
            ended = await _looped(pipe, inner, values, place, (frame, frame), take=take)
        else:
            if line is not None:
                pipe.line = line
            ended = await take([await v.run(frame) if v.waits else v.run(frame) for v in values])
        if ended:
            return True
    return False


async def _passes(pipe: Pipeline, tests: list[Code], frame: Frame) -> bool:
    for test in tests:
        value = await test.run(frame) if test.waits else test.run(frame)
        if not (await pipe.force(value) if type(value) is Promise else value):
            return False
    return True


def _sliced(value: Any, lower: Any, upper: Any, step: Any) -> Any:
    return _item(value, slice(lower, upper, step))


RATES[_sliced] = QUICK


def _item(value: Any, key: Any) -> Any:
    if isinstance(value, type | Builtin):
        msg = f"{value!r} is not subscriptable"
        raise TypeError(msg)
    return value[key if type(key) is not tuple else key_of(key)]


RATES[_item] = QUICK


def _attribute(value: Any, name: str) -> Any:
    if isinstance(value, Exception) and name in ("args", "tool", "call", "status"):
        found = getattr(value, name, MISSING)
        if found is not MISSING:
            return found
    return attribute(value, name)


def _written(value: Any, conversion: str, spec: str) -> str:
    if conversion == "text":
        return str(value)
    if conversion == "r":
        value = repr_of(value)
    elif conversion == "s":
        value = text_of(value)
    elif conversion == "a":
        weigh(value)
        value = ascii(value)
    return formatted(value, spec)


def all_names(params: Params) -> list[str]:
    rest = [each for each in (params.rest, params.rest_named) if each]
    return [*params.plain, *params.named, *rest]


def mapping(value: Any) -> dict[str, Any]:
    if type(value) is not dict:
        msg = f"argument after ** must be a mapping, not {type(value).__name__}"
        raise TypeError(msg)
    return value
