"""Mutation testing of the scheduler: change one thing, and a test must notice.

    python tests/scheduler/mutation.py [--sample 150] [--only 17 42] [--list]

Runs each mutant on a copy of the project in a temporary folder, two at a time.

Survivors that no test can kill, because they mean the same:

* `_end`: `<=` for `<`; with every outcome given `_suspend` finds nothing to do.
* `_apply_policy`: without the `return` the next lost call stops the run again, and only the first
  stop counts.
* `_launch`: `>=` for `>`; a layer of one call is sorted in vain.
* `_looks_ahead` true or None at the start: true only looks for a cycle that cannot be there, and
  None is as false.
* `_gather`: true or None for the last false; `_lose` has taken the dependants, or the policy stops
  the run before any of them is launched. `_depend_on_items`: None for false.
* `_on_spread`: `count + 2`; items stand nearer together, in the same order.
* `_check_spread`: which of two reasons the text of an error names.
"""

from __future__ import annotations

import argparse
import ast
import copy
import os
import random
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import Queue
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[2]
TARGETS = tuple(
    Path("dagexec/_core", name) for name in ("scheduler.py", "standing.py", "states.py")
)
TIMEOUT = 60.0  # seconds; a mutant that hangs is killed
FLIPS: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
}


def variants(node: ast.AST) -> Iterator[tuple[str, ast.AST | None]]:
    """Yield what a node may be replaced by; None deletes a statement."""
    if isinstance(node, ast.Compare):
        other = copy.deepcopy(node)
        other.ops[0] = FLIPS[type(node.ops[0])]()
        yield "comparison", other
    elif isinstance(node, ast.BoolOp):
        other = copy.deepcopy(node)
        other.op = ast.Or() if isinstance(node.op, ast.And) else ast.And()
        yield "and/or", other
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        yield "not", node.operand
    elif isinstance(node, ast.If | ast.IfExp):
        other = copy.deepcopy(node)
        other.test = ast.UnaryOp(ast.Not(), node.test)
        yield "condition", other
    elif isinstance(node, ast.AugAssign):
        other = copy.deepcopy(node)
        other.op = ast.Sub() if isinstance(node.op, ast.Add) else ast.Add()
        yield "operator", other
    elif isinstance(node, ast.Constant) and isinstance(node.value, bool):
        yield "constant", ast.Constant(not node.value)
    elif isinstance(node, ast.Constant) and isinstance(node.value, int):
        yield "constant", ast.Constant(node.value + 1)
    elif isinstance(node, ast.Return) and node.value is not None:
        yield "return", ast.Return(ast.Constant(None))
    if isinstance(node, ast.Expr | ast.Assign | ast.AugAssign | ast.Raise | ast.Continue):
        yield "deletion", None
    if isinstance(node, ast.Return) and node.value is None:
        yield "deletion", None


def mutants(source: str) -> list[tuple[int, str, int, int]]:
    """Return line, kind, index of the node and number of the variant of each mutant."""
    tree = ast.parse(source)
    inside = [each for f in ast.walk(tree) if isinstance(f, ast.FunctionDef) for each in f.body]
    # The text of an error message is no behaviour.
    mutable = {id(each) for part in inside for each in ast.walk(part)} - {*messages(tree)}
    return [
        (node.lineno, kind, index, number)
        for index, node in enumerate(ast.walk(tree))
        if id(node) in mutable
        for number, (kind, _) in enumerate(variants(node))
    ]


def mutate(source: str, index: int, number: int) -> str:
    """Return the source with one variant in place."""
    tree = ast.parse(source)
    node = list(ast.walk(tree))[index]
    replace(tree, node, list(variants(node))[number][1])
    return ast.unparse(ast.fix_missing_locations(tree))


def messages(tree: ast.AST) -> list[int]:
    """Return what only words an error or documents: `msg = …` and docstrings."""
    found = []
    for node in ast.walk(tree):
        text = isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) in ("msg", "where")
        document = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        if text or document:
            found += [id(each) for each in ast.walk(node)]
    return found


def replace(tree: ast.AST, old: ast.AST, new: ast.AST | None) -> None:
    """Put `new` where `old` stands in the tree."""
    for parent in ast.walk(tree):
        for name, value in ast.iter_fields(parent):
            if value is old:
                setattr(parent, name, new)
            elif isinstance(value, list):
                value[:] = [(new or ast.Pass()) if each is old else each for each in value]


def killed(copy_of: Path, target: Path, text: str) -> bool:
    """Whether the tests notice this text in the place of a file, or hang on it."""
    original = (copy_of / target).read_text(encoding="utf-8")
    (copy_of / target).write_text(text, encoding="utf-8")
    try:
        return fails(copy_of)
    finally:
        (copy_of / target).write_text(original, encoding="utf-8")


def fails(copy_of: Path) -> bool:
    """Whether the tests fail on a copy of the project, or hang."""
    # The quick tests first: most mutants die of them.
    tests = [
        f"tests/scheduler/test_{name}.py"
        for name in ("states", "orders", "items", "reopened", "spread", "machine")
    ]
    command = [sys.executable, "-m", "pytest", *tests, "-x", "-q", "--no-header"]
    command += ["-p", "no:cacheprovider", "--hypothesis-profile=mutation"]
    environment = {**os.environ, "PYTHONPATH": str(copy_of), "PYTHONDONTWRITEBYTECODE": "1"}
    try:
        run = subprocess.run(
            command, cwd=copy_of, env=environment, capture_output=True, timeout=TIMEOUT, check=False
        )
    except subprocess.TimeoutExpired:
        return True
    return run.returncode != 0


def copies(folder: str, count: int) -> Queue[Path]:
    """Make copies of what the tests need."""
    queue: Queue[Path] = Queue()
    for number in range(count):
        root = Path(folder) / str(number)
        ignore = shutil.ignore_patterns("__pycache__", ".*")
        shutil.copytree(ROOT / "dagexec", root / "dagexec", ignore=ignore)
        shutil.copytree(ROOT / "tests/scheduler", root / "tests/scheduler", ignore=ignore)
        shutil.copy(ROOT / "pyproject.toml", root)
        profile = "from hypothesis import settings\nsettings.register_profile('mutation', "
        profile += "max_examples=40, database=None, derandomize=True, phases=PHASES)\n"
        head = "from hypothesis import Phase\nPHASES = [Phase.explicit, Phase.generate]\n"
        (root / "tests/conftest.py").write_text(head + profile, encoding="utf-8")
        queue.put(root)
    return queue


def main() -> int:
    """Run the mutants and print the survivors; return how many there are."""
    parser = argparse.ArgumentParser(description="Mutation testing of the scheduler.")
    parser.add_argument("--sample", type=int, default=0, help="how many mutants; 0 means all")
    parser.add_argument("--only", type=int, nargs="*", help="the numbers of mutants to run")
    parser.add_argument("--list", action="store_true", help="only list the mutants")
    options = parser.parse_args()
    sources = {target: (ROOT / target).read_text(encoding="utf-8") for target in TARGETS}
    found = [(target, each) for target, source in sources.items() for each in mutants(source)]
    chosen = list(enumerate(found))
    if options.only:
        chosen = [each for each in chosen if each[0] in options.only]
    if options.sample and options.sample < len(chosen):
        chosen = random.Random(0).sample(chosen, options.sample)
    lines = {target: source.splitlines() for target, source in sources.items()}

    def words(number: int, target: Path, line: int, kind: str) -> str:
        return f"{number}: {target.name}:{line}: {kind}: {lines[target][line - 1].strip()}"

    if options.list:
        for number, (target, (line, kind, *_)) in chosen:
            print(words(number, target, line, kind))
        return 0
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(2) as pool:
        free = copies(folder, 2)
        judged: list[bool] = []

        def judge(mutant: tuple[int, tuple[Path, tuple[int, str, int, int]]]) -> bool:
            number, (target, (line, kind, index, variant)) = mutant
            root = free.get()
            try:
                dead = killed(root, target, mutate(sources[target], index, variant))
            finally:
                free.put(root)
            judged.append(dead)
            if not dead:
                what = words(number, target, line, kind)
                print(f"[{len(judged)} of {len(chosen)}] survived {what}")
                sys.stdout.flush()
            return dead

        if fails(free.queue[0]):
            print("the tests fail without a mutation")
            return 1
        results = list(pool.map(judge, chosen))
    print(f"{len(results)} mutants, {sum(results)} killed, {results.count(False)} survived")
    return results.count(False)


if __name__ == "__main__":
    sys.exit(main())
