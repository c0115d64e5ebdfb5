"""The operators of programs: Python's own, with limits before those that make large values."""

# A value of a program is of any type: what the checker calls unknown here is meant.
# pyright: reportUnknownArgumentType=false, reportUnknownLambdaType=false
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false

from __future__ import annotations

import operator
import re
from collections.abc import Callable
from typing import Any, Final

from dagexec.programs._sets import in_order, shown
from dagexec.programs._values import (
    BITS,
    CONTAINERS,
    COPIES,
    QUICK,
    RATES,
    USUAL,
    VIEWS,
    Meter,
    compared,
    fits,
    key_of,
    too_large,
    weigh,
    whole,
)

_DIGITS: Final = re.compile(r"\d+", re.ASCII)
_KEYS: Final[type] = VIEWS[0]
# From this size on a text or a list is charged for, where it is searched.
_LARGE: Final = 1_000


def add(a: Any, b: Any) -> Any:
    if type(a) in (str, list, tuple) and type(b) is type(a):
        fits(len(a) + len(b), "the sum")
    return a + b


def multiply(a: Any, b: Any) -> Any:
    for one, other in ((a, b), (b, a)):
        if type(one) in (str, list, tuple) and isinstance(other, int):
            fits(len(one) * max(int(other), 0), "the product")
    if isinstance(a, int) and isinstance(b, int) and a.bit_length() + b.bit_length() > BITS:
        raise too_large("the product, in bits,", BITS)
    return a * b


def power(a: Any, b: Any) -> Any:
    if isinstance(a, int) and isinstance(b, int) and a.bit_length() * abs(b) > BITS:
        raise too_large("the power, in bits,", BITS)
    result = a**b
    if isinstance(result, complex):
        msg = "a negative number has no such power here: there are no complex numbers"
        raise ValueError(msg)  # noqa: TRY004 - Python's own kinds of errors
    return result


def _shift(a: Any, b: Any) -> Any:
    if isinstance(a, int) and isinstance(b, int) and a.bit_length() + max(b, 0) > BITS:
        raise too_large("the shifted number, in bits,", BITS)
    return a << b


def _modulo(a: Any, b: Any) -> Any:
    if type(a) is str:
        found = _DIGITS.findall(a)
        if any(len(each) > 4 for each in found) or "*" in a:  # noqa: PLR2004 - up to 9,999
            raise too_large("a width of %", 9_999)
        size = weigh(b)
        if type(b) is dict:  # a value may be written as often as it is named
            size *= max(a.count("%("), 1)
        fits(len(a) + sum(map(int, found)) + size, "the text")
        b = shown(b)
    return a % b


def _either(a: Any, b: Any) -> Any:
    if isinstance(a, type) or isinstance(b, type):
        msg = "kinds of errors are not joined by | here; write a tuple of them"
        raise TypeError(msg)
    return a | b


def _equal(a: Any, b: Any) -> Any:
    compared(a, b)
    return a == b


def _unequal(a: Any, b: Any) -> Any:
    return not _equal(a, b)


def _contains(a: Any, b: Any) -> Any:
    if type(b) is range and not isinstance(a, int):
        whole(b)
    if type(a) in CONTAINERS:
        if type(b) in (list, tuple):
            compared(a, b)
        elif type(b) in VIEWS:
            compared(a, *b) if type(b) is not _KEYS else key_of(a)
        key_of(a)
    if type(b) in (list, tuple, str, range):
        Meter.spent += len(b) >> USUAL.items if len(b) > _LARGE else 0
    return a in b


def _lacks(a: Any, b: Any) -> Any:
    return not _contains(a, b)


def _same(a: Any, b: Any) -> Any:
    return a is b


def _other(a: Any, b: Any) -> Any:
    return a is not b


def _extended(a: Any, b: Any) -> Any:
    a += in_order(b)
    return a


def _ordering(function: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    """Let a comparison say what it takes."""

    def apply(a: Any, b: Any) -> Any:
        if type(a) in CONTAINERS and type(b) in CONTAINERS:
            compared(a, b)
        return function(a, b)

    return apply


BINARY: Final[dict[str, Callable[[Any, Any], Any]]] = {
    "Add": add,
    "Sub": operator.sub,
    "Mult": multiply,
    "Div": operator.truediv,
    "FloorDiv": operator.floordiv,
    "Mod": _modulo,
    "Pow": power,
    "LShift": _shift,
    "RShift": operator.rshift,
    "BitOr": _either,
    "BitXor": operator.xor,
    "BitAnd": operator.and_,
}
_UNSUPPORTED: Final = re.compile(r"(unsupported operand type\(s\) for \S+?)( or pow\(\))?:")


def _augmented(function: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    """Let an operator's error name its augmented form, `%=` for `%`."""

    def apply(a: Any, b: Any) -> Any:
        try:
            return function(a, b)
        except TypeError as error:
            text = str(error)
            told = _UNSUPPORTED.sub(r"\1=:", text, count=1)
            if told == text:
                raise
        raise TypeError(told)

    return apply


AUGMENTED: Final = {kind: _augmented(function) for kind, function in BINARY.items()}
RATES.update(dict.fromkeys((add, multiply, AUGMENTED["Add"], AUGMENTED["Mult"]), COPIES))
RATES.update(dict.fromkeys((_contains, _lacks, _same, _other), QUICK))
# Of numbers, which need no look at how large they get.
QUICK_NUMBERS: Final = {"Add": operator.add}
# `x += y` where x is a list or a set changes it in place.
IN_PLACE: Final[dict[str, Callable[[Any, Any], Any]]] = {
    "Add": _extended,
    "Mult": operator.imul,
    "BitOr": operator.ior,
    "BitAnd": operator.iand,
    "BitXor": operator.ixor,
    "Sub": operator.isub,
}
UNARY: Final[dict[str, Callable[[Any], Any]]] = {
    "UAdd": operator.pos,
    "USub": operator.neg,
    "Invert": operator.invert,
    "Not": operator.not_,
}
# A comparison takes its left side first; `a in b` asks b.
COMPARE: Final[dict[str, Callable[[Any, Any], Any]]] = {
    "Eq": _equal,
    "NotEq": _unequal,
    "Lt": _ordering(operator.lt),
    "LtE": _ordering(operator.le),
    "Gt": _ordering(operator.gt),
    "GtE": _ordering(operator.ge),
    "In": _contains,
    "NotIn": _lacks,
    "Is": _same,
    "IsNot": _other,
}
