"""Replies of any chat model, as texts: Chat Completions, Responses, Messages, or plain text."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any, ClassVar, Final

from planners._core.api import Api, Ending
from planners._core.call_log import RawCall
from planners._core.edge import get, is_list
from planners._core.stream import Assembler, Progress
from planners.anthropic._api import MessagesApi
from planners.anthropic._stream import MessagesAssembler
from planners.openai._api import ChatApi, ResponsesApi
from planners.openai._chat_stream import ChatAssembler
from planners.openai._responses_stream import ResponsesAssembler

_CHAT: Final = ChatApi()
_RESPONSES: Final = ResponsesApi()
_MESSAGES: Final = MessagesApi()


def _of(response: Any) -> Api:
    """Return the API that a reply comes from."""
    if is_list(response) or get(response, "output") is not None:
        return _RESPONSES
    if get(response, "type") == "message" and is_list(get(response, "content")):
        return _MESSAGES
    return _CHAT


class ProgramApi(Api):
    """Chat Completions or Messages, as the client speaks; requests are kept in the form of Chat."""

    name: ClassVar[str] = "programs"
    resource: ClassVar[str] = "chat.completions"
    client: ClassVar[str] = "openai.AsyncOpenAI or anthropic.AsyncAnthropic"

    def reply(self, response: Any) -> list[Any]:
        """Return the reply's text as a message; nothing where it is empty."""
        text = self.text(response)
        return [{"role": "assistant", "content": text}] if text.strip() else []

    def places(self, messages: list[Any]) -> Iterator[tuple[dict[str, Any], str]]:
        """Yield nothing: in texts there are no ids of the provider's."""
        del messages
        return iter(())

    def text(self, response: Any) -> str:
        """Return the text of a reply."""
        return response if isinstance(response, str) else _of(response).text(response)

    def ending(self, response: Any) -> Ending:
        """Return why a reply ended."""
        return "answered" if isinstance(response, str) else _of(response).ending(response)

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


class AnyAssembler(Assembler):
    """Puts a reply together from a stream of any of the three APIs: its first event says which.

    A program is read from the whole text, so no call is handed out before the end.
    """

    def __init__(self) -> None:
        """Begin before the first event."""
        super().__init__()
        self._inner: Assembler | None = None

    def feed(self, event: Any) -> Iterable[Progress]:
        """Take one event; calls of a native kind are none of ours."""
        if self._inner is None:
            self._inner = _assembler(event)
        for _ in self._inner.feed(event):
            pass
        self.ended, self.recognised = self._inner.ended, self._inner.recognised
        self.shortened = self._inner.shortened
        return ()

    def response(self, given: Collection[object] | None = None) -> dict[str, Any] | None:
        """Return the reply in its API's form."""
        return None if self._inner is None else self._inner.response(given)


def _assembler(event: Any) -> Assembler:
    kind = str(get(event, "type") or "")
    if get(event, "choices") is not None or kind == "chunk":
        return ChatAssembler(_no_call, {})
    if kind.startswith("response."):
        return ResponsesAssembler(_no_call)
    return MessagesAssembler(_no_call)


def _no_call(call: Any) -> RawCall:
    del call
    return RawCall("", "", None)
