"""What a call asks people: approvals and `ask`, by the core's own rules for answers.

LangGraph brings the answers. What they may be and what they lead to, whether a question was asked
before, how other arguments are merged and what is hidden, says `dagexec.journal._answers`.
"""

# LangGraph's generic types come without their parameters, and its hooks are private by name.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportUnknownParameterType=false
# pyright: reportPrivateUsage=false, reportMissingTypeStubs=false

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final, cast, final

from langchain_core.messages import ToolCall
from langgraph.types import interrupt

from dagexec import Approve, Call, DagexecError, Deny, Done, Edit, Outcome, Pending, Tool
from dagexec._concurrency.signals import Asked
from dagexec._core.nested import Wait, waits_in
from dagexec._tools.checking import approval_question, needs_approval
from dagexec.integrations.langgraph._answers import plain
from dagexec.journal._answers import Given, answer_entry, check_answer

APPROVAL = "approval"
QUESTION = "question"
NO_GRAPH: Final = (
    "a call asks a person, which only a graph with a checkpointer can do:"
    " compile the graph with one, and run the node inside of it"
)
# What an answer to an approval may be, besides the classes that `Executor.resume` takes.
ANSWERS: Final = (
    'True, False, {"type": "deny", "reason": ...}, {"type": "edit", "args": {...}} with other'
    ' arguments, or {"type": "done", "value": ...} if it was done by other means'
)


@final
class People:
    """What one call has asked people, and what they have answered."""

    __slots__ = ("asks", "bodies", "by_order", "given", "id", "judge")

    def __init__(self, id_: str, judge: Tool[..., Any], bodies: Iterable[dict[str, Any]]) -> None:
        """Take in the answers of before, as they were recorded."""
        self.id = id_
        self.judge = judge
        self.bodies = list(bodies)
        self.given = Given()
        for body in self.bodies:
            self.given.apply(body)
        # What the call waits for now: an approval or a question of its tool's, and its text.
        self.asks: tuple[str, Any] | None = None
        # Whether LangGraph tells answers by their order, so that each has to be asked for in turn.
        self.by_order = False

    @property
    def nested(self) -> Sequence[dict[str, Any]]:
        """The last answers to what runs of the call's own waited for."""
        return self.given.nested

    @property
    def verdict(self) -> Outcome | None:
        """The outcome that was decided without running the call."""
        return self.given.verdict

    def take(self, answer: object, to: str, question: Any, call: Call) -> None:
        """Take in an answer; raise DagexecError if it does not fit what the call waits for."""
        waiting = Pending(question, started=0.0 if to == QUESTION else None)
        inner = waits_in(waiting)
        if to == APPROVAL:
            answer = _decision(answer)
        elif inner:
            answer = _decisions(answer, inner)
        try:
            check_answer(call, self.judge, answer, waiting, "pending")
        except DagexecError as error:
            if to != APPROVAL:
                raise
            msg = (
                f"{error}. In a graph that is Command(resume=answer), and with several interrupts"
                f" Command(resume={{interrupt id: answer, ...}}); an answer is {ANSWERS}"
            )
            raise DagexecError(msg) from None
        body = answer_entry(answer, waiting)
        self.given.apply(body)
        self.bodies.append(body)

    def reply(self, question: Any) -> list[Any]:
        """Return the answer to a question of the tool's, in a list; see `dagexec.ask`."""
        found = self.given.reply(question)
        if found or not self.by_order:
            return found
        self.take(_interrupted(question), QUESTION, question, self._call({}))
        if self.verdict is not None:
            raise Decided(question)
        return self.given.reply(question)

    def admitted(self, call: ToolCall) -> ToolCall | None:
        """Return a call as it may run, None if a person has to agree first: `asks` says to what.

        Raises ArgumentError for arguments that no person need look at, Decided for a verdict.
        """
        while True:
            args: dict[str, Any] = call["args"]
            if self.given.edit:
                args = {**args, **self.given.edit}
            if not self.given.approved and self.judge.approval:
                arguments = self.judge.validate(args)
                if needs_approval(self.judge, arguments):
                    asked = plain(approval_question(self.judge, arguments)["args"])
                    if self._waits(call, asked, args):
                        return None
                    continue
            return call if args is call["args"] else cast("ToolCall", {**call, "args": args})

    def _waits(self, call: ToolCall, asked: dict[str, Any], args: dict[str, Any]) -> bool:
        shown = {"tool_call_id": call["id"], "name": call["name"], "args": asked}
        question = {"type": APPROVAL, **shown}
        if not self.by_order:
            self.asks = (APPROVAL, question)
            return True
        self.take(_interrupted(question), APPROVAL, question, self._call(args))
        if self.verdict is not None:
            raise Decided(question)
        return False

    def _call(self, args: dict[str, Any]) -> Call:
        # Literal: by now they are values, wherever they came from.
        literal = {key: {"$literal": value} for key, value in args.items()}
        return Call(self.id, self.judge.name, literal)


def is_approval(question: object) -> bool:
    """Whether an interrupt's value is the question that a call with `approval` asks."""
    return isinstance(question, dict) and question.get("type") == APPROVAL and "name" in question


class Decided(Asked):
    """Ends a call on which a person has decided while it ran; the verdict says how."""


def _interrupted(question: Any) -> Any:
    """Return the answer to an interrupt of LangGraph's own; it ends here if there is none yet."""
    try:
        return interrupt(question)
    except (KeyError, RuntimeError) as error:
        raise DagexecError(NO_GRAPH) from error


def _decisions(answer: object, waits: Sequence[Wait]) -> object:
    """Return the answer to a call whose own runs wait, for the forms that JSON has."""
    decided = {wait["name"] for wait in waits if wait["for"] != QUESTION}
    if isinstance(answer, dict):
        given = cast("dict[str, object]", answer)
        if given and set(given) <= {wait["name"] for wait in waits}:
            return {name: _decision(x) if name in decided else x for name, x in given.items()}
    return _decision(answer) if decided else answer


def _decision(answer: object) -> object:
    """Return a decision on an approval as dagexec has it, for the forms that JSON has."""
    match answer:
        case True | {"type": "approve"}:
            return Approve()
        case False:
            return Deny("")
        case {"type": "deny"}:
            return Deny(str(cast("dict[str, Any]", answer).get("reason") or ""))
        case {"type": "edit", "args": dict(args)}:
            return Edit(cast("dict[str, Any]", args))
        case {"type": "done", "value": value}:
            return Done(value)
        case _:
            return answer
