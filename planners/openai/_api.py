"""OpenAI's two APIs in a loop."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar, Final

from planners._core import arguments
from planners._core.api import Api, Ending
from planners._core.edge import (
    get,
    is_dict,
    is_list,
    items,
    listed,
    mended,
    nameable,
    once,
    plain,
    said,
    text,
)
from planners._core.servers import ending, worst_end
from planners._core.widen import OPENAI, NotStrict, strict
from planners.openai._client_items import CLIENT_ITEMS
from planners.openai._items import CALLS
from planners.openai._parts import content

_CHAT_CALLS: Final = ("function", "custom", None)


def _sent(body: dict[str, Any], *left_out: str) -> dict[str, Any]:
    """Return part of a reply as it may be sent back: no nulls, nothing of the SDK's own.

    What is inside stays as it is: servers put signatures there that they want to see again.
    """
    return {key: value for key, value in body.items() if value is not None and key not in left_out}


_REASONING: Final = "reasoning.encrypted_content"


class ChatApi(Api):
    """Chat Completions."""

    name: ClassVar[str] = "chat"
    resource: ClassVar[str] = "chat.completions"
    client: ClassVar[str] = "openai.AsyncOpenAI"

    def reply(self, response: Any) -> list[Any]:
        """Return the message; nothing for one that says nothing, which the API does not take."""
        found = mended(plain(get(choice_of(response), "message")))
        if not is_dict(found):
            return []
        message = {**_sent(found, "annotations", "parsed", "function_call"), "role": "assistant"}
        if "content" in message:
            message["content"] = content(message["content"])
        legacy = found.get("function_call")
        if is_legacy(legacy):
            message["function_call"] = {
                "name": nameable(text(legacy, "name")),
                "arguments": arguments.as_text(get(legacy, "arguments")),
            }
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
        message = get(choice_of(response), "message")
        said = get(message, "content", "")
        if is_list(said):
            said = "".join(text(part, "text") for part in said)
        return said or text(message, "refusal")

    def ending(self, response: Any) -> Ending:
        """Return it from `finish_reason`."""
        if get(response, "choices") is not None and not items(response, "choices"):
            return "failed"
        choice = choice_of(response)
        reason = get(choice, "finish_reason")
        found = "answered" if reason is None else ending(self.name, str(reason))
        refused = found == "answered" and get(get(choice, "message"), "refusal")
        return "refused" if refused else found

    def reason(self, response: Any) -> str:
        """Return `finish_reason`."""
        return text(choice_of(response), "finish_reason")

    def request(
        self, *, model: str, system: str, messages: list[Any], tools: list[Any]
    ) -> dict[str, Any]:
        """Return the arguments of `chat.completions.create`."""
        head = [{"role": "system", "content": system}] if system else []
        body: dict[str, Any] = {"model": model, "messages": [*head, *messages]}
        return {**body, "tools": tools} if tools else body

    def structured(self, name: str, schema: dict[str, Any]) -> dict[str, Any]:
        """Return `response_format`."""
        shape = {"name": name, **_held(schema)}
        return {"response_format": {"type": "json_schema", "json_schema": shape}}

    def piece(self, event: Any) -> str:
        """Return the content of a chunk's first choice."""
        found = items(event, "choices")
        return text(get(found[0], "delta"), "content") if found else ""

    def streaming(self, *, usage: bool) -> dict[str, Any]:
        """Ask for the usage only if it is needed: not every server knows the option."""
        options = {"stream_options": {"include_usage": True}} if usage else {}
        return {"stream": True, **options}


def _chat_call(call: Any) -> Any:
    if not is_dict(call):
        return call
    sent = _sent(call, "index")
    kind = "custom" if is_dict(sent.get("custom")) else "function"
    given = sent.get(kind)
    inner = _sent(given, "parsed_arguments") if is_dict(given) else {}
    if kind == "function":
        inner["arguments"] = arguments.as_text(inner.get("arguments"))
    sent[kind] = {**inner, "name": nameable(text(inner, "name"))}
    return {**sent, "id": said(call, "id"), "type": kind}


def choice_of(response: Any) -> Any:
    """Return the choice that counts: the first, with the calls of another if it has none.

    Some servers put the text into one choice and the calls into another.
    """
    if get(response, "choices") is None:
        return response if get(response, "message") is not None else {"message": response}
    choices = items(response, "choices")
    if not choices:
        return None
    first = choices[0]
    other = next((each for each in choices if items(get(each, "message"), "tool_calls")), first)
    if other is first:
        return first
    calls = plain(other)["message"]["tool_calls"]
    told: dict[str, Any] = plain(get(first, "message")) or {}
    message: dict[str, Any] = {**told, "tool_calls": calls}
    reason = worst_end("chat", get(other, "finish_reason"), get(first, "finish_reason"))
    return {"message": message, "finish_reason": reason}


def is_legacy(call: Any) -> bool:
    """Whether a `function_call` is one; some servers put an empty one beside everything."""
    blank = not text(call, "name").strip() and not str(get(call, "arguments", "")).strip()
    return call is not None and not blank


class ResponsesApi(Api):
    """Responses, with the whole conversation as input each time."""

    name: ClassVar[str] = "responses"
    resource: ClassVar[str] = "responses"
    client: ClassVar[str] = "openai.AsyncOpenAI"

    def reply(self, response: Any) -> list[Any]:
        """Return the output items; texts keep their annotations, which are part of the input."""
        found = [_item(mended(plain(item))) for item in _output(response)]
        while found and get(found[-1], "type") == "reasoning":  # it led to nothing
            found.pop()
        return once(found, CALLS, "call_id")

    def places(self, messages: list[Any]) -> Iterator[tuple[dict[str, Any], str]]:
        """Yield each `call_id`."""
        for item in messages:
            kind = str(get(item, "type")).removesuffix("_output")
            kind = "tool_search_call" if kind == "tool_search" else kind
            if is_dict(item) and "call_id" in item and (kind in CALLS or kind in CLIENT_ITEMS):
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
        status = "completed" if is_list(response) else get(response, "status", "completed")
        reason = get(get(response, "incomplete_details"), "reason")
        word = str(reason) if status == "incomplete" and reason else str(status)
        if (found := ending(self.name, word)) != "answered":
            return found
        parts = [part for item in _output(response) for part in items(item, "content")]
        refused = any(get(part, "type") == "refusal" for part in parts)
        return "refused" if refused else "answered"

    def ready(self, request: dict[str, Any]) -> dict[str, Any]:
        """Ask for the reasoning itself where the server keeps none: it has to come back.

        What it did not give can then not be sent back.
        """
        if request.get("store") is not False:
            return request
        include: list[Any] = list(request.get("include") or ())
        if _REASONING not in include:
            include.append(_REASONING)
        kept = [
            item
            for item in listed(request.get("input"))
            if get(item, "type") != "reasoning" or get(item, "encrypted_content")
        ]
        return {**request, "input": kept or request.get("input"), "include": include}

    def structured(self, name: str, schema: dict[str, Any]) -> dict[str, Any]:
        """Return `text`."""
        return {"text": {"format": {"type": "json_schema", "name": name, **_held(schema)}}}

    def piece(self, event: Any) -> str:
        """Return the delta of a text."""
        return text(event, "delta") if get(event, "type") == "response.output_text.delta" else ""

    def is_shortened(self, response: Any) -> bool:
        """Whether there was a compaction."""
        kinds = ("compaction", "compaction_summary", "context_compaction")
        return any(get(item, "type") in kinds for item in _output(response))

    def reason(self, response: Any) -> str:
        """Return the status and what it says of an incomplete response."""
        detail = text(get(response, "incomplete_details"), "reason")
        return detail or ("" if is_list(response) else text(response, "status"))

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
    if sent.get("status") not in ("in_progress", "completed", "incomplete"):
        sent.pop("status", None)
    if item.get("type") in CALLS:
        sent["name"] = nameable(text(item, "name"))
        sent["call_id"] = said(item, "call_id") or said(item, "id")
    if item.get("type") == "function_call":
        sent["arguments"] = arguments.as_text(item.get("arguments"))
    elif item.get("type") == "custom_tool_call":
        sent["input"] = str(item.get("input") or "")
    elif item.get("type") == "message":
        parts = items(item, "content")
        sent["content"] = [_sent(part, "parsed") if is_dict(part) else part for part in parts]
        if not sent.get("id"):  # of a reply that broke off: the parts of an output need an id
            words = "".join(text(part, "text") or text(part, "refusal") for part in parts)
            sent = {**sent, "role": "assistant", "content": words}
            sent.pop("status", None)
    return sent


def _held(schema: dict[str, Any]) -> dict[str, Any]:
    """Return a schema of answers, and whether the model is held to it."""
    try:
        return {"schema": strict(schema, OPENAI), "strict": True}
    except NotStrict:
        return {"schema": schema, "strict": False}
