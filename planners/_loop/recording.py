"""The replies of a model in a journal: a conversation that crashed does not pay for them again.

A reply is recorded before any of its calls can have an effect: as a whole reply before its run, in
a stream before the plan is closed. A stream that the run did not read to its end is recorded behind
the run, in which only calls without effects have begun. So what a model said once, it has said for
good, and the run of its calls has the same name and the same plan when it is resumed.

A recording is one line of turns. A `solve` enters it where its conversation stands: at the start,
or behind a turn, to go on with messages that are recorded there. It leaves the line nowhere: where
what is recorded follows from other messages, it is refused.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any, NoReturn, final

import anyio
from pydantic_core import to_jsonable_python

from dagexec import Call, DagexecError, Executor
from dagexec.journal import Journal, Record, Session
from planners._loop.dialogue import Dialogue


@final
class Recording:
    """One conversation in a journal, owned by this `solve`."""

    def __init__(self, session: Session) -> None:
        """Read what was recorded."""
        self._session = session
        self._replies: dict[str | None, Any] = {}
        # How a reply came that was read as a stream.
        self._streams: dict[str | None, Any] = {}
        # The messages that a `solve` was begun with, by the number of turns before it.
        self._entered: dict[int, str] = {}
        self._base = 0
        streamed = None
        for each in session.records:
            if each.kind == "reply":
                self._replies[each.call], self._streams[each.call] = each.body, streamed
            elif each.kind in ("conversation", "went_on"):
                self._entered[each.body.get("turns", 0)] = _text(each.body["messages"])
            streamed = each.body if each.kind == "streamed" else None
        self._begun = [each.call for each in session.records if each.kind == "asked"]

    @classmethod
    async def claim(cls, journal: Journal, conversation: Dialogue) -> Recording:
        """Begin to record a conversation, or go on with it; raise DagexecError if it is another."""
        body = {"messages": json.loads(_text(conversation.messages)), "turns": conversation.turns}
        session = await journal.claim(conversation.id, Record("conversation", None, body))
        try:
            recording = cls(session)
            await recording._enter(conversation)
        except BaseException:
            with anyio.CancelScope(shield=True):
                await session.release("open")
            raise
        return recording

    async def _enter(self, conversation: Dialogue) -> None:
        """Begin where the conversation stands; raise DagexecError if that is not in this line."""
        if self._session.records[0].kind != "conversation":
            raise DagexecError(
                f"{conversation.id!r} is a run and no conversation; give this one a run_id of its"
                " own"
            )
        self._base, now = conversation.turns, _text(conversation.messages)
        known = self._entered.get(self._base)
        if known == now:
            return
        gone_on = self._last() > self._base
        more = known is None or now.startswith(f"{known[:-1]}, ")
        if self._base < min(self._entered) or gone_on or not more:
            self._refuse(conversation)
        body = {"messages": json.loads(now), "turns": self._base}
        await self._add("went_on", self._base, body)
        self._entered[self._base] = now

    def _last(self) -> int:
        """Return the last turn that is known of."""
        return max(*self._entered, *(int(turn or 0) for turn in self._replies), 0)

    def _refuse(self, conversation: Dialogue) -> NoReturn:
        id_, turns = conversation.id, conversation.turns
        if not turns or turns < min(self._entered):
            raise DagexecError(
                f"{id_!r} was begun with another question; give a new conversation a new run_id"
            )
        raise DagexecError(
            f"{id_!r} went on in another way after turn {turns}; to go on from there, give this"
            " conversation a new run_id"
        )

    def reply(self, conversation: Dialogue) -> Any:
        """Return the reply to a conversation that was recorded, or None.

        Raises DagexecError if the next turn in the journal is not one of this conversation.
        """
        turn = conversation.turns + 1
        known = self._entered.get(turn - 1)
        if turn - 1 != self._base and known not in (None, _text(conversation.messages)):
            self._refuse(conversation)
        if str(turn) not in self._replies and max(self._entered) >= turn:
            self._refuse(conversation)
        return self._replies.get(str(turn))

    def streamed(self, turn: int) -> Any:
        """Return how a reply that was recorded had come as a stream; None if it came whole."""
        return self._streams.get(str(turn))

    async def keep(self, turn: int, response: Any, streamed: Any = None) -> None:
        """Record a reply; raise DagexecError if that cannot be done."""
        before = [] if streamed is None else [Record("streamed", str(turn), streamed)]
        await self._add("reply", turn, response, *before)
        self._replies[str(turn)] = response

    async def name(self, conversation: Dialogue, *, streams: bool) -> str:
        """Return the id of a turn's run; the one of a stream that broke off is not used again."""
        turn = conversation.turns + 1
        if streams and str(turn) not in self._replies:
            await self._add("asked", turn, None)
            self._begun.append(str(turn))
        times = self._begun.count(str(turn))
        name = f"{conversation.id}.{turn}"
        return name if times <= 1 else f"{name}.{times}"

    async def _add(self, kind: str, turn: int, body: Any, *before: Record) -> None:
        durable = anyio.Event()
        errors: list[Exception] = []

        def done(error: Exception | None) -> None:
            errors.extend([] if error is None else [error])
            durable.set()

        for record in before:  # durable before the last is
            self._session.append(record, lambda error: errors.extend([error] if error else []))
        self._session.append(Record(kind, str(turn), body), done)
        await durable.wait()
        if errors:
            raise errors[0]

    async def release(self, state: str) -> None:
        """Give the conversation up."""
        with anyio.CancelScope(shield=True):
            await self._session.release(state)


def _text(messages: Any) -> str:
    return json.dumps(messages, default=lambda item: to_jsonable_python(item, exclude_none=True))


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

    def accompany(self, executor: Executor) -> Any:
        """Return what goes on beside the calls."""
        return self._calls.accompany(executor)

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
