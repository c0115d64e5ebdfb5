"""Where the names of a program live: each function has its own, as in Python."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import Any, Final, final

FUNCTIONS: Final = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
COMPREHENSIONS: Final = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
# What has no parts that could name anything.
LEAVES: Final = (ast.Name, ast.Constant)
MISSING: Final[Any] = object()


@final
class Frame:
    """The variables of one call of a function, and the frame that its function stands in."""

    __slots__ = ("parent", "vars")

    def __init__(self, parent: Frame | None) -> None:
        """Begin without variables."""
        self.parent = parent
        self.vars: dict[str, Any] = {}


@final
class Scope:
    """The names that a module, a function or a comprehension assigns."""

    __slots__ = ("names", "outside", "parent")

    def __init__(self, parent: Scope | None, names: set[str], outside: dict[str, str]) -> None:
        """Take what is assigned, and what is declared `global` or `nonlocal`."""
        self.parent = parent
        self.names = names - set(outside)
        self.outside = outside

    def find(self, name: str) -> int | None:
        """Return how many frames up a name lives, None if no scope assigns it."""
        scope: Scope = self
        depth = 0
        declared_global = self.outside.get(name) == "global"
        while scope.parent is not None:
            if name in scope.names and not declared_global:
                return depth
            scope, depth = scope.parent, depth + 1
        return depth if declared_global or name in scope.names else None


# Characters of a statement that count as one step.
_STEP: Final = 128


def weight_of(node: ast.AST) -> int:
    """Return how many steps it takes to evaluate what is written there, but for loops in it."""
    if hasattr(node, "body") and not isinstance(node, ast.Lambda):
        node = getattr(node, "iter", getattr(node, "test", node))
        if hasattr(node, "body"):
            return 1
    lines: int = getattr(node, "end_lineno", 0) - getattr(node, "lineno", 0)
    columns: int = getattr(node, "end_col_offset", 0) - getattr(node, "col_offset", 0)
    return 1 + max(lines * _STEP + columns, 0) // _STEP


def scope_of(body: list[ast.stmt], params: list[str], parent: Scope | None) -> Scope:
    """Return the scope of a module or a function."""
    names, outside = set(params), dict[str, str]()
    for node in _own(body):
        if type(node) is ast.Name:
            if type(node.ctx) is not ast.Load:
                names.add(node.id)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ExceptHandler):
            names.update([node.name] if node.name else [])
        elif isinstance(node, ast.Import | ast.ImportFrom):
            names.update(alias.asname or alias.name for alias in node.names)
        elif isinstance(node, ast.Global):
            outside.update(dict.fromkeys(node.names, "global"))
        elif isinstance(node, ast.Nonlocal):
            outside.update(dict.fromkeys(node.names, "nonlocal"))
    return Scope(parent, names, outside)


def comprehension_scope(generators: list[ast.comprehension], parent: Scope) -> Scope:
    """Return the scope of a comprehension: its targets only."""
    names = {
        node.id
        for generator in generators
        for node in ast.walk(generator.target)
        if isinstance(node, ast.Name)
    }
    return Scope(parent, names, {})


def _own(body: list[ast.stmt]) -> Iterator[ast.AST]:
    """Yield the nodes of a function, without those of functions and comprehensions inside."""
    stack: list[ast.AST] = list(body)
    while stack:
        node = stack.pop()
        yield node
        if isinstance(node, FUNCTIONS):
            if not isinstance(node, ast.Lambda):
                stack.extend(node.decorator_list)
            stack.extend(each for each in (*node.args.defaults, *node.args.kw_defaults) if each)
        elif isinstance(node, COMPREHENSIONS):
            stack.append(node.generators[0].iter)
            # `:=` in a comprehension assigns in the function around it.
            stack.extend(each for each in ast.walk(node) if isinstance(each, ast.NamedExpr))
        elif type(node) not in LEAVES:
            stack.extend(ast.iter_child_nodes(node))
