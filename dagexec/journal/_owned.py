"""A run in a journal's file: its ids as they are written, and how far its records go."""

from __future__ import annotations

import json
import zlib
from typing import Any, Final, final

from dagexec._errors import RunOwned
from dagexec.journal._base import Record

# Before an id that UTF-8 cannot hold, and one that looks as if it were one.
_ESCAPED: Final = "$json:"


def as_written(name: str) -> str:
    """Return an id as it stands in the file: one with half of a surrogate pair is escaped."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return _ESCAPED + json.dumps(name)
    return _ESCAPED + json.dumps(name) if name.startswith(_ESCAPED) else name


def as_read(text: str) -> str:
    """Return the id that stands in the file as `text`."""
    if not text.startswith(_ESCAPED):
        return text
    name: str = json.loads(text.removeprefix(_ESCAPED))
    return name


@final
class Ownership:
    """A run that is owned: how far its records go, and with which checksum they end."""

    __slots__ = ("before", "checksum", "key", "last", "lost", "owner", "records", "run_id")

    def __init__(self, run_id: str, key: int, owner: str) -> None:
        """Start before the first record."""
        self.run_id = run_id
        self.key = key
        self.owner = owner
        self.last = 0
        self.checksum = zlib.crc32(as_written(run_id).encode())
        self.records: list[Record] = []
        # Why it is not owned any more, if so.
        self.lost: RunOwned | None = None
        # Its state, summary and waiting calls before it was claimed.
        self.before: tuple[str, str, str] = ("open", "", "[]")

    def chain(self, kind: str, call: str | None, body: str) -> tuple[Any, ...]:
        """Return the row of the next record, and count it; `call` as it stands in the file."""
        self.last += 1
        text = f"{self.last}\0{kind}\0{call}\0{body}"
        self.checksum = zlib.crc32(text.encode(), self.checksum)
        return (self.key, self.last, kind, call, body, self.checksum)
