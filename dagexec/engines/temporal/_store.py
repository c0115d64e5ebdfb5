"""A folder as the store of large values."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import final
from uuid import uuid4


@final
class FolderStore:
    """Large values as files of a folder that all processes of an engine see.

    A file appears whole or not at all, under the SHA-256 of what is in it. Nothing is ever deleted:
    what runs no longer need is yours to remove. Both methods raise OSError.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Keep the path; the folder is made when the first value comes."""
        self._folder = Path(path)

    def __repr__(self) -> str:
        """Return the call that makes this store."""
        return f"FolderStore({str(self._folder)!r})"

    async def put(self, key: str, value: bytes) -> None:
        """Keep a value."""
        await asyncio.to_thread(self._put, key, value)

    async def get(self, key: str) -> bytes:
        """Return a value that was kept."""
        return await asyncio.to_thread(self._place(key).read_bytes)

    def _put(self, key: str, value: bytes) -> None:
        place = self._place(key)
        if place.exists():
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        made = place.with_name(f"{key}.{uuid4().hex}")
        try:
            with made.open("xb") as file:
                file.write(value)
                file.flush()
                os.fsync(file.fileno())
            made.replace(place)
        finally:
            made.unlink(missing_ok=True)

    def _place(self, key: str) -> Path:
        if not key.isalnum():
            msg = f"{key!r} is no key of a value"
            raise ValueError(msg)
        return self._folder / key
