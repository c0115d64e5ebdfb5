"""`itertools` and `functools` of programs: what Python's own give, and nothing without bounds."""

from __future__ import annotations

import random
import time
from typing import Any

import pytest

from dagexec import Executor
from dagexec.programs import LimitReached, Program, ProgramFailed, ProgramRefused

BEGIN = """
import itertools
from functools import partial, reduce
from itertools import accumulate, chain, combinations
from itertools import islice as some

def add(a, b):
    return a + b

def pair(a, b, c="c"):
    return [a, b, c]

"""
SOURCES = ("[]", "[1]", "[3, 1, 2]", "(4, 5)", "range(3)", "{'k': 1, 'l': 2}", "[True, 0]")
VALUES = (*SOURCES, "'ab'", "''", "{7}", "['x', 'y', 'x']", "5", "None")
SIZES = ("0", "1", "2", "3", "-1", "None", "'2'", "1.0", "True")
ROWS = (
    "chain({a}, {b})",
    "itertools.chain.from_iterable([{a}, {b}, {c}])",
    "chain.from_iterable({a})",
    "some({a}, {n})",
    "some({a}, {n}, {m})",
    "some({a}, {n}, {m}, {k})",
    "some(chain({a}, {b}), {n})",
    "itertools.product({a}, {b})",
    "itertools.product({a}, repeat={n})",
    "itertools.product({a}, {b}, repeat={n})",
    "itertools.product(repeat={n})",
    "itertools.product(*[{a}, {b}, {c}])",
    "combinations({a}, {n})",
    "itertools.combinations_with_replacement({a}, {n})",
    "itertools.permutations({a}, {n})",
    "itertools.permutations({a})",
    "itertools.pairwise(combinations({a}, {n}))",
    "itertools.zip_longest({a}, {b}, fillvalue={n})",
    "itertools.zip_longest({a}, {b}, {c})",
    "zip(chain({a}, {b}), itertools.pairwise({c}))",
    "accumulate({a})",
    "accumulate({a}, add)",
    "accumulate({a}, initial={n})",
    "accumulate({a}, func=lambda x, y: y, initial={n})",
    "accumulate(chain({a}, {b}), max)",
    "map(partial(pair, {n}), {a})",
    "map(partial(partial(pair, c={n}), {m}), chain({a}, {b}))",
)
WHOLE = (
    "list({rows})",
    "tuple({rows})",
    "[each for each in {rows}]",
    "[*{rows}, 0]",
    "sorted({rows}, key=str)",
    "dict(enumerate({rows}))",
    "'-'.join(str(each) for each in list({rows}))",
    "list({rows})[:3]",
)
OTHERS = (
    "reduce(add, {a})",
    "reduce(add, {a}, {n})",
    "reduce(lambda x, y: [x, y], chain({a}, {b}))",
    "reduce(max, {a}, {n})",
    "reduce({n}, {a})",
    "reduce(add, [[1], [2]], [])",
    "partial({a})",
    "partial(pair, {n})({m})",
    "partial(pair, {n})({m}, c={k})",
    "partial(pair, c={n})({m})",
    "sorted({a}, key=partial(add, 1))",
    "partial(partial(pair, 1), 2)()",
    "[list(pairs) for pairs in combinations({a}, 2)]",
)


def by_dagexec(source: str) -> tuple[str, Any]:
    try:
        program = Program(source)
    except ProgramRefused as refused:
        return "refused", str(refused)
    report = Executor([]).run_sync(program)
    if report.error is None:
        return "value", repr(report.result)
    return "error", type(report.error.__cause__).__name__


def by_python(source: str) -> tuple[str, Any]:
    space: dict[str, Any] = {}
    body, last = source.rsplit("\n", 1)
    try:
        exec(body, space)
        return "value", repr(eval(last, space))
    except Exception as error:
        return "error", type(error).__name__


@pytest.mark.parametrize("seed", range(4))
def test_it_gives_what_python_gives(seed: int) -> None:
    chance = random.Random(seed)
    same = {"value": 0, "error": 0}
    for _ in range(250):
        parts: dict[str, str] = {each: chance.choice(SIZES) for each in "nmk"}
        values = SOURCES if chance.random() < 0.7 else VALUES
        parts |= {each: chance.choice(values) for each in "abc"}
        form = chance.choice(WHOLE) if chance.random() < 0.8 else chance.choice(OTHERS)
        text = form.replace("{rows}", chance.choice(ROWS)).format(**parts)
        expected, found = by_python(BEGIN + text), by_dagexec(BEGIN + text)
        if found[0] == "refused" and "is read once" in found[1]:
            continue  # functions of the program are called where all is read at once
        assert found == expected, text
        same[expected[0]] += 1
    assert min(same.values()) > 30, same


@pytest.mark.costs
@pytest.mark.parametrize(
    "text",
    [
        "list(itertools.product([1], repeat=10**9))",
        "for each in itertools.product(range(1000), repeat=5):\n    break",
        "list(combinations(range(1000000), 500000))",
        "list(combinations([1], 10**9))",
        "list(itertools.permutations(range(100)))",
        "list(itertools.permutations([1], 10**12))",
        "list(itertools.combinations_with_replacement([1, 2], 10**10))",
        "list(some(range(10**12), 5, None))",
        "list(chain(range(10**12)))",
        "list(chain(*[[0] * 10**6] * 1000))",
        "for each in itertools.zip_longest([0] * 10**6, *[[]] * 1000):\n    pass",
        "''.join(chain(*[['a' * 10**6]] * 1000))",
        "''.join(reversed(['a' * 10**6] * 1000))",
        "reduce(lambda a, b: a + a, range(100), 'ab')",
        "list(accumulate(['a' * 1000] * 10000))",
        "p = partial(max)\nfor each in range(3000):\n    p = partial(p, *[1] * 100)",
        "for each in range(10**9):\n    reduce(add, range(1000))",
    ],
)
def test_what_would_be_too_much_is_not_begun(text: str) -> None:
    begun = time.process_time()
    report = Executor([]).run_sync(Program(BEGIN + text, max_steps=200_000))
    assert isinstance(report.error, LimitReached)
    assert time.process_time() - begun < 20, text


def test_a_partial_function_without_end_is_an_error_of_the_program() -> None:
    text = "p = max\nfor each in range(2000):\n    p = partial(reduce, p)\np('aa', 'a')"
    report = Executor([]).run_sync(Program(BEGIN + text))
    assert isinstance(report.error, ProgramFailed)
    assert isinstance(report.error.__cause__, RecursionError)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("from itertools import chain\ng = chain([1])", "write list(chain(…)) to keep it"),
        ("import itertools\ng = itertools.chain([1])", "write list(chain(…)) to keep it"),
        ("from itertools import chain as c\nf = c", "chain is called where it stands"),
        ("import itertools\nlist(map(itertools.chain, [[1]]))", "chain is called where it stands"),
        ("import itertools\nlen(itertools.chain([1]))", "read once"),
        ("from itertools import accumulate\nfor x in accumulate([1], max):\n    pass", "read once"),
        ("import itertools\nitertools.count()", "itertools has no count here; it has accumulate"),
        ("from itertools import groupby", "itertools has no groupby here"),
        ("import functools\nfunctools.cache(max)", "functools has no cache here"),
    ],
)
def test_what_is_read_once_stands_where_it_is_read(text: str, told: str) -> None:
    with pytest.raises(ProgramRefused) as caught:
        Program(text)
    assert told in str(caught.value)


def test_names_of_its_own_are_the_programs() -> None:
    text = "from itertools import product\ndef product(x):\n    return x\ny = product(3)\ny"
    assert Executor([]).run_sync(Program(text)).result == 3
