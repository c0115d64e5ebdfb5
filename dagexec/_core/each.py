"""A call for each item of a list: the calls that take the place of one with `Each` arguments.

The calls refer to the items, `{"$ref": "1.orders[0]"}`, as if a model had written them out: values
stay where they are, and a journal needs no more than how many there are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, cast

from dagexec._core.names import kind_of
from dagexec._core.outcomes import Done, Failed, Outcome
from dagexec._core.paths import json_of
from dagexec._core.plan import Call
from dagexec._core.refs import MISSING, Each, Literal, Ref
from dagexec._errors import BadReference, CallError

# Items whose failure is told in the error of their call; the others are counted.
_NAMED = 5
_LONGEST = 200  # characters of one error


def item_id(name: str, index: int) -> str:
    """Return the id of the call for one item."""
    return f"{name}[{index}]"


def count_of(call: Call, lookup: Callable[[Ref], Any], most: int) -> int:
    """Return how many items a call is to run for.

    Raises BadReference where there is no list, CallError for lists of different lengths or of more
    than `most` items, and whatever `lookup` raises.
    """
    lengths: dict[str, int] = {}
    for each in eaches(call.args):
        if isinstance(each.items, Ref):
            lengths[str(each.items)] = len(_listed(lookup(each.items), str(each.items)))
        else:
            lengths[f"a list of {len(each.items)}"] = len(each.items)
    count = max(lengths.values())
    if min(lengths.values()) != count:
        told = ", ".join(f"{name} has {length}" for name, length in lengths.items())
        msg = f"several $each of one call go side by side, so they must be equally long: {told}"
        raise CallError(msg)
    if count > most:
        msg = (
            f"there are {count} items, and a call is run for {most} at most: refer to fewer, or"
            " raise max_items of the executor"
        )
        raise CallError(msg)
    return count


def _listed(value: Any, name: str) -> Sequence[Any]:
    found = json_of(value) if isinstance(value, str) else value
    if isinstance(found, list | tuple):
        return cast("Sequence[Any]", found)
    msg = f"$each takes a list, and {name!r} is {kind_of(value)}; refer to the list in it"
    if isinstance(found, dict):
        parts = cast("dict[str, Any]", found).items()
        lists = [key for key, item in parts if isinstance(item, list)]
        msg += f": {name}.{lists[0]}" if lists else ""
    raise BadReference(msg)


def calls_of(call: Call, count: int, ordered: Sequence[tuple[int, int]] = ()) -> Iterator[Call]:
    """Yield the calls for the items of a call; `ordered` are pairs of places (earlier, later)."""
    behind: dict[int, list[str]] = {}
    for earlier, later in ordered:
        behind.setdefault(later, []).append(item_id(call.id, earlier))
    for index in range(count):
        args = {name: _of_item(value, index) for name, value in call.args.items()}
        yield Call(item_id(call.id, index), call.tool, args, ordered=tuple(behind.get(index, ())))


def item_targets(call: Call, name: str) -> tuple[int, ...] | None:
    """Return the items of another call that a call refers to, None if it waits for all of it."""
    if name in call.after or name in call.ordered:
        return None
    found: dict[int, None] = {}
    for ref in call.refs:
        if ref.call == name:
            index = item_of(ref)
            if index is None:
                return None
            found[index] = None
    return tuple(found)


def item_of(ref: Ref) -> int | None:
    """Return the position of the one item that a reference to a call with items leads to."""
    first = ref.path[0] if ref.path else None
    return first if type(first) is int and first >= 0 else None


def eaches(value: Any) -> Iterator[Each]:
    """Yield every Each in decoded arguments."""
    if isinstance(value, Each):
        yield value
    elif isinstance(value, Mapping):
        for item in cast("Mapping[str, Any]", value).values():
            yield from eaches(item)
    elif isinstance(value, list | tuple):
        for item in cast("Sequence[Any]", value):
            yield from eaches(item)


def _of_item(value: Any, index: int) -> Any:
    """Return decoded arguments with one item in the place of each list."""
    if isinstance(value, Each):
        return _item(value, index)
    if isinstance(value, dict):
        items = cast("dict[str, Any]", value)
        return {key: _of_item(item, index) for key, item in items.items()}
    if isinstance(value, list | tuple):
        return [_of_item(item, index) for item in cast("Sequence[Any]", value)]
    return value


def _item(each: Each, index: int) -> Ref | Literal:
    if not isinstance(each.items, Ref):
        return Literal(each.items[index])
    ref, path = each.items, each.items.path
    if ... in path:
        # `orders[*].id` is the id of each order: the item is `orders[0].id`.
        place = path.index(...)
        path = (*path[:place], index, *path[place + 1 :])
    else:
        path = (*path, index)
    default: Any = ref.default
    listed: Sequence[Any] = ()
    if isinstance(default, list | tuple):
        listed = cast("Sequence[Any]", default)
    return Ref(ref.call, path, listed[index] if index < len(listed) else MISSING)


def gathered(outcomes: Sequence[tuple[str, Outcome]]) -> Outcome:
    """Return the outcome of a call whose items all have theirs, in order."""
    starts = [each.started for _, each in outcomes if each.started is not None]
    ends = [each.ended for _, each in outcomes if each.ended is not None]
    started, ended = min(starts, default=None), max(ends, default=None)
    lost = [(name, each) for name, each in outcomes if each.status != "done"]
    if not lost:
        values = [each.value for _, each in outcomes]
        return Done(values, started=started, ended=ended)
    told = [f"{name} {_why(each)}" for name, each in lost[:_NAMED]]
    more = [f"and {len(lost) - _NAMED} more"] if len(lost) > _NAMED else []
    error = CallError(f"{len(lost)} of {len(outcomes)} items failed: {'; '.join(told + more)}")
    maybe = any(each.maybe for _, each in lost)
    return Failed(error, started=started, ended=ended, maybe=maybe)


def _why(outcome: Outcome) -> str:
    status = outcome.status.replace("_", " ")
    if outcome.error is None:
        return status if outcome.because is None else f"{status} because of {outcome.because}"
    # A tool's own words may be secret; what a model may hear of them is not decided here.
    text = str(outcome.error) if isinstance(outcome.error, CallError) else ""
    # One read back from a record has the name of its type as it was.
    kind = getattr(outcome.error, "kind", None) or type(outcome.error).__name__
    return f"{status}: {text[:_LONGEST]}" if text else f"{status} ({kind})"
