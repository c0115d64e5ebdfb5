"""What a call waits for that was asked inside a run of its own, and whose answer is whose.

A tool may run a plan. When calls of that plan wait for people, the tool's own call waits too. Its
question lists them, each with a name and the path to it: pairs of a run and a call, from the
outermost nested run down. The answer to the outer call is taken apart along these paths, and each
part is handed to its run when the tool runs it again. All of it is plain JSON, so that it survives
wherever a question or an answer does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, TypeAlias, cast, final

from dagexec._core.outcomes import Approve, Deny, Done, Edit, Outcome
from dagexec._core.values import value
from dagexec._errors import DagexecError

# {"name", "tool", "for": what it waits for, "question", "path": [[run, call], ...]}
Wait: TypeAlias = dict[str, Any]

_KEY: Final = "nested"
APPROVAL: Final = "approval"
QUESTION: Final = "question"
DOUBT: Final = "doubt"

_ANSWERS: Final[Mapping[str, tuple[type, ...]]] = {
    APPROVAL: (Approve, Deny, Edit, Done),
    DOUBT: (Approve, Deny, Done),
}
_FORMS: Final[Mapping[str, str]] = {
    APPROVAL: "waits to be approved: Approve(), Deny(reason), Edit({...}) or Done(value)",
    DOUBT: "is in doubt: Approve() to run it again, Deny(reason) or Done(value)",
    QUESTION: "asks a question: a value, or Deny(reason)",
}


@final
@value()
class InnerAnswers:
    """The answers to what a call waits for, each with the path to it and the question it is for.

    `items` are dicts of `path`, `for`, `question` and `answer`, the answer as a journal writes it.
    """

    items: tuple[dict[str, Any], ...]


def awaits_answer(outcome: Outcome) -> bool:
    """Whether a call with this outcome waits for an answer itself, not for another that does."""
    return outcome.status in ("pending", "in_doubt") and outcome.because is None


def kind_of(outcome: Outcome) -> str:
    """Return what a call that waits itself waits for."""
    if outcome.status == "in_doubt":
        return DOUBT
    return APPROVAL if outcome.started is None else QUESTION


def waits_of(
    run_id: str, outcomes: Mapping[str, Outcome], tool: Callable[[str], str]
) -> list[Wait]:
    """Return what the calls of a run wait for, those nested in them too; without names.

    `tool` returns the tool of a call.
    """
    found: list[Wait] = []
    for call, outcome in outcomes.items():
        if not awaits_answer(outcome):
            continue
        step = [run_id, call]
        if is_nested(outcome.question):
            found.extend({**each, "path": [step, *each["path"]]} for each in waits_in(outcome))
            continue
        asked = {"in_doubt": tool(call)} if outcome.status == "in_doubt" else outcome.question
        found.append(
            {"tool": tool(call), "for": kind_of(outcome), "question": asked, "path": [step]}
        )
    return found


def nested_question(waits: Sequence[Wait]) -> dict[str, Any]:
    """Return the question of a call that waits for these, each with a name of its own."""
    for naming in (_by_call, _by_calls, _by_all):
        names = [naming(each["path"]) for each in waits]
        if len(set(names)) == len(names):
            break
    else:
        names = [str(number) for number in range(1, len(waits) + 1)]
    return {_KEY: [{**each, "name": name} for name, each in zip(names, waits, strict=True)]}


def _by_call(path: Sequence[Sequence[str]]) -> str:
    return path[-1][1]


def _by_calls(path: Sequence[Sequence[str]]) -> str:
    return "/".join(call for _, call in path)


def _by_all(path: Sequence[Sequence[str]]) -> str:
    return "/".join(f"{run}/{call}" for run, call in path)


def is_nested(question: object) -> bool:
    """Whether a question is that of a call that waits for calls of a run of its own."""
    if not isinstance(question, dict) or set(cast("dict[Any, Any]", question)) != {_KEY}:
        return False
    waits: object = cast("dict[str, Any]", question)[_KEY]
    return isinstance(waits, list | tuple) and all(
        isinstance(each, dict) and {"name", "for", "path"} <= set(cast("dict[Any, Any]", each))
        for each in cast("Sequence[Any]", waits)
    )


def shown_question(question: Any) -> Any:
    """Return a question as a text tells it: without the paths to what waits inside a call."""
    if not is_nested(question):
        return question
    return {wait["name"]: wait["question"] for wait in question[_KEY]}


def waits_in(outcome: Outcome) -> list[Wait]:
    """Return what a call waits for that was asked inside runs of its own; nothing for others."""
    if not awaits_answer(outcome) or not is_nested(outcome.question):
        return []
    return list(outcome.question[_KEY])


def answers_by_wait(answer: object, waits: Sequence[Wait]) -> list[tuple[Wait, object]]:
    """Return which answer is for what; raise DagexecError for one that does not fit.

    An answer is a mapping by name, or the answer itself where there is one question; `Deny` may
    stand for all.
    """
    found = _apart(answer, waits)
    for wait, each in found:
        kinds = _ANSWERS.get(wait["for"])
        misfit = isinstance(each, Approve | Edit) if kinds is None else not isinstance(each, kinds)
        if misfit:
            raise DagexecError(f"{_named(wait)}; not {type(each).__name__}")
    return found


def _apart(answer: object, waits: Sequence[Wait]) -> list[tuple[Wait, object]]:
    by_name = {wait["name"]: wait for wait in waits}
    if isinstance(answer, Mapping):
        given = cast("Mapping[Any, object]", answer)
        if given and set(given) <= set(by_name):
            return [(by_name[name], each) for name, each in given.items()]
        if len(waits) == 1 and waits[0]["for"] == QUESTION:
            return [(waits[0], cast("object", answer))]
    elif len(waits) == 1 or isinstance(answer, Deny):
        return [(wait, answer) for wait in waits]
    forms = "; ".join(map(_named, waits))
    raise DagexecError(f"answer by name, as in {{{waits[0]['name']!r}: answer}}: {forms}")


def _named(wait: Wait) -> str:
    return f"{wait['name']!r} (tool {wait['tool']!r}) {_FORMS[wait['for']]}"


def answers_for(items: Iterable[dict[str, Any]], run_id: str) -> Iterator[dict[str, Any]]:
    """Yield the answers that go to a nested run, each with the rest of its path, the call first."""
    for item in items:
        (run, call), *rest = item["path"]
        if run == run_id:
            yield {**item, "call": call, "path": rest}
