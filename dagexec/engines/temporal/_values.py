"""Values as the workflow holds them: written, never read; no clock, no loop.

The classes of a user's values need not be known where a run is decided, so a value stays the JSON
that `dagexec.journal.Types` made of it. What has to look into one with a type of its own, a path or
a template, goes to the worker as it is, with the values that it needs. Beyond `inline` bytes a
value waits in a store, and a note of where it is goes in its place:

    {"$type": "dagexec.held", "value": {"key": …, "size": …} or {"body": …}, "lists": {path: n}}

No tool can return such a note, as a `$type` of its own is written as the items of a dict. `lists`
says how long the lists in the value are that calls run for each item of.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Iterable, Iterator, Mapping
from contextlib import suppress
from hashlib import sha256
from typing import Any, Final, Protocol, TypeAlias, cast, final

from dagexec import BadReference, Call, Done, Each, Outcome, Ref, Template
from dagexec.engines.temporal._wire import dump
from dagexec.journal import Types
from dagexec.lowlevel import Scheduler, Spread, follow, kind_of, resolved, spread_of

_MARK: Final = "$type"
HELD: Final = "dagexec.held"
_NOWHERE: Final = "leads nowhere"
_NO_DEFAULT: Final = Ref("x").default
# By call: the paths into its value that lead to lists which other calls run for each item of.
Lists: TypeAlias = "dict[str, list[str]]"


class Store(Protocol):
    """Where large values are: anything with these two, such as `FolderStore`.

    All workers, and whoever asks for reports, need the same. A key is the hash of what it stands
    for, so putting it twice is no harm. Nothing is ever deleted.
    """

    def put(self, key: str, value: bytes) -> Awaitable[None]:
        """Keep it."""
        ...

    def get(self, key: str) -> Awaitable[bytes]:
        """Return what was kept."""
        ...


# ------------------------------------------------------------------------ in the workflow: written


def arguments(call: Call, outcomes: Mapping[str, Outcome]) -> dict[str, Any]:
    """Return the arguments of a ready call, or what a worker makes them of.

    Either `{"args": …}`, or `{"call": …, "values": …}`; raises BadReference.
    """
    if not any(_is_typed(ref, outcomes) for ref in _looked_into(call.args)):
        return {"args": resolved(call, outcomes)}
    values: dict[str, Any] = {}
    for ref in call.refs:
        name = _source(ref, outcomes)
        if name is not None:
            values[name] = outcomes[name].value
    return {"call": call.to_dict(), "values": values}


def spread(call: Call, machine: Scheduler, most: int) -> Spread:
    """Return what a ready call with `Each` becomes; raise BadReference or CallError."""
    args = {name: _counted(value, machine.outcomes) for name, value in call.args.items()}
    return spread_of(Call(call.id, call.tool, args), machine, most)


def lists_of(calls: Iterable[Call]) -> Lists:
    """Return the lists that calls of a plan run for each item of, by the call that makes them."""
    found: Lists = {}
    for call in calls:
        for each in _parts(call.args, Each):
            if isinstance(each.items, Ref):
                path = str(Ref("x", each.items.path))
                found.setdefault(each.items.call, []).append(path)
                if each.items.path and isinstance(first := each.items.path[0], int):
                    rest = str(Ref("x", each.items.path[1:]))
                    found.setdefault(f"{each.items.call}[{first}]", []).append(rest)
    return found


def _source(ref: Ref, outcomes: Mapping[str, Outcome]) -> str | None:
    """Return the call whose value a reference leads to; an item of one that failed for another."""
    names = [ref.call]
    if ref.path and type(ref.path[0]) is int:
        names.append(f"{ref.call}[{ref.path[0]}]")
    done = (each for each in names if each in outcomes and outcomes[each].status == "done")
    return next(done, None)


def _is_typed(ref: Ref, outcomes: Mapping[str, Outcome]) -> bool:
    name = _source(ref, outcomes)
    return name is not None and not _is_json(outcomes[name].value)


def _is_json(value: Any) -> bool:
    """Whether a written value is what it says."""
    if isinstance(value, dict):
        body = cast("dict[str, Any]", value)
        return _MARK not in body and all(map(_is_json, body.values()))
    return not isinstance(value, list) or all(map(_is_json, cast("list[Any]", value)))


def _looked_into(args: Mapping[str, Any]) -> Iterator[Ref]:
    """Yield the references that need more than to hand over a whole value."""
    yield from (ref for ref in _parts(args, Ref) if ref.path)
    for template in _parts(args, Template):
        yield from template.refs


def _parts(value: Any, kind: type[Any]) -> Iterator[Any]:
    if isinstance(value, kind):
        yield value
    elif isinstance(value, Mapping):
        for item in cast("Mapping[str, Any]", value).values():
            yield from _parts(item, kind)
    elif isinstance(value, list | tuple):
        for item in cast("list[Any]", value):
            yield from _parts(item, kind)


def _counted(value: Any, outcomes: Mapping[str, Outcome]) -> Any:
    """Return arguments with stand-ins for lists in typed values: only their length counts."""
    if isinstance(value, Each) and isinstance(value.items, Ref):
        name = _source(value.items, outcomes)
        if name is None or _is_json(outcomes[name].value):
            return value
        path = value.items.path if name == value.items.call else value.items.path[1:]
        found = _length(outcomes[name].value, path)
        if isinstance(found, int):
            return Each((None,) * found)
        if found.startswith(_NOWHERE) and value.items.default is not _NO_DEFAULT:
            return Each(value.items.default)
        raise BadReference(f"$each takes a list, and {str(value.items)!r} {found}")
    if isinstance(value, dict):
        items = cast("dict[str, Any]", value)
        return {key: _counted(item, outcomes) for key, item in items.items()}
    if isinstance(value, list | tuple):
        return [_counted(item, outcomes) for item in cast("list[Any]", value)]
    return value


def _length(value: Any, path: tuple[Any, ...]) -> int | str:
    """Return the length of a list inside of a written value, or why there is none."""
    for place, part in enumerate((*path, None)):
        if isinstance(value, dict) and _MARK in value:
            lists: dict[str, int | str] = cast("dict[str, Any]", value).get("lists") or {}
            return lists.get(str(Ref("x", path[place:])), "cannot be looked into here")
        if isinstance(value, list) and (part is None or part is ...):
            return len(cast("list[Any]", value))
        if part is None:
            break
        try:
            value = follow(value, (part,))
        except BadReference as error:
            return f"{_NOWHERE}: {error}"
    return _no_list(value)


def _no_list(value: Any) -> str:
    return f"is {kind_of(value)}; refer to the list in it"


# -------------------------------------------------------------------------- at a worker: with types


@final
class Values:
    """Writes and reads values, with a store for large ones."""

    def __init__(self, types: Types, store: Store | None, inline: int) -> None:
        """Keep what is needed; without a store all values travel with their calls."""
        self.types = types
        self._store = store
        self._inline = inline

    def is_large(self, text: str) -> bool:
        """Whether what is written so belongs into the store."""
        return self._store is not None and len(text) > self._inline

    @property
    def in_store(self) -> bool:
        """Whether large values are in a store."""
        return self._store is not None

    async def written(self, value: Any, paths: Iterable[str] = ()) -> Any:
        """Return a value as the workflow holds it; raise JournalError for a type without a place.

        Whatever the store raises passes through.
        """
        text = self.types.dumps(value)
        if self._store is not None and self.is_large(text):
            data = text.encode()
            key = sha256(data).hexdigest()
            await self._store.put(key, data)
            note: dict[str, Any] = {"key": key, "size": len(data)}
            return {_MARK: HELD, "value": note, "lists": _lengths(value, paths)}
        body = json.loads(text)
        lists = _lengths(value, paths)
        if lists and not _is_json(body):
            return {_MARK: HELD, "value": {"body": body}, "lists": lists}
        return body

    async def read(self, written: Any) -> Any:
        """Return the value of what the workflow holds, or of anything that has such values in it.

        Raises JournalError, and whatever the store raises.
        """
        notes = [*_notes(written)]
        if notes:
            bodies: dict[str, Any] = {}
            for note in notes:
                if "key" in note and note["key"] not in bodies:
                    bodies[note["key"]] = json.loads(await self._fetched(note["key"]))
            written = _filled(written, bodies)
        return self.types.loads(dump(written))

    async def _fetched(self, key: str) -> bytes:
        if self._store is None:
            msg = "a value of this run is in a store: give the engine the same store= as the others"
            raise LookupError(msg)
        return await self._store.get(key)

    async def call_args(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return the arguments of what `arguments` made; raise BadReference as it does."""
        whole = await self.read({key: item for key, item in given.items() if key != "call"})
        if "args" in whole:
            args: dict[str, Any] = whole["args"]
            return args
        call = Call.from_dict(await self.read(given["call"]))
        return resolved(call, {name: Done(value) for name, value in whole["values"].items()})


def _notes(written: Any) -> Iterator[dict[str, Any]]:
    if isinstance(written, dict):
        body = cast("dict[str, Any]", written)
        if body.get(_MARK) == HELD:
            yield body["value"]
        else:
            for item in body.values():
                yield from _notes(item)
    elif isinstance(written, list):
        for item in cast("list[Any]", written):
            yield from _notes(item)


def _filled(written: Any, bodies: Mapping[str, Any]) -> Any:
    if isinstance(written, dict):
        body = cast("dict[str, Any]", written)
        if body.get(_MARK) == HELD:
            note = body["value"]
            return note["body"] if "body" in note else bodies[note["key"]]
        return {key: _filled(item, bodies) for key, item in body.items()}
    if isinstance(written, list):
        return [_filled(item, bodies) for item in cast("list[Any]", written)]
    return written


def _lengths(value: Any, paths: Iterable[str]) -> dict[str, Any]:
    """Return the length of each of these lists in a value, or why there is none."""
    found: dict[str, Any] = {}
    for text in paths:
        path = Ref.parse(text).path
        try:
            part = follow(value, path) if path else value
        except Exception as error:  # noqa: BLE001 - a tool made the value that is looked into
            found[text] = f"{_NOWHERE}: {error}"
            continue
        items = part
        if isinstance(part, str):
            with suppress(ValueError):
                items = json.loads(part)
        is_list = isinstance(items, list | tuple)
        found[text] = len(cast("list[Any]", items)) if is_list else _no_list(part)
    return found
