"""Counters and histograms of calls."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final, final

from opentelemetry import metrics

from dagexec._core.events import Abandoned, Blocked, Notice, Retrying
from dagexec._core.outcomes import Outcome
from dagexec._core.scheduler import (
    Action,
    Added,
    Conclude,
    Event,
    Finish,
    Launch,
    Settled,
    Started,
)
from dagexec._errors import RateLimited
from dagexec._tools.tool import Tool

if TYPE_CHECKING:
    from opentelemetry.metrics import Meter

# Seconds; those that the conventions advise for `gen_ai.client.operation.duration`.
_BOUNDS: Final = [0.01 * 2**power for power in range(14)]

_TOOL: Final = "gen_ai.tool.name"


@final
class Metrics:
    """Counts calls of runs; give it to `Executor(observers=[...])`.

    Args:
        meter: Where instruments are made; by default the global provider's.
    """

    def __init__(self, *, meter: Meter | None = None) -> None:
        """Keep the meter; instruments are made at the first run."""
        self._meter = meter
        self._instruments: Instruments | None = None

    def begin(self, run_id: str, tools: Mapping[str, Tool[..., Any]]) -> RunMetrics:
        """Return the observer of one run; the executor calls it."""
        del run_id, tools
        if self._instruments is None:
            # Made late: a program may set its provider after it has made its executor.
            self._instruments = Instruments(self._meter or metrics.get_meter("dagexec"))
        return RunMetrics(self._instruments)


@final
class Instruments:
    """What is counted, under the names of the conventions where they have one."""

    def __init__(self, meter: Meter) -> None:
        """Make them."""
        self.duration = meter.create_histogram(
            "gen_ai.client.operation.duration",
            "s",
            "GenAI operation duration.",
            explicit_bucket_boundaries_advisory=_BOUNDS,
        )
        self.calls = meter.create_counter("dagexec.calls", "{call}", "Calls that ended.")
        self.active = meter.create_up_down_counter(
            "dagexec.calls.active", "{call}", "Calls that run."
        )
        self.queue_time = meter.create_histogram(
            "dagexec.call.queue_time",
            "s",
            "From when a call was ready to when it was admitted.",
            explicit_bucket_boundaries_advisory=_BOUNDS,
        )
        self.retries = meter.create_counter(
            "dagexec.call.retries", "{attempt}", "Attempts that failed and were tried again."
        )
        self.refusals = meter.create_counter(
            "dagexec.call.refusals", "{attempt}", "Attempts that the other side refused."
        )
        self.blocked = meter.create_counter(
            "dagexec.loop.blocked", "s", "Time in which async tools blocked the event loop."
        )
        self.abandoned = meter.create_counter(
            "dagexec.threads.abandoned", "{thread}", "Threads left behind at a deadline."
        )


@final
class RunMetrics:
    """The observer of one run."""

    def __init__(self, instruments: Instruments) -> None:
        """Begin with nothing."""
        self._all = instruments
        self._tools: dict[str, str] = {}
        # Calls that began here and have not ended.
        self._running: dict[str, None] = {}
        # A resumed run first tells what became of its calls before: that was counted then.
        self._past = True
        self._handlers: dict[type, Callable[[Any], None]] = {
            Added: self._on_added,
            Launch: self._on_launch,
            Started: self._on_started,
            Settled: self._on_ended,
            Conclude: self._on_ended,
            Retrying: self._on_retrying,
            Blocked: self._on_blocked,
            Abandoned: self._on_abandoned,
            Finish: self._on_finish,
        }

    def __call__(self, item: Event | Action | Notice) -> None:
        """Follow the run."""
        handler = self._handlers.get(type(item))
        if handler is not None:
            handler(item)

    def _of(self, call: str) -> dict[str, str]:
        return {_TOOL: self._tools[call]}

    def _on_added(self, event: Added) -> None:
        self._tools[event.call.id] = event.call.tool

    def _on_launch(self, _: Launch) -> None:
        self._past = False

    def _on_started(self, event: Started) -> None:
        self._running[event.call] = None
        self._all.active.add(1, self._of(event.call))

    def _on_ended(self, event: Settled | Conclude) -> None:
        began = event.call in self._running
        if began:
            del self._running[event.call]
            self._all.active.add(-1, self._of(event.call))
        elif self._past:
            return
        self._count(event.call, event.outcome, began=began)

    def _count(self, call: str, outcome: Outcome, *, began: bool) -> None:
        of = self._of(call)
        self._all.calls.add(1, {**of, "dagexec.outcome": outcome.status})
        if isinstance(outcome.error, RateLimited):
            self._all.refusals.add(1, of)
        if not began or outcome.seconds is None:
            return
        attributes = {"gen_ai.operation.name": "execute_tool", **of}
        if outcome.status == "timed_out":
            attributes["error.type"] = "timeout"
        elif outcome.status != "done":
            kind = type(outcome.error).__name__
            attributes["error.type"] = kind if outcome.error is not None else outcome.status
        self._all.duration.record(outcome.seconds, attributes)
        if outcome.queued is not None:
            self._all.queue_time.record(outcome.queued, of)

    def _on_retrying(self, notice: Retrying) -> None:
        of = self._of(notice.call)
        if isinstance(notice.error, RateLimited):
            self._all.refusals.add(1, of)
        kind = "_OTHER" if notice.error is None else type(notice.error).__name__
        self._all.retries.add(1, {**of, "error.type": kind})

    def _on_blocked(self, notice: Blocked) -> None:
        self._all.blocked.add(notice.seconds, self._of(notice.call))

    def _on_abandoned(self, notice: Abandoned) -> None:
        self._all.abandoned.add(1, self._of(notice.call))

    def _on_finish(self, _: Finish) -> None:
        for call in self._running:  # none, unless the run was interrupted
            self._all.active.add(-1, self._of(call))
        self._running.clear()
