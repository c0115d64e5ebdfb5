"""The replies of a model in a journal: a conversation that crashed does not pay for them again.

A reply is recorded before any of its calls can have an effect: as a whole reply before its run, in
a stream before the plan is closed. A stream that the run did not read to its end is recorded behind
the run, in which only calls without effects have begun. So what a model said once, it has said for good, and the run of
its calls has the same name and the same plan when it is resumed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, final

import anyio

from dagexec import DagexecError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from dagexec import Call
    from dagexec.journal import Journal, Session
    from planners._dialogue import Dialogue


@final
class Recording:
    """One conversation in a journal, owned by this `solve`."""

    def __init__(self, session: Session) -> None:
        """Read what was recorded."""
        self._session = session
        self._replies: dict[str | None, Any] = {}
        # How a reply came that was read as a stream.
        self._streams: dict[str | None, Any] = {}
        streamed = None
        for each in session.records:
            if each.kind == "reply":
                self._replies[each.call], self._streams[each.call] = each.body, streamed
            streamed = each.body if each.kind == "streamed" else None
        self._begun = [each.call for each in session.records if each.kind == "asked"]

    @classmethod
    async def claim(cls, journal: Journal, conversation: Dialogue) -> Recording:
        """Begin to record a conversation, or go on with it; raise DagexecError if it is another."""
        from dagexec.journal import Record

        first = Record("conversation", None, {"messages": conversation.messages})
        session = await journal.claim(conversation.id, first)
        begun = session.records[0]
        if begun.kind != "conversation" or begun.body != first.body:
            await session.release("open")
            raise DagexecError(
                f"{conversation.id!r} was begun with another question; give a new conversation a"
                " new run_id"
            )
        return cls(session)

    def reply(self, turn: int) -> Any:
        """Return the reply of a turn that was recorded, or None."""
        return self._replies.get(str(turn))

    def streamed(self, turn: int) -> Any:
        """Return how a reply that was recorded had come as a stream; None if it came whole."""
        return self._streams.get(str(turn))

    async def keep(self, turn: int, response: Any, streamed: Any = None) -> None:
        """Record a reply; raise DagexecError if that cannot be done."""
        if streamed is not None:
            await self._add("streamed", turn, streamed)
        await self._add("reply", turn, response)
        self._replies[str(turn)] = response

    async def name(self, conversation: Dialogue, *, streams: bool) -> str:
        """Return the id of a turn's run; the one of a stream that broke off is not used again."""
        turn = conversation.turns + 1
        if streams and self.reply(turn) is None:
            await self._add("asked", turn, None)
            self._begun.append(str(turn))
        times = self._begun.count(str(turn))
        name = f"{conversation.id}.{turn}"
        return name if times <= 1 else f"{name}.{times}"

    async def _add(self, kind: str, turn: int, body: Any) -> None:
        from dagexec.journal import Record

        durable = anyio.Event()
        errors: list[Exception] = []

        def done(error: Exception | None) -> None:
            errors.extend([] if error is None else [error])
            durable.set()

        self._session.append(Record(kind, str(turn), body), done)
        await durable.wait()
        if errors:
            raise errors[0]

    async def release(self, state: str) -> None:
        """Give the conversation up."""
        with anyio.CancelScope(shield=True):
            await self._session.release(state)


@final
class RecordedCalls:
    """The calls of a stream, whose reply is recorded before they come to their end."""

    def __init__(self, calls: Any, recording: Recording, turn: int) -> None:
        """Wrap what `Planner.stream` returned."""
        self._calls = calls
        self._recording = recording
        self._turn = turn
        self._kept = False

    @property
    def broken(self) -> str | None:
        """Why the reply is not whole, if it is not."""
        found: str | None = getattr(self._calls, "broken", None)
        return found

    def __aiter__(self) -> AsyncIterator[Call]:
        """Iterate over the calls."""
        return self

    async def __anext__(self) -> Call:
        """Return the next call; record the reply behind the last."""
        try:
            call: Call = await anext(self._calls)
        except StopAsyncIteration:
            if self._calls.whole:
                await self.keep()
            raise
        return call

    async def keep(self, expired: str | None = None) -> None:
        """Record what there is of the reply, once; `expired` is the deadline that ended it."""
        calls = self._calls
        if not self._kept and calls.response is not None:
            self._kept = True
            streamed = {"heard": calls.heard, "whole": calls.whole, "expired": expired}
            await self._recording.keep(self._turn, calls.response, streamed)

    async def aclose(self) -> None:
        """Close the stream."""
        await self._calls.aclose()
