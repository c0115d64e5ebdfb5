"""The program of a run, as the workflow has it: others interpret it, and their answers are kept.

A workflow holds values as JSON, must not compute for two seconds, and is replayed where no tool is
known. So it does not interpret a program. Whoever decides does, in a local activity
(`_interpreter`): told what became of the calls, it says which calls come next. What it says is
kept in the history, and a replay reads it there, so that nobody interprets again what was decided,
and the calls of a decision are begun in the same transaction with it: a crash leaves both or none.

The other way, an interpreter inside of the workflow, would need values without types and without a
store, other rules for programs that compute, and tools where a history is replayed; and it would
save one event for each decision.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Any, Final, TypeAlias, final

from temporalio import exceptions as temporal_errors
from temporalio import workflow
from temporalio.common import RetryPolicy

from dagexec import Call, DagexecError
from dagexec.engines._drive import Drive
from dagexec.engines._front import DEATHS
from dagexec.engines.temporal._wire import DECIDE, Packed, dump, pack, unpack
from dagexec.lowlevel import Conclude, Reopened, Settled, outcome_body

# Every activity needs a limit of its own; a decision ends by itself, and lives no longer than its
# process.
_FOR_EVER: Final = timedelta(days=3650)
_PAUSE: Final = timedelta(seconds=0.2)
# A longer pause between two tries is a timer: the run hears meanwhile what else happens.
_HELD: Final = timedelta(seconds=1)
# Tries at the end of a program that was stopped: only its report needs it.
_TRIES: Final = 2

Reply: TypeAlias = "Mapping[str, Any]"


class Elsewhere(Exception):
    """The process cannot decide this run, as it lacks tools: another one has to."""


@final
class FarProgram:
    """A program that is interpreted by whoever is asked: what it is to hear, and what it said."""

    def __init__(self, *, fresh: bool) -> None:
        """`fresh` says that it goes on by itself: it has not begun, or was moved on its way."""
        self.left = 0
        self.taken = 0
        self.over = False
        # How often it was asked, in this history.
        self.count = 0
        # What it came to, once it is over.
        self.kept_end: Any = None
        # Whoever has interpreted it so far is known by this; None if nobody is to be expected to.
        self._token: str | None = None
        self._fresh = fresh
        self._news: list[list[Any]] = []
        self._reply: Reply | None = None
        self._is_asked = False

    # ------------------------------------------------------------------------------- for a `Drive`

    @property
    def due(self) -> bool:
        """Whether a reply is there."""
        return self._reply is not None

    @property
    def busy(self) -> bool:
        """Whether it goes on by itself."""
        return self.is_to_be_asked or self._is_asked or self.due

    def may_advance(self, *, turned: bool, closed: bool) -> bool:  # noqa: ARG002 - it takes none
        """Whether a reply is there, or, at the end, news that nobody is asked about any more."""
        return self.due or (closed and bool(self._news))

    def advance(self) -> list[Call]:
        """Return the calls of the reply."""
        reply, self._reply = self._reply, None
        if reply is None:
            self._news.append(["last", None, None])
            return []
        self._token, self.taken, self.left = reply["token"], reply["steps"], reply["left"]
        self.over, self.kept_end = reply["over"], reply.get("end")
        self._fresh = not self.over and (self._fresh or reply["more"] or self.left > 0)
        if self._token is None:
            self._fresh = True
        return [Call.from_dict(body) for body in reply["calls"]]

    def hear(self, item: object) -> None:
        """Keep what it is to be told."""
        match item:
            case Settled(call, outcome):
                self._news.append(["settled", call, outcome_body(outcome)])
            case Conclude(call, outcome):
                self._news.append(["conclude", call, outcome_body(outcome)])
            case Reopened(call):
                self._news.append(["reopened", call, None])
            case _:
                pass

    def recorded(self, items: Sequence[object]) -> None:
        """Take nothing: whoever is asked reads the log."""

    def catch_up(self) -> Iterator[None]:
        """Be there: whoever is asked goes to where the log ends."""
        return iter(())

    def end(self, *, stands: bool) -> Any:  # noqa: ARG002 - it is not known here
        """Return None: reports are made where it is interpreted."""
        return None

    # ----------------------------------------------------------------------------- for who asks

    @property
    def is_to_be_asked(self) -> bool:
        """Whether it has something to hear, or to do."""
        return not self.over and not self._is_asked and (self._fresh or bool(self._news))

    def question(self, drive: Drive) -> dict[str, Any]:
        """Return what whoever interprets it is to be told, and expect a reply.

        The news, for who has interpreted it so far; all that it was told, for anybody else.
        """
        drive.ask()
        self._fresh, self._is_asked = False, True
        self.count += 1
        return self.told(drive)

    def told(self, drive: Drive) -> dict[str, Any]:
        """Return what there is to hear, once."""
        news, self._news = self._news, []
        token, self._token = self._token, None
        if token is None:
            return {"result": drive.result()}
        return {"token": token, "news": news, "left": self.left}

    def answered(self, reply: Reply) -> None:
        """Take a reply, for the next `advance`."""
        self._reply, self._is_asked = reply, False


@final
class Decisions:
    """What whoever decides is asked of a program, one question at a time."""

    def __init__(self, spec: Packed, program: FarProgram) -> None:
        """Ask about the program of a run; `spec` is how it is run."""
        self._spec = spec
        self.program = program
        self._asked: workflow.ActivityHandle[Any] | None = None
        self._is_there = False
        # The length of the history at a reply of a program that only let others have their turn.
        self._paused_at = -1

    @property
    def under_way(self) -> bool:
        """Whether a question is."""
        return self._asked is not None

    @property
    def has_news(self) -> bool:
        """Whether a reply is there."""
        return self._is_there

    def waits_for_a_task(self, drive: Drive) -> bool:
        """Whether the next question is for the next task: what else happened is heard there."""
        return self.program.is_to_be_asked and not drive.machine.closed

    def ask(self, drive: Drive, is_room: Callable[[], bool]) -> None:
        """Ask, if there is anything to ask now; a reply needs room in this task."""
        now = self._paused_at != _length() and is_room()
        if now and self.waits_for_a_task(drive):
            self._start(self.program.question(drive), DEATHS + 1)

    def _start(self, question: Mapping[str, Any], tries: int) -> None:
        self._asked = asked = workflow.start_local_activity(
            DECIDE,
            args=[self._spec, pack(dump(question))],
            start_to_close_timeout=_FOR_EVER,
            retry_policy=RetryPolicy(initial_interval=_PAUSE, maximum_attempts=tries),
            local_retry_threshold=_HELD,
        )
        # What is raised in here would be lost, and the run would wait for ever.
        asked.add_done_callback(lambda _: self._ring())

    def _ring(self) -> None:
        self._is_there = True

    def hear(self) -> int:
        """Give the program its reply, if one is there; return the bytes that came.

        Raises DagexecError if nobody can go on with it, Elsewhere if this process cannot.
        """
        if not self._is_there:
            return 0
        packed = self._taken()
        reply: dict[str, Any] = json.loads(unpack(packed))
        if "lacks" in reply:
            if not workflow.unsafe.is_replaying():
                raise Elsewhere(reply["lacks"])
            reply = reply["reply"]
        if reply["more"]:
            self._paused_at = _length()
        self.program.answered(reply)
        return len(packed)

    def _taken(self) -> Packed:
        asked, self._asked, self._is_there = self._asked, None, False
        assert asked is not None  # noqa: S101 - for the checkers
        error = None if asked.cancelled() else asked.exception()
        if error is not None:
            cause = error.cause if isinstance(error, temporal_errors.ActivityError) else error
            why = getattr(cause, "message", None) or str(cause)
            raise DagexecError(str(why))
        found: Packed = asked.result()
        return found

    def end(self, drive: Drive) -> None:
        """Ask what a program came to that was stopped."""
        self._start({**self.program.told(drive), "ends": True}, _TRIES)

    def hear_end(self) -> bool:
        """Keep what it came to; return whether that was said.

        Where nobody can say it, who makes the report has to find out.
        """
        try:
            reply = json.loads(unpack(self._taken()))
        except DagexecError:
            return True
        self.program.kept_end = reply.get("end")
        return "end" in reply or "lacks" in reply


def _length() -> int:
    length: int = workflow.info().get_current_history_length()
    return length
