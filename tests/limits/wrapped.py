"""A store of limits that does something before or after what it is asked."""

from __future__ import annotations

from dagexec.limits import MemoryStore


class Wrapped:
    """Passes all that it is asked to another store, by way of `_do`, which a subclass changes."""

    def __init__(self, inner=None):
        self.inner = inner or MemoryStore()

    async def _do(self, what, *given):
        return await getattr(self.inner, what)(*given)

    async def book(self, key, asks):
        """See `Store.book`."""
        return await self._do("book", key, asks)

    async def add(self, key, amounts):
        """See `Store.add`."""
        return await self._do("add", key, amounts)

    async def gate(self, key, seconds=0.0):
        """See `Store.gate`."""
        return await self._do("gate", key, seconds)
