"""The program in a model's text: fenced blocks, as models write them."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Final

from dagexec.programs import identifier

_FENCE: Final = re.compile(r"^ {0,3}(```+|~~~+)[ \t]*([\w.+-]*)[^\n]*$", re.MULTILINE)
_THOUGHT: Final = re.compile(r"<think(?:ing)?>.*?(?:</think(?:ing)?>|\Z)", re.DOTALL)
_OURS: Final = "program"
_PYTHON: Final = frozenset({"python", "py", "python3", "tool_code"})


def program_in(text: str, functions: Collection[str]) -> tuple[str, bool] | None:
    """Return the program of a text and whether its block was closed; None without one.

    Several blocks are one program. A block of Python counts if it calls one of the functions.
    """
    if "</think>" in text and "<think" not in text:  # servers that drop the opening tag
        text = text.rpartition("</think>")[2]
    parts: list[str] = []
    whole = True
    for kind, body, closed in _blocks(_THOUGHT.sub("", text)):
        if kind == _OURS or (kind in _PYTHON and _calls_one(body, functions)):
            parts.append(body)
            whole = whole and closed
    return ("\n".join(parts), whole) if parts else None


def _calls_one(body: str, functions: Collection[str]) -> bool:
    called = set(re.findall(r"\b(\w+)\s*\(", body))
    return not called.isdisjoint(map(identifier, functions))


def _blocks(text: str) -> list[tuple[str, str, bool]]:
    """Return the fenced blocks of a text: kind, body, and whether each was closed."""
    found: list[tuple[str, str, bool]] = []
    at = 0
    while (opening := _FENCE.search(text, at)) is not None:
        start = opening.end() + 1
        fence = opening[1]
        closing = re.compile(rf"^ {{0,3}}{fence[0]}{{{len(fence)},}}[ \t]*$", re.MULTILINE).search(
            text, start
        )
        end = len(text) if closing is None else closing.start()
        found.append((opening[2].lower(), text[start:end].rstrip("\n"), closing is not None))
        if closing is None:
            break
        at = closing.end()
    return found
