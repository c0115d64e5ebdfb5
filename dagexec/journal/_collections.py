"""The containers of `collections` in a journal: tools return them as often as dicts and lists."""

from __future__ import annotations

from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable
from typing import Any, Final


def _pairs(value: Any) -> list[list[Any]]:
    return [[key, item] for key, item in value.items()]


def _counter(pairs: Any) -> Counter[Any]:
    made: Counter[Any] = Counter()
    made.update(dict(pairs))
    return made


def _factory(value: defaultdict[Any, Any]) -> str | None:
    """Return the name of what makes missing items; of any but these nobody could be sure."""
    return next((name for name, each in _FACTORIES.items() if each is value.default_factory), None)


_FACTORIES: Final[dict[str, Callable[[], Any]]] = {
    each.__name__: each for each in (list, dict, set, tuple, int, float, str, bool)
}

# By class: the name in the file, how it is written and how it is read.
COLLECTIONS: Final[dict[type, tuple[str, Callable[[Any], Any], Callable[[Any], Any]]]] = {
    OrderedDict: ("collections.OrderedDict", _pairs, OrderedDict),
    Counter: ("collections.Counter", _pairs, _counter),
    defaultdict: (
        "collections.defaultdict",
        lambda value: [_factory(value), _pairs(value)],
        lambda body: defaultdict(_FACTORIES.get(body[0]), body[1]),
    ),
    deque: (
        "collections.deque",
        lambda value: [value.maxlen, list(value)],
        lambda body: deque(body[1], body[0]),
    ),
    range: (
        "range",
        lambda value: [value.start, value.stop, value.step],
        lambda body: range(*body),
    ),
}
