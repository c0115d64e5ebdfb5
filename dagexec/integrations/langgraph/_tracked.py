"""One tool call of a message: what came in, and what became of it."""

# LangGraph's generic types come without their parameters, and its hooks are private by name.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportUnknownParameterType=false
# pyright: reportPrivateUsage=false, reportMissingTypeStubs=false

from __future__ import annotations

from collections.abc import Iterable
from contextvars import ContextVar
from typing import Any, Final, final

from langchain_core.messages import ToolCall, ToolMessage
from langgraph.errors import GraphBubbleUp, GraphInterrupt
from langgraph.prebuilt import ToolRuntime
from langgraph.prebuilt import tool_node as stock
from langgraph.types import Command

from dagexec import DagexecError
from dagexec.integrations.langgraph._answers import denied_text
from dagexec.integrations.langgraph._people import People


class ErrorAnswer(DagexecError):
    """A tool answered with an error message of its own; calls that refer to it cannot run."""


@final
class TrackedCall:
    """A tool call, from the message to its answer; everything is written by one call at a time."""

    __slots__ = (
        "answer",
        "begun",
        "call",
        "caught",
        "denied",
        "error",
        "id",
        "input_type",
        "interrupt",
        "leaves",
        "made",
        "people",
        "position",
        "raw",
        "resume",
        "runtime",
        "settled",
        "wanted",
    )

    def __init__(
        self, id_: str, call: ToolCall, input_type: Any, runtime: ToolRuntime, position: int = 0
    ) -> None:
        """Take a call with the runtime that its tool will see, and its place in the message."""
        self.id = id_
        self.position = position
        self.call = call
        self.input_type = input_type
        self.runtime = runtime
        # Whether another call refers to the value, so that the tool's own must be kept.
        self.wanted = False
        # Whether the answer is there already, from an attempt before an interrupt or an error.
        self.settled = False
        # A ToolMessage, a Command, or a list of both.
        self.answer: Any = None
        # The exception that the answer was made of, and that which has to leave the node.
        self.caught: Exception | None = None
        self.error: BaseException | None = None
        self.interrupt: GraphInterrupt | None = None
        # What leaves the node besides errors and interrupts: a command for the graph above.
        self.leaves: GraphBubbleUp | None = None
        # The tool's own value, and the answer with the content that was made of it.
        self.raw: Any = None
        self.made: tuple[Any, Any] | None = None
        # The answers to this call's interrupts, in order; shared with its scratchpad.
        self.resume: list[Any] = []
        # Why it does not run: a person has refused it.
        self.denied: str | None = None
        # What it asks by dagexec's means, which is answered by question.
        self.people: People | None = None
        # Whether an attempt has begun.
        self.begun = False

    @property
    def asks(self) -> tuple[str, Any] | None:
        """What the call asks by dagexec's means: approval or question, and its text."""
        return None if self.people is None else self.people.asks

    @property
    def is_asking(self) -> bool:
        """Whether the node has to be left for a person's answer to this call."""
        # One that has an answer does not, whatever a thread that was left behind still asks.
        return self.answer is None and (self.interrupt is not None or self.asks is not None)

    def begin(self, args: dict[str, Any] | None) -> ToolCall:
        """Return the call with its arguments, for a new attempt."""
        self.begun = True
        self.answer = self.caught = self.made = self.raw = self.interrupt = None
        if self.people is not None:
            self.people.asks = None
        if args is None:
            return self.call
        return {**self.call, "args": args}

    def take(self, answer: Any) -> Any:
        """Keep the answer and return the call's value; raise what made it an error."""
        self.answer = answer
        if isinstance(answer, ToolMessage) and answer.status == "error":
            if self.caught is not None:
                raise self.caught
            raise ErrorAnswer(str(answer.content))
        return self.value() if self.wanted else answer

    def decide(self) -> None:
        """Take over what a person has decided instead of running the call, if one has."""
        verdict = None if self.people is None else self.people.verdict
        if verdict is None:
            return
        if not verdict.ok:
            self.denied = denied_text(verdict.error)
            return
        value = verdict.value
        self.settled = True
        content: Any = stock.msg_content_output(value)
        call = self.call
        self.answer = ToolMessage(content=content, name=call["name"], tool_call_id=call["id"] or "")
        self.raw = value
        self.wanted = True
        self.produced(self.answer)

    def produced(self, answer: Any) -> None:
        """Take note of what was made of the tool's own value."""
        if isinstance(answer, ToolMessage):
            self.made = (answer, answer.content)

    def value(self) -> Any:
        """Return what a reference to this call stands for.

        That is what the tool returned, with its type; where a wrapper has changed the answer, or
        the tool returned messages or commands, it is the content that the model sees.
        """
        answer = self.answer
        own = self.made is not None and self.made[0] is answer and self.made[1] == answer.content
        if own and not isinstance(self.raw, ToolMessage | Command):
            return self.raw
        return next(
            (
                item.content
                for item in _messages(answer)
                if isinstance(item, ToolMessage) and item.tool_call_id == self.call["id"]
            ),
            None,
        )


def _messages(answer: Any) -> Iterable[Any]:
    if isinstance(answer, list):
        for item in answer:
            yield from _messages(item)
    elif isinstance(answer, Command):
        update = answer.update
        if isinstance(update, dict):
            for part in update.values():
                if isinstance(part, list):
                    yield from part
        elif isinstance(update, list):
            yield from update
    else:
        yield answer


# The call that the code runs for; wrappers and tools stand between the node and its own methods.
CURRENT: Final[ContextVar[TrackedCall | None]] = ContextVar("dagexec_langgraph_call", default=None)
