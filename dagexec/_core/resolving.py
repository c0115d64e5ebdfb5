"""Values in the place of references, in one pass: what goes in is never read again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, cast

from dagexec._core.copies import PLAIN, own
from dagexec._core.json_form import as_text
from dagexec._core.refs import MISSING, Each, Literal, Ref, Template
from dagexec._core.room import Room
from dagexec._errors import BadReference


def resolve(  # noqa: PLR0911 - one a kind
    value: Any, lookup: Callable[[Ref], Any], room: Room | None = None
) -> Any:
    """Put values in the place of references, in one pass; what goes in is never read again.

    The containers in what is returned are its reader's own. Errors: BadReference where templates
    come to more than `MAX_TEXT`; whatever `lookup` raises.
    """
    kind = cast("type[Any]", type(value))
    if kind in PLAIN:
        return value
    if kind is Ref:
        if room is not None and room.copies is not None:
            return _owned(value, lookup, room)
        found = lookup(value)
        if type(found) in PLAIN:
            return found
        return own(found) if room is None else _kept(value, own(found), room)
    if kind is Literal:
        return own(value.value)
    if kind is Each:
        msg = "a call with $each runs once for each item, and has no arguments of its own"
        raise BadReference(msg)
    if kind in _FILLED:
        return _resolved(value, lookup, room or Room())
    return own(value)


_FILLED: Final = frozenset({Template, dict, list, tuple})


def _resolved(value: Any, lookup: Callable[[Ref], Any], room: Room) -> Any:
    kind = cast("type[Any]", type(value))
    if kind is Template:
        return _filled(value, lookup, room)
    if kind is dict:
        return {key: resolve(item, lookup, room) for key, item in value.items()}
    if kind is list:
        return [resolve(item, lookup, room) for item in value]
    return tuple(resolve(item, lookup, room) for item in value)


def _owned(ref: Ref, lookup: Callable[[Ref], Any], room: Room) -> Any:
    """Return a value for the call alone: one copy, however often the call refers to it."""
    copies = room.copies or {}
    if ref.default is MISSING and (ref.call, ref.path) in copies:
        return copies[ref.call, ref.path]
    found = lookup(ref)
    return found if type(found) in PLAIN else _kept(ref, own(found), room)


def _kept(ref: Ref, copied: Any, room: Room) -> Any:
    if ref.default is MISSING:  # defaults may have no hash
        room.copies = room.copies or {}
        room.copies[ref.call, ref.path] = copied
    return copied


def _filled(template: Template, lookup: Callable[[Ref], Any], room: Room) -> str:
    texts: list[str] = []
    known: dict[Ref, str] = {}
    for part in template.parts:
        if isinstance(part, str):
            text = part
        elif part.default is not MISSING:  # which may have no hash
            text = as_text(lookup(part))
        else:
            if part not in known:
                known[part] = as_text(lookup(part))
            text = known[part]
        texts.append(room.take(text))
    return "".join(texts)
