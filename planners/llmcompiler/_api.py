"""LLMCompiler in a loop: text goes over any API that chats, and the loop need not know which."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

from planners._core.api import Api, Ending
from planners._core.edge import get
from planners.anthropic._api import MessagesApi
from planners.llmcompiler._decisions import Decision
from planners.llmcompiler._grammar import Reader
from planners.llmcompiler._items import Join, Numbered, Unsaid
from planners.llmcompiler._reply_text import whole
from planners.llmcompiler._thoughts import spoken
from planners.openai._api import ChatApi

_CHAT = ChatApi()
_MESSAGES = MessagesApi()


class CompilerApi(Api):
    """Chat Completions or Messages, as the client speaks; requests are kept in the form of Chat."""

    name: ClassVar[str] = "llmcompiler"
    resource: ClassVar[str] = "chat.completions"
    client: ClassVar[str] = "openai.AsyncOpenAI or anthropic.AsyncAnthropic"

    def reply(self, response: Any) -> list[Any]:
        """Return the reply's text as a message; nothing where it is empty."""
        text = whole(response).text
        return [{"role": "assistant", "content": text}] if text.strip() else []

    def places(self, messages: list[Any]) -> Iterator[tuple[dict[str, Any], str]]:
        """Yield nothing: in texts there are no ids of the provider's."""
        del messages
        return iter(())

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
        if get(response, "choices") is not None:
            return _CHAT.ending(response)
        if get(response, "type") == "message":
            return _MESSAGES.ending(response)
        return "cut_off" if said.cut else "answered"

    def request(
        self, *, model: str, system: str, messages: list[Any], tools: list[Any]
    ) -> dict[str, Any]:
        """Return a request in the form of Chat."""
        return _CHAT.request(model=model, system=system, messages=messages, tools=tools)

    async def ask(self, client: Any, request: Mapping[str, Any]) -> Any:
        """Send a request over the API that the client has; raise what that raises."""
        api, suited = _suited(client, request)
        return await (super().ask(client, suited) if api is None else api.ask(client, suited))

    async def ask_raw(
        self, client: Any, request: Mapping[str, Any]
    ) -> tuple[Any, Mapping[Any, Any]]:
        """Send a request as `ask` does; return the headers of the HTTP response, too."""
        api, suited = _suited(client, request)
        asked = super().ask_raw(client, suited) if api is None else api.ask_raw(client, suited)
        return await asked


def _suited(client: Any, request: Mapping[str, Any]) -> tuple[Api | None, dict[str, Any]]:
    """Return the API of a client and the request in its form; None for Chat."""
    if hasattr(client, "chat") or not hasattr(client, "messages"):
        return None, dict(request)
    rest = dict(request)
    said: list[Any] = rest.pop("messages")
    system = "\n\n".join(get(each, "content") for each in said if get(each, "role") == "system")
    messages = [each for each in said if get(each, "role") != "system"]
    model, tools = rest.pop("model"), rest.pop("tools", [])
    form = _MESSAGES.request(model=model, system=system, messages=messages, tools=tools)
    return _MESSAGES, {**form, **rest}


def _read(text: str) -> tuple[Decision | None, bool]:
    """Return the decision in a text, and whether it holds a plan."""
    reader = Reader()
    items = [*reader.feed(text), *reader.close()]
    said = max((at for at, item in enumerate(items, 1) if isinstance(item, Unsaid)), default=0)
    items = items[said:]
    decision = next((item for item in items if isinstance(item, Decision)), None)
    return decision, any(isinstance(item, Join | Numbered) for item in items)
