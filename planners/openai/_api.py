"""OpenAI's two APIs in a loop."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar, Final

from planners._core.api import Api, Ending
from planners._core.edge import get, is_dict, is_list, items, listed, nameable, once, plain, text

_CHAT_CALLS: Final = ("function", "custom", None)
_CALLS: Final = ("function_call", "custom_tool_call")
_CHAT_ENDS: Final[dict[str, Ending]] = {"length": "cut_off", "content_filter": "refused"}


def _sent(body: dict[str, Any], *left_out: str) -> dict[str, Any]:
    """Return part of a reply as it may be sent back: no nulls, nothing of the SDK's own.

    What is inside stays as it is: servers put signatures there that they want to see again.
    """
    return {key: value for key, value in body.items() if value is not None and key not in left_out}


class ChatApi(Api):
    """Chat Completions."""

    name: ClassVar[str] = "chat"
    resource: ClassVar[str] = "chat.completions"
    client: ClassVar[str] = "openai.AsyncOpenAI"

    def reply(self, response: Any) -> list[Any]:
        """Return the message; nothing for one that says nothing, which the API does not take."""
        found = plain(_message(response))
        if not is_dict(found):
            return []
        message = {"role": "assistant", **_sent(found, "annotations", "parsed")}
        if "audio" in message:
            message["audio"] = {"id": get(message["audio"], "id")}
        calls = [_chat_call(call) for call in listed(message.pop("tool_calls", None))]
        if calls:
            message["tool_calls"] = once(calls, _CHAT_CALLS, "id")
        says = ("content", "tool_calls", "function_call", "refusal", "audio")
        return [message] if any(name in message for name in says) else []

    def places(self, messages: list[Any]) -> Iterator[tuple[dict[str, Any], str]]:
        """Yield the `id` of each call, and each `tool_call_id`."""
        for message in messages:
            for call in items(message, "tool_calls"):
                if is_dict(call):
                    yield call, "id"
            if is_dict(message) and message.get("role") == "tool":
                yield message, "tool_call_id"

    def text(self, response: Any) -> str:
        """Return content, or what the model says instead of it when it refuses."""
        message = _message(response)
        content = get(message, "content", "")
        if is_list(content):
            content = "".join(text(part, "text") for part in content)
        return content or text(message, "refusal")

    def ending(self, response: Any) -> Ending:
        """Return it from `finish_reason`."""
        choices = items(response, "choices")
        if not choices:
            return "failed"
        reason = _CHAT_ENDS.get(get(choices[0], "finish_reason", ""), "answered")
        refused = reason == "answered" and get(_message(response), "refusal")
        return "refused" if refused else reason

    def request(
        self, *, model: str, system: str, messages: list[Any], tools: list[Any]
    ) -> dict[str, Any]:
        """Return the arguments of `chat.completions.create`."""
        head = [{"role": "system", "content": system}] if system else []
        body: dict[str, Any] = {"model": model, "messages": [*head, *messages]}
        return {**body, "tools": tools} if tools else body

    def streaming(self, *, usage: bool) -> dict[str, Any]:
        """Ask for the usage only if it is needed: not every server knows the option."""
        options = {"stream_options": {"include_usage": True}} if usage else {}
        return {"stream": True, **options}


def _chat_call(call: Any) -> Any:
    if not is_dict(call):
        return call
    sent = _sent(call, "index")
    for kind in ("function", "custom"):
        if is_dict(inner := sent.get(kind)):
            name = nameable(text(inner, "name"))
            sent[kind] = {**_sent(inner, "parsed_arguments"), "name": name}
    return sent


def _message(response: Any) -> Any:
    if get(response, "choices") is not None:
        choices = items(response, "choices")
        return get(choices[0], "message") if choices else None
    return get(response, "message", response)


class ResponsesApi(Api):
    """Responses, with the whole conversation as input each time."""

    name: ClassVar[str] = "responses"
    resource: ClassVar[str] = "responses"
    client: ClassVar[str] = "openai.AsyncOpenAI"

    def reply(self, response: Any) -> list[Any]:
        """Return the output items; texts keep their annotations, which are part of the input."""
        return once([_item(plain(item)) for item in _output(response)], _CALLS, "call_id")

    def places(self, messages: list[Any]) -> Iterator[tuple[dict[str, Any], str]]:
        """Yield each `call_id`."""
        for item in messages:
            if is_dict(item) and str(item.get("type")).removesuffix("_output") in _CALLS:
                yield item, "call_id"

    def text(self, response: Any) -> str:
        """Return the texts of all messages, or the refusals if there are none."""
        parts = [
            part
            for item in _output(response)
            if get(item, "type") == "message"
            for part in items(item, "content")
        ]
        said = "".join(text(part, "text") for part in parts if get(part, "type") == "output_text")
        return said or "".join(text(part, "refusal") for part in parts)

    def ending(self, response: Any) -> Ending:
        """Return it from `status`."""
        status = get(response, "status", "completed")
        if status == "incomplete":
            reason = get(get(response, "incomplete_details"), "reason")
            return "refused" if reason == "content_filter" else "cut_off"
        if status != "completed":
            return "failed"
        parts = [part for item in _output(response) for part in items(item, "content")]
        refused = any(get(part, "type") == "refusal" for part in parts)
        return "refused" if refused else "answered"

    def request(
        self, *, model: str, system: str, messages: list[Any], tools: list[Any]
    ) -> dict[str, Any]:
        """Return the arguments of `responses.create`."""
        body: dict[str, Any] = {"model": model, "input": list(messages)}
        if system:
            body["instructions"] = system
        return {**body, "tools": tools} if tools else body


def _output(response: Any) -> list[Any]:
    return response if is_list(response) else items(response, "output")


def _item(item: Any) -> Any:
    if not is_dict(item):
        return item
    sent = _sent(item, "parsed_arguments")
    if item.get("type") in _CALLS:
        sent["name"] = nameable(text(item, "name"))
    if item.get("type") == "message":
        parts = items(item, "content")
        sent["content"] = [_sent(part, "parsed") if is_dict(part) else part for part in parts]
    return sent
