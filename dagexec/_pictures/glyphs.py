"""Signs of the states, and text that no terminal, page or mermaid can misread."""

from __future__ import annotations

import json
import re
from typing import Any, Final

# By glyph and not by colour alone; each of these is in the fonts that terminals come with.
GLYPHS: Final = {
    "plan": "·",
    "waiting": "·",
    "ready": "○",
    "running": "▶",
    "done": "✓",
    "failed": "✗",
    "timed_out": "!",
    "skipped": "-",
    "cancelled": "⊘",
    "pending": "?",
    "in_doubt": "‽",
}
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_LISTED: Final = 12


def listed(names: tuple[str, ...], most: int = _LISTED) -> str:
    """Return a path as text; of a long one the beginning and the end."""
    if len(names) > most:
        half = most // 2
        names = (*names[:half], f"… {len(names) - 2 * half} more …", *names[-half:])
    return " -> ".join(names)


def printable(text: str) -> str:
    """Return text without what would move a terminal's cursor or turn its direction."""
    return _CONTROL.sub("�", text)


def mermaid_text(text: str, kept: str = " _-:,.") -> str:
    """Return text in which mermaid takes nothing for syntax: its entities are written with #."""
    return "".join(
        character if character.isalnum() or character in kept else f"#{ord(character)};"
        for character in printable(text)
    )


def json_text(value: Any, indent: int | None = None) -> str:
    """Return JSON that UTF-8 can encode: half a surrogate pair stands as its escape."""
    text = json.dumps(value, indent=indent, ensure_ascii=False)
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()
