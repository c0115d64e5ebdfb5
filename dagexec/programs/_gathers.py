"""`asyncio.gather(…, return_exceptions=True)`: which expressions give their error as a value.

Calls run when they are written here, not when they are gathered. So what is gathered has to be seen
where it is written: in the call of `gather` itself, or behind a name that nothing else reads.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Final, final

from dagexec.programs._values import CHANGING_NAMES

WORD: Final = "return_exceptions"
_CONSTANT: Final = f"{WORD} is True or False here"
_KEYWORDS: Final = f"gather has one argument with a name, {WORD}"
_UNSEEN: Final = (
    f"calls run where they are written: with {WORD}=True, write them into gather, as in"
    " asyncio.gather(*[f(x) for x in xs], return_exceptions=True), or catch ToolError"
)
# What reads the keys of a dict only, or the length.
_KEYS_OF: Final = frozenset({"dict", "enumerate", "len", "list", "set", "sorted", "tuple", "zip"})
_OWN: Final = (ast.FunctionDef, ast.AsyncFunctionDef)
# Statements of a function after which nothing is as it was but its own variables.
_LOCAL: Final = (
    ast.Return, ast.Expr, ast.If, ast.For, ast.While, ast.Pass, ast.Assert, ast.Raise, ast.Break,
    ast.Continue, ast.Assign, ast.AnnAssign,
)  # fmt: skip


def faults(tree: ast.Module, modules: Mapping[str, str]) -> Iterator[tuple[ast.AST, str]]:
    """Give what cannot be gathered as it is written, with the reason."""
    for call in _gathers(tree, modules):
        if any(each.arg != WORD for each in call.keywords):
            yield call, _KEYWORDS
        elif any(not isinstance(each.value, ast.Constant) for each in call.keywords):
            yield call, _CONSTANT
    for node in _Gathered(tree, modules).unseen:
        yield node, _UNSEEN


def mark(tree: ast.Module, modules: Mapping[str, str]) -> None:
    """Mark the expressions whose errors are values: `guarded` is whether they change nothing."""
    pure = Purity(tree)
    for node in _Gathered(tree, modules).parts:
        node.guarded = pure.holds(node)  # type: ignore[attr-defined]


def _gathers(tree: ast.AST, modules: Mapping[str, str]) -> Iterator[ast.Call]:
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and node.func.attr == "gather"
            and isinstance(node.func.value, ast.Name)
            and modules.get(node.func.value.id) == "asyncio"
        ):
            yield node


def _returns_errors(node: ast.Call) -> bool:
    return any(
        each.arg == WORD and isinstance(each.value, ast.Constant) and bool(each.value.value)
        for each in node.keywords
    )


@final
class _Gathered:
    """The expressions that are gathered in such a way."""

    def __init__(self, tree: ast.Module, modules: Mapping[str, str]) -> None:
        """Look for them."""
        self.parts: list[ast.expr] = []
        self.unseen: list[ast.AST] = []
        self._tree = tree
        self._gathers = [each for each in _gathers(tree, modules) if _returns_errors(each)]
        if self._gathers:
            self._parents = {
                part: node for node in ast.walk(tree) for part in ast.iter_child_nodes(node)
            }
            for node in self._gathers:
                for arg in node.args:
                    self._take(arg)

    def _take(self, arg: ast.expr) -> None:
        source: ast.expr = arg.value if isinstance(arg, ast.Starred) else arg
        if (
            isinstance(source, ast.Call)
            and isinstance(source.func, ast.Attribute)
            and source.func.attr == "values"
            and not source.args
        ):
            source = source.func.value
        if isinstance(source, ast.Name):
            self._take_name(source, whole=source is arg)
        elif source is arg:
            self.parts.append(source)
        elif not self._take_items(source):
            self.unseen.append(source)

    def _take_items(self, source: ast.expr) -> bool:
        """Take the items of a list that is written here; return whether it is one."""
        if isinstance(source, ast.ListComp | ast.GeneratorExp):
            self.parts.append(source.elt)
        elif isinstance(source, ast.DictComp):
            self.parts.append(source.value)
        elif isinstance(source, ast.List | ast.Tuple):
            for each in source.elts:
                if isinstance(each, ast.Starred):
                    self._take(each)
                else:
                    self.parts.append(each)
        elif isinstance(source, ast.Dict) and None not in source.keys:
            self.parts += source.values
        else:
            return False
        return True

    def _take_name(self, name: ast.Name, *, whole: bool) -> None:
        """Take what a name stands for, if it is read by `gather` only: `whole`, or its items."""
        nodes = [*ast.walk(self._tree)]
        uses = [each for each in nodes if isinstance(each, ast.Name) and each.id == name.id]
        if all(isinstance(each.ctx, ast.Load) for each in uses):
            return  # of an earlier program: whatever it holds, nothing of it can fail any more
        taken = len(self.parts)
        fits = not any(isinstance(each, ast.arg) and each.arg == name.id for each in nodes)
        for each in uses:
            if isinstance(each.ctx, ast.Store):
                fits = fits and self._is_given(each, whole=whole)
            else:
                fits = fits and self._is_read(each)
        if not fits:
            del self.parts[taken:]
            self.unseen.append(name)

    def _is_given(self, use: ast.Name, *, whole: bool) -> bool:
        """Whether the name is given calls that are written here; take them."""
        parent = self._parents[use]
        value = parent.value if isinstance(parent, ast.Assign | ast.AnnAssign) else None
        if whole and isinstance(value, ast.Call | ast.Await):
            self.parts.append(value)
            return True
        return not whole and value is not None and self._take_items(value)

    def _is_read(self, use: ast.Name) -> bool:
        """Whether this use adds a call, which is taken, or gathers, or reads none of the values."""
        parent = self._parents[use]
        above = self._parents.get(parent)
        if isinstance(parent, ast.Attribute) and isinstance(above, ast.Call):
            if parent.attr == "append" and isinstance(self._parents[above], ast.Expr):
                self.parts += above.args
                return True
            return parent.attr == "keys" or (parent.attr == "values" and self._is_gathered(above))
        if isinstance(parent, ast.Subscript) and isinstance(above, ast.Assign):
            self.parts.append(above.value)
            return parent.value is use and parent in above.targets
        return self._is_gathered(use) or self._reads_keys(use, parent)

    def _reads_keys(self, use: ast.Name, parent: ast.AST) -> bool:
        if isinstance(parent, ast.Call) and isinstance(parent.func, ast.Name):
            name = parent.func.id
            return name == "len" or (name in _KEYS_OF and self._is_dict(use.id))
        return isinstance(parent, ast.For | ast.comprehension) and self._is_dict(use.id)

    def _is_gathered(self, node: ast.AST) -> bool:
        parent = self._parents[node]
        return (self._parents.get(parent) if isinstance(parent, ast.Starred) else parent) in (
            self._gathers
        )

    def _is_dict(self, name: str) -> bool:
        return any(
            isinstance(each, ast.Assign)
            and isinstance(each.value, ast.Dict | ast.DictComp)
            and any(isinstance(one, ast.Name) and one.id == name for one in each.targets)
            for each in ast.walk(self._tree)
        )


@final
class Purity:
    """Whether an expression changes nothing: neither variables nor containers, nor prints."""

    def __init__(self, tree: ast.Module) -> None:
        """Note the functions of a program, and the names that it gives to other things."""
        self._tree = tree
        self._functions: dict[str, list[ast.FunctionDef | ast.AsyncFunctionDef]] = {}
        self._named: set[str] = set()
        for node in ast.walk(tree):
            if isinstance(node, _OWN):
                self._functions.setdefault(node.name, []).append(node)
            elif isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
                self._named.add(node.id)
            elif isinstance(node, ast.arg):
                self._named.add(node.arg)
        # Of functions that were looked at, or are being looked at.
        self._known: dict[str, bool] = {}

    def holds(self, node: ast.AST) -> bool:
        """Whether it does."""
        return self._calls_are_seen and all(self._is_pure(each) for each in ast.walk(node))

    @cached_property
    def _calls_are_seen(self) -> bool:
        """Whether what changes something is only called by its name, and not handed on."""
        nodes = [*ast.walk(self._tree)]
        called = {id(each.func) for each in nodes if isinstance(each, ast.Call)}
        handed_on = {
            each.id
            for each in nodes
            if isinstance(each, ast.Name) and each.id in self._functions and id(each) not in called
        }
        lambdas = [each.body for each in nodes if isinstance(each, ast.Lambda)]
        return all(map(self._calls_purely, handed_on)) and all(
            self._is_pure(part) for body in lambdas for part in ast.walk(body)
        )

    def _is_pure(self, node: ast.AST) -> bool:
        if isinstance(node, ast.Call):
            if isinstance(node.func, ast.Attribute):
                return node.func.attr not in CHANGING_NAMES
            return isinstance(node.func, ast.Name) and self._calls_purely(node.func.id)
        return not isinstance(node, ast.NamedExpr | ast.Yield | ast.YieldFrom)

    def _calls_purely(self, name: str) -> bool:
        own = self._functions.get(name)
        if own is None:
            return name not in self._named and name != "print"
        if len(own) > 1 or name in self._named:
            return False
        if name not in self._known:
            self._known[name] = True  # it may call itself
            self._known[name] = self._changes_only_its_own(own[0])
        return self._known[name]

    def _changes_only_its_own(self, function: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
        for node in ast.walk(function):
            if node is function:
                continue
            if isinstance(node, ast.stmt) and not isinstance(node, _LOCAL):
                return False
            if isinstance(node, ast.Subscript | ast.Attribute) and not isinstance(
                node.ctx, ast.Load
            ):
                return False
            if not self._is_pure(node):
                return False
        return True
