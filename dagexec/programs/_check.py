"""The language of programs: what of Python is in it, and what to write in the place of the rest."""

from __future__ import annotations

import ast
import warnings
from collections.abc import Callable, Collection, Iterator
from functools import cached_property
from typing import Any, Final, cast, final

from dagexec.programs import _gathers
from dagexec.programs._dates import CLOCKS
from dagexec.programs._errors import Fault, ProgramRefused
from dagexec.programs._functions import LAZY, METHOD_NAMES, MODULES, PART_NAMES
from dagexec.programs._scopes import LEAVES
from dagexec.programs._values import CHANGING_NAMES

# Characters of a program, and nodes of its tree.
LONGEST: Final = 100_000
DEEPEST: Final = 100
_STATEMENTS: Final = (
    ast.AnnAssign, ast.Assert, ast.Assign, ast.AsyncFunctionDef, ast.AugAssign, ast.Break,
    ast.Continue, ast.Delete, ast.Expr, ast.For, ast.FunctionDef, ast.Global, ast.If, ast.Import,
    ast.ImportFrom, ast.Nonlocal, ast.Pass, ast.Raise, ast.Return, ast.Try, ast.While,
)  # fmt: skip
_EXPRESSIONS: Final = (
    ast.Attribute, ast.Await, ast.BinOp, ast.BoolOp, ast.Call, ast.Compare, ast.Constant, ast.Dict,
    ast.DictComp, ast.FormattedValue, ast.GeneratorExp, ast.IfExp, ast.JoinedStr, ast.Lambda,
    ast.List, ast.ListComp, ast.Name, ast.NamedExpr, ast.Set, ast.SetComp, ast.Slice, ast.Starred,
    ast.Subscript, ast.Tuple, ast.UnaryOp,
)  # fmt: skip
_PARTS: Final = (
    ast.ExceptHandler, ast.Module, ast.alias, ast.arg, ast.arguments, ast.boolop, ast.cmpop,
    ast.comprehension, ast.expr_context, ast.keyword, ast.operator, ast.unaryop,
)  # fmt: skip
# Parts without parts, which are never wrong by themselves.
_MARKS: Final = (ast.expr_context, ast.boolop, ast.cmpop, ast.unaryop)
_KNOWN: Final = (*_STATEMENTS, *_EXPRESSIONS, *_PARTS)
_KINDS: Final = frozenset(
    kind for kind in vars(ast).values() if isinstance(kind, type) and issubclass(kind, _KNOWN)
)
_INSTEAD: Final[dict[type[ast.AST], str]] = {
    ast.ClassDef: "there are no classes here; write functions and dicts",
    ast.With: "there is no `with` here; tools open and close what they need",
    ast.AsyncWith: "there is no `async with` here; tools open and close what they need",
    ast.AsyncFor: "write `for`: nothing has to be awaited here",
    ast.Match: "there is no `match` here; write if and elif",
    ast.Yield: "there are no generators here; collect the values in a list and return it",
    ast.YieldFrom: "there are no generators here; collect the values in a list and return it",
    ast.TryStar: "there is no `except*` here; write `except`",
}
# What stands in annotations only, which are not evaluated.
_TYPES: Final = ("typing", "__future__")
# What annotations are made of.
_ANNOTATION: Final = (
    ast.Attribute, ast.BinOp, ast.BitOr, ast.Constant, ast.List, ast.Load, ast.Name, ast.Subscript,
    ast.Tuple,
)  # fmt: skip
_ANNOTATED: Final = ("annotation", "returns")
# What to write in the place of the modules that models import most.
_WITHOUT: Final = {
    "collections": "write d.setdefault(key, []).append(value), or d[key] = d.get(key, 0) + 1",
    "os": "call a tool that reads files",
    "random": "call a tool that draws numbers",
    "requests": "call a tool that reads pages",
    "time": "call a tool that tells the time; nothing has to sleep here",
}
_MODULES: Final = ("json", "math", "re", "datetime", "statistics", "itertools", "functools")
assert set(_MODULES) == MODULES.keys()  # noqa: S101 - all of them are told
_ASYNCIO: Final = ("gather", "create_task", "ensure_future", "run")
# What reads its argument once and keeps nothing of it.
_READERS: Final = frozenset(
    [
        "all",
        "any",
        "dict",
        "enumerate",
        "frozenset",
        "list",
        "max",
        "min",
        "next",
        "reversed",
        "set",
        "sorted",
        "sum",
        "tuple",
        "zip",
        "filter",
        "map",
        "join",
        "extend",
        "update",
        "union",
        "difference",
        "intersection",
        "symmetric_difference",
        "fsum",
        "prod",
        "mean",
        "fmean",
        "median",
        "mode",
        "stdev",
        "pstdev",
    ]
)
# Python's own functions that lead out of a program, or to an object of the host.
_ABSENT: Final = frozenset([
    "bytearray", "bytes", "callable", "classmethod", "compile", "delattr", "dir", "eval", "exec",
    "getattr", "globals", "hasattr", "hash", "id", "input", "iter", "locals", "memoryview",
    "object", "open", "setattr", "super", "vars",
])  # fmt: skip
_CALLED: Final = ("map", "filter", "zip", "enumerate", "reversed", "next", "type")
_ONCE: Final = "{0}() is read once, where it stands; write list({0}(…)) to keep it"
_EXCEPTION_PARTS: Final = ("args", "tool", "call", "status")


# Of them those that tools may well have; known once it is known which tools there are.
TOOL_NAMES: Final = frozenset({"input", "open"})


def parse(source: str, tools: Collection[str] = ()) -> ast.Module:
    """Return the tree of a program; raise ProgramRefused with everything that is not in it.

    `tools` are names that it may call, whatever Python has under them.
    """
    if len(source) > LONGEST:
        raise ProgramRefused((Fault(1, 1, f"a program ends at {LONGEST:,} characters"),), "")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(source)
    except SyntaxError as error:
        fault = Fault(error.lineno or 1, error.offset or 1, f"SyntaxError: {error.msg}")
        raise ProgramRefused((fault,), source) from None
    except (ValueError, RecursionError, MemoryError) as error:
        raise ProgramRefused((Fault(1, 1, f"it cannot be read: {error}"),), "") from None
    names = _Names(tree, tools)
    found = [*_faults(tree, names)]
    if "gather" in source:
        found += [_at(*each) for each in _gathers.faults(tree, names.modules)]
    faults = tuple(dict.fromkeys(found))
    if faults:
        raise ProgramRefused(
            tuple(sorted(faults, key=lambda each: (each.line, each.column))), source
        )
    return tree


def parse_for_any_tools(source: str) -> ast.Module:
    """Return the tree of a program that may call tools named `open` and `input`, or refuse it."""
    try:
        return parse(source, TOOL_NAMES)
    except ProgramRefused:
        return parse(source)  # refuses it, too, and names them among the faults


def check_names(source: str, tools: Collection[str]) -> None:
    """Raise ProgramRefused if it calls such a name, and no tool has it."""
    if any(name in source and name not in tools for name in TOOL_NAMES):
        parse(source, tools)


@final
class _Names:
    """What a program gives names to."""

    def __init__(self, tree: ast.Module, tools: Collection[str] = ()) -> None:
        """Look at a whole program, when it is asked for; `tools` has what it may call."""
        self.tree = tree
        self.tools = tools

    @cached_property
    def modules(self) -> dict[str, str]:
        """The modules that it imports, by the names that it gives them."""
        return modules_of(self.tree)

    @cached_property
    def imported(self) -> dict[str, tuple[str, str]]:
        """What it imports from modules, by the names that it gives it: module and name there."""
        return {
            each.asname or each.name: (node.module or "", each.name)
            for node in ast.walk(self.tree)
            if isinstance(node, ast.ImportFrom)
            for each in node.names
        }

    def member(self, node: ast.AST) -> tuple[str, str]:
        """Return the module and the name there of what an expression stands for, if it is one."""
        if isinstance(node, ast.Name):
            found = self.imported.get(node.id, ("", ""))
            return ("", "") if found[0] and node.id in self.own else found
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name | ast.Attribute):
            if isinstance(node.value, ast.Name) and node.value.id in self.modules:
                return self.modules[node.value.id], node.attr
            if self.member(node.value) == ("itertools", "chain"):
                return "itertools", f"chain.{node.attr}"
        return "", ""

    @cached_property
    def own(self) -> frozenset[str]:
        """The names of its variables, functions and parameters."""
        found: set[str] = set()
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Name):
                found.update([node.id] if isinstance(node.ctx, ast.Store) else ())
            elif isinstance(node, ast.arg):
                found.add(node.arg)
            elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                found.add(node.name)
        return frozenset(found)


def modules_of(tree: ast.Module) -> dict[str, str]:
    """Return the modules that a program imports, by the names that it gives them."""
    return {
        each.asname or each.name: each.name
        for node in ast.walk(tree)
        if isinstance(node, ast.Import)
        for each in node.names
    }


def _faults(tree: ast.Module, names: _Names) -> Iterator[Fault]:
    stack: list[tuple[ast.AST, ast.AST | None, int]] = [(tree, None, 0)]
    while stack:
        node, parent, depth = stack.pop()
        if depth > DEEPEST:
            yield _at(node, f"it is nested more than {DEEPEST} deep; give parts of it names")
            return
        message = _wrong(node, parent, names)
        if message is not None:
            yield _at(node, message)
        elif type(node) not in LEAVES:
            stack.extend([(each, node, depth + 1) for each in _parts(node)])


def _parts(node: ast.AST) -> Iterator[ast.AST]:
    for name in node._fields:
        part = getattr(node, name, None)
        if name in _ANNOTATED:
            continue  # it is not evaluated
        if isinstance(part, list):
            for each in cast("list[object]", part):
                if isinstance(each, ast.AST):
                    yield each
        elif isinstance(part, ast.AST) and not isinstance(part, _MARKS):
            yield part


def _at(node: ast.AST, message: str) -> Fault:
    return Fault(getattr(node, "lineno", 1), getattr(node, "col_offset", 0) + 1, message)


def _wrong(node: ast.AST, parent: ast.AST | None, names: _Names) -> str | None:
    """Return why a node is not in the language, None if it is."""
    kind = type(node)
    if isinstance(node, ast.Attribute):
        return _wrong_attribute(node, parent, names) or _wrong_value(node, parent, names)
    if isinstance(node, ast.Name):
        return _wrong_name(node, parent, names) or _wrong_value(node, parent, names)
    if isinstance(node, ast.Call):
        return _wrong_call(node, parent) or _wrong_iterator(node, parent, names)
    rule = _RULES.get(kind)
    if rule is None:
        if kind in _INSTEAD:
            return _INSTEAD[kind]
        if kind not in _KINDS:
            return f"{kind.__name__} is not in the language of programs"
    return None if rule is None else rule(node, parent)


def _wrong_constant(node: ast.Constant, _parent: ast.AST | None) -> str | None:
    if isinstance(node.value, bytes | complex):
        return f"there are no values of type {type(node.value).__name__} here"
    return "write the value itself in the place of `...`" if node.value is Ellipsis else None


def _wrong_operator(node: ast.BinOp | ast.AugAssign, _parent: ast.AST | None) -> str | None:
    return "there is no `@` here" if isinstance(node.op, ast.MatMult) else None


def _wrong_function(
    node: ast.FunctionDef | ast.AsyncFunctionDef, _parent: ast.AST | None
) -> str | None:
    if node.decorator_list:
        return "there are no decorators here; call the function that you mean"
    return _wrong_annotation(node, None)


def _wrong_annotation(
    node: ast.arg | ast.AnnAssign | ast.FunctionDef | ast.AsyncFunctionDef, _parent: ast.AST | None
) -> str | None:
    for name in _ANNOTATED:
        type_: ast.expr | None = getattr(node, name, None)
        if type_ and not all(isinstance(each, _ANNOTATION) for each in ast.walk(type_)):
            return "an annotation is a type, and nothing is called in it"
    return None


def _wrong_loop(node: ast.comprehension, _parent: ast.AST | None) -> str | None:
    return "write `for` without `async`: nothing has to be awaited here" if node.is_async else None


def _wrong_generator(node: ast.GeneratorExp, parent: ast.AST | None) -> str | None:
    if _is_read(node, parent):
        return None
    return "a generator is read where it stands, as in sum(… for …); write a list, [… for …]"


def _wrong_star(_node: ast.Starred, parent: ast.AST | None) -> str | None:
    if isinstance(parent, ast.List | ast.Tuple | ast.Set | ast.Call):
        return None
    return "a star stands in a list, a tuple, a set, a call or a target"


def _wrong_augmented(node: ast.AugAssign, parent: ast.AST | None) -> str | None:
    if not isinstance(node.target, ast.Name | ast.Subscript):
        return "assign to a name or to a part of a container"
    if isinstance(node.target, ast.Subscript) and isinstance(node.target.slice, ast.Slice):
        return "write `x[a:b] = x[a:b] + …`"
    return _wrong_operator(node, parent)


def _wrong_deletion(node: ast.Delete, _parent: ast.AST | None) -> str | None:
    if all(isinstance(each, ast.Name | ast.Subscript) for each in node.targets):
        return None
    return "delete names or parts of containers, one statement each"


def _wrong_attribute(node: ast.Attribute, parent: ast.AST | None, names: _Names) -> str | None:
    name = node.attr
    if isinstance(node.value, ast.Name) and node.value.id in names.modules:
        return _wrong_member(names.modules[node.value.id], name)
    if (
        isinstance(owner := node.value, ast.Call)
        and isinstance(owner.func, ast.Name)
        and (
            (name == "__name__" and owner.func.id == "type")
            or _wrong_name(owner.func, owner, names)
        )
    ):
        return None  # if there is a fault, it is the name that is called
    if not isinstance(node.ctx, ast.Load):
        return f"attributes are not assigned; use a dict: …[{name!r}] = …"
    if isinstance(parent, ast.Call) and parent.func is node:
        return _wrong_method(name, node.value)
    if name in _EXCEPTION_PARTS or name in PART_NAMES:
        return None
    return _not_imported(name, node.value) or (
        f"attributes are not read; results are dicts: write …[{name!r}]"
    )


def _wrong_member(module: str, name: str) -> str | None:
    if module in _TYPES:
        return f"{module} stands in annotations only"
    if module == "asyncio":
        if name in _ASYNCIO:
            return None
        return f"asyncio has {', '.join(_ASYNCIO)} here; calls run side by side by themselves"
    known = MODULES.get(module)
    if known is None or name in known:
        return None  # what is imported is told of where it is imported
    return f"{module} has no {name} here; it has {', '.join(sorted(known))}"


def _not_imported(name: str, owner: ast.expr) -> str | None:
    if isinstance(owner, ast.Name) and name in MODULES.get(owner.id, ()):
        return f"write `import {owner.id}` before it"
    return None


def _wrong_method(name: str, owner: ast.expr) -> str | None:
    if name in METHOD_NAMES or name in CHANGING_NAMES:
        return None
    if name in CLOCKS:
        return f"there is no clock here, so no {name}(); let a tool tell the time"
    if name in ("format", "format_map"):
        return "write an f-string in the place of format"
    return _not_imported(name, owner) or f"values have no method {name} here"


def _wrong_import(node: ast.Import | ast.ImportFrom, _parent: ast.AST | None) -> str | None:
    if isinstance(node, ast.Import):
        for each in node.names:
            if each.name not in MODULES and each.name not in ("asyncio", *_TYPES):
                return _no_module(each.name)
        return None
    if node.module in _TYPES and not node.level:
        return None
    members = MODULES.get(node.module or "")
    if members is None or node.level:
        return _no_module(node.module or ".")
    for each in node.names:
        if each.name not in members:
            return f"{node.module} has no {each.name} here; it has {', '.join(sorted(members))}"
    return None


def _no_module(name: str) -> str:
    known = ", ".join(("asyncio", *_MODULES))
    instead = _WITHOUT.get(name.split(".", maxsplit=1)[0])
    told = f"there is no module {name} here; there are {known}"
    return f"{told}. In its place, {instead}" if instead else told


def _wrong_call(node: ast.Call, parent: ast.AST | None) -> str | None:
    name = getattr(node.func, "attr", getattr(node.func, "id", ""))
    if not isinstance(node.func, ast.Name) and name != "finditer":
        return None
    if name == "type":
        if isinstance(parent, ast.Attribute) and parent.attr == "__name__" and len(node.args) == 1:
            return None
        return "write isinstance(value, kind), or type(value).__name__"
    calls = name in ("map", "filter")
    stepped = calls and isinstance(parent, ast.For) and is_stepped(parent.iter)
    if name in LAZY and not stepped and not _is_read(node, parent, loops=not calls):
        return _ONCE.format(name)
    if name == "next" and not (node.args and isinstance(node.args[0], ast.GeneratorExp)):
        return "write next(… for … if …): there are no other iterators"
    return None


def is_stepped(node: ast.expr) -> bool:
    """Whether a loop goes over what a function gives, called as each turn begins."""
    if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name)) or node.keywords:
        return False
    if any(isinstance(each, ast.Starred) for each in node.args):
        return False
    count = len(node.args)
    return (node.func.id == "map" and count > 1) or (node.func.id == "filter" and count == 2)  # noqa: PLR2004


def _is_read(node: ast.AST, parent: ast.AST | None, *, loops: bool = False) -> bool:
    """Whether an iterator stands where it is read at once, and whole."""
    if isinstance(parent, ast.Call):
        function = parent.func
        name = function.id if isinstance(function, ast.Name) else getattr(function, "attr", "")
        return name in _READERS and node in parent.args
    if isinstance(parent, ast.For | ast.comprehension):
        return loops and parent.iter is node
    return isinstance(parent, ast.Starred)


def _wrong_iterator(node: ast.Call, parent: ast.AST | None, names: _Names) -> str | None:
    module, name = names.member(node.func)
    if module != "itertools" or name.split(".", maxsplit=1)[0] not in MODULES[module]:
        return None  # what is not there is told of where it is named
    # What calls a function of the program, whose calls and prints come as it is read.
    calls = name == "accumulate" and (
        len(node.args) > 1 or any(each.arg != "initial" for each in node.keywords)
    )
    if _is_read(node, parent, loops=not calls):
        return None
    if isinstance(parent, ast.Call) and node in parent.args and not calls:
        module, other = names.member(parent.func)
        if module == "itertools" or other == "reduce":
            return None
    return _ONCE.format(name)


def _wrong_value(
    node: ast.Name | ast.Attribute, parent: ast.AST | None, names: _Names
) -> str | None:
    module, name = names.member(node)
    called = isinstance(parent, ast.Call) and parent.func is node
    if module != "itertools" or called or isinstance(parent, ast.Attribute):
        return None
    return f"{name} is called where it stands, and is no value"


def _wrong_name(node: ast.Name, parent: ast.AST | None, names: _Names) -> str | None:
    name = node.id
    if name == "__name__" and isinstance(node.ctx, ast.Load):
        return None
    absent = name in _ABSENT and name not in names.tools
    if name.startswith("__") or (absent and name not in names.own):
        return f"there is no {name} here"
    if name not in _CALLED or (isinstance(parent, ast.Call) and parent.func is node):
        return None
    return None if name in names.own else f"{name} is called where it stands, and is no value"


# What is wrong with a node of the language in some places, by its type.
_RULES: Final[dict[type[ast.AST], Callable[[Any, ast.AST | None], str | None]]] = {
    ast.AnnAssign: _wrong_annotation,
    ast.AsyncFunctionDef: _wrong_function,
    ast.AugAssign: _wrong_augmented,
    ast.BinOp: _wrong_operator,
    ast.Constant: _wrong_constant,
    ast.Delete: _wrong_deletion,
    ast.FunctionDef: _wrong_function,
    ast.GeneratorExp: _wrong_generator,
    ast.Import: _wrong_import,
    ast.ImportFrom: _wrong_import,
    ast.Starred: _wrong_star,
    ast.arg: _wrong_annotation,
    ast.comprehension: _wrong_loop,
}
