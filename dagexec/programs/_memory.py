"""How much memory the values of a program take: of those that are alive, not of all it ever made.

Large values are remembered when they are made. When as much was made as may be, those that nothing
but this memory holds are forgotten, and the rest is counted with all that is in it. The next count
comes when as much again was made, so the time that counting takes grows as what is made does.

CPython counts the references to an object, which is asked here. Lists that hold themselves stay
until the program ends.
"""

# A value of a program is of any type: what the checker calls unknown here is meant.
# pyright: reportUnknownArgumentType=false, reportUnknownMemberType=false
# pyright: reportUnknownVariableType=false, reportUnknownLambdaType=false

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import chain
from sys import getrefcount, getsizeof
from typing import Any, Final, final

from dagexec.programs._errors import LimitReached
from dagexec.programs._promise import Promise
from dagexec.programs._scopes import Frame

# Bytes that are alive at most.
MOST_BYTES: Final = 200_000_000
# Bytes that are made at least between two counts.
_ROOM: Final = 16_000_000
# From so many bytes on a value is remembered by itself.
_LARGE: Final = 512
# Bytes that one step of a program makes, where nothing is known of it.
_STEP: Final = 256
# Items of a list that are looked at one by one.
_FEW: Final = 4
# Items of a list that are counted together where they are alike.
_MANY: Final = 1_000
# Above so many bytes an item of a list is likely to be in it more than once.
_SHARED: Final = 200

_SMALL: Final = frozenset({int, float, bool, type(None)})
_FLAT: Final = _SMALL | {str}
# Of values that are no containers, what they hold. Filled by the modules that define them.
HOLDERS: Final[dict[type, Callable[[Any], Iterable[Any]]]] = {
    Frame: lambda frame: (frame.vars, frame.parent),
    Promise: lambda entry: (entry.value, entry.error, entry.inputs, entry.args),
}


@final
class Memory:
    """Counts what is alive of the values of one program.

    `roots` returns what the program holds beside the values that are remembered here.
    """

    def __init__(self, most: int, roots: Callable[[], Iterable[Any]]) -> None:
        """Begin empty; `most` is in bytes."""
        self._most = most
        self._roots = roots
        self._large: dict[int, Any] = {}
        # How large they were when they were last seen.
        self._sizes: dict[int, int] = {}
        # Bytes that may be made until the next count: of values that are remembered, which stay
        # as long; and of all, of which the small ones are only guessed at.
        self._room = min(_ROOM, most)
        self._unseen = most
        # Bytes of what stays as long as the run does: arguments of calls.
        self._kept = 0
        self._sent: dict[int, Any] = {}

    def made(self, value: Any, size: int = 0) -> None:
        """Remember a value that was made, or has grown, if it is large; `size` is with its items.

        Raises LimitReached when all that is alive is too much.
        """
        own = getsizeof(value)
        if own < _LARGE:
            self._make(size or own)
            return
        key = id(value)
        # Of one that has grown, what came is new.
        known = self._sizes.get(key, 0) if key in self._large else 0
        self._large[key] = value
        self._sizes[key] = own
        self._make(max(size or own - known, 0))

    def made_all(self, value: Any) -> None:
        """Remember what is large in a value, all of which was made."""
        stack, seen, size = [value], set[int](), 0
        while stack:
            item = stack.pop()
            own = getsizeof(item)
            if own >= _LARGE:
                self._large[id(item)] = item
            size += own
            if type(item) in (list, tuple, dict) and id(item) not in seen:
                seen.add(id(item))
                items = item.values() if type(item) is dict else item
                within = _items(items, stack, seen)
                size += within
                if within >= _LARGE:
                    self._large.update(
                        (id(each), each)
                        for each in items
                        if type(each) is str and len(each) >= _LARGE
                    )
        self._make(size)

    def _make(self, size: int) -> None:
        self._room -= size
        self._unseen -= size
        if self._room < 0 or self._unseen < 0:
            self.count()

    def stepped(self, steps: int) -> None:
        """Take it that so many steps made something."""
        self._unseen -= steps * _STEP
        if self._unseen < 0:
            self.count()

    def send(self, args: dict[str, Any]) -> None:
        """Take the arguments of a call, which stay in the report of the run, as JSON's kinds."""
        for value in args.values():
            kind = type(value)
            if kind in _FLAT and (kind is not str or len(value) < _LARGE):
                continue
            size = _size([value], set(self._sent), self._most)
            for text in (value,) if kind is str else ():
                self._sent[id(text)] = text
            self._kept += size if kind is str else 2 * size
            self._room -= size
            self._unseen -= size
        if self._room < 0 or self._unseen < 0:
            self.count()

    def count(self) -> None:
        """Forget what is not alive, and count the rest."""
        large = self._alive()
        total = self._kept + _size([*self._roots(), *large], set(), self._most)
        if total > self._most:
            raise LimitReached(
                f"the values of a program, and the arguments of its calls, may take"
                f" {self._most:,} bytes; keep only what is needed of large ones, and del the rest"
            )
        self._large = {id(each): each for each in large}
        self._sizes = {key: size for key, size in self._sizes.items() if key in self._large}
        # Near the limit, too, as much has to be made as pays for a count.
        self._unseen = max(self._most - total, total // 4, _ROOM)
        self._room = max(min(total, self._unseen), _ROOM)

    def _alive(self) -> list[Any]:
        values = list(self._large.values())
        self._large.clear()
        # What is held by one that is forgotten is found the next time round.
        while True:
            before = len(values)
            values = _held(values, _ALONE)
            if len(values) == before:
                return values


def _held(values: list[Any], alone: int) -> list[Any]:
    """Empty a list; return in reverse what somebody else holds."""
    held: list[Any] = []
    while values:
        value = values.pop()
        if getrefcount(value) > alone:
            held.append(value)
    return held


# The references to a value that `_held` has itself: that differs among Python's versions.
_ALONE: Final = next(number for number in range(1, 9) if not _held([[]], number))


def _size(stack: list[Any], seen: set[int], most: int) -> int:
    """Return the bytes of values and of all that they hold, each once; stop above `most`."""
    total = 0
    while stack and total <= most:
        value = stack.pop()
        kind = type(value)
        if id(value) in seen:
            continue
        if kind not in _SMALL:
            seen.add(id(value))
        total += getsizeof(value)
        if kind is list and len(value) <= _FEW:  # of these there may be millions
            for item in value:
                if type(item) in _SMALL:
                    total += getsizeof(item)
                else:
                    stack.append(item)
        else:
            total += _inside(value, kind, stack, seen)
    return total


def _inside(value: Any, kind: type, stack: list[Any], seen: set[int]) -> int:
    """Return the bytes of what a value holds, but for what is put on the stack."""
    if kind is dict:
        return _items(value.keys(), stack, seen) + _items(value.values(), stack, seen)
    if kind in (list, tuple, set, frozenset):
        return _items(value, stack, seen)
    if isinstance(value, BaseException):
        stack.extend(value.args)
    elif kind in HOLDERS:
        stack.extend(HOLDERS[kind](value))
    return 0


def _rows(items: Any) -> int:
    """Return the bytes of many small rows of plain items, 0 if they are none, or shared."""
    kinds = set(map(type, items))
    if len(kinds) > 1 or not kinds <= {tuple, list, dict}:
        return 0
    values = map(dict.values, items) if kinds == {dict} else items
    inner = list(chain.from_iterable(values))
    if not _FLAT.issuperset(map(type, inner)) or 2 * len(set(map(id, items))) < len(items):
        return 0
    own, size = sum(map(getsizeof, items)), sum(map(getsizeof, inner))
    return own + size if size <= _SHARED * len(inner) else 0


def _items(items: Any, stack: list[Any], seen: set[int]) -> int:
    """Return the bytes of plain items; put those that hold others on the stack."""
    if _FLAT.issuperset(map(type, items)):
        size = sum(map(getsizeof, items))
        if size <= _SHARED * len(items):
            return size
    size = _rows(items) if len(items) > _MANY else 0
    if size:
        return size
    for item in items:
        own = getsizeof(item)
        if type(item) not in _FLAT:
            stack.append(item)
        elif own < _SHARED:
            size += own
        elif id(item) not in seen:
            seen.add(id(item))
            size += own
    return size
