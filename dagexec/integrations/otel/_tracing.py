"""Spans of runs, turns and calls."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, final

from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.trace import Link, SpanKind, Status, StatusCode

from dagexec._core.events import Notice, Retrying, Waiting
from dagexec._core.outcomes import Outcome
from dagexec._core.plan import Call
from dagexec._core.refs import encode
from dagexec._core.scheduler import Action, Added, Conclude, Event, Finish, Settled, Started
from dagexec._errors import text_of
from dagexec._tools.tool import Tool

if TYPE_CHECKING:
    from opentelemetry.trace import Span, Tracer
    from opentelemetry.util.types import AttributeValue

    SpanAttributes = Callable[[Call, Outcome], Mapping[str, AttributeValue]]

# Characters of an argument or result in a span; backends cut or refuse longer ones.
_LONGEST: Final = 8000
_ERRORS: Final = ("failed", "timed_out")


@final
class Tracing:
    """Makes spans of runs; give it to `Executor(observers=[...])`.

    Args:
        name: Of the workflow, one of few; the spans of runs are called by it.
        tracer: Where spans are made; by default the global provider's.
        content: Whether arguments, results and messages of errors are recorded.
        span_attributes: More attributes of a call's span when it has ended, for backends that
            have names of their own, such as `langsmith.span.kind`.
    """

    def __init__(
        self,
        name: str = "dagexec",
        *,
        tracer: Tracer | None = None,
        content: bool = False,
        span_attributes: SpanAttributes | None = None,
    ) -> None:
        """Keep the settings; spans are made by runs."""
        self.name = name
        self.content = content
        self.span_attributes = span_attributes
        self._tracer = tracer
        # The span of the turn that is open in each conversation, and how to leave its context.
        self._turns: dict[int, tuple[Span, object]] = {}

    @property
    def tracer(self) -> Tracer:
        """Where spans are made."""
        # Asked for late: a program may set its provider after it has made its executor.
        return self._tracer or trace.get_tracer("dagexec")

    def begin(self, run_id: str, tools: Mapping[str, Tool[..., Any]]) -> _RunSpans:
        """Return the observer of one run; the executor calls it."""
        return _RunSpans(self, run_id, tools)

    @contextmanager
    def workflow(self, name: str | None = None) -> Generator[Span]:
        """Put the runs and turns of the block below one span."""
        called = name or self.name
        with self.tracer.start_as_current_span(
            f"invoke_workflow {called}",
            attributes={
                "gen_ai.operation.name": "invoke_workflow",
                "gen_ai.workflow.name": called,
            },
        ) as span:
            yield span

    def before_turn(self, turn: Any) -> None:
        """Begin the span of a turn; for `planners.solve(before_turn=...)`."""
        conversation = id(turn.conversation)
        self._end_turn(conversation)
        span = self.tracer.start_span(
            f"turn {turn.number}",
            attributes={"gen_ai.operation.name": "chat", "dagexec.turn.number": turn.number},
        )
        token = otel_context.attach(trace.set_span_in_context(span))
        self._turns[conversation] = (span, token)

    def after_turn(self, turn: Any) -> None:
        """End the span of a turn; for `planners.solve(after_turn=...)`."""
        found = self._turns.get(id(turn.conversation))
        report = getattr(turn, "report", None)
        if found is not None and report is not None:
            found[0].set_attribute("dagexec.calls", len(report))
        self._end_turn(id(turn.conversation))

    def _end_turn(self, conversation: int) -> None:
        found = self._turns.pop(conversation, None)
        if found is not None:
            span, token = found
            otel_context.detach(token)  # type: ignore[arg-type]
            span.end()


@final
class _RunSpans:
    """The spans of one run: an observer of its events."""

    def __init__(self, tracing: Tracing, run_id: str, tools: Mapping[str, Tool[..., Any]]) -> None:
        self._tracing = tracing
        self._tracer = tracing.tracer
        self._tools = tools
        self._calls: dict[str, Call] = {}
        self._spans: dict[str, Span] = {}
        # What became of each call; one that is reopened after a question has another at the end.
        self._statuses: dict[str, str] = {}
        self._run = self._tracer.start_span(
            f"invoke_workflow {tracing.name}",
            attributes={
                "gen_ai.operation.name": "invoke_workflow",
                "gen_ai.workflow.name": tracing.name,
                "dagexec.run.id": run_id,
            },
        )
        self._below = trace.set_span_in_context(self._run)
        self._handlers: dict[type, Callable[[Any], None]] = {
            Added: self._on_added,
            Started: self._on_started,
            Settled: self._on_settled,
            Conclude: self._on_concluded,
            Waiting: self._on_waiting,
            Retrying: self._on_retrying,
            Finish: self._on_finish,
        }

    def __call__(self, item: Event | Action | Notice) -> None:
        """Follow the run."""
        handler = self._handlers.get(type(item))
        if handler is not None:
            handler(item)

    def enter(self, call: str) -> None:
        """Make a call's span the current one, so that the tool's own spans are below it."""
        span = self._spans.get(call)
        if span is not None and span.is_recording():
            # Never detached: the context is this call's own and ends with it.
            otel_context.attach(trace.set_span_in_context(span))

    def _on_added(self, event: Added) -> None:
        self._calls[event.call.id] = event.call

    def _on_started(self, event: Started) -> None:
        call = self._calls[event.call]
        tool = self._tools[call.tool]
        attributes: dict[str, AttributeValue] = {
            "gen_ai.operation.name": "execute_tool",
            "gen_ai.tool.name": call.tool,
            "gen_ai.tool.call.id": call.provider_id or call.id,
            "gen_ai.tool.type": "function",
            "dagexec.call.id": call.id,
            "dagexec.effect": str(tool.effect.value),
        }
        if tool.description:
            attributes["gen_ai.tool.description"] = tool.description
        if call.line is not None:
            attributes["code.line.number"] = call.line  # of the program that made it
        self._spans[call.id] = self._tracer.start_span(
            f"execute_tool {call.tool}",
            context=self._below,
            kind=SpanKind.INTERNAL,
            attributes=attributes,
            links=[
                Link(self._spans[name].get_span_context(), {"dagexec.call.id": name})
                for name in (*call.needs, *call.waits)
                if name in self._spans
            ],
        )

    def _on_settled(self, event: Settled) -> None:
        outcome = event.outcome
        self._statuses[event.call] = outcome.status
        span = self._spans.get(event.call)
        if span is None:
            return
        if span.is_recording():
            self._describe(span, self._calls[event.call], outcome)
        span.end()

    def _on_concluded(self, action: Conclude) -> None:
        # It never started, so there is nothing that took time: it counts, and has no span.
        self._statuses[action.call] = action.outcome.status

    def _on_waiting(self, notice: Waiting) -> None:
        self._run.add_event(
            "dagexec.limit", {"dagexec.call.id": notice.call, "dagexec.limits": notice.keys}
        )

    def _on_retrying(self, notice: Retrying) -> None:
        span = self._spans.get(notice.call)
        if span is not None:
            attributes: dict[str, AttributeValue] = {
                "dagexec.attempt": notice.attempt,
                "dagexec.delay_s": notice.delay,
            }
            if notice.error is not None:
                attributes["error.type"] = type(notice.error).__name__
            span.add_event("dagexec.retry", attributes)

    def _on_finish(self, _: Finish) -> None:
        for span in self._spans.values():
            if span.is_recording():
                span.end()
        counts = Counter(self._statuses.values())
        for status, count in counts.items():
            self._run.set_attribute(f"dagexec.calls.{status}", count)
        self._run.set_attribute("dagexec.calls", len(self._calls))
        failed = sum(counts[status] for status in _ERRORS)
        if failed:
            self._run.set_status(Status(StatusCode.ERROR, f"{failed} calls failed"))
        self._run.end()

    def _describe(self, span: Span, call: Call, outcome: Outcome) -> None:
        span.set_attribute("dagexec.outcome", outcome.status)
        span.set_attribute("dagexec.attempts", outcome.attempts)
        if outcome.queued is not None:
            span.set_attribute("dagexec.queue_time_s", outcome.queued)
        if outcome.maybe:
            span.set_attribute("dagexec.maybe", value=True)
        if outcome.status in _ERRORS:
            late = outcome.status == "timed_out"
            span.set_attribute("error.type", "timeout" if late else type(outcome.error).__name__)
            said = text_of(outcome.error) if self._tracing.content else None
            span.set_status(Status(StatusCode.ERROR, said))
        if outcome.status == "timed_out":
            span.set_attribute("dagexec.deadline", str(outcome.scope))
        if self._tracing.content:
            secret = self._tools[call.tool].secret
            args = {name: "<secret>" if name in secret else v for name, v in call.args.items()}
            span.set_attribute("gen_ai.tool.call.arguments", _json(encode(args)))
            if outcome.status == "done":
                span.set_attribute("gen_ai.tool.call.result", _json(outcome.value))
        if self._tracing.span_attributes is not None:
            span.set_attributes(dict(self._tracing.span_attributes(call, outcome)))


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=lambda each: f"<{type(each).__name__}>")[
        :_LONGEST
    ]
