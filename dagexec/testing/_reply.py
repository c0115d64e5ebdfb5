"""What a scripted model answers, in words that belong to no provider."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias, final

__all__ = ["API", "CallScript", "Event", "Reply", "ReplyScript", "arguments", "cut", "to_reply"]

API = Literal["chat", "responses", "messages"]
"""The three protocols: OpenAI Chat Completions, OpenAI Responses, Anthropic Messages."""

CallScript: TypeAlias = tuple[str, Mapping[str, Any] | str]
"""A tool's name and its arguments; arguments that are a string go out as they are, valid or not."""


@final
@dataclass(frozen=True, slots=True)
class Reply:
    """One answer of a scripted model; a text, some calls, or both (the text comes first)."""

    text: str = ""
    calls: Sequence[CallScript] = ()
    truncated: bool = False
    """Ended because of its length: `length`, `incomplete` or `max_tokens`."""
    delay: float | None = None
    """Seconds before the first byte; None takes the model's."""
    breaks: int | None = None
    """The connection drops after so many events of the stream (at once where nothing streams)."""
    status: int = 200
    """An HTTP status other than 200 answers with an error whose message is `text`."""
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    raw: Mapping[str, Any] | None = None
    """The whole body as it is, instead of text and calls; for requests that do not stream."""
    events: Sequence[Mapping[str, Any]] | None = None
    """The stream's events as they are, instead of text and calls; for requests that stream."""


ReplyScript: TypeAlias = (
    Reply
    | str
    | Sequence["CallScript | str"]
    | Mapping[str, Any]
    | Callable[[dict[str, Any]], "ReplyScript"]
)
"""A `Reply`; a text; a list of calls (a string among them is text); a raw body; or a function from
the request's body to any of these."""


@dataclass(frozen=True, slots=True)
class Event:
    """One server-sent event; `name` is None where the protocol names none."""

    data: Mapping[str, Any] | str
    name: str | None = None
    token: bool = False
    """It carries a piece of what the model writes: takes one token's time."""

    def encode(self) -> bytes:
        """Return the event as it goes over the wire."""
        data = self.data if isinstance(self.data, str) else json.dumps(self.data)
        head = "" if self.name is None else f"event: {self.name}\n"
        return f"{head}data: {data}\n\n".encode()


def to_reply(script: ReplyScript, body: dict[str, Any]) -> Reply:
    """Turn any form of a scripted reply into a `Reply`; `body` is the request."""
    if isinstance(script, Reply):
        return script
    if isinstance(script, str):
        return Reply(script)
    if isinstance(script, Mapping):
        # To pyright a callable may also be a mapping, of unknown things.
        return Reply(raw=script)  # pyright: ignore[reportUnknownArgumentType]
    if callable(script):
        return to_reply(script(body), body)
    text = "".join(part for part in script if isinstance(part, str))
    return Reply(text, [part for part in script if not isinstance(part, str)])


def cut(text: str, size: int) -> list[str]:
    """Cut a text into pieces of `size` characters; none for an empty text."""
    return [text[at : at + size] for at in range(0, len(text), size)]


def arguments(call: CallScript) -> str:
    """Return a call's arguments as the text that the model writes."""
    return call[1] if isinstance(call[1], str) else json.dumps(call[1])
