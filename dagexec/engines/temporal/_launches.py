"""The calls of a run that Temporal has, as activities, and those that have to wait for it.

Temporal says nothing where one of its limits is passed: the run hangs, or ends. So at most `WINDOW`
activities are under way, at most `TASK_BYTES` are scheduled in one task of the workflow, and a call
that is larger than a payload is no activity at all.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Final, TypeAlias, final

from temporalio import exceptions as temporal_errors
from temporalio import workflow
from temporalio.common import RetryPolicy

from dagexec import CallError, Failed
from dagexec.engines._drive import Drive
from dagexec.engines._front import DEATHS, broken, died
from dagexec.engines._out import Out
from dagexec.engines.temporal._values import Lists
from dagexec.engines.temporal._wire import (
    CALL,
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
from dagexec.lowlevel import outcome_body

# Activities under way; the server refuses more than 2,000 without a word to the workflow.
WINDOW: Final = 500
# Every activity needs a limit of its own; a call's deadlines are kept where it runs.
_FOR_EVER: Final = timedelta(days=3650)
_PAUSE: Final = timedelta(seconds=0.2)

Result: TypeAlias = "dict[str, Any]"


@final
class Launches:
    """What the deciding half has asked for and has not heard of."""

    def __init__(self, spec: Mapping[str, Any], lists: Lists) -> None:
        """Start with none."""
        self._spec = spec
        self._lists = lists
        # Not yet given to Temporal, in the order in which they were asked for.
        self.held: dict[str, Out] = {}
        self._activities: dict[str, workflow.ActivityHandle[Any]] = {}
        self._ended: list[tuple[str, workflow.ActivityHandle[Any]]] = []
        # How often each call was given to Temporal, for ids of their own.
        self._tries: dict[str, int] = {}
        self._told_to_stop = False
        # Scheduled in the task of the workflow that began at this length of the history.
        self._task: int = -1
        self._bytes = 0

    # --------------------------------------------------------------------------------- going out

    def absorb(self, drive: Drive) -> None:
        """Take over what the deciding half asks for, until it asks for nothing more."""
        while drive.launches or drive.aborts:
            launches, aborts = drive.launches, drive.aborts
            drive.launches, drive.aborts = [], []
            self.held |= {out.name: out for out in launches}
            unbegun = [out.name for out in aborts if self.held.pop(out.name, None) is not None]
            for out in aborts:
                activity = self._activities.get(out.name)
                if activity is not None:
                    self._told_to_stop = True
                    activity.cancel()
            if unbegun:
                drive.withdrawn(unbegun)

    def schedule(self, drive: Drive) -> list[tuple[str, Result]]:
        """Give to Temporal what it can take now; return the results of what it never can."""
        self._count()
        failed: list[tuple[str, Result]] = []
        for name, out in [*self.held.items()]:
            if len(self._activities) >= WINDOW:
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
        return bool(self.held) and len(self._activities) < WINDOW

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
            retry_policy=RetryPolicy(initial_interval=_PAUSE, maximum_attempts=DEATHS + 1),
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
        return dump({"work": work, "lists": self._lists.get(out.name, [])})

    # --------------------------------------------------------------------------------- coming back

    @property
    def has_news(self) -> bool:
        """Whether an activity has ended."""
        return bool(self._ended)

    def news(self) -> tuple[list[tuple[str, Result]], list[str]]:
        """Return the results of what has ended, and the calls that no worker had begun."""
        ended, self._ended = self._ended, []
        results: list[tuple[str, Result]] = []
        unbegun: list[str] = []
        for name, activity in ended:
            if self._activities.get(name) is not activity:
                continue  # it did not stop in time, and the run went on without it
            del self._activities[name]
            result = _result(activity)
            if result is None:
                unbegun.append(name)
            else:
                results.append((name, result))
        return results, unbegun

    def forget(self, drive: Drive) -> None:
        """Drop activities that did not stop when they were told to, and were given up."""
        if self._told_to_stop:
            for name in [name for name in self._activities if name not in drive.out]:
                del self._activities[name]


def _result(activity: workflow.ActivityHandle[Any]) -> Result | None:
    """Return what a worker left; None if no worker had begun the call when it was withdrawn."""
    if activity.cancelled():
        return None
    error = activity.exception()
    if error is None:
        found: Result = json.loads(unpack(activity.result()))
        return found
    cause = error.cause if isinstance(error, temporal_errors.ActivityError) else error
    if isinstance(cause, temporal_errors.CancelledError):
        return None
    if isinstance(cause, temporal_errors.TimeoutError):
        return died()
    if isinstance(cause, temporal_errors.ApplicationError):
        return _given_up(cause)
    return broken(f"{type(cause).__name__}: {cause}")


def _given_up(error: temporal_errors.ApplicationError) -> Result:
    """Return the result of a call that workers passed on, too often, or failed over."""
    if error.type != NO_TOOL:
        return broken(error.message)
    why = CallError(f"the call was not run: {error.message}; start a worker that has it")
    failed = Failed(why, ended=0.0, maybe=bool(error.details and error.details[0]))
    return {"outcome": outcome_body(failed), "starts": 0, "abandoned": 0}


def _too_large(size: int) -> Result:
    error = CallError(
        f"the arguments of the call are too large for Temporal: {size} bytes, and it takes at most"
        f" {PAYLOAD}; give the engine a store= for large values, or pass less"
    )
    return {"outcome": outcome_body(Failed(error, ended=0.0)), "starts": 0, "abandoned": 0}
