"""The state of one run: what all its parts share. It knows none of them.

Where what happens depends on which parts a run has, the runner says so once, before the run begins:
it sets `launch`, `finish`, `record`, `note` and `released` here, and nobody asks again.

Everything between two awaits is atomic on an event loop, so feeding the scheduler, recording
outcomes and starting workers need no lock.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextvars import Context, copy_context
from dataclasses import replace
from typing import Any, TypeAlias, final

import anyio
from anyio import CancelScope, get_cancelled_exc_class

from dagexec._concurrency.slots import Slots
from dagexec._core.events import Notice, Progress
from dagexec._core.outcomes import Cancelled, Outcome, TimedOut
from dagexec._core.results import Mark, MarkKind
from dagexec._core.scheduler import (
    Abort,
    Added,
    Conclude,
    Event,
    Expired,
    Launch,
    Scheduler,
    Settled,
    Spread,
    Started,
    State,
    Stop,
)
from dagexec._errors import CallTimeout
from dagexec._runtime.blocking import Blocking
from dagexec._runtime.observers import (
    Observer,
    entering,
    tell_all,
    tell_past,
    telling_from_anywhere,
)
from dagexec._runtime.settings import Settings
from dagexec._runtime.watchdog import Watchdog
from dagexec._tools.context import Replies, Surroundings

Settle: TypeAlias = Callable[[str, Outcome], None]


@final
class RunState:
    """Settings, slots, clock, machine, observers, and what ends the run."""

    def __init__(
        self, settings: Settings, slots: Slots, run_id: str, observers: Sequence[Observer]
    ) -> None:
        """Prepare a run; its clock starts with `begin`."""
        self.settings = settings
        self.slots = slots
        self.run_id = run_id
        # Replaced before the run begins, or not at all: see `follow`.
        self.machine = Scheduler(on_failure=settings.on_failure, barrier=settings.barrier)
        # Complete before the run begins: each hears of everything.
        self.observers = tuple(observers)
        self._enter = entering(observers)
        self._context: Context = copy_context()
        # Validated arguments of calls that have not started: from before the run those without
        # references, during it those of calls that wait for others. A call that starts takes its
        # own out.
        self.prepared: dict[str, dict[str, Any]] = {}
        # With a journal, the recorder's own: what people answered, how often each call was started.
        self.given: Mapping[str, Replies] | None = None
        self.starts: Mapping[str, int] | None = None
        self.watchdog = Watchdog()
        self.blocking = Blocking()
        self._init_clock()
        self._init_hooks()
        self._init_ending()

    def _init_clock(self) -> None:
        # The library's own: anyio.current_time() first finds out which one it is, each time.
        loop = self.slots.loop()
        trio = sys.modules.get("trio")
        other = anyio.current_time if trio is None else trio.current_time
        # The event loop's; `zero` is the point on it at which the seconds of the run begin, before
        # the real begin by what a resumed run had lasted already.
        self.clock: Callable[[], float] = getattr(loop, "time", other)
        self.zero = 0.0
        # Seconds that the run had lasted before it was resumed.
        self.already = 0.0
        # Seconds that it lasted, set at its end; until then what an earlier process recorded.
        self.elapsed = 0.0
        # When it began on the machine's clock, which any thread can read; and its loop's thread.
        self.began = 0.0
        # When it began first, in seconds since the epoch; of a run with a journal as recorded
        # there. None before it began, and where an older journal does not say.
        self.began_at: float | None = None
        self.thread = threading.get_ident()

    def _init_hooks(self) -> None:
        # What happens at a launch and at the machine's end; always set before the run begins.
        self.launch: Callable[[Launch], object]
        self.finish: Callable[[], object]
        # Records an outcome before the machine is told; None without a journal.
        self.record: Settle | None = None
        # Records that a call becomes one for each item, likewise.
        self.record_spread: Callable[[Spread], object] | None = None
        # Feeds what no call says; with a journal, in the order in which it is recorded.
        self.note: Callable[[Stop | Expired], object] = self.feed
        # Who wants to hear that a call has an outcome: whatever held others back because of it.
        # Empty in most runs, and then a settled call costs nothing for it.
        self.released: list[Callable[[str], object]] = []
        # What goes on beside the calls of a stream, until the run has ended.
        self.companion: Callable[[], Awaitable[object]] | None = None
        # Outcomes that the source of a stream has for calls of its own: those do not start.
        self.known: dict[str, Outcome] = {}

    def _init_ending(self) -> None:
        # The backend's exception. Whoever catches it raises it again.
        self.cancelled = get_cancelled_exc_class()
        # Round all that the run starts. Cancelled only through `stop`, by an `Abort` of the machine
        # or by its own deadline.
        self.scope = CancelScope()
        # Whether it was driven at all; whether it is over. Never back to False.
        self.begun = False
        self.ended = False
        # What a call that is stopped becomes, once something has stopped it; the first one counts.
        self.verdict: Outcome | None = None
        # What passes through the run bare: KeyboardInterrupt, SystemExit and their like.
        self.fatal: BaseException | None = None
        # Whether the run ends by what is no outcome: a journal keeps it open then.
        self.interrupted = False
        # Whether that was a cancellation by no scope of the run's, which has to leave the run too.
        self.cancelled_from_outside = False
        # Scopes in which calls wait although their tools were cancelled: they end with the run.
        self.shields: dict[CancelScope, None] = {}
        # Threads that were left behind, and the calls that they were for.
        self.abandoned = 0
        self.left_behind: list[str] = []
        # What calls with limits or retries went through; most calls have none.
        self.marks: dict[str, tuple[Mark, ...]] = {}

    # ---------------------------------------------------------------------------- begin and clock

    def begin(self) -> None:
        """Start the clock, and the deadline of the run."""
        self.begun = True
        self.began = time.monotonic()
        if self.record is None:
            self.began_at = time.time()
        now = self.clock()
        self.zero = now - self.already
        if self.settings.run_timeout is not None:
            self.scope.deadline = now + self.settings.run_timeout

    def follow(self, on_failure: str, *, barrier: bool) -> None:
        """Begin with the policies of a run that is resumed, whatever those of its executor are."""
        self.machine = Scheduler(on_failure=on_failure, barrier=barrier)

    def now(self) -> float:
        """Return the seconds since the run began."""
        return self.clock() - self.zero

    def so_far(self) -> float:
        """Return how long the run has taken, in seconds: until now, or until its end."""
        if not self.begun or self.ended:
            return self.elapsed
        return self.now()

    def counted(self) -> tuple[float, int, int, float, dict[str, float]]:
        """Return its seconds, threads left behind and steps that blocked, as `end_record` takes."""
        blocking = self.blocking
        return self.elapsed, self.abandoned, blocking.count, blocking.seconds, blocking.by_call

    def surroundings(self, *inner: CancelScope) -> Surroundings:
        """Return what the calls of a lane share, inside these scopes and the run's."""
        return Surroundings(
            self.run_id,
            self._context,
            (self.scope, *inner),
            self._enter,
            in_place=self.settings.sequential,
            tell=telling_from_anywhere(self.progress) if self.observers else None,
            given=self.given,
            starts=self.starts,
        )

    # ------------------------------------------------------------------ the machine and its actions

    def feed(self, *events: Event) -> None:
        """Give events to the machine and do what it says."""
        actions = self.machine.receive(*events)
        if self.observers:
            tell_all(self.observers, events)
            if type(events[0]) is Spread:
                # Observers know calls by their arrival; those for items arrive with this.
                items = self.machine.items(events[0].call)
                tell_all(self.observers, [Added(item) for item in items])
            tell_all(self.observers, actions)
        for action in actions:
            kind = type(action)
            if kind is Launch:
                self.launch(action)  # type: ignore[arg-type]
            elif kind is Abort:
                self._abort(action)  # type: ignore[arg-type]
            elif kind is Conclude:
                self.release(action.call)  # type: ignore[union-attr]
            else:
                self.finish()

    def start_call(self, name: str, at: float) -> None:
        """Tell the machine that a call begins, at `at` seconds of the run."""
        event = Started(name, at)
        if self.observers:
            self.feed(event)
        else:
            self.machine.receive(event)  # nothing follows from it

    def settle_recorded(self, name: str, outcome: Outcome) -> None:
        """Tell the machine what became of a call, once it is recorded."""
        if self.machine.state(name) is State.SETTLED:
            return  # the run was stopped meanwhile
        self.feed(Settled(name, outcome))
        self.release(name)

    def spread(self, event: Spread) -> None:
        """Tell the machine that a call becomes one for each item, unless the run was stopped."""
        if self.machine.ready(event.call) is None:
            return
        self.feed(event)
        # Its layer need not wait for it: the items are in later ones.
        self.release(event.call)

    def release(self, name: str) -> None:
        """Let those go on who wait for the outcome of a call, or for what it held.

        Also for one that the machine itself concluded: it may have waited, ready, with others
        behind it.
        """
        for each in self.released:
            each(name)

    def _abort(self, action: Abort) -> None:
        if action.outcome.scope != "layer":  # a layer's scope is cancelled by its own deadline
            self.verdict = self.verdict or action.outcome
            self._cancel()

    def _cancel(self) -> None:
        self.scope.cancel()
        for each in tuple(self.shields):
            each.cancel()

    # ---------------------------------------------------------------------------- those who look on

    def observe(self, observer: Observer) -> None:
        """Tell one more of what happens; before the run begins."""
        self.observers = (*self.observers, observer)

    def progress(self, item: Progress) -> None:
        """Tell those who look on how far a call is, unless it has ended."""
        if item.call not in self.machine.outcomes:
            self.tell(replace(item, at=self.now()))

    def mark(self, name: str, kind: MarkKind, delay: float = 0.0) -> None:
        """Take note of where a call is now between the scheduler's events."""
        self.marks[name] = (*self.marks.get(name, ()), Mark(kind, self.now(), delay))

    def tell(self, notice: Notice) -> None:
        """Let observers hear of something that is no event of the machine."""
        if self.observers:
            tell_all(self.observers, (notice,))

    def retell(self) -> None:
        """Tell observers what a resumed run had been through, its end too if nothing is left."""
        tell_past(self.observers, self.machine, over=not self.begun)

    # ------------------------------------------------------------------------------- what ends it

    def stop(self, outcome: Outcome) -> None:
        """End the run: what has not ended becomes `outcome`.

        A run stopped before it began still receives its calls, so each has an outcome.
        """
        if self.ended:
            return
        self.verdict = self.verdict or outcome
        if self.begun:
            self.note(Stop(outcome))
        self._cancel()

    def interrupt(self, outcome: Outcome) -> None:
        """End the run by what is no outcome of a call: a journal keeps it open, to be resumed."""
        self.interrupted = True
        self.stop(outcome)

    def end_by(self, error: BaseException, outcome: Outcome) -> None:
        """End the run by an error; its runner raises the first of these bare."""
        self.fatal = self.fatal or error
        self.interrupt(outcome)

    def stopped_by(self) -> Outcome | None:
        """Return what has stopped the run, its own deadline included; None if nothing has."""
        if self.verdict is None and self.scope.cancel_called:
            self.verdict = late(self.settings.run_scope, self.blocking.during(self.now()))
            self.note(Stop(self.verdict))
        return self.verdict

    def stopped_by_caller(self) -> Outcome:
        """Take what was cancelled by no scope of the run's for cancelled by the caller."""
        self.verdict = Cancelled()
        self.interrupted = self.cancelled_from_outside = True
        self.feed(Stop(self.verdict))
        return self.verdict


def late(scope: str, besides: str = "") -> TimedOut:
    """Return the outcome of what the deadline of this scope ended, and what there is to say."""
    text = f"the deadline of the {scope} expired{besides}"
    return TimedOut(scope, error=CallTimeout(text, scope))
