"""What each unfinished call of a run holds, waits for, and where it stands in its code.

Made when it is asked for, from what the runner knows anyway: a call pays nothing for it. It can be
asked for from any thread, so that a blocked event loop can be looked at too.
"""

from __future__ import annotations

import json
import math
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import CodeType
from typing import Any, Final, TypeVar, final

from dagexec._concurrency.contexts import go_on
from dagexec._concurrency.requests import judged
from dagexec._concurrency.slots import Lease
from dagexec._concurrency.stacks import Frame, Place, awaits_of, thread_frames
from dagexec._concurrency.steps import SLOW, clock
from dagexec._concurrency.threads import ThreadCall
from dagexec._core.plan import Call
from dagexec._core.scheduler import State
from dagexec._errors import DagexecError
from dagexec._runtime.lane import Lane
from dagexec._runtime.runner import Runner, live
from dagexec._runtime.settings import Settings
from dagexec._runtime.worker import Worker

T = TypeVar("T")

_TRIES: Final = 20
# Below this code begins the tool's own.
_INVOKE: Final = Worker._invoke.__code__  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
# How a call is driven; the same in each.
_STEPS: Final = (_INVOKE, go_on.__code__)
_HIDDEN: Final = (_INVOKE, Worker._go_on.__code__, go_on.__code__, judged.__code__)  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]


def counted(number: int, what: str) -> str:
    """Return a number of things as a reader writes it: `1 call`, `2 calls`."""
    return f"{number} {what}{'' if number == 1 else 's'}"


@final
@dataclass(frozen=True, slots=True)
class CallWaits:
    """An unfinished call.

    `state` is waiting, held, ready, running, stopping (it was asked to end) or pending (a person
    has to answer). `holds` and `waits_for` are in words; `seconds` is how long it has run, or been
    ready, None before that; `left` how many seconds its own deadline is away. `stack` leads from
    the tool down to where it stands, `thread` is the system's id of the thread it runs in.
    """

    id: str
    tool: str
    state: str
    holds: tuple[str, ...] = ()
    waits_for: tuple[str, ...] = ()
    seconds: float | None = None
    left: float | None = None
    where: Place | None = None
    stack: tuple[Place, ...] = ()
    thread: int | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {
            "id": self.id,
            "tool": self.tool,
            "state": self.state,
            "holds": list(self.holds),
            "waits_for": list(self.waits_for),
            "seconds": _rounded(self.seconds),
            "left": _rounded(self.left),
            "where": None if self.where is None else str(self.where),
            "stack": [str(each) for each in self.stack],
            "thread": self.thread,
        }

    def __str__(self) -> str:
        """Return it in one line."""
        parts = [f"{self.id} ({self.tool}) {self.state}"]
        if self.seconds is not None:
            parts.append(f"for {self.seconds:.1f} s")
        if self.holds:
            parts.append(f"holds {', '.join(self.holds)}")
        if self.waits_for:
            parts.append(f"waits for {', '.join(self.waits_for)}")
        if self.where is not None:
            parts.append(f"at {self.where}")
        return ", ".join(parts)


@final
@dataclass(frozen=True, slots=True)
class RunWaits:
    """A run and its unfinished calls, in plan order. `ended` counts those that have an outcome."""

    id: str
    seconds: float
    ended: int
    calls: tuple[CallWaits, ...] = ()

    def __iter__(self) -> Iterator[CallWaits]:
        """Iterate over the unfinished calls."""
        return iter(self.calls)

    def __len__(self) -> int:
        """Return how many calls are unfinished."""
        return len(self.calls)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {
            "id": self.id,
            "seconds": _rounded(self.seconds),
            "ended": self.ended,
            "calls": [each.to_dict() for each in self.calls],
        }

    def __str__(self) -> str:
        """Return a line for the run and one for each call."""
        head = (
            f"run {self.id}: {counted(self.ended, 'call')} ended, {len(self.calls)} unfinished"
            f" after {self.seconds:.1f} s"
        )
        return "\n".join((head, *(f"  {each}" for each in self.calls)))


@final
@dataclass(frozen=True, slots=True)
class Snapshot:
    """What executors do at one moment: the live runs, and the slots that they share.

    `slots` is the concurrency, None without a limit; `taken` how many slots calls hold, `queued`
    how many runs and calls stand in line for one.
    """

    runs: tuple[RunWaits, ...] = ()
    slots: int | None = None
    taken: int = 0
    queued: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {
            "slots": self.slots,
            "taken": self.taken,
            "queued": self.queued,
            "runs": [each.to_dict() for each in self.runs],
        }

    def to_json(self, *, indent: int | None = None) -> str:
        """Return the same as JSON text."""
        return json.dumps(self.to_dict(), indent=indent)

    def __str__(self) -> str:
        """Return a line for the slots and those of each run."""
        of = "" if self.slots is None else f" of {self.slots}"
        taken = f"{self.taken}{of} slots taken" if of else f"{counted(self.taken, 'slot')} taken"
        head = f"{counted(len(self.runs), 'live run')}, {taken}, {self.queued} in line"
        return "\n".join((head, *map(str, self.runs)))


def snapshot_of(settings: Settings, concurrency: int | None) -> Snapshot:
    """Return what one executor does now, and its copies with other timeouts."""
    family = settings.family
    return settled(
        lambda: _snapshot(
            [each for each in live if each.state.settings.family is family], concurrency
        )
    )


def snapshot_of_all() -> Snapshot:
    """Return what all executors of this process do now."""
    return settled(lambda: _snapshot(list(live), None))


def waits_of(runner: Runner) -> RunWaits:
    """Return the unfinished calls of a run."""
    return settled(lambda: _run(runner))


def settled(look: Callable[[], T]) -> T:
    """Look until nothing has changed under it: another thread may ask while the run goes on."""
    for _ in range(_TRIES):
        try:
            return look()
        except (RuntimeError, KeyError):  # "dictionary changed size during iteration", and the like
            continue
    msg = "the run changes too fast to be looked at from another thread; ask again"
    raise DagexecError(msg)


def _snapshot(runners: list[Runner], concurrency: int | None) -> Snapshot:
    slots = list({id(each.state.slots): each.state.slots for each in runners}.values())
    looks = [worker.look() for each in runners for worker in list(each.workers)]
    taken = sum(look is not None and look[3] for look in looks)
    queued = sum(len(each.waiters) for each in slots)
    return Snapshot(tuple(map(_run, runners)), concurrency or None, taken, queued)


def _run(runner: Runner) -> RunWaits:
    machine = runner.state.machine
    workers = [(worker, worker.look()) for worker in list(runner.workers)]
    running = {look[0].id: (worker, look) for worker, look in workers if look is not None}
    limited = dict(filter(None, (getattr(worker, "limited", None) for worker, _ in workers)))
    ready = {name: (lane, since) for lane in runner.lanes for name, since in list(lane.queue)}
    calls: list[CallWaits] = []
    for call in list(machine.calls):
        state = machine.state(call.id)
        if call.id in running:
            calls.append(_running(runner, *running[call.id], state.value))
        elif state is State.SETTLED:
            if machine.outcomes[call.id].status == "pending":
                calls.append(CallWaits(call.id, call.tool, "pending", waits_for=("an answer",)))
        elif state is State.READY:
            lane, since = ready.get(call.id, (None, None))
            waits: tuple[str, ...] = tuple(f"limit {key}" for key in limited.get(call.id, ()))
            if not waits:
                waits = (_turn(runner, call.id) if lane is None else _queue(lane),)
            seconds = None if since is None else _now(runner) - since
            calls.append(CallWaits(call.id, call.tool, "ready", waits_for=waits, seconds=seconds))
        else:
            waits = _missing(runner, call.id, state)
            calls.append(CallWaits(call.id, call.tool, state.value, waits_for=waits))
    return RunWaits(runner.state.run_id, _now(runner), len(machine.outcomes), tuple(calls))


def _queue(lane: Lane) -> str:
    return "a slot" if lane.queued_for_slot else "its turn"


def _turn(runner: Runner, name: str) -> str:
    """Say what a call waits for that is ready and in no queue."""
    parked = None if runner.parts.holdings is None else runner.parts.holdings.parked(name)
    if parked is not None:
        return parked.words
    leader = None if runner.parts.sharing is None else runner.parts.sharing.leader(name)
    return "its turn" if leader is None else f"call {leader}, which is identical"


def _missing(runner: Runner, name: str, state: State) -> tuple[str, ...]:
    if state is State.HELD:
        return ("the layer before" if runner.state.machine.closed else "the end of the plan",)
    machine = runner.state.machine
    known = {call.id for call in machine.calls}
    call = machine.call(name)
    waits: list[str] = []
    for each in dict.fromkeys((*call.needs, *call.waits)):
        outcome = machine.outcomes.get(each)
        if outcome is None:
            waits.append(f"call {each}" if each in known else f"call {each}, which has not arrived")
        elif outcome.status == "pending":
            waits.append(f"the answer to call {each}")
    return tuple(waits)


def _now(runner: Runner) -> float:
    """Return the seconds of the run; trio's clock can be read in its own thread only."""
    if threading.get_ident() == runner.state.thread:
        return runner.state.now()
    return time.monotonic() - runner.state.began


def _running(
    runner: Runner, worker: Worker, look: tuple[Call, float, float, bool], state: str
) -> CallWaits:
    call, started, deadline, holds_slot = look
    holds = ["a slot"] if holds_slot else []
    held = None if runner.parts.holdings is None else runner.parts.holdings.held.get(call.id)
    if held is not None:
        holds.append(held.words)
    waits: list[str] = []
    frames, thread = _frames(runner, worker, waits, holds)
    native = None
    if thread is not None and thread.ident is not None:
        native = _native(thread.ident)
        holds.append("a thread" if native is None else f"thread {native}")
    own = [each for each in frames if not each.is_plumbing]
    left = deadline - runner.state.zero - _now(runner)
    return CallWaits(
        call.id,
        call.tool,
        state,
        tuple(holds),
        tuple(waits),
        _now(runner) - started,
        None if left == math.inf else left,
        (own or frames)[-1].place if frames else None,
        tuple(each.place for each in frames),
        native,
    )


def _frames(
    runner: Runner, worker: Worker, waits: list[str], holds: list[str]
) -> tuple[list[Frame], ThreadCall | None]:
    """Return the frames from the tool's first on, and the thread it runs in, if it does.

    What they show to be waited for is added to `waits`, and the event loop to `holds` if a step of
    the tool has blocked it for too long by now.
    """
    found = _until_a_run(worker.running, waits)
    thread = next(
        (each.local("self") for each in found if each.code is ThreadCall.run.__code__), None
    )
    if thread is not None and thread.ident is not None:
        frames = _below(thread_frames(thread.ident), ThreadCall.execute.__code__)
    elif found and found[-1].runs:  # the event loop is in it at this moment
        stack = thread_frames(runner.state.thread)
        frames = _below(stack, _INVOKE)
        begun = next((each.local("begun") for each in stack[::-1] if each.code in _STEPS), None)
        if begun is not None and clock() - begun > SLOW:
            holds.append(f"the event loop for {clock() - begun:.1f} s")
    else:
        frames = _below(found, _INVOKE)
    if any(each.code is Lease.__aexit__.__code__ for each in found):
        waits.append("its slot, which it gave back for a nested run")
    return [each for each in frames if each.code not in _HIDDEN], thread


def _until_a_run(coroutine: object, waits: list[str]) -> list[Frame]:
    """Return the links of a chain down to a nested run, which has calls of its own to show."""
    links: list[Frame] = []
    for found in awaits_of(coroutine):
        if found.code is Runner.drive.__code__:
            waits.append(f"run {found.local('self').state.run_id}")
            break
        links.append(found)
    return links


def _below(frames: list[Frame], code: CodeType) -> list[Frame]:
    """Return the frames below the innermost one with this code."""
    places = [place for place, found in enumerate(frames) if found.code is code]
    return frames[places[-1] + 1 :] if places else []


def _native(ident: int) -> int | None:
    return next((each.native_id for each in threading.enumerate() if each.ident == ident), None)


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)
