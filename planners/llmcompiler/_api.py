"""LLMCompiler in a loop: what the text of a reply says, and why it ended."""

from __future__ import annotations

from typing import Any, ClassVar

from planners._core.api import Ending
from planners._core.edge import get
from planners._text_base import TextApi, api_of
from planners.llmcompiler._decisions import Decision
from planners.llmcompiler._grammar import Reader
from planners.llmcompiler._items import Join, Numbered, Unsaid
from planners.llmcompiler._reply_text import whole
from planners.llmcompiler._thoughts import spoken


class CompilerApi(TextApi):
    """Replies as texts: an answer, or a plan that is carried out before it goes on."""

    name: ClassVar[str] = "llmcompiler"

    def whole(self, response: Any) -> str:
        """Return all the text of a reply."""
        return whole(response).text

    def text(self, response: Any) -> str:
        """Return the answer of a decision, else the text itself, without thoughts."""
        text = whole(response).text
        decision = _read(text)[0]
        return decision.answer if decision and decision.action == "finish" else spoken(text)

    def ending(self, response: Any) -> Ending:
        """Return why a reply without calls ended: with an answer, or to go on."""
        said = whole(response)
        decision, plans = _read(said.text)
        if decision is not None and decision.action == "finish":
            return "answered"
        thoughts = said.text.strip() and not said.cut and not spoken(said.text)
        if plans or decision is not None or thoughts:
            return "goes_on"
        if get(response, "choices") is not None or get(response, "type") == "message":
            return api_of(response).ending(response)
        return "cut_off" if said.cut else "answered"


def _read(text: str) -> tuple[Decision | None, bool]:
    """Return the decision in a text, and whether it holds a plan."""
    reader = Reader()
    items = [*reader.feed(text), *reader.close()]
    said = max((at for at, item in enumerate(items, 1) if isinstance(item, Unsaid)), default=0)
    items = items[said:]
    decision = next((item for item in items if isinstance(item, Decision)), None)
    return decision, any(isinstance(item, Join | Numbered) for item in items)
