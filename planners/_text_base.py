"""The base of APIs for planners that read calls from the text of a reply: any API that chats.

The loop need not know which API it is: the client says it, and each reply.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Final

from planners._core.api import Api
from planners._core.edge import get, is_list
from planners.anthropic._api import MessagesApi
from planners.openai._api import ChatApi, ResponsesApi

_CHAT: Final = ChatApi()
_RESPONSES: Final = ResponsesApi()
_MESSAGES: Final = MessagesApi()


def api_of(response: Any) -> Api:
    """Return the API that a reply comes from."""
    if is_list(response) or get(response, "output") is not None:
        return _RESPONSES
    if get(response, "type") == "message":
        return _MESSAGES
    return _CHAT


class TextApi(Api):
    """Chat Completions or Messages, as the client speaks; requests are kept in the form of Chat."""

    resource: ClassVar[str] = "chat.completions"
    client: ClassVar[str] = "openai.AsyncOpenAI or anthropic.AsyncAnthropic"

    @abstractmethod
    def whole(self, response: Any) -> str:
        """Return all the text of a reply."""

    def reply(self, response: Any) -> list[Any]:
        """Return the reply's text as a message; nothing where it is empty."""
        text = self.whole(response)
        return [{"role": "assistant", "content": text}] if text.strip() else []

    def places(self, messages: list[Any]) -> Iterator[tuple[dict[str, Any], str]]:
        """Yield nothing: in texts there are no ids of the provider's."""
        del messages
        return iter(())

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
