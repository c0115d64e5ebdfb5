"""Functions that a program leaves to the next ones of its conversation: as text, which is data."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping
from typing import Any

from dagexec.programs._machine import Function
from dagexec.programs._scopes import Frame

# Characters of a function that is kept.
_LONGEST = 20_000


def definitions_of(
    tree: ast.Module, variables: Mapping[str, Any], frame: Frame, names: Iterable[str]
) -> dict[str, str]:
    """Return the functions that a program's own level holds under `names`, by name.

    One that another function made, or whose defaults are computed, is not kept: its text alone
    would be another function.
    """
    imports = _imports(tree)
    found: dict[str, str] = {}
    for name in names:
        value = variables.get(name)
        if type(value) is not Function or value.frame is not frame:
            continue
        text = _text_of(name, value)
        if text is None:
            continue
        used = _names_in(ast.parse(text))
        lines = [line for bound, line in imports.items() if bound in used]
        whole = "\n".join([*lines, text])
        if len(whole) <= _LONGEST:
            found[name] = whole
    return found


def _text_of(name: str, function: Function) -> str | None:
    node = function.node
    if node is None or any(not isinstance(each, ast.Constant) for each in _defaults(node)):
        return None
    if isinstance(node, ast.Lambda):
        return f"{name} = {ast.unparse(node)}"
    return ast.unparse(node) if node.name == name else None


def _defaults(node: ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) -> list[ast.expr]:
    return [*node.args.defaults, *[each for each in node.args.kw_defaults if each is not None]]


def _imports(tree: ast.Module) -> dict[str, str]:
    found: dict[str, str] = {}
    for node in tree.body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            for each in node.names:
                found[each.asname or each.name] = ast.unparse(node)
    return found


def _names_in(tree: ast.AST) -> set[str]:
    return {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}


def needed(source: str, definitions: Mapping[str, str]) -> tuple[set[str], dict[str, str]]:
    """Return the names that a program uses, and the functions among them with all they use."""
    try:
        names = _names_in(ast.parse(source))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return set(), {}
    chosen: dict[str, str] = {}
    fresh = list(names)
    while fresh:
        name = fresh.pop()
        if name in definitions and name not in chosen:
            chosen[name] = definitions[name]
            more = _names_in(ast.parse(definitions[name])) - names
            names |= more
            fresh += more
    return names, {name: text for name, text in definitions.items() if name in chosen}


def preceded(tree: ast.Module, definitions: Mapping[str, str]) -> ast.Module:
    """Return a program behind the functions of earlier ones.

    Those have no line: an error in one is told with the line of the program that called it.
    """
    first: list[ast.stmt] = []
    for text in definitions.values():
        made = ast.parse(text)
        for node in ast.walk(made):
            if isinstance(node, ast.stmt | ast.expr | ast.ExceptHandler):
                node.lineno = node.end_lineno = 0
        first += made.body
    return ast.Module([*first, *tree.body], []) if first else tree
