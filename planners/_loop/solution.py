"""What `solve` returns, and what its hooks see."""

from __future__ import annotations

from typing import Any, Final, Literal, Self, TypeAlias, final

from dagexec import DagexecError, Report
from planners._loop.dialogue import Dialogue

Status: TypeAlias = Literal[
    "done", "timed_out", "max_turns", "pending", "cut_off", "refused", "text_calls", "wrong_output"
]

_WHY: Final = {
    "timed_out": "the deadline of the {scope} expired",
    "max_turns": "the model had not answered after {turns} turns (max_turns)",
    "pending": "calls wait for a person; see the last report",
    "cut_off": "the last reply was cut off",
    "text_calls": "the answer looks like calls that the server did not parse; a planner with"
    " text_calls=True runs them",
    "wrong_output": "the answer does not have the form of output_type, also when asked again",
    "refused": "the model or a filter of the provider refused to answer",
}
# Statuses that the end of the last reply has led to.
_ENDED_BADLY: Final = ("cut_off", "refused")


@final
class Turn:
    """One reply of the model and its calls, as the hooks of `solve` see it.

    Attributes:
        number: from 1, within this `solve`.
        conversation: the conversation that it belongs to.
        request: what goes to the SDK's `create`; a hook before the turn may change it.
        response: the reply as a dict in the API's form; None until it is there.
        report: what became of its calls; None if it had none.
        whole: whether the reply came to its end.
    """

    __slots__ = ("conversation", "number", "report", "request", "response", "whole")

    def __init__(self, number: int, conversation: Dialogue, request: dict[str, Any]) -> None:
        """Begin with the request."""
        self.number = number
        self.conversation = conversation
        self.request = request
        self.response: dict[str, Any] | None = None
        self.report: Report | None = None
        self.whole = False

    @property
    def text(self) -> str:
        """What the model said in it, so far."""
        if self.response is None:
            return ""
        return self.conversation.planner.api.text(self.response)

    def __repr__(self) -> str:
        """Return number and report."""
        return f"<Turn {self.number}: {self.report or 'no calls'}>"


@final
class Solution(str):
    """The model's answer: a string, with the way that led to it.

    When `solve` ended without an answer, it is what the model had said so far, perhaps nothing:
    `ok` is False and `status` says why.

    Attributes:
        text: the same as a plain string.
        status: "done"; else "timed_out" (with `scope`), "max_turns", "pending" (calls wait for a
            person), "cut_off" (the reply was too long, or broke off) or "refused", both with
            `reason`, or "text_calls" (the answer looks like calls that the server did not parse),
            or "wrong_output" (it does not have the form of `output_type`, also when asked again).
        output: the answer as a value of `output_type`; None without one, and without an answer.
        usage: tokens of all replies together, by `input_tokens`, `output_tokens` and `tokens`, as
            far as the replies say. Streams of Chat Completions say it with a `limiter`, or with
            `stream_options={"include_usage": True}`.
        scope: "turn" or "workflow", the deadline that expired; else None.
        reports: of this `solve`, one for each turn that had calls.
        turns: how many replies the model gave.
        elapsed: seconds.
        conversation: the whole conversation, to go on with.
        response: the last reply, as a dict in the API's form, or None.
    """

    __slots__ = (
        "conversation",
        "elapsed",
        "output",
        "reports",
        "response",
        "scope",
        "status",
        "turns",
        "usage",
    )

    conversation: Dialogue
    elapsed: float
    output: Any
    reports: tuple[Report, ...]
    response: dict[str, Any] | None
    scope: str | None
    status: Status
    turns: int
    usage: dict[str, int]

    @classmethod
    def of(cls, text: str, **rest: Any) -> Self:
        """Make one; a string takes its text when it is made, and the rest afterwards."""
        found = cls(text)
        for name, value in rest.items():
            setattr(found, name, value)
        return found

    @property
    def text(self) -> str:
        """The answer as a plain string."""
        return str.__str__(self)

    @property
    def messages(self) -> list[Any]:
        """The messages of the conversation, in the form of its API."""
        return self.conversation.messages

    @property
    def reason(self) -> str:
        """The provider's own word for why the last reply ended, such as "length"; "" for none."""
        if self.response is None:
            return ""
        return self.conversation.planner.api.reason(self.response)

    @property
    def ok(self) -> bool:
        """Whether the model answered."""
        return self.status == "done"

    def raise_for_status(self) -> None:
        """Raise DagexecError, with the last report, if the model did not answer."""
        if self.ok:
            return
        why = _WHY[self.status].format(scope=self.scope, turns=self.turns)
        if self.status in _ENDED_BADLY and self.reason:
            short = "length" in self.reason or "max" in self.reason
            why += f" (it ended with {self.reason!r}{': give it more tokens' if short else ''})"
        error = DagexecError(f"solve() ended without an answer: {why}")
        error.report = self.reports[-1] if self.reports else None
        raise error
