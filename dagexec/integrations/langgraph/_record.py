"""One tool call of a message: what came in, and what became of it."""

# LangGraph's generic types come without their parameters, and its hooks are private by name.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportUnknownParameterType=false
# pyright: reportPrivateUsage=false, reportMissingTypeStubs=false

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final, final

from langchain_core.messages import ToolMessage
from langgraph.types import Command

from dagexec import DagexecError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from langchain_core.messages import ToolCall
    from langgraph.errors import GraphBubbleUp, GraphInterrupt
    from langgraph.prebuilt import ToolRuntime


class ErrorAnswer(DagexecError):
    """A tool answered with an error message of its own; calls that refer to it cannot run."""


@final
class Record:
    """A tool call, from the message to its answer; everything is written by one call at a time."""

    __slots__ = (
        "answer",
        "call",
        "caught",
        "error",
        "id",
        "input_type",
        "interrupt",
        "leaves",
        "made",
        "raw",
        "resume",
        "runtime",
        "settled",
        "wanted",
    )

    def __init__(self, id_: str, call: ToolCall, input_type: Any, runtime: ToolRuntime) -> None:
        """Take a call with the runtime that its tool will see."""
        self.id = id_
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

    def begin(self, args: dict[str, Any] | None) -> ToolCall:
        """Return the call with its arguments, for a new attempt."""
        self.answer = self.caught = self.made = self.raw = None
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
CURRENT: Final[ContextVar[Record | None]] = ContextVar("dagexec_langgraph_record", default=None)
