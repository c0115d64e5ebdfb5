"""A loop over `map` and `filter` calls the function as each turn begins, as Python does."""

from __future__ import annotations

import random

import pytest

from dagexec.programs import Program, ProgramRefused
from tests.programs.generated import by_python
from tests.programs.test_equal import out_of_order

SITUATIONS = {
    "a tool": "out = []\nfor r in map(read, [0, 1, 2]):\n    out.append(r['n'])\nout",
    "turn by turn": """
out = []
def f(x):
    out.append(("f", x))
    return x * 2
for y in map(f, range(3)):
    out.append(("body", y))
    if y == 2:
        break
else:
    out.append("else")
out
""",
    "a list that grows": """
xs = [1, 2]
for y in map(lambda x: x + 1, xs):
    if len(xs) < 5:
        xs.append(y)
xs
""",
    "two sources": """
out = []
for a, b in map(lambda x, y: (x, y), [1, 2, 3], "ab"):
    out.append((a, b))
else:
    out.append("end")
out
""",
    "filter": """
out = []
for x in filter(lambda v: read(v)["n"] > 1, range(5)):
    out.append(x)
for x in filter(None, [0, 1, "", "a"]):
    out.append(x)
out
""",
    "a function that fails": """
out = []
try:
    for x in map(read, [1, 5, 2]):
        out.append(x["n"])
except KeyError as e:
    out.append(str(e))
for x in map(int, ["1", "x"]):
    out.append(x)
out
""",
    "writes in order": "for x in map(write, [1, 2, 3]):\n    write(x, 5)\nNone",
    "no function": "for x in map(None, [1]):\n    pass\nx",
    "no source": "for x in map(str, 5):\n    pass\nx",
    "a name of its own": """
def map(f, xs):
    return [f(xs)]
for x in map(len, 'abc'):
    a = x
a
""",
    "inside of a function": """
def total(xs):
    n = 0
    for x in map(pure, xs):
        if x > 20:
            return n
        n += x
    return n
[total([1, 2, 3]), total([3, 5, 1])]
""",
}


@pytest.mark.parametrize("source", SITUATIONS.values(), ids=SITUATIONS.keys())
@pytest.mark.parametrize("seed", range(3))
def test_it_does_what_python_does(source: str, seed: int) -> None:
    text = source.strip()
    assert out_of_order(text, random.Random(seed)) == by_python(text)


@pytest.mark.parametrize(
    "source",
    ["m = map(str, [1])", "for x in map(str):\n    pass", "for x in map(*[str, [1]]): pass"],
)
def test_any_other_is_refused(source: str) -> None:
    with pytest.raises(ProgramRefused, match="read once"):
        Program(source)
