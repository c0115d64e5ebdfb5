"""The values of programs: which types there are, how large they get, and their methods.

Each operation is Python's own on Python's own types, so its results and its errors are Python's.
What is added is a limit before the operation, wherever a few characters could ask for gigabytes
or for minutes. No attribute of an object is ever read by a name that a program chose: a method is
found in the tables below, by the exact type of the value.
"""

# A value of a program is of any type: what the checker calls unknown here is meant.
# pyright: reportUnknownArgumentType=false, reportUnknownLambdaType=false
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, TypeVar, final

from dagexec.programs._errors import LimitReached
from dagexec.programs._sets import in_order, shown, taken_from

_F = TypeVar("_F", bound=Callable[..., Any])
# Characters of a text, items of a container, and values in a nested one.
MOST: Final = 1_000_000
# Values and characters of a nested value that is written out.
WRITTEN: Final = 200_000
# Bits of an integer: some 9,900 digits. Python writes out 4,300 at most.
BITS: Final = 32_768

_TEXT: Final = (
    "capitalize casefold center count encode endswith expandtabs find index isalnum isalpha isascii"
    " isdecimal isdigit isidentifier islower isnumeric isprintable isspace istitle isupper join"
    " ljust lower lstrip partition removeprefix removesuffix replace rfind rindex rjust rpartition"
    " rsplit rstrip split splitlines startswith strip swapcase title upper zfill"
)
_NUMBER: Final = "conjugate is_integer"
PURE: Final[dict[type, frozenset[str]]] = {
    str: frozenset(_TEXT.split()) - {"encode"},
    int: frozenset({"bit_length", "bit_count", *_NUMBER.split()}),
    bool: frozenset({"bit_length", "bit_count", *_NUMBER.split()}),
    float: frozenset({"as_integer_ratio", *_NUMBER.split()}),
    list: frozenset({"copy", "count", "index"}),
    tuple: frozenset({"count", "index"}),
    dict: frozenset({"copy", "get", "items", "keys", "values"}),
    set: frozenset(
        [
            "copy",
            "difference",
            "intersection",
            "isdisjoint",
            "issubset",
            "issuperset",
            "symmetric_difference",
            "union",
        ]
    ),
    frozenset: frozenset(
        [
            "copy",
            "difference",
            "intersection",
            "isdisjoint",
            "issubset",
            "issuperset",
            "symmetric_difference",
            "union",
        ]
    ),
    range: frozenset({"count", "index"}),
}
CHANGING: Final[dict[type, frozenset[str]]] = {
    list: frozenset(["append", "clear", "extend", "insert", "pop", "remove", "reverse", "sort"]),
    dict: frozenset(["clear", "pop", "popitem", "setdefault", "update"]),
    set: frozenset(
        [
            "add",
            "clear",
            "difference_update",
            "discard",
            "intersection_update",
            "pop",
            "remove",
            "symmetric_difference_update",
            "update",
        ]
    ),
}
# Of values that have them, the parts that are read without a call; of classes, what is called or
# read of the class itself; and what checks the format of a value. Filled by `_dates`, `_patterns`.
ATTRIBUTES: Final[dict[type, frozenset[str]]] = {}
CLASS_METHODS: Final[dict[type, frozenset[str]]] = {}
CLASS_ATTRIBUTES: Final[dict[type, frozenset[str]]] = {}
FORMATS: Final[dict[type, Callable[[str], None]]] = {}
PURE_NAMES: Final[frozenset[str]] = frozenset().union(*PURE.values())
CHANGING_NAMES: Final[frozenset[str]] = frozenset().union(*CHANGING.values())
CONTAINERS: Final = (list, dict, set, tuple, frozenset)
_CONTAINERS: Final[frozenset[type]] = frozenset(CONTAINERS)
MUTABLE: Final = (list, dict, set)
_HASHED: Final = (dict, set, frozenset)
VIEWS: Final[tuple[type, ...]] = (type({}.keys()), type({}.values()), type({}.items()))


# Methods that read a set in its order.
_READING: Final[dict[type, tuple[str, ...]]] = {
    str: ("join",),
    list: ("extend",),
    dict: ("update",),
}


@final
@dataclass(frozen=True, slots=True)
class Builtin:
    """A function or a class of Python that programs may call, as a value."""

    name: str
    call: Callable[..., Any]
    # The type that it is, for `isinstance`.
    kind: type | None = None

    def __repr__(self) -> str:
        """As Python writes it."""
        return f"<class {self.name!r}>" if self.kind else f"<built-in function {self.name}>"


@final
class Meter:
    """Counts what an operation took beyond what its values tell, in steps of a program.

    The program that takes its turn is charged for it.
    """

    spent = 0


class Rate(NamedTuple):
    """What an operation takes: one step for 2 ** `text` characters, 2 ** `items` items."""

    text: int
    items: int
    # Whether it makes what is in its result.
    fresh: bool = False


USUAL: Final = Rate(10, 6)
COPIES: Final = Rate(13, 8)
# Takes no longer for large values.
QUICK: Final = Rate(64, 64)
FRESH: Final = Rate(10, 6, fresh=True)
# Of functions that are not usual; some have theirs as an attribute.
RATES: Final[dict[Any, Rate]] = {}
METHOD_RATES: Final[dict[str, Rate]] = {
    **dict.fromkeys(
        ["get", "keys", "values", "items", "startswith", "endswith", "bit_length"], QUICK
    ),
    **dict.fromkeys(["copy", "union"], COPIES),
    **dict.fromkeys(
        [
            "split",
            "rsplit",
            "splitlines",
            "partition",
            "rpartition",
            "findall",
            "finditer",
            "group",
            "groups",
            "groupdict",
        ],
        FRESH,
    ),
}


def rate_of(function: Callable[..., Any]) -> Rate:
    """Return what a function takes for large values."""
    return getattr(function, "rate", None) or RATES.get(function, USUAL)


def rated(function: _F, rate: Rate) -> _F:
    """Give a function what it takes."""
    function.rate = rate  # type: ignore[attr-defined]
    return function


def too_large(what: str, limit: int) -> LimitReached:
    """Return the error for a value that is not made, because it would be too large."""
    return LimitReached(f"{what} would be larger than {limit:,}; a program's values end there")


def fits(size: int, what: str) -> None:
    """Raise LimitReached for more characters or items than a value may have."""
    if size > MOST:
        raise too_large(what, MOST)


def weigh(value: Any, limit: int = WRITTEN, what: str = "a value written out") -> int:
    """Return how many values and characters writing a nested value out takes.

    What is shared counts each time; a container inside of itself is written as three dots. Raises
    LimitReached above `limit`.
    """
    if type(value) not in CONTAINERS:
        return len(value) if type(value) is str else 1
    # Of containers that were come to, the weight; 0 while what is in them is being counted.
    known: dict[int, int] = {}
    stack: list[Any] = [value]
    while stack:
        item = stack[-1]
        if id(item) not in known:
            known[id(item)] = 0
            inner = _inner(item)
            if any(known.get(id(each)) == 0 for each in inner):
                return _walked(value, limit, what)
            stack += inner
            if inner:
                continue
        stack.pop()
        if not known[id(item)]:
            known[id(item)] = _weight(item, known)
            if known[id(item)] > limit:
                raise too_large(what, limit)
    return known[id(value)]


def _inner(value: Any) -> list[Any]:
    if is_flat(value):
        return []
    return [each for each in elements(value) if type(each) in CONTAINERS]


def _weight(value: Any, known: dict[int, int]) -> int:
    """Return the weight of a container, all of whose containers are known."""
    total = 1
    if is_flat(value):
        items = elements(value)
        kinds = set(map(type, items))
        if str not in kinds:
            return total + len(items)
        if len(kinds) == 1:
            return total + sum(map(len, items)) + len(items)
    for each in elements(value):
        kind = type(each)
        total += known[id(each)] if kind in CONTAINERS else len(each) if kind is str else 1
    return total


def is_flat(value: Any) -> bool:
    """Whether no container is in a container."""
    return _CONTAINERS.isdisjoint(map(type, elements(value)))


def _walked(value: Any, limit: int, what: str) -> int:
    """Return what `weigh` does, of a value with a container inside of itself."""
    total = 0
    above: set[int] = set()
    stack: list[Any] = [value]
    while stack:
        item = stack.pop()
        if type(item) is _Leave:
            above.discard(item.container)
            continue
        kind = type(item)
        total += len(item) if kind is str else 1
        if total > limit or len(stack) > limit:
            raise too_large(what, limit)
        if kind in CONTAINERS and id(item) not in above:
            above.add(id(item))
            stack.append(_Leave(id(item)))
            stack.extend(elements(item))
    return total


@final
class _Leave:
    """Marks the place in `_walked` at which a container has been counted."""

    __slots__ = ("container",)

    def __init__(self, container: int) -> None:
        self.container = container


def compared(*values: Any) -> None:
    """Count what comparing nested values takes; raise LimitReached where it would not end."""
    for value in values:
        items = list(value) if type(value) in VIEWS else value
        if type(items) in CONTAINERS and not is_flat(items):
            Meter.spent += weigh(items, MOST, "a value that is compared") >> USUAL.items


def ordered(values: Any) -> Any:
    """Return values that are about to be put in order; count what comparing them takes."""
    if not is_flat(values):
        before = Meter.spent
        compared(*values)
        Meter.spent += (Meter.spent - before) * len(values).bit_length()
    return values


def key_of(value: Any) -> Any:
    """Return a value that is about to be a key; raise LimitReached for a hash without end."""
    if type(value) is tuple and not is_flat(value):
        weigh(value, WRITTEN, "a key")
    return value


def keys(values: Any) -> Any:
    """Return values that are about to be keys; see `key_of`."""
    if tuple in map(type, values):
        for each in values:
            key_of(each)
    return values


def elements(value: Any) -> Collection[Any]:
    """Return what iterating over a container's first level gives, keys and values of a dict."""
    return [*value, *value.values()] if type(value) is dict else value


def text_of(value: Any) -> str:
    """Return `str(value)`, of a value that is not too large to be written out."""
    return str(_fitting(value))


def _fitting(value: Any) -> Any:
    """Return a value that is about to be written out; raise LimitReached if it is too large."""
    if type(value) in CONTAINERS or type(value) in VIEWS:
        weigh(list(value) if type(value) in VIEWS else value)
        return shown(value)
    return value


def repr_of(value: Any) -> str:
    """Return `repr(value)`, of a value that is not too large to be written out."""
    return repr(_fitting(value))


def formatted(value: Any, spec: str) -> str:
    """Return `format(value, spec)`; widths end at 9,999."""
    if spec:
        digits = "".join(each if each.isdigit() else " " for each in spec).split()
        if any(len(each) > 4 for each in digits):  # noqa: PLR2004 - up to 9,999
            raise too_large("a width in a format", 9_999)
        if type(value) in FORMATS:
            FORMATS[type(value)](spec)
        return format(value, spec)
    return text_of(value)


def whole(value: Any) -> Any:
    """Return a value that is about to be read to its end; raise LimitReached for a long range."""
    if type(value) is range:
        fits(len(value), "the list")
    return value


def settled(value: Any) -> Any:
    """Return a value that is about to be read to its end; of what is read once, what is in it."""
    return list(value) if hasattr(type(value), "__next__") else value


# -------------------------------------------------------------------------------------- methods


def method(value: Any, name: str, args: tuple[Any, ...], named: dict[str, Any]) -> Any:
    """Call a method of a value; raise AttributeError for one that programs do not have."""
    kind = type(value)
    if type(value) is Builtin and value.kind is not None:
        kind = value = value.kind
        allowed = name in CLASS_METHODS.get(kind, ())
    else:
        allowed = name in PURE.get(kind, ()) or name in CHANGING.get(kind, ())
    if not allowed:
        raise AttributeError(_no_attribute(value, name))
    args = tuple(map(settled, args))
    _guard_keys(kind, args)
    guard = GUARDS.get((kind, name))
    if guard is not None:
        guard(value, args, named)
    if kind is set and name == "pop" and not args and not named:
        return taken_from(value)
    if name in _READING.get(kind, ()):
        args = tuple([in_order(each) for each in args])
    result = getattr(value, name)(*args, **named)
    # A tuple with names is one without: of an object of Python's own only what it holds.
    return tuple(result) if isinstance(result, tuple) and type(result) is not tuple else result


def _guard_keys(kind: type, args: tuple[Any, ...]) -> None:
    if kind in _HASHED:
        for each in args:
            if type(each) in CONTAINERS:
                keys(key_of(each))


def attribute(value: Any, name: str) -> Any:
    """Return a part of a value that may be read; raise AttributeError for any other."""
    if name in ATTRIBUTES.get(type(value), ()):
        return getattr(value, name)
    if type(value) is Builtin and value.kind is not None:
        if name in CLASS_ATTRIBUTES.get(value.kind, ()):
            return getattr(value.kind, name)
        msg = f"type object {value.kind.__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    raise AttributeError(_no_attribute(value, name))


def _no_attribute(value: Any, name: str) -> str:
    kind = type(value).__name__
    text = f"{kind!r} object has no attribute {name!r}"
    if isinstance(value, type):
        text = f"type object {value.__name__!r} has no attribute {name!r}"
    if type(value) is dict and name in value:
        text += f"; write [{name!r}]"
    return text


def _width(_value: Any, args: tuple[Any, ...], named: dict[str, Any]) -> None:
    for each in (*args[:1], *named.values()):
        if isinstance(each, int):
            fits(each, "the text")


def _replace(value: Any, args: tuple[Any, ...], _named: dict[str, Any]) -> None:
    if len(args) >= 2 and type(args[0]) is str and type(args[1]) is str:  # noqa: PLR2004
        fits(len(value) + value.count(args[0]) * len(args[1]), "the text")


def _join(value: Any, args: tuple[Any, ...], _named: dict[str, Any]) -> None:
    if len(args) == 1 and type(args[0]) in (*CONTAINERS, *VIEWS, str):
        texts = [len(each) for each in args[0] if type(each) is str]
        fits(sum(texts) + len(value) * len(args[0]), "the text")


def _sought(value: Any, args: tuple[Any, ...], _named: dict[str, Any]) -> None:
    if args and type(args[0]) in CONTAINERS:
        compared(value, args[0])


def _expand(value: Any, args: tuple[Any, ...], named: dict[str, Any]) -> None:
    size = next(iter((*args, *named.values())), 8)
    if isinstance(size, int):
        fits(len(value) + value.count("\t") * max(size, 0), "the text")


def _extend(value: Any, args: tuple[Any, ...], _named: dict[str, Any]) -> None:
    if args and hasattr(args[0], "__len__"):
        fits(len(value) + len(args[0]), "the list")


GUARDS: Final[dict[tuple[type, str], Callable[[Any, tuple[Any, ...], dict[str, Any]], None]]] = {
    (range, "count"): lambda value, _args, _named: whole(value),
    (range, "index"): lambda value, _args, _named: whole(value),
    (str, "center"): _width,
    (str, "ljust"): _width,
    (str, "rjust"): _width,
    (str, "zfill"): _width,
    (str, "expandtabs"): _expand,
    (str, "replace"): _replace,
    (str, "join"): _join,
    (list, "extend"): _extend,
    **{(kind, name): _sought for kind in (list, tuple) for name in ("index", "count", "remove")},
}
