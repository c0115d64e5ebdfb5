"""Python's functions, errors and modules that programs have."""

# A value of a program is of any type: what the checker calls unknown here is meant.
# pyright: reportUnknownArgumentType=false, reportUnknownLambdaType=false
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any, Final

from dagexec.programs._dates import CLASSES, PARTS
from dagexec.programs._dates import NAMES as DATES
from dagexec.programs._errors import LimitReached, ToolError
from dagexec.programs._itertools import FUNCTOOLS, ITERTOOLS
from dagexec.programs._operators import add, multiply, power
from dagexec.programs._patterns import FUNCTIONS as PATTERNS
from dagexec.programs._patterns import METHODS, Match
from dagexec.programs._sets import in_order
from dagexec.programs._values import (
    BITS,
    CONTAINERS,
    COPIES,
    FRESH,
    PURE,
    PURE_NAMES,
    QUICK,
    RATES,
    USUAL,
    VIEWS,
    Builtin,
    Meter,
    fits,
    ordered,
    rate_of,
    rated,
    repr_of,
    settled,
    text_of,
    too_large,
    weigh,
    whole,
)

EXCEPTIONS: Final[dict[str, type[Exception]]] = {
    kind.__name__: kind
    for kind in (
        ArithmeticError,
        AssertionError,
        AttributeError,
        Exception,
        IndexError,
        KeyError,
        LookupError,
        NameError,
        NotImplementedError,
        OverflowError,
        RecursionError,
        RuntimeError,
        StopIteration,
        TimeoutError,
        ToolError,
        TypeError,
        UnboundLocalError,
        UnicodeError,
        ValueError,
        ZeroDivisionError,
    )
}


def _int(*args: Any, **named: Any) -> int:
    if args and type(args[0]) not in (str, int, float, bool):
        kind = type(args[0]).__name__
        msg = f"int() argument must be a string, a bytes-like object or a real number, not '{kind}'"
        raise TypeError(msg)
    return int(*args, **named)


# What make all that is in their results, or may: pairs of `zip` are made as they are read.
_FRESH: Final = (list, tuple, enumerate, dict, set)


def _reading(function: Callable[..., Any]) -> Callable[..., Any]:
    """Let a function of Python's read its arguments, none of them too long."""

    def read(*args: Any, **named: Any) -> Any:
        return function(*map(whole, args), **named)

    read.rate = FRESH if function in _FRESH else USUAL  # type: ignore[attr-defined]
    return read


def _in_order(function: Callable[..., Any]) -> Callable[..., Any]:
    """Let a function of Python's read its arguments in the order that is always the same."""
    read = _reading(function)

    def ordering(*args: Any, **named: Any) -> Any:
        return read(*map(in_order, args), **named)

    return rated(ordering, rate_of(read))


def _ordered(function: Callable[..., Any]) -> Callable[..., Any]:
    """Let a function compare its arguments, or what is in the only one."""

    def compare(*args: Any, **named: Any) -> Any:
        values = [settled(in_order(whole(each))) for each in args]
        if len(values) == 1 and type(values[0]) in (*CONTAINERS, *VIEWS):
            ordered(list(values[0]) if type(values[0]) in VIEWS else values[0])
        else:
            ordered(values)
        return function(*values, **named)

    return compare


def _zip(*args: Any, **named: Any) -> Any:
    fits(sum(len(whole(each)) for each in args if hasattr(each, "__len__")), "the pairs")
    return zip(*map(in_order, args), **named)  # noqa: B905 - as the program says


def _sum(values: Any, /, start: Any = 0) -> Any:
    if type(start) is str:
        return sum(values, start)  # raises, and says what to write instead
    copied = 0
    for each in in_order(whole(values)):
        start = add(start, each)
        if type(start) in (list, tuple):
            copied += len(start)
            if copied > _COPIED:
                raise LimitReached(
                    "sum() copies lists again and again; write a loop with xs.extend(part)"
                )
    Meter.spent += copied >> COPIES.items
    return start


def _prod(values: Any, *, start: Any = 1) -> Any:
    for each in in_order(whole(values)):
        start = multiply(start, each)
    return start


def _pow(a: Any, b: Any, modulus: Any = None) -> Any:
    if modulus is None:
        return power(a, b)
    if any(isinstance(each, int) and each.bit_length() > _MODULUS for each in (a, b, modulus)):
        raise too_large("a number of pow, in bits,", _MODULUS)
    sizes = [each.bit_length() for each in (a, b, modulus) if isinstance(each, int)]
    Meter.spent += (max(sizes, default=0) >> 6) ** 3 >> 4
    return pow(a, b, modulus)


def _round(number: Any, ndigits: Any = None) -> Any:
    if isinstance(ndigits, int) and abs(ndigits) > _DIGITS:
        raise too_large("the digits of round", _DIGITS)
    return round(number, ndigits)


def _range(*args: Any) -> range:
    made = range(*args)
    if max(abs(made.start), abs(made.stop), abs(made.step)).bit_length() > 63:  # noqa: PLR2004
        raise too_large("a range, in bits,", 63)
    return made


def _lcm(*args: Any) -> int:
    if sum(each.bit_length() for each in args if isinstance(each, int)) > BITS:
        raise too_large("the multiple, in bits,", BITS)
    return math.lcm(*args)


_MODULUS: Final = 4_096
# Items that the sum of lists may copy.
_COPIED: Final = 50_000_000
_DIGITS: Final = 10_000

FUNCTIONS: Final[dict[str, Callable[..., Any]]] = {
    "abs": abs,
    "all": _reading(all),
    "any": _reading(any),
    "bin": bin,
    "bool": bool,
    "chr": chr,
    "dict": _in_order(dict),
    "divmod": _reading(divmod),
    "enumerate": _in_order(enumerate),
    "float": _reading(float),
    "frozenset": _reading(frozenset),
    "hex": hex,
    "int": _int,
    "len": len,
    "list": _in_order(list),
    "max": _ordered(max),
    "min": _ordered(min),
    "oct": oct,
    "ord": ord,
    "pow": _pow,
    "range": _range,
    "repr": repr_of,
    "reversed": _reading(reversed),
    "round": _round,
    "set": _reading(set),
    "sorted": _ordered(sorted),
    "str": lambda value="": text_of(value),
    "sum": _sum,
    "tuple": _in_order(tuple),
    "zip": _zip,
}
RATES.update({len: QUICK, bool: QUICK, abs: QUICK})
# What these return is read once: they stand where they are read, never in a variable.
LAZY: Final = frozenset({"enumerate", "reversed", "zip", "map", "filter", "finditer"})
# These look at the whole of a nested value; the others at the first level only.
DEEP: Final = frozenset({"str", "repr", "sorted", "sum", "max", "min", "all", "any", "dumps"})

_MATH: Final = (
    "acos asin atan atan2 ceil copysign cos degrees dist exp fabs floor fmod fsum gcd hypot isclose"
    " isfinite isinf isnan isqrt log log10 log1p log2 radians remainder sin sqrt tan tanh"
    " trunc"
)


def _factorial(n: Any) -> int:
    if isinstance(n, int) and n > 3_000:  # noqa: PLR2004 - some 30,000 bits
        raise too_large("the argument of factorial", 3_000)
    Meter.spent += n >> 3 if isinstance(n, int) and n > 0 else 0
    return math.factorial(n)


def _comb(n: int, k: int) -> int:
    if isinstance(n, int) and n > BITS:
        raise too_large("the argument of comb", BITS)
    Meter.spent += n >> 3 if isinstance(n, int) and n > 0 else 0
    return math.comb(n, k)


def _dumps(
    value: Any,
    *,
    indent: int | None = None,
    sort_keys: bool = False,
    ensure_ascii: bool = True,
) -> str:
    if indent is not None and not 0 <= indent <= 16:  # noqa: PLR2004 - more is no indentation
        raise too_large("an indentation", 16)
    weigh(value)
    return json.dumps(value, indent=indent, sort_keys=sort_keys, ensure_ascii=ensure_ascii)


def _loads(text: Any) -> Any:
    if type(text) is not str:
        msg = f"the JSON object must be str, bytes or bytearray, not {type(text).__name__}"
        raise TypeError(msg)
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(str(error)) from None


RATES[_loads] = FRESH

# Of `statistics`, what takes a time in proportion to its values.
_STATISTICS: Final = (
    "fmean", "harmonic_mean", "mean", "median", "median_high", "median_low", "mode", "pstdev",
    "pvariance", "stdev", "variance",
)  # fmt: skip


def _statistic(name: str) -> Callable[..., Any]:
    def call(values: Any) -> Any:
        import statistics  # only where a program asks for it: it is slow to import

        items = list(in_order(whole(values)))
        Meter.spent += len(items)
        return getattr(statistics, name)(items)

    return call


MODULES: Final[dict[str, dict[str, Any]]] = {
    "math": {
        **{name: _reading(getattr(math, name)) for name in _MATH.split()},
        "pi": math.pi,
        "e": math.e,
        "inf": math.inf,
        "nan": math.nan,
        "tau": math.tau,
        "factorial": _factorial,
        "comb": _comb,
        "lcm": _lcm,
        "prod": _prod,
    },
    "json": {"dumps": _dumps, "loads": _loads},
    "re": PATTERNS,
    "statistics": {name: _statistic(name) for name in _STATISTICS},
    "datetime": CLASSES,
    "itertools": ITERTOOLS,
    "functools": FUNCTOOLS,
}
# Methods, and parts that are read without a call, that some value of a program has.
METHOD_NAMES: Final = PURE_NAMES | METHODS | DATES | PURE[Match] | {"from_iterable"}
PART_NAMES: Final = PARTS


def member(module: str, name: str) -> Any:
    """Return what a module has under a name, as a value of a program."""
    value = MODULES[module][name]
    if isinstance(value, Builtin | type) or not callable(value):
        return value
    return Builtin(name, value)
