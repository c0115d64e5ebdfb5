"""A program reads a set in the same order in every process, whatever its hashes are there."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from dagexec import Executor
from dagexec.programs import Program

ROOT = Path(__file__).parents[2]
SOURCE = """
s = {"alpha", "beta", 1, 2.5, "d", None, (1, "x"), False}
t = set("hello") | {"q"}
f = frozenset({"a", "b", frozenset({"c", "dd"})})
out = []
for x in s:
    out.append(x)
popped = t.copy()
a, b = {"k", "l"}
d = {c: 1 for c in t}
d.update({("x", 1), ("y", 2)})
v = []
v += {"z", "w"}
v.extend({"zz", "ww"})
v[:0] = {"i", "j"}
print(s, t, f"{t} {f!r}", "%s %s" % (t, f), "%s" % t, str(f), repr({"x": {"p", "q"}}))
print(",".join(t), max(t, key=lambda x: 1), sorted(t, key=lambda x: 1), list(enumerate(t)))
print([s, {"k": t}], tuple(t), list(map(lambda x: x, t)), {f: 1})
print([popped.pop() for _ in range(3)], [*t], a, b, list(d), v, dict(zip({"m", "n"}, t)))
print(out, [x for x in t if x != "e"], sum([ord(x) for x in t]), min({"b", "c"}), show(t))
print({f: 1}[frozenset({frozenset({"dd", "c"}), "b", "a"})], [{"a"}].index({"a"}), [[]] + [t])
"""
SCRIPT = f"""
from dagexec import Executor, tool
from dagexec.programs import Program

@tool(effect="read")
def show(x: object) -> object:
    return x

report = Executor([show]).run_sync(Program({SOURCE!r}))
print(report.printed, report.error)
"""


@pytest.mark.real_time
def test_the_order_of_a_set_does_not_depend_on_the_process() -> None:
    """Iterated over, unpacked, written out, popped, and given to a tool."""
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", SCRIPT],
            env={**os.environ, "PYTHONHASHSEED": str(seed), "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            text=True,
        )
        for seed in (1, 2, 3)
    ]
    printed = {process.communicate(timeout=50)[0] for process in processes}
    assert len(printed) == 1
    assert printed.pop().endswith("\n None\n")


def test_a_set_that_changes_while_it_is_read_is_an_error_as_in_python() -> None:
    source = """
s, seen = {"a", "b"}, []
try:
    for x in s:
        s.add(x * 2)
except RuntimeError as error:
    seen.append(str(error))
try:
    set().pop()
except KeyError as error:
    seen.append(str(error))
try:
    list(reversed({"a"}))
except TypeError as error:
    seen.append(str(error))
for x in {"c"}:
    seen.append(x)
seen
"""
    report = Executor([]).run_sync(Program(source))
    expected: dict[str, list[str]] = {}
    exec(source, expected)
    assert report.result == expected["seen"]
