"""The workflow of a run: what the deciding half is told, and what it asks for.

It holds values as JSON and knows no tool, so it can be decided, and replayed, where no tool is
known. Asyncio only: anyio's cancellation does not work inside of a workflow. `asyncio.wait` is not
used either: it goes over a set.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any, Final, final

from temporalio import workflow
from temporalio.exceptions import ApplicationError, FailureError

from dagexec import Call
from dagexec.engines._drive import Drive
from dagexec.engines.temporal._launches import Launches
from dagexec.engines.temporal._program import Decisions, Elsewhere, FarProgram
from dagexec.engines.temporal._values import arguments, lists_of, spread
from dagexec.engines.temporal._wire import (
    ANSWER,
    PAGE,
    PAYLOAD,
    REPLY,
    RUN,
    Packed,
    dump,
    pack,
    unpack,
)

# A run moves to a fresh history in time: the server ends it at 51,200 events or 50 MB, and the
# replay of more than this takes longer than one task of a workflow may. These numbers, and those of
# `_launches` and `_wire`, are a part of the format: with others a history does not replay.
MOVE_EVENTS: Final = 20_000
MOVE_BYTES: Final = 30_000_000
# Updates that one history takes in: the server refuses more than 2,000, for good.
MOVE_UPDATES: Final = 1_500
# Events of a call that is under way, and has still to end.
_EVENTS: Final = 6
# Seconds until the next task of a workflow, where no event brings one.
_SOON: Final = 0.001

# What the Update `ended` answers in the place of a number.
MOVING: Final = -1
CLOSED: Final = -2
# A run of no calls, in the place of one that cannot be read.
_NOTHING: Final[dict[str, Any]] = {"calls": [], "on_failure": "skip", "barrier": False}
# The type of the error of an answer that nobody waits for any more.
TOO_LATE: Final = "dagexec.too_late"
# Updates that may wait at a time: a server takes ten, and the others are for answers. Who is one
# too many hears of an error of this type, which leaves nothing in the history, and asks again.
WAITERS: Final = 6
CROWDED: Final = "dagexec.crowded"


@final
@workflow.defn(name=RUN, sandboxed=False)
class RunWorkflow:
    """A run, from its first call until nothing is left to ask."""

    @workflow.init
    def __init__(self, spec: Any, state: Any = None) -> None:
        """Read how it is to be run, and how far it came in histories before this one."""
        self._packed: Packed = spec
        self._spec: dict[str, Any] = {}
        self._state: dict[str, Any] = {}
        # What is wrong with what was given; raised here, it would be tried again for ever.
        self._fault: Exception | None = None
        # Of a run of a program: who interprets it.
        self._decisions: Decisions | None = None
        try:
            self._read(spec, state)
        except Exception as error:  # noqa: BLE001 - told by `run`
            self._fault, self._spec, self._state = error, _NOTHING, {}
            self._decisions = None
            self._drive = self._driven(None)
            self._launches = Launches(self._spec, {}, {})
        # Answers that were taken and not yet told to the deciding half, by call.
        self._answers: dict[str, Any] = self._state.get("answers", {})
        # How many answers were taken since the run began.
        self._taken: int = self._state.get("taken", 0)
        # Updates that this history took in.
        self._updates = 0
        # Those that wait.
        self._waiters = 0
        self._cancelled: bool = self._state.get("cancelled", False)
        # Nothing goes on by itself: the run waits for answers, or has ended.
        self._resting = False
        self._closed = False
        self._moving = False
        # Whether what would move is too large to.
        self._stays = False
        self._timer: asyncio.TimerHandle | None = None
        self._due_at: float | None = None
        self._is_due = False
        self._page: tuple[str, bytes] = ("", b"")

    def _read(self, spec: Packed, state: Packed | None) -> None:
        self._spec = json.loads(unpack(spec))
        self._state = {} if state is None else json.loads(unpack(state))
        result = self._state.get("result")
        if self._spec.get("program"):
            program = FarProgram(fresh=result is None or bool(result.get("open")))
            program.kept_end = self._state.get("end")
            self._decisions = Decisions(self._packed, program)
        self._drive = self._driven(result)
        plan = [Call.from_dict(body) for body in self._spec["calls"]]
        self._launches = Launches(self._spec, lists_of(plan), self._state.get("marks", {}))

    def _driven(self, result: dict[str, Any] | None) -> Drive:
        program = None if self._decisions is None else self._decisions.program
        return Drive(self._spec, result, resolve=arguments, spreads=spread, program=program)

    # ---------------------------------------------------------------------------------- the run

    @workflow.run
    async def run(self, spec: Any, state: Any = None) -> Any:  # noqa: ARG002 - read by __init__
        """Run it; return what a report is made of, or "" if that is too large to return."""
        try:
            if self._fault is not None:
                raise self._fault  # noqa: TRY301 - as any other
            return await self._run()
        except (FailureError, workflow.NondeterminismError, Elsewhere):
            raise
        except Exception as error:
            # Any other failure of a workflow is tried again for ever, without a word.
            await self._close()
            msg = f"{type(error).__name__}: {error}"
            raise ApplicationError(msg, type="dagexec.broken", non_retryable=True) from error

    async def _run(self) -> Packed:
        result = self._state.get("result")
        if result is None or result.get("open"):
            self._drive.begin(workflow.time(), {}, cancelled=self._take_cancelled())
        while True:
            await self._round()
            if not self._drive.waiting:
                break
            await self._wait_for_answers()
            self._resting = False
            self._drive = self._driven(self._drive.result())
            answers, cancelled = self._take_answers(), self._take_cancelled()
            self._drive.begin(workflow.time(), answers, cancelled=cancelled)
        await self._end_program()
        await self._close()
        packed = pack(self._told())
        return packed if len(packed) <= PAYLOAD else ""

    async def _close(self) -> None:
        """Let all who wait by Update go."""
        self._resting = self._closed = True
        self._set_timer(None)
        await self._until(workflow.all_handlers_finished)

    async def _round(self) -> None:
        """Go on until nothing is left but questions."""
        drive, launches = self._drive, self._launches
        while True:
            launches.absorb(drive)
            draining = self._is_to_move()
            if not draining and (failed := launches.schedule(drive)):
                drive.take(workflow.time(), failed)
                continue
            if drive.ended:
                return
            if draining and not self._is_under_way and not drive.machine.stopped:
                await self._move()
                continue
            if self._decisions is not None and not draining:
                self._decisions.ask(drive, lambda: launches.is_room_for(REPLY))
            self._set_timer(self._next(draining=draining))
            await self._until(self._has_news)
            self._hear()

    def _hear(self) -> None:
        """Tell the deciding half what has happened."""
        drive, launches, now = self._drive, self._launches, workflow.time()
        self._is_due = False
        if self._decisions is not None:
            launches.take_in(self._decisions.hear())
        drive.take(now, launches.news(drive), cancelled=self._take_cancelled())
        launches.absorb(drive)
        launches.forget(drive)
        if self._answers and not drive.machine.stopped:
            drive.answered(now, self._take_answers())

    def _has_news(self) -> bool:
        waits = self._launches.has_news or self._is_due or self._cancelled
        waits = waits or (self._decisions is not None and self._decisions.has_news)
        return waits or (bool(self._answers) and not self._drive.machine.stopped)

    @property
    def _is_under_way(self) -> bool:
        """Whether something is that a fresh history would not hear of."""
        asked = self._decisions is not None and self._decisions.under_way
        return self._launches.under_way > 0 or asked

    async def _end_program(self) -> None:
        """Keep what a program came to that was stopped."""
        decisions = self._decisions
        if decisions is None or decisions.program.over or decisions.under_way:
            return
        said = False
        while not said:
            decisions.end(self._drive)
            await self._until(lambda: decisions.has_news)
            said = decisions.hear_end()

    async def _wait_for_answers(self) -> None:
        self._resting = True
        self._set_timer(None)
        while not self._answers and not self._cancelled:
            suggested = workflow.info().is_continue_as_new_suggested() or self._is_full
            if suggested and not self._stays:
                await self._move()
                continue
            await self._until(
                lambda: bool(
                    self._answers or self._cancelled or (self._is_full and not self._stays)
                )
            )

    @property
    def _is_full(self) -> bool:
        return self._updates >= MOVE_UPDATES

    def _take_answers(self) -> dict[str, Any]:
        waiting = {*self._drive.waiting}
        answers, self._answers = self._answers, {}
        return {name: body for name, body in answers.items() if name in waiting}

    def _take_cancelled(self) -> bool:
        cancelled, self._cancelled = self._cancelled, False
        return cancelled

    # -------------------------------------------------------------------------------- waiting

    async def _until(self, happened: Callable[[], bool]) -> None:
        """Wait; a cancellation comes once, wherever the run waits, and ends no wait by itself."""
        while not happened():
            try:
                await workflow.wait_condition(happened)
            except asyncio.CancelledError:
                self._cancelled = True

    def _next(self, *, draining: bool) -> float | None:
        asks = self._decisions is not None and self._decisions.waits_for_a_task(self._drive)
        if not draining and (asks or self._launches.waits_for_a_task):
            return workflow.time() + _SOON
        return self._drive.until

    def _set_timer(self, until: float | None) -> None:
        """Be due at `until`: one timer, which is set anew only if the time comes earlier."""
        if self._timer is not None:
            if until is not None and self._due_at is not None and self._due_at <= until:
                return
            self._timer.cancel()
            self._timer = None
        self._due_at = until
        if until is not None:
            pause = max(_SOON, until - workflow.time())
            self._timer = asyncio.get_running_loop().call_later(pause, self._ring)

    def _ring(self) -> None:
        self._timer = None
        self._is_due = True

    # --------------------------------------------------------------------------- a fresh history

    def _is_to_move(self) -> bool:
        info = workflow.info()
        events = info.get_current_history_length() + _EVENTS * self._launches.under_way
        is_small = events < MOVE_EVENTS and info.get_current_history_size() < MOVE_BYTES
        if self._stays or (is_small and not self._is_full):
            return False
        self._stays = len(self._state_now()) > PAYLOAD
        return not self._stays

    def _state_now(self) -> Packed:
        state = {"result": self._drive.result(), "taken": self._taken, **self._kept_end()}
        state["marks"] = self._launches.marks
        return pack(dump(state | {"answers": self._answers, "cancelled": self._cancelled}))

    async def _move(self) -> None:
        """Go on in a fresh history, unless what has to go along is too large."""
        if len(self._state_now()) > PAYLOAD:
            self._stays = True
            return
        self._moving = True
        self._set_timer(None)
        await self._until(workflow.all_handlers_finished)
        workflow.continue_as_new(args=[self._packed, self._state_now()])

    # ------------------------------------------------------------------------ who asks, who answers

    @workflow.update(name="ended")
    async def ended(self, number: int) -> int:
        """Wait until all answers up to this one are taken in, and nothing goes on by itself."""
        self._updates += 1
        self._waiters += 1
        try:
            await workflow.wait_condition(lambda: self._has_ended(number))
        finally:
            self._waiters -= 1
        if self._closed:
            return CLOSED
        return MOVING if self._moving else self._taken

    @ended.validator
    def _admit(self, number: int) -> None:
        if self._waiters >= WAITERS and not self._has_ended(number):
            msg = "too many wait for this run by Update: ask again"
            raise ApplicationError(msg, type=CROWDED, non_retryable=True)

    def _has_ended(self, number: int) -> bool:
        return self._moving or self._closed or (self._resting and self._taken >= number)

    @workflow.update(name="answer")
    async def answer(self, text: str | bytes) -> int:
        """Take answers in; return the number of the last."""
        self._updates += 1
        given = json.loads(unpack(text))
        if len(text) > ANSWER // 2:
            self._launches.take_in(len(text))
        self._answers |= given
        self._taken += len(given)
        self._resting = False
        return self._taken

    @answer.validator
    def _check(self, text: str | bytes) -> None:
        # What is refused here leaves nothing in the history.
        if not self._launches.is_room_for(len(text)):
            msg = "other answers come at the same time: give this one again"
            raise ApplicationError(msg, type=TOO_LATE, non_retryable=True)
        waiting = {*self._drive.waiting}
        for name in json.loads(unpack(text)):
            if self._moving or self._closed or name not in waiting or name in self._answers:
                msg = f"call {name!r} does not wait for an answer"
                raise ApplicationError(msg, type=TOO_LATE, non_retryable=True)

    @workflow.query(name="spec")
    def spec(self) -> Any:
        """Return how the run is run."""
        return self._packed

    @workflow.query(name="log")
    def log(self, start: int) -> bytes:
        """Return a page of what a report is made of: a line of its stamp and size, and bytes."""
        result = self._drive.result()
        asked = 0 if self._decisions is None else self._decisions.program.count
        stamp = f"{len(result['log'])}.{self._taken}.{self._drive.machine.finished:d}.{asked}"
        if self._page[0] != stamp:
            packed = pack(self._told())
            self._page = (stamp, packed if isinstance(packed, bytes) else packed.encode())
        whole = self._page[1]
        return f"{stamp} {len(whole)}\n".encode() + whole[start : start + PAGE]

    def _told(self) -> str:
        """Return what a report is made of, without the calls of the plan, or the program."""
        spec = {key: item for key, item in self._spec.items() if key not in ("calls", "program")}
        result = self._drive.result() | self._kept_end()
        return dump({"spec": spec, "result": result, "taken": self._taken})

    def _kept_end(self) -> dict[str, Any]:
        end = None if self._decisions is None else self._decisions.program.kept_end
        return {} if end is None else {"end": end}
