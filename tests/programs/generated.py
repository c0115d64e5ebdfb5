"""Random programs, and Python's own account of what they do."""

from __future__ import annotations

import ast
import contextlib
import io
import traceback
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import random

NUMBERS = ["a", "b", "c"]
LISTS = ["xs", "ys"]
DICTS = ["d", "e"]
ERRORS = ["ValueError", "ZeroDivisionError", "KeyError", "IndexError", "TypeError", "Exception"]


class World:
    """What the tools read and write: a few cells; some cells fail."""

    def __init__(self) -> None:
        self.cells = {key: key for key in range(6)}
        self.writes: list[tuple[Any, ...]] = []

    def read(self, x: Any) -> Any:
        """Return a cell's value in a dict; odd ones fail."""
        if type(x) is not int:
            msg = f"no cell {x!r}"
            raise ValueError(msg)
        if x % 11 == 5:
            msg = f"cell {x % 11} is broken"
            raise KeyError(msg)
        return {"n": self.cells.get(x % 6, 0), "all": [x, self.cells.get(0)]}

    def pure(self, x: Any) -> Any:
        """Return the square of an int, else fail."""
        if type(x) is not int:
            msg = "not a number"
            raise TypeError(msg)
        return x * x % 97

    def write(self, x: Any, y: Any = 0) -> Any:
        """Set a cell."""
        if type(x) is not int or x % 13 == 4:
            msg = f"cannot write {x!r}"
            raise ValueError(msg)
        self.cells[x % 6] = y if type(y) is int else 0
        self.writes.append((x, repr(y)))
        return x + 1


@dataclass
class Writer:
    """Writes one random program."""

    random: random.Random
    lines: list[str] = field(default_factory=list)
    functions: int = 0
    loops: int = 0
    budget: int = 30

    def program(self) -> str:
        """Return its text."""
        self.lines = ["a = 1", "b = 2", "c = 3", "xs = [1, 2]", "ys = xs", "d = {'k': 1}", "e = {}"]
        if self.random.random() < 0.4:
            self.function()
        self.block(0, self.random.randint(3, 9))
        self.lines.append(f"[a, b, c, xs, ys, d, e, {self.number(1)}]")
        return "\n".join(self.lines)

    def put(self, depth: int, text: str) -> None:
        self.lines.append("    " * depth + text)

    def function(self) -> None:
        self.functions += 1
        name = f"f{self.functions}"
        self.put(0, f"def {name}(p, q=2):")
        if self.random.random() < 0.4:
            self.put(1, "xs.append(p)")
        if self.random.random() < 0.3:
            self.put(1, "if p == 3:")
            self.put(2, "return read(q)['n']")
        if self.random.random() < 0.3:
            self.put(1, "write(q, p)")
        values = ["p + q", "pure(p)", "read(p)['n'] * q", "p // q"]
        self.put(1, f"return {self.random.choice(values)}")

    def number(self, depth: int = 2) -> str:
        pick = self.random.randint(0, 15 if depth else 3)
        sub = lambda: self.number(depth - 1)  # noqa: E731
        match pick:
            case 0 | 1:
                return self.random.choice(NUMBERS)
            case 2 | 3:
                return str(self.random.randint(0, 9))
            case 4:
                return f"({sub()} + {sub()})"
            case 5:
                return f"({sub()} - {sub()})"
            case 6:
                return f"({sub()} * {sub()} % 101)"
            case 7:
                return (
                    f"({sub()} // ({sub()} or 1))"
                    if self.random.random() < 0.8
                    else f"({sub()} // {sub()})"
                )
            case 8:
                return f"read({sub()})['n']"
            case 9:
                return f"pure({sub()})"
            case 10:
                return f"len({self.listing(depth - 1)})"
            case 11:
                return f"sum(v for v in {self.listing(depth - 1)} if type(v).__name__ == 'int')"
            case 12:
                return f"({self.random.choice(LISTS)} + [0, 1, 2])[{sub()} % 3]"
            case 13:
                return f"{self.random.choice(DICTS)}.get({self.key()}, {sub()})"
            case 14:
                return f"({sub()} if {self.test(depth - 1)} else {sub()})"
            case _:
                if self.functions:
                    return f"f{self.random.randint(1, self.functions)}({sub()})"
                return f"max({sub()}, {sub()})"

    def key(self) -> str:
        return self.random.choice(["'k'", "'m'", "a", "b", "'z'"])

    def listing(self, depth: int = 1) -> str:
        sub = lambda: self.number(max(depth, 0))  # noqa: E731
        match self.random.randint(0, 9):
            case 0 | 1 | 2:
                return self.random.choice(LISTS)
            case 3:
                return f"[{sub()}, {sub()}]"
            case 4:
                return f"[pure(v) for v in range({self.random.randint(0, 4)})]"
            case 5:
                return f"[read(v)['n'] for v in range({self.random.randint(0, 5)}) if v != {sub()}]"
            case 6:
                return f"sorted({self.random.choice(LISTS)}[:3])"
            case 7:
                return f"({self.random.choice(LISTS)} + [{sub()}])"
            case 8:
                return f"read({sub()})['all']"
            case _:
                return f"list({self.random.choice(DICTS)}.values())"

    def test(self, depth: int = 1) -> str:
        sub = lambda: self.number(max(depth, 0))  # noqa: E731
        match self.random.randint(0, 5):
            case 0:
                return f"{sub()} < {sub()}"
            case 1:
                return f"{sub()} == {sub()}"
            case 2:
                return f"{sub()} in {self.random.choice(LISTS)}"
            case 3:
                return f"not {self.random.choice(LISTS + DICTS)}"
            case 4:
                return f"{sub()} > 1 and {sub()} < 50"
            case _:
                return f"0 < {sub()} < {sub()}"

    def block(self, depth: int, count: int, *, loop: bool = False, inside: bool = False) -> None:
        for _ in range(count):
            self.statement(depth, loop=loop)

    def statement(self, depth: int, *, loop: bool = False) -> None:
        self.budget -= 1
        deep = depth >= 3 or self.budget < 0
        match self.random.randint(0, 12 if deep else 19):
            case 0 | 1:
                self.put(depth, f"{self.random.choice(NUMBERS)} = {self.number()}")
            case 2:
                name, op = self.random.choice(NUMBERS), self.random.choice(["+=", "-=", "*="])
                self.put(depth, f"{name} {op} {self.number()}")
                self.put(depth, f"{name} %= 1000")
            case 3:
                self.put(depth, f"{self.random.choice(LISTS)}.append({self.number()})")
            case 4:
                self.put(
                    depth, f"{self.random.choice(LISTS)}[{self.number(1)} % 3] = {self.number()}"
                )
            case 5:
                self.put(depth, f"{self.random.choice(DICTS)}[{self.key()}] = {self.number()}")
            case 6:
                self.put(
                    depth,
                    f"print({self.number()}, f'{{{self.random.choice(NUMBERS)}}}:{{xs}}',"
                    f" {self.random.choice(LISTS + DICTS)})",
                )
            case 7:
                self.put(depth, f"write({self.number(1)}, {self.number(1)})")
            case 8:
                name = self.random.choice(LISTS)
                self.put(
                    depth,
                    self.random.choice(
                        [
                            f"{name} = {self.listing()}",
                            f"{name} += {self.listing()}",
                            "ys = xs",
                            f"d['k'] = {name}",
                            f"{name}.extend({self.listing()})",
                        ]
                    ),
                )
                self.put(depth, "if len(xs) > 40: xs = xs[:3]")
                self.put(depth, "if len(ys) > 40: ys = ys[:3]")
            case 9:
                self.put(
                    depth,
                    self.random.choice(
                        [
                            "a, b = b, a",
                            f"a, *xs = {self.listing()}",
                            "xs.reverse()",
                            "xs.pop()",
                            "d.pop('k')",
                            "e = d",
                            f"b = {self.number()}; c = b",
                            "del d['k']",
                            "xs.sort()",
                            f"c = (x := {self.number()}) + x",
                        ]
                    ),
                )
            case 10:
                if loop:
                    self.put(
                        depth, f"if {self.test()}: {self.random.choice(['break', 'continue'])}"
                    )
                else:
                    self.put(depth, f"assert {self.test()} or {self.test()} or a, {self.number(1)}")
            case 11:
                self.put(
                    depth, f"raise {self.random.choice(ERRORS[:5])}({self.number(1)})"
                ) if self.random.random() < 0.1 or (
                    depth and self.random.random() < 0.3
                ) else self.put(depth, f"{self.number()}")
            case 12:
                self.put(depth, f"{self.random.choice(NUMBERS)} = read({self.number(1)})['n']")
            case 13 | 14:
                self.put(depth, f"if {self.test()}:")
                self.block(depth + 1, self.random.randint(1, 3), loop=loop)
                if self.random.random() < 0.5:
                    self.put(depth, "else:")
                    self.block(depth + 1, self.random.randint(1, 2), loop=loop)
            case 15 | 16:
                self.loops += 1
                source = self.random.choice(
                    [
                        f"range({self.random.randint(0, 4)})",
                        f"list({self.listing()})[:4]",
                        "enumerate(xs[:3])",
                    ]
                )
                target = "i, a" if source.startswith("enum") else self.random.choice(["i", "a"])
                self.put(depth, f"for {target} in {source}:")
                self.block(depth + 1, self.random.randint(1, 3), loop=True)
            case 17:
                self.loops += 1
                name = f"w{self.loops}"
                self.put(depth, f"{name} = 0")
                self.put(depth, f"while {name} < {self.random.randint(1, 3)}:")
                self.put(depth + 1, f"{name} += 1")
                self.block(depth + 1, self.random.randint(1, 2), loop=True)
            case _:
                self.put(depth, "try:")
                self.block(depth + 1, self.random.randint(1, 4), loop=loop)
                if self.random.random() < 0.8:
                    self.put(depth, f"except {self.random.choice(ERRORS)} as problem:")
                    self.put(depth + 1, "print('caught', type(problem).__name__, problem)")
                    self.block(depth + 1, self.random.randint(0, 2), loop=loop)
                    if self.random.random() < 0.2:
                        self.put(depth + 1, "raise")
                    if self.random.random() < 0.3:
                        self.put(depth, "else:")
                        self.block(depth + 1, 1, loop=loop)
                    if self.random.random() < 0.3:
                        self.put(depth, "finally:")
                        self.block(depth + 1, 1)
                else:
                    self.put(depth, "finally:")
                    self.block(depth + 1, 1)


@dataclass
class Account:
    """What a program did."""

    result: str | None
    printed: str
    error: tuple[str, str, int] | None
    writes: list[tuple[Any, ...]]
    cells: dict[int, int]


def by_python(source: str, world: World | None = None) -> Account:
    """Run a program as Python does."""
    world = world or World()
    space: dict[str, Any] = {"read": world.read, "pure": world.pure, "write": world.write}
    tree = ast.parse(source)
    last = tree.body[-1]
    assert isinstance(last, ast.Expr)
    tree.body[-1] = ast.copy_location(
        ast.Assign([ast.Name("RESULT", ast.Store())], last.value), last
    )
    ast.fix_missing_locations(tree)
    out = io.StringIO()
    error = None
    try:
        with contextlib.redirect_stdout(out):
            exec(compile(tree, "<program>", "exec"), space)
    except Exception as raised:
        frames = [
            each
            for each in traceback.extract_tb(raised.__traceback__)
            if each.filename == "<program>"
        ]
        error = (type(raised).__name__, str(raised), frames[-1].lineno or 0)
    result = None if error else repr(space["RESULT"])
    return Account(result, out.getvalue(), error, world.writes, world.cells)
