"""What the arguments of one call may take: characters of templates, and one copy of each value."""

from __future__ import annotations

from typing import Any, Final, final

from dagexec._errors import BadReference

# A few references to one large value are enough to ask for more than a machine has.
MAX_TEXT: Final = 16_000_000


@final
class Room:
    """What the arguments of one call have taken so far."""

    __slots__ = ("_left", "copies")

    def __init__(self) -> None:
        """Begin with all of it."""
        # The copies of values that the call refers to, by id and path of the reference.
        self.copies: dict[tuple[Any, ...], Any] | None = None
        self._left = MAX_TEXT

    def take(self, text: str) -> str:
        """Return a text that there is room for; raise BadReference for another."""
        self._left -= len(text)
        if self._left < 0:
            msg = (
                f"its templates come to more than {MAX_TEXT:,} characters, which is the limit for"
                ' a call; pass large values by {"$ref": ...}'
            )
            raise BadReference(msg)
        return text
