"""What people and policies answer to calls that wait: which answer fits, and what it leads to."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final, cast, final

from dagexec._core.nested import APPROVAL, InnerAnswers, Wait, answers_by_wait, waits_in
from dagexec._core.outcomes import Approve, Deny, Done, Edit, Failed, Outcome
from dagexec._core.plan import Call
from dagexec._core.refs import encode
from dagexec._core.secrets import SHOWN, declared, is_marked, is_written, without
from dagexec._errors import DagexecError, Denied
from dagexec._tools.checking import approval_question, arguments_of, resolved
from dagexec._tools.tool import Tool
from dagexec.journal._records import answer_body, answer_of, canonical

# What stands in a journal in the place of a secret argument.
SECRET: Final = {"$secret": True}
# What a person is shown in its place, and may send back unchanged.
SHOWN_SECRET: Final = SHOWN
# Where a question names what an earlier answer gave, and has to be given again.
MISSING: Final = "missing"

_ANSWERS: Final = (Approve, Deny, Edit, Done)


@final
class Given:
    """What was answered to one call."""

    __slots__ = ("_replies", "_used", "approved", "edit", "last", "nested", "verdict")

    def __init__(self) -> None:
        """Start with nothing."""
        self.approved = False
        # Arguments in the place of those of the plan.
        self.edit: dict[str, Any] | None = None
        # An outcome that was decided without running the call.
        self.verdict: Outcome | None = None
        # The last answer, as it was recorded.
        self.last: dict[str, Any] = {}
        # The last answers to what runs of the call's own waited for.
        self.nested: Sequence[dict[str, Any]] = ()
        self._replies: list[tuple[bytes, Any]] = []
        self._used: list[int] = []

    @property
    def lost(self) -> list[str]:
        """The secret arguments that a person gave, and a journal did not keep."""
        return [name for name, value in (self.edit or {}).items() if _is_hidden(value)]

    def complete(self, answer: object) -> None:
        """Take from an answer that is given a second time what the journal did not keep of it."""
        if isinstance(answer, Edit) and self.edit:
            again = {name: answer.args[name] for name in self.lost if name in answer.args}
            self.edit = {**self.edit, **again}

    def rewind(self) -> None:
        """Begin again: the tool runs from its first line and asks all its questions again."""
        self._used = []

    def reply(self, question: Any) -> list[Any]:
        """Return the answer to a question, in a list; an empty one if there is none yet.

        By the question, not by its turn: questions of one tool may come in any order.
        """
        asked = _key(question)
        for index, (key, value) in enumerate(self._replies):
            if key == asked and index not in self._used:
                self._used.append(index)
                return [value]
        return []

    def apply(self, body: dict[str, Any]) -> None:
        """Take in a recorded answer."""
        self.last = body
        answer = answer_of(body)
        match answer:
            case Deny(reason):
                self.verdict = Failed(Denied(reason))
            case Done():
                self.verdict = answer
            case Edit(args):
                self.approved = True
                changed = {name: item for name, item in args.items() if item != SHOWN_SECRET}
                self.edit = {**(self.edit or {}), **changed}
            case Approve():
                self.approved = True
            case InnerAnswers(items):
                self.nested = items
            case _:
                self._replies.append((_key(body["question"]), answer))


def _key(question: Any) -> bytes:
    return canonical(question, repr)


def apply_answer(given: dict[str, Given], name: str, body: dict[str, Any]) -> None:
    """Take in a recorded answer to this call."""
    given.setdefault(name, Given()).apply(body)


def answer_entry(answer: object, outcome: Outcome) -> dict[str, Any]:
    """Return an answer to a call that waits with this outcome, as it is recorded."""
    waits = waits_in(outcome)
    if waits:
        return _nested_entry(answer, waits)
    body = answer_body(answer)
    asks = is_question(outcome)
    body["to"] = "doubt" if outcome.status == "in_doubt" else "question" if asks else "approval"
    if asks:
        body["question"] = outcome.question
    return body


def _nested_entry(answer: object, waits: Sequence[Wait]) -> dict[str, Any]:
    """Return an answer to a call that waits for calls of its own runs, taken apart."""
    if not isinstance(answer, InnerAnswers):
        parts = answers_by_wait(answer, waits)
        answer = InnerAnswers(
            tuple(
                {key: wait[key] for key in ("path", "for", "question")}
                | {"answer": answer_body(each)}
                for wait, each in parts
            )
        )
    return {**answer_body(answer), "to": "nested"}


def same_wait(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether an answer's place and question are those of what a call waits for."""
    return (
        [list(step) for step in one["path"]] == [list(step) for step in other["path"]]
        and one["for"] == other["for"]
        and same_question(one["question"], other["question"])
    )


def same_question(one: Any, other: Any) -> bool:
    """Whether two questions are the same, as far as JSON tells."""
    return _key(one) == _key(other)


def repeated(given: Mapping[str, Given], name: str, answer: object) -> bool:
    """Whether this is the last answer that the call was given."""
    return repeats(given[name].last if name in given else None, answer)


def repeats(last: Mapping[str, Any] | None, answer: object) -> bool:
    """Whether an answer is the one that was recorded last, as far as the record tells.

    That does not hold what is secret.
    """
    if not last:
        return False
    if last["answer"] == "nested" and not isinstance(answer, InnerAnswers):
        return _repeats_inner(last["items"], answer)
    return _is_recorded(last, answer)


def _repeats_inner(items: Sequence[Mapping[str, Any]], answer: object) -> bool:
    """Whether an answer to a call is the one that was taken apart into these."""
    left = [item["answer"] for item in items]
    if all(_is_recorded(each, answer) for each in left):
        return True
    if not isinstance(answer, Mapping):
        return False
    for given in cast("Mapping[str, object]", answer).values():
        found = next((each for each in left if _is_recorded(each, given)), None)
        if found is None:
            return False
        left.remove(found)
    return not left


def _is_recorded(body: Mapping[str, Any], answer: object) -> bool:
    """Whether an answer is the one that was recorded as this."""
    given = answer_body(answer)
    if body["answer"] == given["answer"] == "edit":
        given = _without(given, [name for name, item in body["args"].items() if _is_hidden(item)])
    return _key(given) == _key({key: item for key, item in body.items() if key in given})


def is_question(outcome: Outcome) -> bool:
    """Whether a pending call asked from inside its tool; otherwise it waits to be approved."""
    return outcome.status == "pending" and outcome.started is not None


def check_answer(
    call: Call, tool: Tool[..., Any], answer: object, outcome: Outcome | None, state: str
) -> None:
    """Raise DagexecError for an answer that does not fit what the call waits for."""
    if outcome is None or outcome.status not in ("pending", "in_doubt"):
        now = state if outcome is None else outcome.status
        msg = f"call {call.id!r} is {now}: it does not wait for an answer"
        raise DagexecError(msg)
    if outcome.because is not None:
        msg = f"call {call.id!r} only waits for {outcome.because!r}: answer that call"
        raise DagexecError(msg)
    waits = waits_in(outcome)
    if waits:
        _check_nested(call, answer, waits)
    elif outcome.status == "in_doubt":
        _check_kind(
            call,
            answer,
            (Approve, Deny, Done),
            "is in doubt: answer Approve() to run it again, Deny(reason) if it did not happen and"
            " shall not, Done(value) if it did",
        )
    elif is_question(outcome):
        if isinstance(answer, Approve | Edit):
            msg = (
                f"call {call.id!r} asks a question: answer it with a value, or with Deny(reason) to"
                f" end the call, not with {type(answer).__name__}"
            )
            raise DagexecError(msg)
    else:
        _check_kind(
            call,
            answer,
            _ANSWERS,
            "waits to be approved: answer Approve(), Deny(reason), Edit({...}) for other arguments,"
            " or Done(value) if it was done by other means",
        )
        _check_given_again(call.id, answer, outcome.question)
        if isinstance(answer, Edit):
            _check_edit(call, tool, answer)


def _check_nested(call: Call, answer: object, waits: Sequence[Wait]) -> None:
    if isinstance(answer, InnerAnswers):
        return  # taken apart and checked where it was given
    try:
        for wait, each in answers_by_wait(answer, waits):
            if wait["for"] == APPROVAL:
                _check_given_again(wait["name"], each, wait["question"])
    except DagexecError as error:
        msg = f"call {call.id!r} waits for calls of a run of its own: {error}"
        raise DagexecError(msg) from None


def check_inner_edits(
    call: Call, answer: object, waits: Sequence[Wait], tools: Mapping[str, Tool[..., Any]]
) -> None:
    """Raise DagexecError for arguments that do not fit a call that waits inside this one.

    As far as its tool is known here; the run that it belongs to may be another executor's.
    """
    for wait, each in answers_by_wait(answer, waits) if waits else ():
        tool = tools.get(wait["tool"])
        if tool is None or not isinstance(each, Edit):
            continue
        problems = _problems(tool, {**wait["question"]["args"], **each.args})
        if problems:
            msg = (
                f"the arguments for {wait['name']!r} inside call {call.id!r} do not fit:"
                f" {'; '.join(problems)}"
            )
            raise DagexecError(msg)


def _check_kind(call: Call, answer: object, kinds: tuple[type, ...], text: str) -> None:
    if not isinstance(answer, kinds):
        kind = type(answer).__name__
        msg = f"call {call.id!r} {text}; not {kind}"
        raise DagexecError(msg)


def _check_edit(call: Call, tool: Tool[..., Any], answer: Edit) -> None:
    changed = {name: item for name, item in answer.args.items() if item != SHOWN_SECRET}
    problems = _problems(tool, {**call.args, **changed})
    if problems:
        msg = f"the arguments for call {call.id!r} do not fit: {'; '.join(problems)}"
        raise DagexecError(msg)


def _problems(tool: Tool[..., Any], args: Mapping[str, Any]) -> list[str]:
    """Return what is wrong with arguments, but for those whose values are not here."""
    absent = {name for name, x in args.items() if x == SHOWN_SECRET or is_marked(x, SECRET)}
    known = {name: x for name, x in args.items() if name not in absent}
    starts = tuple(f"{name}:" for name in absent)
    return [text for text in tool.problems(known) if not text.startswith(starts)]


def _check_given_again(name: str, answer: object, question: Any) -> None:
    """Raise DagexecError for an answer that lets a call run without what a person gave it."""
    if not isinstance(answer, Approve | Edit) or not isinstance(question, dict):
        return
    given: Mapping[str, Any] = answer.args if isinstance(answer, Edit) else {}
    missing = cast("dict[str, list[str]]", question).get(MISSING, [])
    left = [each for each in missing if given.get(each, SHOWN_SECRET) == SHOWN_SECRET]
    if left:
        msg = (
            f"an earlier Edit gave call {name!r} another {left[0]!r}, which is secret, so that the"
            f" journal does not keep it: give it again, Edit({{{left[0]!r}: ...}}), or answer"
            " Deny(reason) or Done(value)"
        )
        raise DagexecError(msg)


# ----------------------------------------------------------------------------------------- secrets


def secret_call(call: Call, secret: tuple[str, ...]) -> dict[str, Any]:
    """Return a call as a dict without what is written in its secret arguments.

    A reference is no secret: of an argument that holds any, they are kept, and nothing else.
    """
    body = call.to_dict()
    for name in secret:
        if call.args.get(name) is not None:
            body["args"][name] = encode(without(call.args[name], SECRET))
    return body


def kept_call(call: Call, tools: Mapping[str, Tool[..., Any]]) -> dict[str, Any]:
    """Return a call as a journal keeps it: without what is secret."""
    tool = tools.get(call.tool)
    return secret_call(call, () if tool is None else tool.secret)


def written_secrets(call: Call, secret: tuple[str, ...]) -> list[str]:
    """Return the secret arguments of a call in which something is written."""
    return [name for name in secret if is_written(call.args.get(name))]


def missing_secrets(call: Call, given: Given | None, answer: object) -> list[str]:
    """Return the arguments of a call that were left out of the journal, and are still missing.

    What an earlier answer gave is not: the call asks for it. `answer` is the one given now.
    """
    edits = [{} if given is None else given.edit, answer.args if isinstance(answer, Edit) else {}]
    named = {name for edit in edits for name, x in (edit or {}).items() if x != SHOWN_SECRET}
    return [
        name for name, value in call.args.items() if name not in named and is_marked(value, SECRET)
    ]


def kept_answer(body: dict[str, Any], secret: Collection[str]) -> dict[str, Any]:
    """Return a recorded answer without what it holds for arguments that are secret.

    `secret` names those of the call's own tool.
    """
    if body["answer"] == "edit":
        return _without(body, secret)
    if body["answer"] != "nested":
        return body
    items = [
        {**item, "answer": kept_answer(item["answer"], _asked_secrets(item["question"]))}
        for item in body["items"]
    ]
    return {**body, "items": items}


def inner_secrets(entry: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Return what an answer, as it is recorded, gives for secret arguments of calls inside its own.

    Each as the inner call, its tool and the argument's name.
    """
    found: list[tuple[str, str, str]] = []
    for item in entry.get("items", ()):
        question = item["question"]
        kept = kept_answer(item["answer"], _asked_secrets(question))
        hidden = [name for name, value in kept.get("args", {}).items() if _is_hidden(value)]
        found += [(item["path"][-1][1], question["approve"], name) for name in hidden]
    return found


def edited_arguments(
    given: Given | None, call: Call, tool: Tool[..., Any], outcomes: Mapping[str, Outcome]
) -> dict[str, Any]:
    """Return the validated arguments of a call, with what a person changed in them.

    Raises CallError for those that do not fit, DagexecError where a change was not kept.
    """
    if given is None or given.edit is None:
        return arguments_of(call, tool, outcomes)
    if given.lost:
        msg = f"the journal does not keep {given.lost[0]!r}, which an Edit gave to call {call.id!r}"
        raise DagexecError(msg)
    return tool.validate({**resolved(call, outcomes), **given.edit})


def question_again(
    given: Given, call: Call, tool: Tool[..., Any], outcomes: Mapping[str, Outcome]
) -> dict[str, Any]:
    """Return what a call asks that may not run without arguments that the journal did not keep."""
    arguments = {**resolved(call, outcomes), **(given.edit or {})}
    return {**approval_question(tool, arguments), MISSING: given.lost}


def _asked_secrets(question: Any) -> Collection[str]:
    """Return the secret arguments of a call that waits inside another, by what it asks.

    Its tool need not be known here.
    """
    if not isinstance(question, dict) or "approve" not in question:
        return ()
    asked = cast("dict[str, Any]", question)
    hidden = [name for name, x in asked["args"].items() if isinstance(x, str) and x == SHOWN]
    return {*declared(asked["approve"]), *hidden}


def _without(body: dict[str, Any], secret: Collection[str]) -> dict[str, Any]:
    """Return an `Edit`, as it is recorded, with a mark in the place of what is secret."""
    args: dict[str, Any] = body["args"]
    written = [name for name in secret if is_written(args.get(name)) and args[name] != SHOWN]
    return {**body, "args": {**args, **dict.fromkeys(written, SECRET)}}


def _is_hidden(value: object) -> bool:
    return type(value) is dict and value == SECRET
