"""The house as design.md has it: no circle, nothing large, every room says what it is."""

from __future__ import annotations

import ast
from itertools import chain
from pathlib import Path

import networkx as nx
import pytest

ROOT = Path(__file__).parents[1]
FILES = sorted(chain((ROOT / "dagexec").rglob("*.py"), (ROOT / "planners").rglob("*.py")))
TREES = {path: ast.parse(path.read_text("utf-8")) for path in FILES}


def name_of(path):
    """Return the dotted name of a file's module."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


NAMES = {name_of(path): path for path in FILES}


def imported(path):
    """Return the modules of the house that a file imports, for its types or inside functions too.

    `from package import module` is an import of the module. That Python runs the package's own
    `__init__` first is no dependency of the file.
    """
    own = name_of(path)
    package = own if path.name == "__init__.py" else own.rpartition(".")[0]
    for node in ast.walk(TREES[path]):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in NAMES)
        elif isinstance(node, ast.ImportFrom):
            source = node.module or ""
            if node.level:
                above = package.split(".")[: len(package.split(".")) - node.level + 1]
                source = ".".join([*above, *filter(None, [node.module])])
            for alias in node.names:
                inner = f"{source}.{alias.name}"
                found = inner if inner in NAMES else source
                if found in NAMES and found != own:
                    yield found


def circles(files):
    """Return the groups of files that import one another, directly or not."""
    graph = nx.DiGraph()
    for path in files:
        graph.add_edges_from((name_of(path), each) for each in imported(path))
    groups = nx.strongly_connected_components(graph)
    return sorted(sorted(group) for group in groups if len(group) > 1)


def test_no_files_import_one_another():
    """Imports for annotations are counted: they tell which file knows which."""
    assert circles(FILES) == []


def test_few_files_stand_outside_the_packages():
    """Who opens `dagexec/` finds packages, and the files that are its face."""
    assert sorted(path.name for path in (ROOT / "dagexec").glob("*.py")) == [
        "__init__.py",
        "__main__.py",
        "_errors.py",
        "lowlevel.py",
    ]


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_a_file_is_small_and_says_what_it_is(path):
    """At most 520 lines, 60 a function; a docstring at the top."""
    text = path.read_text("utf-8")
    assert len(text.splitlines()) <= 520
    assert ast.get_docstring(TREES[path])
    long = {
        node.name: node.end_lineno - node.lineno + 1
        for node in ast.walk(TREES[path])
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.end_lineno - node.lineno >= 60
        and not is_mostly_text(node)
    }
    assert long == {}


def is_mostly_text(node):
    """Whether a function's code without its docstring is at most 60 lines."""
    first = node.body[0]
    if not (isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)):
        return False
    return node.end_lineno - first.end_lineno <= 60


@pytest.mark.parametrize(
    "name", sorted(name for name, path in NAMES.items() if path.name == "__init__.py")
)
def test_a_package_says_what_it_may_import_and_where_to_begin(name):
    """A private package's docstring is a newcomer's sign at its door."""
    if "._" not in name:
        pytest.skip("public: its docstring is for users")
    text = ast.get_docstring(TREES[NAMES[name]])
    assert "import" in text.lower() or "Stands on " in text
    assert "Read " in text
