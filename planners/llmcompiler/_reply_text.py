"""The text of a reply, from whatever carries it: plain text, or a response or a stream of an API.

Nothing here imports an SDK; objects and dicts are read alike.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from dagexec import DagexecError
from planners._core.edge import described, get, is_list, items, text

_CUT: Final = frozenset(
    {"length", "max_tokens", "max_output_tokens", "model_context_window_exceeded", "incomplete"}
)
_FAILED: Final = frozenset({"error", "response.failed", "response.cancelled"})
_ENDED: Final = frozenset({"message_stop", "response.completed", "response.incomplete"})


@dataclass(frozen=True, slots=True)
class Piece:
    """What a reply or an event of one says: text, whether it is over, and whether it was cut."""

    text: str = ""
    ended: bool = False
    cut: bool = False


def whole(response: object) -> Piece:
    """Return the text of a whole reply: text itself, pieces of it, or a response of an API.

    Raises DagexecError for anything else.
    """
    if isinstance(response, str):
        return Piece(response, ended=True)
    if is_list(response) or isinstance(response, tuple):
        return _joined(response)
    choices = get(response, "choices")
    if choices is not None:
        if not is_list(choices) or not choices:
            return Piece(ended=True)
        response = choices[0]
    message = get(response, "message")
    if message is not None and not isinstance(message, str):
        return Piece(_content(message), ended=True, cut=get(response, "finish_reason") in _CUT)
    if get(response, "output") is not None:
        output = _joined(items(response, "output"))
        return Piece(output.text, ended=True, cut=get(response, "status") in _CUT)
    if get(response, "role") == "assistant" or get(response, "type") == "message":
        return Piece(_content(response), ended=True, cut=get(response, "stop_reason") in _CUT)
    raise refused(response)


def refused(source: object) -> DagexecError:
    """Return the error for what holds no text of a reply."""
    return DagexecError(
        f"LLMCompilerPlanner cannot read {described(source)}: it takes text, pieces of text, or"
        " the response of an API, as the SDK's object or as a dict"
    )


def _joined(parts: Any) -> Piece:
    """Return a list's text: of pieces of text, or of the output items of the Responses API."""
    texts = [part if isinstance(part, str) else _item(part) for part in parts]
    return Piece("".join(texts), ended=True)


def _item(item: object) -> str:
    if get(item, "type") in (None, "message") and get(item, "role") in (None, "assistant"):
        return _content(item)
    return ""


def _content(message: object) -> str:
    """Return the text of a message, which is a text or a list of blocks."""
    content = get(message, "content", "")
    if isinstance(content, str):
        return content
    blocks: list[Any] = content if is_list(content) else []
    return "".join(text(part, "text") for part in blocks if get(part, "type") in _TEXTS)


_TEXTS: Final = (None, "text", "output_text")


def piece(event: object) -> Piece | None:
    """Return what one event of a stream says; None where it is none of any API.

    Raises DagexecError for an event that says that the stream failed.
    """
    if isinstance(event, str):
        return Piece(event)
    kind = get(event, "type")
    if kind == "chunk":  # of the SDK's own wrapper round a chat stream
        return piece(get(event, "chunk"))
    if isinstance(kind, str):
        return _typed(event, kind)
    if get(event, "choices") is None:
        return None
    choices = items(event, "choices")
    if not choices:
        return Piece()
    reason = get(choices[0], "finish_reason")
    content = get(get(choices[0], "delta"), "content", "")
    said = content if isinstance(content, str) else ""
    return Piece(said, ended=reason is not None, cut=reason in _CUT)


def _typed(event: object, kind: str) -> Piece:
    """Return what an event of Responses or Messages says, or one of an SDK's wrapper."""
    if kind in _FAILED:
        source = get(event, "error") or get(get(event, "response"), "error") or event
        said = get(source, "message") or described(event)
        raise DagexecError(f"the model's stream failed: {said}")
    if kind == "response.output_text.delta":
        return Piece(text(event, "delta"))
    delta = get(event, "delta")
    if kind == "content_block_delta":
        return Piece(text(delta, "text") if get(delta, "type") == "text_delta" else "")
    if kind == "message_delta":
        return Piece(cut=get(delta, "stop_reason") in _CUT)
    return Piece(ended=kind in _ENDED, cut=kind == "response.incomplete")
