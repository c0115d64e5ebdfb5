"""The limit of memory: of what is alive, whatever was made."""

from __future__ import annotations

import pytest

from dagexec.programs import LimitReached
from dagexec.programs._live import LiveProgram

LOADS = """\
import json
for i in range(20):
    x = json.loads('[[1]' + ', [3]' * 5000 + ']')
len(x)"""
CLOSURES = """\
def f(i):
    big = [0] * 1000
    def g():
        return big
    return g
fs = [f(i) for i in range(2000)]"""
ERRORS = """\
es = []
for i in range(2000):
    try:
        raise ValueError('x' * 5000 + str(i))
    except ValueError as e:
        es.append(e)"""
ROWS = "rows = [{'n': i, 'text': str(i)} for i in range(2000)]\n"


def end_of(source: str, **limits: int) -> LiveProgram:
    program = LiveProgram(source, {}, **limits)
    for _ in range(100_000):
        program.step()
        if program.over:
            return program
    pytest.fail("it does not end")


@pytest.mark.parametrize(
    ("source", "result"),
    [
        ("xs = []\nfor i in range(3000):\n    xs = xs + [i]\nlen(xs)", 3000),
        ("s = ''\nfor i in range(5000):\n    s = s + 'abcdefgh'\nlen(s)", 40_000),
        ("d = {}\nfor i in range(1000):\n    d = {**d, i: i}\nlen(d)", 1000),
        ("s = set()\nfor i in range(1000):\n    s = s | {i}\nlen(s)", 1000),
        ("t = ()\nfor i in range(2000):\n    t = (*t, i)\nlen(t)", 2000),
        ("for i in range(100):\n    x = 'ab ' * 10000\n    y = x.split()\nlen(y)", 10_000),
        (LOADS, 5001),
        (ROWS + "for i in range(20):\n    rows = sorted(rows, key=lambda r: -r['n'])\n2", 2),
        ("def f(n):\n    xs = [n] * 20000\n    return len(xs)\nsum(f(i) for i in range(200))",
         4_000_000),
    ],
)  # fmt: skip
def test_what_is_not_alive_does_not_count(source: str, result: object) -> None:
    program = end_of(source, max_memory=3_000_000)
    assert program.error is None, program.error
    assert program.result == result


@pytest.mark.parametrize(
    "source",
    [
        "xs = [[0] * 1000 for i in range(3000)]",
        "xs = ['x' * 400 + str(i) for i in range(20000)]",
        "xs = [{'a': i, 'b': [i]} for i in range(40000)]",
        "xs = []\nfor i in range(40000):\n    xs.append((i, [i, i]))",
        "d = {}\nfor i in range(60000):\n    d[str(i)] = i",
        "def f():\n    return [0] * 10000\nxs = [" + "f(), " * 300 + "]",
        "fs = []\nfor i in range(2000):\n    fs.append(lambda x, y=[0] * 1000: x)",
        CLOSURES,
        ERRORS,
        "xs = [('x' * 10000 + ' y').split()[0] for i in range(1000)]",
        "import re\nxs = [re.search('y', 'x' * 10000 + 'y') for i in range(1000)]",
        "x = 1 << 30000\nxs = [x + i for i in range(3000)]",
        "for i in range(3000):\n    print('x' * 5000)",
        "xs = []\nfor i in range(3000):\n    xs.append([" + "[], " * 100 + "])",
    ],
)
def test_what_is_alive_counts_wherever_it_is(source: str) -> None:
    program = end_of(source, max_memory=3_000_000)
    assert isinstance(program.error, LimitReached), program.error
    assert "3,000,000 bytes" in str(program.error)


@pytest.mark.parametrize(
    "change",
    [
        "d[i] = i",
        "xs[i] = i",
        "xs.append(i)",
        "xs.insert(0, i)",
        "xs.pop()",
        "xs.extend([i])",
        "xs += [i]",
        "s.add(i)",
        "d.setdefault(i, [])",
        "d[i] = d.get(i, 0) + 1",
    ],
)
def test_a_try_keeps_no_copies(change: str) -> None:
    source = (
        f"xs, d, s = [0] * 3000, {{}}, set()\ntry:\n    for i in range(3000):\n        {change}\n"
        "except ValueError:\n    pass\nlen(xs) + len(d) + len(s)"
    )
    program = end_of(source, max_memory=2_000_000)
    assert program.error is None, program.error


@pytest.mark.parametrize(
    "compared",
    [
        "x == y", "x != y", "x < y", "x >= y", "x in [y]", "[y].index(x)", "[y].count(x)",
        "sorted([x, y])", "min(x, y)", "max([x, y])",
        "min([1, 2], key=lambda n: x if n == 1 else y)",
        "{'a': x}.items() == {'a': y}.items()", "[y].remove(x)", "x", "raise ValueError(x)",
        "assert False, x",
    ],
)  # fmt: skip
def test_shared_lists_that_are_compared(compared: str) -> None:
    program = end_of(f"x, y = [0], [0]\nfor i in range(60):\n    x, y = [x, x], [y, y]\n{compared}")
    assert isinstance(program.error, LimitReached), program.error


@pytest.mark.parametrize(
    "used",
    [
        "{t: 1}", "{t}", "{t for i in [1]}", "{t: 1 for i in [1]}", "t in {1: 2}", "t in {1}",
        "{1: 2}.get(t)", "d[t] = 1", "d[t]", "del d[t]", "d.setdefault(t, 1)", "s.add(t)",
        "set([t])",
        "frozenset([t])", "s.union([t])", "dict([(t, 1)])", "s.update([t])", "d.pop(t)",
    ],
)  # fmt: skip
def test_shared_tuples_as_keys(used: str) -> None:
    program = end_of(
        f"t, d, s = (0,), {{1: 2}}, {{1}}\nfor i in range(60):\n    t = (t, t)\n{used}"
    )
    assert isinstance(program.error, LimitReached), program.error


@pytest.mark.costs
@pytest.mark.parametrize(
    "source",
    [
        "('x' * 100000).join('y' * 100000)",
        "('x' * 100000).join({str(i) for i in range(1000)})",
        "('x' * 100000).join({str(i): 1 for i in range(1000)})",
        "('%9999d' * 1000) % ((1,) * 1000)",
        "('%(a)s' * 1000) % {'a': 'x' * 10000}",
        "sum([[0]] * 1000000, [])",
        "x = 3 ** 60000",
        pytest.param(  # covered, it takes seven times as long, which comes near to a time limit
            "import re\nre.findall('(a)' + '(b?)' * 20, 'a' * 100000)", marks=pytest.mark.costs
        ),
    ],
)
def test_operations_that_would_make_too_much(source: str) -> None:
    assert isinstance(end_of(source).error, LimitReached)


def test_the_limit_of_steps_names_what_copies() -> None:
    program = end_of("xs = []\nfor i in range(100000):\n    xs = xs + [i]", max_steps=50_000)
    assert "xs.append(x)" in str(program.error)
    assert "does not end" in str(end_of("while True: pass", max_steps=50_000).error)


@pytest.mark.costs
def test_what_takes_no_longer_for_large_values_costs_no_more() -> None:
    program = end_of(
        "text, d = 'x' * 500000, {i: i for i in range(20000)}\nn = 0\n"
        "for i in range(200):\n    n += len(text[i : i + 9]) + len(text) + (i in d) + d.get(i)\nn",
        max_steps=100_000,
    )
    assert program.error is None, program.error


def test_what_is_nested_too_deep_ends_as_in_python() -> None:
    program = end_of("x, y = [0], [0]\nfor i in range(5000):\n    x, y = [x], [y]\nx == y")
    assert isinstance(program.error, Exception)
    assert "RecursionError" in str(program.error)


@pytest.mark.parametrize("item", ["i", "[i]"])
def test_a_list_that_grows_by_one_is_counted_once(item):
    """What came since it was last seen is new, not all of it."""
    counts = []
    for times in (20_000, 80_000):
        live = LiveProgram(f"xs = []\nfor i in range({times}):\n    xs.append({item})\nlen(xs)", {})
        made = []
        make = live.pipe.memory._make
        live.pipe.memory._make = lambda size, made=made, make=make: (made.append(size), make(size))
        while not live.over:
            live.step()
        assert live.result == times
        counts.append(sum(made))
    assert counts[1] < 5 * counts[0]
