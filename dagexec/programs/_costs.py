"""What the operations of a program take: steps, and memory.

An operation on a large value counts as many steps, about in proportion to its time; see `Rate`.
"""

# A value of a program is of any type: what the checker calls unknown here is meant.
# pyright: reportUnknownArgumentType=false, reportUnknownMemberType=false
# pyright: reportUnknownVariableType=false

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar

from dagexec.programs._errors import LimitReached
from dagexec.programs._memory import Memory
from dagexec.programs._values import CONTAINERS, COPIES, VIEWS, Meter, rate_of

# From this size on a value is charged for, each time that it is read; from this one on, remembered.
_LARGE: Final = 1_000
_SOME: Final = 50
_SIZED: Final = (str, *CONTAINERS)
_COPIED: Final = (*_SIZED, *VIEWS)
# Integers from here on are charged for as texts are.
_NUMBER: Final = 1 << 2_000
_V = TypeVar("_V")
_TOLD: Final = (
    "; most of them copied large values: to add to a list write xs.append(x) in the place of"
    " xs = xs + [x], and to put a text together, ''.join(parts)"
)


class Costs:
    """Counts what one program takes."""

    def __init__(self, max_steps: int, memory: Memory) -> None:
        """Begin with nothing."""
        # What the program has done, in statements; an operation on a large value counts as many.
        self.steps = 0
        self.max_steps = max_steps
        # Those of the steps that large values took.
        self._copied = 0
        self.memory = memory

    def computing(self, function: Callable[..., Any], values: Sequence[Any]) -> Any:
        """Return `function(*values)`, and count what that takes."""
        result = function(*values)
        if Meter.spent:
            self.charge(Meter.spent)
            Meter.spent = 0
        for each in values:
            if type(each) in _SIZED and len(each) > _LARGE:
                rate = rate_of(function)
                self.charge(len(each) >> (rate.text if type(each) is str else rate.items))
        if type(result) in CONTAINERS and rate_of(function).fresh:
            self.memory.made_all(result)
        return self.copying(result)

    def copying(self, value: _V) -> _V:
        """Return a value that was made, or is about to be copied, and count how large it is."""
        made: Any = value
        kind = type(made)
        if kind in _COPIED:
            size = len(made)
            if size > _SOME:
                if size > _LARGE:
                    self.charge(size >> (COPIES.text if kind is str else COPIES.items))
                self.memory.made(value)
        elif kind is int and not -_NUMBER < made < _NUMBER:
            self.charge(1)
            self.memory.made(value)
        return value

    def grown(self, value: Any) -> None:
        """Count a container that has grown, item by item."""
        self.memory.made(value)

    def charge(self, steps: int) -> None:
        """Count what an operation on a large value takes; raise LimitReached at the end."""
        self.steps += steps
        self._copied += steps
        if self.steps > self.max_steps:
            self.too_many_steps()

    def too_many_steps(self) -> None:
        """Raise LimitReached, and say what took the steps."""
        msg = f"a program may take {self.max_steps:,} steps"
        copies = 2 * self._copied > self.steps
        raise LimitReached(msg + (_TOLD if copies else "; this one does not end"))
