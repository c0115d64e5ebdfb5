"""What a program leaves that failed: the variables as Python would have left them.

A call that failed may be found out when the program has long run ahead of it. What it did behind
that call never happened, so a variable is left only if nothing behind it can have given it another
value, or changed what is in it: by the text, and by which values share containers.
"""

# A value of a program is of any type: what the checker calls unknown here is meant.
# pyright: reportUnknownArgumentType=false, reportUnknownMemberType=false
# pyright: reportUnknownVariableType=false

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any, Final

from dagexec.programs._machine import Function
from dagexec.programs._promise import DONE, Promise, fill
from dagexec.programs._values import CHANGING_NAMES, CONTAINERS, MUTABLE, elements

_FUNCTIONS: Final = (ast.FunctionDef, ast.AsyncFunctionDef)


def settled(variables: Mapping[str, Any]) -> dict[str, Any]:
    """Return the variables that have values, with these in the place of promises."""
    found: dict[str, Any] = {}
    for name, value in variables.items():
        missing: list[Promise] = []
        with suppress(RecursionError):  # what is nested too deep is not left
            there = fill(value, missing, {})
            if not missing:
                found[name] = there
    return found


def left_by(tree: ast.Module, variables: Mapping[str, Any], line: int | None) -> dict[str, Any]:
    """Return the variables that a program left that ended with an error.

    `line` is that of an entry that failed while the program ran ahead, None where it stood there.
    """
    found = settled(variables)
    if line is None:
        return found
    functions = {each.name for each in _functions(tree)}
    functions |= {name for name, value in variables.items() if type(value) is Function}
    changed, known = _changed(_behind(tree, line), functions)
    if not known <= variables.keys():  # something without a name here, that may be part of any
        found = {name: value for name, value in found.items() if not _parts(value)}
    touched: set[int] = set()
    for name in changed & variables.keys():
        touched |= _parts(variables[name])
    return {
        name: value
        for name, value in found.items()
        if name not in changed and touched.isdisjoint(_parts(value))
    }


def _functions(tree: ast.Module) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    return [node for node in ast.walk(tree) if isinstance(node, _FUNCTIONS)]


def _behind(tree: ast.Module, line: int) -> list[ast.stmt]:
    """Return the statements of the program's own level that may have run behind a line of it."""
    names = {each.name for each in _functions(tree)}
    inside = any(each.lineno <= line <= (each.end_lineno or 0) for each in _functions(tree))
    for place, node in enumerate(tree.body):
        if isinstance(node, _FUNCTIONS):
            continue
        if inside:
            here = any(isinstance(n, ast.Name) and n.id in names for n in ast.walk(node))
        else:
            here = node.lineno <= line <= (node.end_lineno or 0)
        if here:
            return tree.body[place:]
    return tree.body


def _changed(body: list[ast.stmt], functions: set[str]) -> tuple[set[str], set[str]]:
    """Return the names that statements may change, and those of them that hold containers."""
    assigned: set[str] = set()
    held: set[str] = set()
    calls_own = False
    for node in (each for statement in body for each in ast.walk(statement)):
        if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
            assigned.add(node.id)
        elif isinstance(node, ast.Name) and node.id in functions:
            calls_own = True
        elif isinstance(node, ast.AugAssign) and isinstance(node.target, ast.Name):
            held.add(node.target.id)
        for base in _bases(node):
            held.add(base)
    if calls_own or any(isinstance(each, ast.Lambda) for each in _all(body)):
        held.add("")  # what a function of the program changes has no name here
    return assigned | held, held


def _all(body: list[ast.stmt]) -> Iterator[ast.AST]:
    for statement in body:
        yield from ast.walk(statement)


def _bases(node: ast.AST) -> Iterator[str]:
    """Yield the name of a container that this part of a program changes, empty without a name."""
    changed: ast.expr | None = None
    if isinstance(node, ast.Subscript) and not isinstance(node.ctx, ast.Load):
        changed = node.value
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        changed = node.func.value if node.func.attr in CHANGING_NAMES else None
    if changed is not None:
        while isinstance(changed, ast.Subscript):
            changed = changed.value
        yield changed.id if isinstance(changed, ast.Name) else ""


def _parts(value: Any) -> set[int]:
    """Return the containers that can be changed, of a value and of all that is in it."""
    seen: set[int] = set()
    found: set[int] = set()
    stack = [value]
    while stack:
        item = stack.pop()
        while type(item) is Promise and item.state is DONE:
            item = item.value
        if type(item) not in CONTAINERS or id(item) in seen:
            continue
        seen.add(id(item))
        if type(item) in MUTABLE:
            found.add(id(item))
        stack.extend(elements(item))
    return found
