"""`re` and `datetime` in programs: as in Python, in linear time, and no way out."""

from __future__ import annotations

import os
import random
import re
import time
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dagexec import Executor
from dagexec.programs import LimitReached, Program, ProgramRefused
from dagexec.programs._check import parse
from dagexec.programs._regex import Regex
from tests.programs.generated import by_python
from tests.programs.test_equal import out_of_order

# Patterns that the slow test generates.
MANY = int(os.environ.get("DAGEXEC_FUZZ", "1000")) * 10
FLAGS = [0, 0, re.IGNORECASE, re.MULTILINE, re.DOTALL, re.MULTILINE | re.DOTALL | re.ASCII]
REPEATS = ["*", "+", "?", "*?", "+?", "??"]


def same(source: str) -> None:
    """Check that a program comes to what it comes to in Python."""
    assert out_of_order(source, random.Random(0)) == by_python(source), source


def pattern(chance: random.Random, depth: int = 3) -> str:
    """Return a random pattern."""
    inner = lambda: pattern(chance, depth - 1)  # noqa: E731
    match chance.randint(0, 13 if depth else 4):
        case 0 | 1 | 2:
            return chance.choice("abc")
        case 3:
            return chance.choice([".", "[ab]", "[^a]", r"\w", r"\d", r"\s", "\\n", "[a-c]", "é"])
        case 4:
            return chance.choice(["^", "$", r"\b", r"\B", r"\A", r"\Z", "a", "b"])
        case 5 | 6:
            return inner() + inner()
        case 7:
            return f"(?:{inner()}|{inner()})"
        case 8:
            return f"({inner()})"
        case 9:
            return f"(?:{inner()})" + chance.choice(REPEATS)
        case 10:
            return f"({inner()})" + chance.choice(REPEATS)
        case 11:
            return f"(?:{inner()})" + chance.choice(["{2}", "{1,3}", "{0,2}?", "{2,}"])
        case 12:
            return f"({inner()}|{inner()}|)"
        case _:
            return f"(?i:{inner()}){inner()}{inner()}"


def check_patterns(seeds: range) -> int:
    """Compare the machine with Python's engine; return how many patterns were no others."""
    count = 0
    for seed in seeds:
        chance = random.Random(seed)
        text, flags = (
            pattern(chance),
            chance.choice(
                [0, 0, re.IGNORECASE, re.MULTILINE, re.DOTALL, re.MULTILINE | re.DOTALL | re.ASCII]
            ),
        )
        try:
            theirs, ours = re.compile(text, flags), Regex(text, flags)
        except (re.error, ValueError):
            continue
        ours.is_quick = lambda _length: False  # type: ignore[method-assign]
        count += 1
        for _ in range(3):
            given = "".join(chance.choice("abcAé\n1 ") for _ in range(chance.randint(0, 8)))
            what = (seed, text, flags, given)
            for how in ("search", "match", "fullmatch"):
                found = getattr(theirs, how)(given)
                spans = None if found is None else tuple(x for pair in found.regs for x in pair)
                assert ours.walk(given, how=how) == spans, (what, how)
            every = [tuple(x for pair in m.regs for x in pair) for m in theirs.finditer(given)]
            assert list(ours.all(given)) == every, what
    return count


def test_patterns_find_what_python_finds() -> None:
    assert check_patterns(range(1_500)) > 700


@pytest.mark.slow
def test_many_patterns() -> None:
    check_patterns(range(10_000, 10_000 + MANY))


@pytest.mark.costs
@pytest.mark.parametrize(
    ("text", "given"),
    [
        (r"(a+)+$", "a" * 20_000 + "b"),
        (r"(a|a)+$", "a" * 20_000 + "b"),
        (r"(\w+\s?)+:", "word " * 5_000),
        (r"a*a*a*a*a*b", "a" * 20_000),
        (r"(?:x+x+)+y", "x" * 20_000),
        (r"^(([a-z])+.)+[A-Z]([a-z])+$", "a" * 20_000),
    ],
)
def test_no_pattern_takes_for_ever(text: str, given: str) -> None:
    began = time.process_time()
    with suppress(LimitReached):
        assert Regex(text).find(given) is None
    assert time.process_time() - began < 30


@pytest.mark.parametrize(
    "text", [r"(a)\1", "a(?=b)", "(?<!a)b", "(?>a+)b", "a++", "(a)?(?(1)b)", "(a*)*", "(a|)+"]
)
def test_what_has_no_linear_time_is_refused(text: str) -> None:
    try:
        re.compile(text)
    except re.error:  # of a newer Python
        return
    with pytest.raises(ValueError, match="here"):
        Regex(text)


RE = [
    """m = re.search('(?P<y>[0-9]+)-([0-9]+)', {0!r})
[m and [m.group(), m[1], m['y'], m.group(1, 2), m.groups(), m.groupdict(), m.span()], bool(m)]""",
    """m = re.match('.(?P<y>[0-9])*', {0!r})
m and [m.start(1), m.end('y'), str(m), m.group('y'), m.groups('none')]""",
    "[re.findall('a.', {0!r}, re.I), re.findall('(a)(b)?', {0!r}), re.findall('(b)', {0!r})]",
    "[re.split('[,;] *', {0!r}), re.split('(a)|b', {0!r}, maxsplit=2), re.split('', {0!r})]",
    "re.sub('a', {1!r}, {0!r})",
    "re.subn('(?P<n>a)(b)?', r'<\\2\\g<1>\\g<n>\\n>', {0!r}, count=2)",
    """p = re.compile('^a', re.M | re.I)
[p.findall({0!r}), p.sub('-', {0!r}), bool(p.match({0!r})), bool(p.fullmatch('A'))]""",
    "[x.group() + str(x.start()) for x in re.finditer('[a-c]+?', {0!r})]",
    "re.sub('(a)', {1!r} + r'\\1', {0!r})",
    "re.compile({0!r}).findall('a(b[c')",
    "re.escape({0!r})",
]


@given(st.text("abAB-,;\n01\\ g<>", max_size=12), st.text("ab\\g<1>0n", max_size=6))
def test_the_functions_of_re_are_pythons(text: str, other: str) -> None:
    for template in RE:
        lines = template.format(text, other).splitlines()
        body = "".join(f"    {line}\n" for line in [*lines[:-1], f"r = {lines[-1]}"])
        source = f"import re\nr = None\ntry:\n{body}except (re.error, IndexError) as e:\n"
        source += "    r = type(e).__name__\nr"
        same(source)


DATES = """
import datetime
from datetime import timedelta, timezone, date as day
r = []
def put(f):
    try:
        r.append(f())
    except (ValueError, TypeError, OverflowError) as e:
        r.append([type(e).__name__, str(e)])
a, b, t, n = {a!r}, {b!r}, {t!r}, {n!r}
put(lambda: [a + t, a - t, a - b, a < b, a == b, max(a, b)])
put(lambda: [a.isoformat(), str(a), f"{{a:%Y-%m-%d %H:%M:%S.%f}}", a.strftime("%d %b %y %j %a %p")])
put(lambda: [a.year, a.month, a.day, a.hour, a.minute, a.second, a.microsecond, a.tzinfo])
put(lambda: [a.date(), a.time(), a.weekday(), a.isoweekday(), a.toordinal(), a.isocalendar()[1]])
put(lambda: datetime.datetime.strptime(a.strftime("%Y-%m-%dT%H:%M:%S"), "%Y-%m-%dT%H:%M:%S"))
put(lambda: [datetime.datetime.fromisoformat(a.isoformat()), day.fromisoformat(str(b.date()))])
put(lambda: datetime.datetime.strptime("nonsense", "%d"))
put(lambda: [t.days, t.seconds, t.microseconds, t.total_seconds(), t * n, t / 7, t // 3, -t])
put(lambda: [t / timedelta(hours=1), t // timedelta(minutes=7), t % timedelta(days=1), bool(t)])
put(lambda: a.replace(year=1 + n % 9998, day=1 + n % 30))
put(lambda: day(n % 10000, n % 13, n % 32) - timedelta(days=n))
put(lambda: a.replace(tzinfo=timezone.utc).astimezone(timezone(timedelta(hours=n % 24))))
put(lambda: a - b.replace(tzinfo=timezone.utc))
put(lambda: datetime.datetime.combine(b.date(), a.time(), timezone.utc).timestamp())
put(lambda: [isinstance(a, datetime.date), isinstance(a.date(), datetime.datetime)])
put(lambda: sorted([b, a, b + t])[0] in {{a, b}})
put(lambda: {{a.date(): n}}.get(b.date()))
put(lambda: datetime.timedelta(n, n, n, n, n, n, n))
put(lambda: [timezone.utc, timezone(timedelta(minutes=n % 1440)), datetime.date.max, day.min])
put(lambda: datetime.datetime(n, 1, 1))
put(lambda: a < b.date())
print(a, t, b.date(), r)
r
"""


@given(
    st.datetimes(),
    st.datetimes(),
    st.timedeltas(),
    st.integers(-50, 20_000),
)
def test_dates_are_pythons(a: object, b: object, t: object, n: int) -> None:
    same(DATES.format(a=a, b=b, t=t, n=n).strip())


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("import datetime\ndatetime.datetime.now()", "no clock"),
        ("from datetime import date\ndate.today()", "no clock"),
        ("import re\nx = re.finditer('a', 'b')", "read once"),
        ("import re\nre.purge()", "re has no purge"),
        ("import datetime\ndatetime.sys", "datetime has no sys"),
        ("from datetime import tzinfo", "datetime has no tzinfo"),
        ("import re\nre.compile('a').scanner('a')", "no method scanner"),
    ],
)
def test_what_the_modules_do_not_have(source: str, told: str) -> None:
    with pytest.raises(ProgramRefused, match=told):
        parse(source)


@pytest.mark.costs
@pytest.mark.parametrize(
    "source",
    [
        "import datetime\ndatetime.datetime(2024, 1, 1).strftime('%9999999Y')",
        'import datetime\nf"{datetime.date(2024, 1, 1):%100000000d}"',
        "import datetime\ndatetime.date(2024, 1, 1).strftime('%Y' * 1000)",
        "import re\nre.sub('', 'x' * 100000, 'y' * 100000)",
        "import re\nre.search('(a{500}){500}', 'a')",
        "import re\nwhile True: re.search('(a+)+$', 'a' * 10000 + 'b')",
        "import datetime\ndatetime.datetime(2024, 1, 1).astimezone()",
        "import datetime\ndatetime.datetime.max.year.real",
        "import re\nre.search('a', 'a').re",
    ],
)
def test_what_would_have_no_end_is_an_error(source: str) -> None:
    began = time.process_time()
    try:
        account = out_of_order(source, random.Random(0))
    except ProgramRefused:
        return
    assert account.result is None
    assert len(account.printed) < 100
    assert time.process_time() - began < 40


@pytest.mark.parametrize(
    ("source", "result"),
    [
        ("if __name__ == '__main__':\n    x = 1\nx", 1),
        ("from typing import List\nx: List[int] = [1]\nx", [1]),
        ("import typing as t\ndef f(a: t.Any, *b: 'x') -> t.List[int]:\n    return a\nf(1)", 1),
        ("from __future__ import annotations\n2", 2),
        ("for id in [1, 2]:\n    type = id\n(id, type)", (2, 2)),
        ("def f(input, filter=3):\n    return input + filter\nf(1)", 4),
        ("import json as j\nj.dumps([1])", "[1]"),
    ],
)
def test_what_models_write_round_a_program_is_taken(source: str, result: object) -> None:
    report = Executor([]).run_sync(Program(source))
    assert report.error is None
    assert report.result == result


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("import json as j\nj.foo(1)", "json has no foo here; it has dumps, loads"),
        ("import typing\ntyping.cast(int, 1)", "typing stands in annotations only"),
        ("json.dumps(1)", "write `import json` before it"),
        ("math.pi", "write `import math` before it"),
        ("from collections import defaultdict", "In its place, write d.setdefault"),
        ("open('x').read()", "there is no open here"),
        ("[id(x) for x in [1]]", "there is no id here"),
        ("x: print(1) = 2", "an annotation is a type, and nothing is called in it"),
    ],
)
def test_what_is_refused_says_what_to_write(source: str, told: str) -> None:
    with pytest.raises(ProgramRefused, match=re.escape(told)):
        Program(source)


@pytest.mark.parametrize(
    "expression",
    [
        r"re.sub(r'\d+', lambda m: str(int(m.group()) * 2), 'a1 b22 c')",
        r"re.sub(r'(\w)(\d)', lambda m: m[2] + m.group(1), 'a1 b2')",
        "re.subn('a', lambda m: '', 'banana', count=2)",
        "re.sub('x*', lambda m: '-', 'abxd')",
        "re.compile('a').sub(lambda m: m.group().upper(), 'banana')",
        "re.sub('A', lambda m: 'x', 'banana', flags=re.I)",
        "re.sub('a', lambda m: None, 'banana')",
        "re.sub(string='aa', repl=lambda m: 'b', pattern='a')",
        "re.compile('(?P<n>a)').subn(lambda m: f'{m.span()}{m.groups()}{m.groupdict()}', 'baa', 2)",
        r"re.sub(r'\d', lambda m: str(read(int(m.group()))), 'a1 b2 c3')",
        r"re.sub(r'\d', lambda m: m.group(), str(read(5)))",
        "re.sub('a', lambda m: 1, 'banana')",
        "re.sub('b', lambda m: 1, 'banana')",
        "re.sub('a', lambda m: 1 // 0, 'banana')",
        "re.sub('a', lambda m: 'b', 5)",
    ],
)
def test_a_function_says_what_stands_in_the_place_of_a_match(expression: str) -> None:
    same(f"import re\n{expression}")


@pytest.mark.parametrize(
    "expression",
    [
        "statistics.mean([1, 2]), statistics.mean([1, 3]), statistics.mean({1, 2, 6})",
        "statistics.mean(x * 2 for x in [1, 2, 4]), statistics.median([3, 1, 2, 10])",
        "statistics.stdev([1, 2, 4]), statistics.pstdev([1.5, 2, 4]), statistics.variance([1, 5])",
        "statistics.mode(['a', 'b', 'b']), statistics.fmean([1, 2]), statistics.median_low([1, 2])",
        "statistics.mean([read(1), read(2)]), statistics.median({'a': 1, 'b': read(5)}.values())",
        "statistics.mean([])",
        "statistics.stdev([1])",
        "statistics.mean(['a'])",
        "statistics.mean(5)",
    ],
)
def test_statistics_are_those_of_python(expression: str) -> None:
    same(f"import statistics\n{expression}")
