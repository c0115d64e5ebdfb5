"""Deltas of a chat message, merged as their servers mean them."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Final, TypeGuard

from planners._core.edge import is_dict, is_list
from planners._core.servers import GROWING, INDEXED


def merge(into: dict[str, Any], delta: dict[str, Any], *, leave: Collection[str] = ()) -> None:
    """Add a delta's texts, and whatever else a server puts there, to what is known."""
    for name, value in delta.items():
        if name not in leave and value is not None:
            into[name] = _merged(name, into.get(name), value)


def _merged(name: str, known: Any, value: Any) -> Any:
    if name in INDEXED and is_list(value):
        return _indexed(known if is_list(known) else [], value, INDEXED[name])
    if name == "content" and known is not None and is_list(known) is not is_list(value):
        known, value = _as_parts(known), _as_parts(value)
    if isinstance(known, str) and isinstance(value, str):
        return known + value if name in GROWING or known != value else known
    if is_list(known) and is_list(value):
        return _joined(known, value) if name == "content" else [*known, *value]
    if is_dict(known) and is_dict(value):
        found = dict(known)
        merge(found, value)
        return found
    return dict(value) if is_dict(value) else value


def _as_parts(content: Any) -> list[Any]:
    if is_list(content):
        return content
    return [{"type": "text", "text": content}] if content else []


def _joined(known: list[Any], value: list[Any]) -> list[Any]:
    """Return parts of a content with neighbouring texts as one."""
    found = list(known)
    for part in value:
        last = found[-1] if found else None
        if _is_text(last) and _is_text(part):
            found[-1] = {**last, "text": last["text"] + part["text"]}
        else:
            found.append(part)
    return found


def _is_text(part: Any) -> TypeGuard[dict[str, Any]]:
    return is_dict(part) and part.keys() == {"type", "text"} and isinstance(part["text"], str)


_SAME: Final = ("index", "type")


def _indexed(known: list[Any], value: list[Any], growing: Collection[str]) -> list[Any]:
    """Return fragments of blocks merged into their blocks, by index and type."""
    found = list(known)
    for part in value:
        at = None
        if is_dict(part) and part.get("index") is not None:
            at = next((at for at, each in enumerate(found) if _is_same(each, part)), None)
        if at is None:
            found.append(dict(part) if is_dict(part) else part)
            continue
        block = found[at] = dict(found[at])
        for name, piece in part.items():
            before = block.get(name)
            if name in growing and isinstance(before, str) and isinstance(piece, str):
                block[name] = before + piece
            elif piece is not None:
                block[name] = piece
    return found


def _is_same(block: Any, part: dict[str, Any]) -> bool:
    if not is_dict(block):
        return False
    return all(name not in block or name not in part or block[name] == part[name] for name in _SAME)


def content(value: Any) -> Any:
    """Return the content of a message for a request: a text where it is nothing but texts."""
    if is_list(value) and value and all(_is_text(part) for part in value):
        return "".join(part["text"] for part in value)
    return value
