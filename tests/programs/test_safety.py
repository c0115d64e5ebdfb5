"""A program is as safe as data: no way to an object of the host, and an end to all it asks for."""

from __future__ import annotations

import ast
import builtins
import time
from types import BuiltinFunctionType, CodeType, FrameType, FunctionType, ModuleType
from typing import Any

import pytest

from dagexec.programs import LimitReached, ProgramFailed, ProgramRefused
from dagexec.programs._live import LiveProgram

# What other interpreters of Python in Python were escaped by, and their kin.
ESCAPES = [
    "().__class__.__bases__[0].__subclasses__()",
    "(lambda: 0).__globals__",
    "(lambda: 0).__code__",
    "[].__class__",
    "''.__class__.__mro__",
    "'{0.__class__}'.format(1)",
    "'{x.__class__}'.format_map({'x': 1})",
    "f'{().__class__}'",
    "getattr(1, 'real')",
    "getattr((), '__class__')",
    "__import__('os').system('id')",
    "import os",
    "import sys, math",
    "from os import system",
    "from math import __loader__",
    "import math\nmath.__loader__",
    "import json\njson.decoder.scanner.sys",
    "open('/etc/passwd').read()",
    "eval('1')",
    "exec('1')",
    "compile('1', '', 'eval')",
    "globals()",
    "vars()",
    "(i for i in [1]).gi_frame.f_globals",
    "def f(): yield 1\nf().gi_frame",
    "async def f(): pass\nf().cr_frame",
    "try:\n    1 / 0\nexcept Exception as e:\n    e.__traceback__.tb_frame",
    "try:\n    1 / 0\nexcept Exception as e:\n    e.with_traceback(None)",
    "ValueError('x').__reduce__()",
    "Exception.__subclasses__()",
    "Exception.mro()",
    "str.format('{0.__class__}', 1)",
    "str.join.__self__",
    "print.__self__",
    "sorted([1], key=len.__call__)",
    "type(1)(2)",
    "x = type",
    "type.__call__",
    "class A: pass",
    "x: __import__('os') = 1",
    "def f(a: eval('1')): pass",
    "def f(a=__import__('os')): pass",
    "[x for x in ().__class__.__base__.__subclasses__()]",
    "{}.__init__.__globals__",
    "'a'.encode().hex()",
    "'%(x.__class__)s'.__mod__({})",
    "isinstance(1, object)",
    "object()",
    "super()",
    "breakpoint()",
    "input()",
    "exit()",
    "raise SystemExit",
    "raise KeyboardInterrupt",
    "raise BaseException",
    "max.__self__.eval('1')",
    "dict.__getitem__",
    "setattr(print, 'x', 1)",
    "del print",
    "with open('x') as f: pass",
    "__builtins__",
    "ToolError.__init__.__globals__",
    "import asyncio\nasyncio.subprocess",
    "import asyncio\nasyncio.get_event_loop()",
    "().__class__.__base__.__subclasses__()",
    "'{0.__class__}'.format(())",
    "'{0.__class__.__init__.__globals__}'.format_map({'0': 1})",
    "f = '{0.__class__}'.format\nf(1)",
    "@print\ndef f(): pass",
    "@(lambda f: f.__globals__)\ndef f(): pass",
    "match 1:\n    case int(real=x): x",
    "match []:\n    case object(__class__=x): x",
    "class A:\n    x = __build_class__",
    "class A(type): pass",
    "(x := ().__class__)",
    "[y := (), y.__class__]",
    "from math import *",
    "from os.path import *",
    "from . import x",
    "import os as math\nmath.system('id')",
    "getattr.__call__((), '__class__')",
    "hasattr(1, 'real')",
    "delattr(print, 'x')",
    "x = getattr",
    "vars(print)",
    "dir()",
    "'a'.__getattribute__('__class__')",
    "object.__getattribute__(1, '__class__')",
    "[c for c in [1].__class__.__mro__]",
    "(lambda: (yield))()",
    "async def f():\n    async for x in y: pass",
    "async def f():\n    async with x: pass",
    "(await x for x in [])",
    "try:\n    1 / 0\nexcept* ValueError: pass",
    "try:\n    1 / 0\nexcept Exception as e:\n    e.__context__",
    "try:\n    1 / 0\nexcept Exception as e:\n    e.args.__class__",
    "try:\n    tool()\nexcept Exception as e:\n    e.add_note('x')",
    "try:\n    [].x\nexcept AttributeError as e:\n    e.obj",
    "try:\n    x\nexcept NameError as e:\n    e.name",
    "ValueError.__init__.__globals__",
    "ToolError.__subclasses__()",
    "KeyError | ValueError",
    "import math\nmath.__dict__",
    "import math\nmath.floor.__self__",
    "import re\nre.sre_compile",
    "import re\nre.compile('a').__class__",
    "import re\nre.search('a', 'a').__class__",
    "import re\nre.search('a', 'a')._text",
    "import re\nre.compile('a')._regex",
    "import re\nre.sub('a', lambda m: m.__class__, 'a')",
    "import re\nre.template",
    "import re\nre.compile('a', re.DEBUG)",
    "import re\nre.Scanner([])",
    "import datetime\ndatetime.sys",
    "import datetime\ndatetime.datetime.__subclasses__()",
    "import datetime\ndatetime.datetime.today()",
    "import datetime\ndatetime.date(2024, 1, 1).__class__",
    "import datetime\ndatetime.timezone.utc.__reduce__()",
    "import datetime\ndatetime.tzinfo()",
    'import datetime\nf"{datetime.date.min.__class__}"',
    "import json\njson.loads('{}', object_hook=print)",
    "import json\njson.dumps(1, default=print)",
    "import json\njson.JSONEncoder",
    "del __builtins__",
    "global __builtins__\n__builtins__ = 1",
    "x.__class__ = 1",
    "x = 1\nx.y = 2",
    "for x.y in [1]: pass",
    "[0 for x.y in [1]]",
    "import _thread",
    "import builtins",
    "import subprocess",
    "import ctypes",
    "import importlib\nimportlib.import_module('os')",
    "print(1, file=open('x', 'w'))",
    "help()",
    "memoryview(b'')",
    "b'a'.decode()",
    "1j",
    "...",
    "type('X', (), {})",
    "sum.__call__",
    "range.__class__",
    "print.__init__.__globals__",
    "copyright",
    "credits",
    "quit()",
]


def end_of(source: str) -> LiveProgram:
    program = LiveProgram(source, {})
    for _ in range(100_000):
        program.step()
        if program.over:
            return program
    pytest.fail("it does not end")


@pytest.mark.parametrize("source", ESCAPES)
def test_no_way_out(source: str) -> None:
    try:
        program = end_of(source)
    except ProgramRefused:
        return
    assert isinstance(program.error, ProgramFailed), program.result
    assert isinstance(program.error.__cause__, NameError | TypeError | AttributeError)


HOST = (BuiltinFunctionType, CodeType, FrameType, FunctionType, ModuleType, type(builtins.len))


@pytest.mark.parametrize(
    "source",
    ["print", "len", "max", "ValueError", "lambda: 1", "def f(): pass\nf", "import math\nmath"],
)
def test_functions_as_values_are_no_objects_of_the_host(source: str) -> None:
    found = end_of(source).result
    assert not isinstance(found, HOST)
    text = f"x = {source}" if "\n" not in source else source.replace("\nf", "\nx = f")
    for attempt in ("x.__class__", "x.call", "x['call']", "x.kind", "[*x]", "x.body", "dict(x)"):
        try:
            program = end_of(f"{text}\n{attempt}")
        except ProgramRefused:
            continue
        assert program.error is not None, (attempt, program.result)


WITHOUT_END = [
    "x = []\nwhile True:\n    x.append('a' * 1000000)",
    "x = []\nwhile True:\n    x = [x, x]\n    print(x)",
    "x = 'a'\nwhile True: x = x + x",
    "x = 'a'\nwhile True: x += x",
    "x = [1]\nwhile True: x += x",
    "x = [1]\nwhile True: x.extend(x)",
    "x = {1}\nwhile True: x |= set(range(len(x), 3 * len(x)))",
    "2 ** 10 ** 9",
    "x = 3\nwhile True: x *= x",
    "1 << 10 ** 9",
    "pow(2, 10 ** 9)",
    "pow(3 ** 5000, 3 ** 5000, 5 ** 5000)",
    "round(10, -10 ** 9)",
    "'a' * 10 ** 9",
    "[0] * 10 ** 9",
    "(0,) * 10 ** 9",
    "list(range(10 ** 9))",
    "sum(range(10 ** 12))",
    "max(range(10 ** 12))",
    "sorted(range(10 ** 12))",
    "set(range(10 ** 12))",
    "'a' in range(10 ** 12)",
    "range(10 ** 12).count('a')",
    "list(enumerate(range(10 ** 12)))",
    "list(zip(range(10 ** 12), range(10 ** 12)))",
    "a, *b = range(10 ** 12)",
    "print(*range(10 ** 12))",
    "f'{1:>1000000000}'",
    "f'{1:.{10 ** 9}f}'",
    "'%1000000000d' % 1",
    "'%*d' % (10 ** 9, 1)",
    "'a'.ljust(10 ** 9)",
    "'\\t'.expandtabs(10 ** 9)",
    "('a' * 1000000).replace('a', 'b' * 1000000)",
    "'ab'.join(['c' * 1000000] * 1000000)",
    "x = ['a' * 1000000] * 1000000\nstr(x)",
    "import json\nx = [1]\nfor i in range(40): x = [x, x]\njson.dumps(x)",
    "x = [1]\ny = [1]\nfor i in range(40): x = [x, x]; y = [y, y]\nx == y",
    "import math\nmath.factorial(10 ** 6)",
    "import math\nmath.prod(range(1, 100000))",
    "import math\nmath.lcm(*range(1, 100000))",
    "def f(n): return f(n + 1)\nf(0)",
    "f = lambda g: g(g)\nf(f)",
    "'a' * 10 ** 10",
    "[[]] * 10 ** 9",
    "10 ** 10 ** 10",
    "f'{1:{10 ** 9}}'",
    "f'{0:0{9 ** 9}d}'",
    "f'{1.5:.{10 ** 8}f}'",
    "'%.1000000000f' % 1.5",
    "'a'.center(10 ** 10)",
    "'1'.zfill(10 ** 10)",
    "[0] * 1000000 + [0] * 1000000",
    "x = {}\nfor i in range(10 ** 6): x[i] = [0] * 1000000",
    "[[0] * 1000000 for i in range(10 ** 6)]",
    "['a' * 1000000 + str(i) for i in range(10 ** 6)]",
    "xs = []\nwhile True:\n    y = []\n    y.extend(range(1000000))\n    xs.append(y)",
    "xs = []\nwhile True: xs.append([*range(1000000)])",
    "xs = []\nwhile True:\n    a, *b = range(1000000)\n    xs.append(b)",
    "xs = []\nwhile True:\n    y = []\n    y += range(1000000)\n    xs.append(y)",
    "xs = []\nwhile True:\n    y = []\n    y[:] = range(1000000)\n    xs.append(y)",
    "import re\nre.sub('', 'x' * 100000, 'y' * 100000)",
    "import re\nre.search('(a{900}){900}', 'a')",
    "import json\njson.dumps([1], indent=10 ** 9)",
    "import datetime\ndatetime.date(2024, 1, 1).strftime('%Y' * 1000000)",
]


@pytest.mark.costs
@pytest.mark.parametrize("source", WITHOUT_END)
def test_what_asks_for_too_much_is_told_so(source: str) -> None:
    began = time.process_time()
    program = end_of(source)
    assert isinstance(program.error, LimitReached), program.error
    assert time.process_time() - began < 30  # nothing like the hours that it asks for


@pytest.mark.slow
@pytest.mark.timeout(600)  # half a minute of the processor, and machines are slow and busy
@pytest.mark.parametrize(
    "source",
    [
        "while True: pass",
        "[i for i in range(10 ** 12)]",
        "any(i < 0 for i in range(10 ** 12))",
        "x = {}\nfor i in range(10 ** 9): x[i] = i",
        "''.join(str(i) for i in range(10 ** 9))",
        "xs = []\nwhile True: xs.append(dict(zip(range(100000), range(100000))))",
        "xs = []\nwhile True: xs.append(set(range(100000)))",
        "xs = []\nwhile True: xs.append(list(map(str, range(1000000))))",
        "xs = []\nwhile True: xs.append(sorted(range(1000000), key=lambda x: 0))",
    ],
)
def test_loops_end(source: str) -> None:
    assert isinstance(end_of(source).error, LimitReached)


def test_a_long_loop_lets_the_event_loop_turn() -> None:
    program = LiveProgram("n = 0\nwhile n < 100000:\n    n += 1\nn", {})
    turns = 0
    while not program.over:
        program.step()
        turns += 1
    assert program.result == 100_000
    assert turns > 100


def test_a_limit_cannot_be_caught() -> None:
    program = end_of("try:\n    'a' * 10 ** 9\nexcept Exception:\n    print('caught')\n1")
    assert isinstance(program.error, LimitReached)
    assert program.printed == ""


def test_what_is_printed_has_an_end() -> None:
    program = LiveProgram("for i in range(1000): print('x' * 1000)", {}, max_printed=5_000)
    while not program.over:
        program.step()
    assert len(program.printed) < 5_200
    assert "more characters were printed" in program.printed


def test_deep_nesting_is_refused() -> None:
    for source in ("(" * 5000 + ")" * 5000, "-" * 5000 + "1", "[" * 150 + "]" * 150):
        with pytest.raises(ProgramRefused):
            end_of(source)


def test_every_node_of_python_is_known_or_refused() -> None:
    """A new Python's syntax is refused until somebody has thought of it."""
    from dagexec.programs._check import _EXPRESSIONS, _INSTEAD, _PARTS, _STATEMENTS

    old = ("Num", "Str", "Bytes", "NameConstant", "Ellipsis", "Index", "ExtSlice", "Suite")
    bases = ("AST", "mod", "stmt", "expr", "slice", "excepthandler", "pattern", "type_ignore")
    known: dict[str, Any] = {each.__name__: each for each in (*_STATEMENTS, *_EXPRESSIONS)}
    kinds = [value for value in vars(ast).values() if isinstance(value, type)]
    for kind in kinds:
        if not issubclass(kind, ast.stmt | ast.expr) or kind.__name__ in (*old, *bases):
            continue
        compiled = f"_{kind.__name__}"
        if kind.__name__ in known and kind is not ast.Starred and kind is not ast.FormattedValue:
            from dagexec.programs._statements import Statements

            assert hasattr(Statements, compiled) or kind is ast.Slice, compiled
    assert not set(_INSTEAD) & set(_PARTS)
