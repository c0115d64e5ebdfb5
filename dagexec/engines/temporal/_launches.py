"""The calls of a run that Temporal has, as activities, and those that have to wait for it.

Temporal says nothing where one of its limits is passed: the run hangs, or ends. So at most `WINDOW`
activities are under way, at most `TASK_BYTES` are scheduled in one task of the workflow, and a call
that is larger than a payload is no activity at all.

How much the results of those under way will add to the history is not known; it is taken from
those that came, so that a fan-out of large values goes on with fewer at a time.

It says nothing of an activity's earlier tries, either, when one ends before a worker has taken up
the next. So a write has one try: whether it had begun in the worker that is gone comes back as
marks, which go along with the next try, and into its outcome if there will be none.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, Final, TypeAlias, final

from temporalio import exceptions as temporal_errors
from temporalio import workflow
from temporalio.common import RetryPolicy

from dagexec import CallError, Cancelled, Failed
from dagexec.engines._drive import Drive
from dagexec.engines._front import DEATHS, broken, died
from dagexec.engines._out import Out
from dagexec.engines.temporal._values import Lists
from dagexec.engines.temporal._wire import (
    CALL,
    LEFT,
    NO_TOOL,
    PAYLOAD,
    TASK_BYTES,
    Packed,
    dump,
    pack,
    queue_of,
    short,
    unpack,
)
from dagexec.lowlevel import outcome_body, outcome_of

# Activities under way; the server refuses more than 2,000 without a word to the workflow.
WINDOW: Final = 500
# Bytes of a history that cannot move, after which nothing more begins: at 50 MB the server ends it.
FULL: Final = 45_000_000
# Every activity needs a limit of its own; a call's deadlines are kept where it runs.
_FOR_EVER: Final = timedelta(days=3650)
_PAUSE: Final = timedelta(seconds=0.2)
# What is tried again as it is, by Temporal itself, and what is told here each time.
_RETRIED: Final = RetryPolicy(initial_interval=_PAUSE, maximum_attempts=DEATHS + 1)
_TOLD: Final = replace(_RETRIED, non_retryable_error_types=["TemporalTimeout:Heartbeat"])

Result: TypeAlias = "dict[str, Any]"


@final
@dataclass(frozen=True, slots=True)
class Gone:
    """What is known of a call whose worker is gone, or that no worker has: its marks."""

    marks: list[str]


@final
class Launches:
    """What the deciding half has asked for and has not heard of."""

    def __init__(
        self, spec: Mapping[str, Any], lists: Lists, marks: Mapping[str, list[str]]
    ) -> None:
        """Start with none; `marks` are of calls that had begun in histories before this one."""
        self._spec = spec
        self._lists = lists
        # Not yet given to Temporal, in the order in which they were asked for.
        self.held: dict[str, Out] = {}
        self._activities: dict[str, workflow.ActivityHandle[Any]] = {}
        self._ended: list[tuple[str, workflow.ActivityHandle[Any]]] = []
        # How often each call was given to Temporal, for ids of their own.
        self._tries: dict[str, int] = {}
        # Of calls that had begun in workers that are gone; how often that happened to each.
        self.marks: dict[str, list[str]] = {**marks}
        self._deaths: dict[str, int] = {}
        # Those that were told to stop and do not run anywhere.
        self._withdrawn: list[str] = []
        self._told_to_stop = False
        # The size of the largest result that came.
        self._largest = 1
        # Scheduled in the task of the workflow that began at this length of the history.
        self._task: int = -1
        self._bytes = 0

    # --------------------------------------------------------------------------------- going out

    def absorb(self, drive: Drive) -> None:
        """Take over what the deciding half asks for, until it asks for nothing more."""
        while drive.launches or drive.aborts or self._withdrawn:
            launches, aborts = drive.launches, drive.aborts
            drive.launches, drive.aborts = [], []
            self.held |= {out.name: out for out in launches}
            for out in aborts:
                if self.held.pop(out.name, None) is not None:
                    self._withdrawn.append(out.name)
                elif out.name in self._activities:
                    self._told_to_stop = True
                    self._activities[out.name].cancel()
            self._withdraw(drive)

    def _withdraw(self, drive: Drive) -> None:
        names, self._withdrawn = self._withdrawn, []
        begun = [name for name in names if self.marks.get(name) and name in drive.out]
        if begun:
            self._withdrawn = [name for name in names if name not in begun]
            drive.take(workflow.time(), [(name, self._lost(drive, name)) for name in begun])
        elif names:
            drive.withdrawn(names)

    def _lost(self, drive: Drive, name: str) -> Result:
        """Return the result of an aborted call that had begun in a worker that is gone."""
        marks, out = self._forgotten(name), drive.out[name]
        outcome = Cancelled(
            started=out.ready,
            ended=workflow.time() - drive.zero,
            attempts=len(marks),
            maybe=self._is_write(drive.machine.call(name).tool),
        )
        starts = drive.of(name).starts + len(marks)
        return {"outcome": outcome_body(outcome), "starts": starts, "abandoned": 0}

    def schedule(self, drive: Drive) -> list[tuple[str, Result]]:
        """Give to Temporal what it can take now; return the results of what it never can."""
        self._count()
        failed: list[tuple[str, Result]] = []
        if self.held and workflow.info().get_current_history_size() >= FULL:
            held, self.held = self.held, {}
            return [(name, _no_room()) for name in held]
        window = self._window()
        for name, out in [*self.held.items()]:
            if len(self._activities) >= window:
                break
            packed = pack(self._assignment(drive, out))
            if len(packed) > PAYLOAD:
                failed.append((name, _too_large(len(packed))))
            elif self._bytes and self._bytes + len(packed) > TASK_BYTES:
                break
            else:
                self._bytes += len(packed)
                self._start(name, drive.machine.call(name).tool, packed)
            del self.held[name]
        return failed

    def _window(self) -> int:
        """Return how many activities may be under way."""
        room: int = (FULL - workflow.info().get_current_history_size()) // self._largest
        return max(1, min(WINDOW, room))

    def _count(self, more: int = 0) -> None:
        length: int = workflow.info().get_current_history_length()
        if length != self._task:
            self._task, self._bytes = length, 0
        self._bytes += more

    def take_in(self, size: int) -> None:
        """Count an answer, which travels back to the server in this task, too."""
        self._count(size)

    def is_room_for(self, size: int) -> bool:
        """Whether an answer fits into this task beside what goes out in it; changes nothing."""
        taken = self._bytes if workflow.info().get_current_history_length() == self._task else 0
        return not taken or taken + size <= TASK_BYTES

    @property
    def waits_for_a_task(self) -> bool:
        """Whether calls are held although there is room for them: in the next task."""
        return bool(self.held) and len(self._activities) < self._window()

    @property
    def under_way(self) -> int:
        """How many activities there are."""
        return len(self._activities)

    def _start(self, name: str, tool: str, packed: Packed) -> None:
        count = self._tries[name] = self._tries.get(name, 0) + 1
        own = f"{short(name)}#{count}"
        activity: workflow.ActivityHandle[Any] = workflow.start_activity(
            CALL,
            packed,
            activity_id=own,
            task_queue=queue_of(self._spec["engine"], self._spec["queues"].get(tool, "")),
            start_to_close_timeout=_FOR_EVER,
            heartbeat_timeout=timedelta(seconds=self._spec["lease"]),
            retry_policy=_TOLD if self._is_write(tool) else _RETRIED,
            cancellation_type=workflow.ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
            summary=f"{short(name)[:100]}: {tool[:60]}",
        )
        self._activities[name] = activity
        # What is raised in here would be lost, and the run would wait for ever.
        activity.add_done_callback(lambda _: self._ended.append((name, activity)))

    def _assignment(self, drive: Drive, out: Out) -> str:
        work = {
            "run": self._spec["run_id"],
            "call": out.name,
            "tool": drive.machine.call(out.name).tool,
            "args": out.args,
            "timeout": self._spec["call"],
            "until": out.until,
            "scope": out.scope,
            "zero": drive.zero,
            "ready": out.ready,
            "past": drive.of(out.name).to_dict(),
        }
        body = {"work": work, "lists": self._lists.get(out.name, [])}
        marks = self.marks.get(out.name)
        return dump({**body, "marks": marks} if marks else body)

    def _is_write(self, tool: str) -> bool:
        return str(self._spec["effects"].get(tool, "write")) == "write"

    # --------------------------------------------------------------------------------- coming back

    @property
    def has_news(self) -> bool:
        """Whether an activity has ended."""
        return bool(self._ended)

    def news(self, drive: Drive) -> list[tuple[str, Result]]:
        """Return the results of what has ended; what was lost with its worker is held again."""
        ended, self._ended = self._ended, []
        results: list[tuple[str, Result]] = []
        for name, activity in ended:
            if self._activities.get(name) is not activity:
                continue  # it did not stop in time, and the run went on without it
            del self._activities[name]
            left = self._left_by(activity)
            result = self._after_death(drive, name, left.marks) if isinstance(left, Gone) else left
            if result is not None:
                self._forgotten(name)
                results.append((name, result))
        return results

    def _left_by(self, activity: workflow.ActivityHandle[Any]) -> Result | Gone:
        """Return what a worker left, or that there is none any more, or none yet."""
        if activity.cancelled():
            return Gone([])
        error = activity.exception()
        if error is not None:
            return _failure(error)
        packed = activity.result()
        if isinstance(packed, str | bytes):
            self._largest = max(self._largest, len(packed))
        return _read(packed)

    def _after_death(self, drive: Drive, name: str, marks: list[str]) -> Result | None:
        """Hold a call again whose worker is gone, or end it; return its result if it has one."""
        if len(marks) > len(self.marks.get(name, [])):
            self.marks[name] = marks
        out = drive.out.get(name)
        if out is None or out.aborted is not None:
            self._withdrawn.append(name)
            return None
        deaths = self._deaths[name] = self._deaths.get(name, 0) + 1
        if deaths > DEATHS or not self._is_write(drive.machine.call(name).tool):
            return died()
        self.held[name] = out
        return None

    def _forgotten(self, name: str) -> list[str]:
        self._deaths.pop(name, None)
        return self.marks.pop(name, [])

    def forget(self, drive: Drive) -> None:
        """Drop activities that did not stop when they were told to, and were given up."""
        if self._told_to_stop:
            for name in [name for name in self._activities if name not in drive.out]:
                del self._activities[name]


def _read(packed: Any) -> Result:
    """Return a result; one that no worker of this version wrote costs its call, not the run."""
    try:
        found: Result = json.loads(unpack(packed))
        outcome_of(found["outcome"])
        _ = int(found["starts"]), int(found["abandoned"])
    except Exception as error:  # noqa: BLE001 - whatever it is
        return broken(f"its result cannot be read: {type(error).__name__}: {error}")
    return found


def _failure(error: BaseException) -> Result | Gone:
    """Return what the failure of an activity says of its call."""
    cause = error.cause if isinstance(error, temporal_errors.ActivityError) else error
    if (marks := _marks_of(cause)) is not None:
        return Gone([str(mark) for mark in marks])
    if isinstance(cause, temporal_errors.ApplicationError):
        return _given_up(cause)
    return broken(f"{type(cause).__name__}: {cause}")


def _marks_of(cause: BaseException | None) -> Sequence[Any] | None:
    """Return what a worker that is gone had begun; None if it is not."""
    if isinstance(cause, temporal_errors.CancelledError):
        return ()
    if isinstance(cause, temporal_errors.TimeoutError):
        return cause.last_heartbeat_details
    if isinstance(cause, temporal_errors.ApplicationError) and cause.type == LEFT:
        return cause.details
    return None


def _given_up(error: temporal_errors.ApplicationError) -> Result:
    """Return the result of a call that workers passed on, too often, or failed over."""
    if error.type != NO_TOOL:
        return broken(error.message)
    why = CallError(f"the call was not run: {error.message}; start a worker that has it")
    failed = Failed(why, ended=0.0, maybe=bool(error.details and error.details[0]))
    return {"outcome": outcome_body(failed), "starts": 0, "abandoned": 0}


def _no_room() -> Result:
    error = CallError(
        "the call was not run: what the calls of this run returned fills its history in Temporal,"
        f" which takes at most 50 MB and can move to a fresh one with at most {PAYLOAD} bytes; give"
        " the engine a store= for large values, or return less"
    )
    return {"outcome": outcome_body(Failed(error, ended=0.0)), "starts": 0, "abandoned": 0}


def _too_large(size: int) -> Result:
    failed = Failed(CallError(too_large_text(size)), ended=0.0)
    return {"outcome": outcome_body(failed), "starts": 0, "abandoned": 0}


def too_large_text(size: int) -> str:
    """Return what is said of a call whose arguments do not travel."""
    return (
        f"the arguments of the call are too large for Temporal: {size} bytes, and it takes at most"
        f" {PAYLOAD}; give the engine a store= for large values, or pass less"
    )
