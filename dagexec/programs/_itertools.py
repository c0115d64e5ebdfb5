"""`itertools` and `functools` of programs: Python's own, bounded before they begin.

What `itertools` gives is read once, where it stands, as `zip` is. How much that comes to is known
before: what would be too much is not begun.
"""

# A value of a program is of any type: what the checker calls unknown here is meant.
# pyright: reportUnknownArgumentType=false, reportUnknownLambdaType=false
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, final

from dagexec.programs._machine import Calling, Partial, is_callable
from dagexec.programs._operators import BINARY
from dagexec.programs._sets import in_order
from dagexec.programs._values import (
    CLASS_METHODS,
    MOST,
    USUAL,
    Builtin,
    Meter,
    fits,
    settled,
    too_large,
    whole,
)

if TYPE_CHECKING:
    from dagexec.programs._machine import Machine


def _items(value: Any) -> Any:
    """Return what is iterated over, with a length."""
    iter(value)  # raises what Python raises
    return settled(whole(in_order(value)))


def _counted(rows: int, width: int) -> None:
    """Refuse rows that are too many, or too wide; count what making them takes."""
    fits(max(rows, 1) * max(width, 1), "the rows")
    Meter.spent += rows * max(width, 1) >> USUAL.items


def _times(factors: Any) -> int:
    """Multiply, as far as a program's values go."""
    found = 1
    for each in factors:
        found *= each
        if found > MOST:
            raise too_large("the rows", MOST)
    return found


def _chain(*args: Any) -> Any:
    # What is no list raises when it is come to.
    items = [_items(each) if hasattr(each, "__iter__") else each for each in args]
    fits(sum(len(each) for each in items if hasattr(each, "__len__")), "the chain")
    return itertools.chain(*items)


@final
class Chain:
    """`itertools.chain`, which is called, and has one method."""

    @staticmethod
    def from_iterable(parts: Any, /) -> Any:
        """Chain what is in something."""
        return _chain(*_items(parts))


def _islice(values: Any, *args: Any) -> Any:
    itertools.islice((), *args)  # raises what Python raises
    if type(values) is range:
        return iter(whole(values[slice(*args)]))
    return itertools.islice(_items(values), *args)


def _chosen(size: Any) -> None:
    """Refuse a size of rows as Python does, and one that is too large."""
    itertools.combinations((), min(size, 1) if isinstance(size, int) else size)
    fits(size, "a row")


def _product(*args: Any, repeat: Any = 1) -> Any:
    itertools.product(repeat=min(repeat, 1) if isinstance(repeat, int) else repeat)
    items = [tuple(_items(each)) for each in args if repeat]
    width = len(items) * repeat
    fits(width, "a row")
    sizes = [len(each) for each in items] if width else []
    factors = (size for _ in range(repeat if sizes else 0) for size in sizes)
    rows = 0 if 0 in sizes else _times(factors)
    _counted(rows, width)
    return itertools.product(*items, repeat=repeat if items else min(repeat, 1))


def _combinations(values: Any, r: Any) -> Any:
    items = tuple(_items(values))
    _chosen(r)
    _counted(_choices(len(items), r), r)
    return itertools.combinations(items, r)


def _with_replacement(values: Any, r: Any) -> Any:
    items = tuple(_items(values))
    _chosen(r)
    _counted(_choices(len(items) + r - 1, r) if items else int(not r), r)
    return itertools.combinations_with_replacement(items, r)


def _choices(n: int, r: int) -> int:
    """Return how many ways there are to choose, as far as a program's values go."""
    found = 1 if r <= n else 0
    for each in range(min(r, n - r) if found else 0):
        found = found * (n - each) // (each + 1)
        if found > MOST:
            raise too_large("the rows", MOST)
    return found


def _permutations(values: Any, r: Any = None) -> Any:
    items = tuple(_items(values))
    width = len(items) if r is None else r
    _chosen(width)
    rows = _times(range(len(items) - width + 1, len(items) + 1)) if width <= len(items) else 0
    _counted(rows, width if rows else 1)
    return itertools.permutations(items, r)


def _pairwise(values: Any, /) -> Any:
    return itertools.pairwise(_items(values))


def _zip_longest(*args: Any, **named: Any) -> Any:
    items = [_items(each) for each in args]
    _counted(max(map(len, items), default=0), len(items))
    return itertools.zip_longest(*items, **named)


async def _accumulate(machine: Machine, args: list[Any], named: dict[str, Any]) -> Any:
    def read(iterable: Any, func: Any = None, *, initial: Any = None) -> tuple[Any, Any, Any]:
        return iterable, func, initial

    pipe = machine.pipe
    source, function, total = read(*args, **named)
    items = list(_items(await pipe.force(source)))
    function = await pipe.force(function)
    if total is None and items:
        total = items.pop(0)
    elif total is None:
        return pipe.copying([])
    found = [total]
    for each in items:
        pipe.steps += 1
        if function is None:
            total = pipe.operate(_ADD, (total, each))
        else:
            total = await machine.call(function, [total, each], {})
        found.append(total)
    return pipe.copying(found)


async def _reduce(machine: Machine, args: list[Any], named: dict[str, Any]) -> Any:
    if named:
        msg = "reduce() takes no keyword arguments"
        raise TypeError(msg)
    if not 2 <= len(args) <= 3:  # noqa: PLR2004 - function, values, what to begin with
        bound = "least 2 arguments" if len(args) < 2 else "most 3 arguments"  # noqa: PLR2004
        msg = f"reduce expected at {bound}, got {len(args)}"
        raise TypeError(msg)
    try:
        items = list(_items(await machine.pipe.force(args[1])))
    except TypeError:
        msg = "reduce() arg 2 must support iteration"
        raise TypeError(msg) from None
    begun = [*args[2:], *items]
    if not begun:
        msg = "reduce() of empty iterable with no initial value"
        raise TypeError(msg)
    total = begun[0]
    for each in begun[1:]:
        total = await machine.call(args[0], [total, each], {})
    return total


async def _partial(machine: Machine, args: list[Any], named: dict[str, Any]) -> Any:
    function = await machine.pipe.force(args[0]) if args else None
    if not is_callable(function):
        msg = "the first argument must be callable"
        raise TypeError(msg if args else "type 'partial' takes at least one argument")
    given = tuple(args[1:])
    if type(function) is Partial:  # one in the place of one in another
        given = (*function.args, *given)
        function, named = function.function, {**function.named, **named}
    if len(given) + len(named) > _ARGUMENTS:
        raise too_large("the arguments of partial", _ARGUMENTS)
    return Partial(function, given, named)


# Arguments that a partial function holds: each that is made of one copies them.
_ARGUMENTS: Final = 1_000
_ADD: Final = BINARY["Add"]
_CHAIN: Final = Builtin("chain", _chain, Chain)
CLASS_METHODS[Chain] = frozenset({"from_iterable"})
ITERTOOLS: Final[dict[str, Callable[..., Any] | Builtin | Calling]] = {
    "accumulate": Calling("accumulate", _accumulate),
    "chain": _CHAIN,
    "combinations": _combinations,
    "combinations_with_replacement": _with_replacement,
    "islice": _islice,
    "pairwise": _pairwise,
    "permutations": _permutations,
    "product": _product,
    "zip_longest": _zip_longest,
}
FUNCTOOLS: Final = {"partial": Calling("partial", _partial), "reduce": Calling("reduce", _reduce)}
