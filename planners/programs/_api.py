"""Replies of any chat model, as texts: Chat Completions, Responses, Messages, or plain text."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any, ClassVar

from dagexec.programs import RUN_PROGRAM
from planners._core.api import Ending
from planners._core.call_log import RawCall
from planners._core.edge import get
from planners._core.stream import Assembler, Progress
from planners._text_base import TextApi, api_of
from planners.anthropic._stream import MessagesAssembler
from planners.openai._chat_stream import ChatAssembler
from planners.openai._responses_stream import ResponsesAssembler


class ProgramApi(TextApi):
    """Replies as texts, some with a program."""

    name: ClassVar[str] = "programs"

    def text(self, response: Any) -> str:
        """Return the text of a reply."""
        return response if isinstance(response, str) else api_of(response).text(response)

    whole = text

    def ending(self, response: Any) -> Ending:
        """Return why a reply ended."""
        return "answered" if isinstance(response, str) else api_of(response).ending(response)


class AnyAssembler(Assembler):
    """Puts a reply together from a stream of any of the three APIs: its first event says which.

    A program is read from the whole text, so no call is handed out before the end.
    """

    def __init__(self) -> None:
        """Begin before the first event."""
        super().__init__()
        self._inner: Assembler | None = None
        self._said = ""

    def feed(self, event: Any) -> Iterable[Progress]:
        """Take one event; calls of a native kind are none of ours."""
        if self._inner is None:
            self._inner = _assembler(event)
        for _ in self._inner.feed(event):
            pass
        self._said += said(event)
        self.ended, self.recognised = self._inner.ended, self._inner.recognised
        self.shortened = self._inner.shortened
        return ()

    def being_written(self) -> tuple[object, str, str] | None:
        """Return the text, in which there may be a program."""
        return ("", RUN_PROGRAM, self._said) if self._said else None

    def response(self, given: Collection[object] | None = None) -> dict[str, Any] | None:
        """Return the reply in its API's form."""
        return None if self._inner is None else self._inner.response(given)


def said(event: Any) -> str:
    """Return what an event adds to the text of a reply, as far as a look at it says."""
    choices = get(event, "choices")
    if get(event, "type") == "chunk":
        choices = get(get(event, "chunk"), "choices")
    if choices:
        delta = get(get(choices[0], "delta"), "content")
    else:
        delta = get(event, "delta")
        if get(event, "type") == "content_block_delta":
            delta = get(delta, "text")
        elif get(event, "type") != "response.output_text.delta":
            delta = None
    return delta if isinstance(delta, str) else ""


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
