"""What a model decides when it has seen the results: as an object, as an object cut off, in words.

The form that it is asked for is one JSON object. The paper's, `Action: Finish(answer)`, is read
too: up to the last bracket, over lines, and whatever words the answer holds.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Final, Literal, final

from planners._core.render import value_text
from planners.llmcompiler._literals import Arguments, Malformed

_DECIDES: Final = re.compile(r"""[ \t]*\{\s*["'](?:thought|action|answer|decision)["']\s*:""")
_ACTION: Final = re.compile(r"""["'](?:action|decision)["']\s*:\s*["'](\w+)""")
_ANSWER: Final = re.compile(r"""["']answer["']\s*:\s*["']?(.*)""", re.DOTALL)
_ENDS: Final = ("<END_OF_PLAN>", "<END_OF_RESPONSE>", "```")


@final
@dataclass(frozen=True, slots=True)
class Decision:
    """What the model decided when it had seen the results.

    `action` is "finish", with the answer for the user, or "replan", with the reason in `thought`.
    """

    action: Literal["finish", "replan"]
    answer: str = ""
    thought: str = ""


def decision_of(body: dict[Any, Any]) -> Decision | None:
    """Return the decision that an object says; None if it is another object."""
    given = {str(key).lower(): value for key, value in body.items()}
    action = str(given.get("action") or given.get("decision") or "").strip().lower()
    if not action and "answer" in given:
        action = "finish"
    thought = str(given.get("thought") or given.get("reason") or "")
    if action == "replan":
        return Decision("replan", thought=thought)
    if action == "finish":
        return Decision("finish", _as_text(given.get("answer")), thought)
    return None


def _as_text(value: Any) -> str:
    """Return an answer as text; a model may write it as any JSON value."""
    return "" if value is None else value_text(value)


def looks_like_one(text: str) -> bool:
    """Whether a text begins like an object that is a decision."""
    return _DECIDES.match(text) is not None


def spoilt(text: str) -> Decision:
    """Return what an object says that was cut off, or is not quite JSON."""
    action = _ACTION.search(text)
    if action is not None and action[1].lower() == "replan":
        return Decision("replan")
    answer = _ANSWER.search(text)
    return Decision("finish", _without_end(text if answer is None else answer[1]))


def _without_end(text: str) -> str:
    """Return an answer without what closes it and its object."""
    end = len(text)
    while end and (text[end - 1] == "}" or text[end - 1].isspace()):
        end -= 1
    return text[: end - (text[end - 1 : end] in ('"', "'"))].strip()


def answer_in(text: str, *, bracketed: bool) -> str:
    """Return an answer in words, from behind `Finish(` if it is in brackets."""
    text = text.strip()
    for mark in _ENDS:
        text = text.removesuffix(mark).rstrip()
    if bracketed and ")" in text:
        text = text[: text.rindex(")")].strip()
    if text[:1] not in ('"', "'"):
        return text
    arguments = Arguments(0)
    try:
        done = arguments.read(text + ")", final=True) and arguments.at > len(text)
    except Malformed:
        return text
    found = arguments.positional
    return found[0] if done and len(found) == 1 and isinstance(found[0], str) else text
