"""Whatever a program does, it holds nothing but values of programs: all that is in reach is walked.

From every function, module and error that programs have, and from values of each type, each step
is taken that the interpreter could take: every method and attribute that a type has in Python, by
name, every operator, every call, indexing, formatting. What comes of it is walked as well.
"""

from __future__ import annotations

import datetime as dt
import itertools
import os
import random
import re
from typing import Any

import pytest

from dagexec.programs import LimitReached, ProgramRefused, ToolError
from dagexec.programs._containers import _attribute, _item
from dagexec.programs._functions import EXCEPTIONS, FUNCTIONS, LAZY, MODULES, member
from dagexec.programs._live import LiveProgram
from dagexec.programs._machine import Builtin, Calling, Function, Partial, ToolFunction
from dagexec.programs._operators import BINARY, COMPARE, UNARY
from dagexec.programs._patterns import Match, Pattern
from dagexec.programs._values import VIEWS, formatted, method, repr_of, text_of

MANY = int(os.environ.get("DAGEXEC_FUZZ", "1000"))
DATA = (type(None), bool, int, float, str, list, dict, set, frozenset, tuple, range, *VIEWS)
DATES = (
    dt.date, dt.datetime, dt.time, dt.timedelta, dt.timezone,
)  # fmt: skip
OURS = (Builtin, Calling, Function, Partial, ToolFunction, Pattern, Match)
ERRORS = (*EXCEPTIONS.values(), re.error)
# What `_functions` returns is read where it stands: no variable ever holds it.
READ_ONCE = (
    zip, enumerate, reversed, *(type(reversed(each)) for each in ([], {}, range(3), {}.items())),
    type(reversed({}.values())), type(reversed(range(2**64))),
    *(getattr(itertools, name) for name in MODULES["itertools"]), type(iter(range(1))),
)  # fmt: skip


def is_value(value: Any, depth: int = 4) -> bool:
    """Whether this is a value of programs, with all that is in it."""
    kind = type(value)
    if kind is type:
        return value in ERRORS
    if kind in (list, tuple, set, frozenset) and depth:
        return all(is_value(each, depth - 1) for each in value)
    if kind is dict and depth:
        return all(is_value(each, depth - 1) for pair in value.items() for each in pair)
    return kind in (*DATA, *DATES, *OURS) or value in ERRORS or isinstance(value, Exception)


def samples() -> list[Any]:
    """Return values of each type that a program can begin with."""
    zone = dt.UTC
    return [
        None, True, 3, -1.5, "a{0.__class__}b", "%(x)s", "", [1, "a"], (1, 2), {"a": 1, 2: [3]},
        {1, 2}, frozenset([1]), range(3), {"a": 1}.keys(), {"a": 1}.values(), {"a": 1}.items(),
        dt.datetime(2024, 1, 2, 3, tzinfo=zone), dt.date(2024, 1, 2), zone,
        dt.time(1), dt.timedelta(1), ValueError("x", 1), ToolError("x", "t", "1", "s"),
        KeyError, member("re", "compile").call("(?P<n>a)|b"),
        member("re", "search").call("(a)", "ba"),
    ]  # fmt: skip


def everything() -> list[Any]:
    """Return all that a program can name, and samples."""
    modules = [member(module, name) for module, names in MODULES.items() for name in names]
    return [
        *samples(), *modules, *EXCEPTIONS.values(),
        *(Builtin(name, call) for name, call in FUNCTIONS.items()),
    ]  # fmt: skip


def steps(value: Any, chance: random.Random) -> list[Any]:
    """Return what a program can make of a value in one step."""
    found: list[Any] = []
    pool = samples()

    def take(function: Any, *args: Any) -> None:
        try:
            result = function(*args)
            if isinstance(result, READ_ONCE):
                result = list(result)  # a chain raises where it comes to what is no list
        except (Exception, LimitReached):
            return
        found.append(result)

    names = {*dir(value), *dir(type(value)), "__class__", "__globals__", "__traceback__", "call"}
    for name in names:
        take(_attribute, value, name)
        take(method, value, name, (), {})
        take(method, value, name, (chance.choice(pool),), {})
        take(method, value, name, (chance.choice(pool), chance.choice(pool)), {})
    for apply in (*BINARY.values(), *COMPARE.values()):
        take(apply, value, chance.choice(pool))
        take(apply, chance.choice(pool), value)
    for each in UNARY.values():
        take(each, value)
    for key in (0, "a", slice(None), chance.choice(pool)):
        take(_item, value, key)
    for spec in ("", "s", "d", "%Y", ">9"):
        take(formatted, value, spec)
    take(text_of, value)
    take(repr_of, value)
    if type(value) is Builtin:
        for count in range(4):
            take(value.call, *[chance.choice(pool) for _ in range(count)])
    elif isinstance(value, type):
        take(value, "x")
    return found


@pytest.mark.parametrize("seed", range(4))
def test_nothing_of_the_host_is_in_reach(seed: int) -> None:
    chance = random.Random(seed)
    layer, known = everything(), set[type]()
    for _ in range(4):
        reached: list[Any] = []
        for value in layer:
            for result in steps(value, chance):
                assert is_value(result), (value, result)
                if type(result) not in known or chance.random() < 0.005:
                    known.add(type(result))
                    reached.append(result)
        layer = reached[:40]
    assert {str, int, list, tuple, bool} <= known


WORDS = [
    "__class__", "__globals__", "__subclasses__", "gi_frame", "f_back", "__traceback__", "mro",
    "format", "format_map", "args", "year", "group", "utc", "real", "items", "join", "split", "get",
    "call", "kind", "strftime", "isoformat", "compile", "search", "append", "copy",
]  # fmt: skip
ATOMS = [
    "x", "1", "'{0.__class__}'", "[]", "{}", "len", "str", "print", "ValueError", "math", "re",
    "datetime", "datetime.datetime", "re.compile('a')", "re.search('a', 'a')", "tool", "f", "()",
    "datetime.timezone.utc", "ToolError('x')", "(lambda *a, **k: (a, k))",
]  # fmt: skip


def expression(chance: random.Random, depth: int) -> str:
    """Return an expression that looks for a way out."""
    if depth == 0:
        return chance.choice(ATOMS)
    inner = lambda: expression(chance, depth - 1)  # noqa: E731
    word = chance.choice(WORDS)
    forms = [
        f"{inner()}.{word}",
        f"{inner()}.{word}()",
        f"{inner()}.{word}({inner()})",
        f"{inner()}[{chance.choice(['0', '-1', repr(word), inner()])}]",
        f"{inner()}({inner()})",
        f"{inner()}(*{inner()})",
        f"{chance.choice(['len', 'str', 'list', 'max', 'sorted', 'dict', 'repr'])}({inner()})",
        f"[{inner()} for x in {inner()}]",
        f"({inner()} {chance.choice(['+', '%', '*', 'or', 'and', '=='])} {inner()})",
        f"f'{{{inner()}}}'",
        f"(x := {inner()})",
        f"sorted({inner()}, key={inner()})",
        f"[*map({inner()}, {inner()})]",
    ]
    return chance.choice(forms)


class Tool:
    """A tool that gives its argument back."""

    name, ahead = "tool", True

    def conflicts(self, *_: Any) -> bool:
        return False


def look(seeds: range) -> int:
    """Run programs that look for a way out; return how many came to a value."""
    count = 0
    for seed in seeds:
        chance = random.Random(seed)
        source = "import math, re, datetime\nx = 1\ndef f(*a): return a\ntry:\n"
        source += f"    x = {expression(chance, chance.randint(1, 3))}\n"
        source += "except Exception as e:\n    x = [e, e.args]\nx"
        try:
            program = LiveProgram(source, {"tool": ToolFunction(Tool(), ("x",))})
        except ProgramRefused:
            continue
        for _ in range(1_000):
            program.step()
            while program.calls:
                call = program.calls.popleft()
                program.settle(call.id, call.args.get("x"))
            if program.over:
                break
        assert program.over, source
        assert is_value(program.result), source
        for value in program.variables.values():
            assert is_value(value), source
        count += program.error is None
    return count


def test_expressions_that_look_for_a_way_out() -> None:
    assert look(range(400)) > 50


@pytest.mark.slow
def test_many_expressions_that_look_for_a_way_out() -> None:
    look(range(10_000, 10_000 + MANY))


def test_what_is_read_once_is_no_variable() -> None:
    for name in LAZY:
        with pytest.raises(ProgramRefused):
            LiveProgram(f"import re\nx = {'re.' if name == 'finditer' else ''}{name}([1], [2])", {})
