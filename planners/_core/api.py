"""How an API is asked, and how its replies are read: all that differs between them in a loop."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from inspect import isawaitable
from typing import Any, ClassVar, Final, Literal, TypeAlias

from dagexec import DagexecError
from dagexec.lowlevel import kind_of
from planners._core.edge import get, worded

# "calls" is a reply that stopped for calls, "malformed" one whose calls the server could not read.
# What is no known end is "cut_off".
Ending: TypeAlias = Literal[
    "answered", "calls", "malformed", "goes_on", "cut_off", "refused", "failed"
]

# The base class of all synchronous clients, in both SDKs.
_SYNC: Final = "SyncAPIClient"


class Api(ABC):
    """One API: it knows how to ask and how to read, and keeps nothing.

    A conversation is a list of dicts in the API's own form, without the system prompt.
    """

    name: ClassVar[str]
    # Where the SDK's client has `create`, and what to say when it is not there.
    resource: ClassVar[str]
    client: ClassVar[str]

    def question(self, text: str) -> list[Any]:
        """Return a user's text as messages."""
        return [{"role": "user", "content": text}]

    @abstractmethod
    def reply(self, response: Any) -> list[Any]:
        """Return what a reply adds to the conversation."""

    @abstractmethod
    def places(self, messages: list[Any]) -> Iterator[tuple[dict[str, Any], str]]:
        """Yield where the ids of calls and of their answers stand: a dict and its key."""

    @abstractmethod
    def text(self, response: Any) -> str:
        """Return what a reply says, without its calls."""

    @abstractmethod
    def ending(self, response: Any) -> Ending:
        """Return why a reply ended."""

    def carried(self, response: Any) -> dict[str, Any]:
        """Return arguments that the next request must have because of a reply."""
        del response
        return {}

    def is_shortened(self, response: Any) -> bool:
        """Whether the model has lost sight of earlier parts of the conversation."""
        del response
        return False

    def fault(self, response: Any) -> str | None:
        """Return what went wrong, as the end of a sentence, of an error in a reply's place."""
        error = get(response, "error")
        said = ("choices", "output", "content", "status")  # a failed response has a status
        empty = not any(get(response, name) for name in said)
        return worded(error) if error is not None and empty else None

    def reason(self, response: Any) -> str:
        """Return the word with which a reply said why it ended."""
        del response
        return ""

    @abstractmethod
    def request(
        self, *, model: str, system: str, messages: list[Any], tools: list[Any]
    ) -> dict[str, Any]:
        """Return the arguments of `create`."""

    def structured(self, name: str, schema: dict[str, Any]) -> dict[str, Any]:
        """Return the arguments of `create` that ask for an answer of this JSON Schema, if any."""
        del name, schema
        return {}

    def piece(self, event: Any) -> str:
        """Return the piece of text for the user that an event of a stream brings."""
        del event
        return ""

    def ready(self, request: dict[str, Any]) -> dict[str, Any]:
        """Return a request with what its own arguments make necessary."""
        return request

    def streaming(self, *, usage: bool) -> dict[str, Any]:
        """Return what makes a request stream; with `usage`, its end says what it used."""
        del usage
        return {"stream": True}

    async def ask(self, client: Any, request: Mapping[str, Any]) -> Any:
        """Send a request; return the SDK's reply, or its stream if `request` asks for one.

        Raises what the SDK raises, and DagexecError for a client that is not of this API.
        """
        return await self._resource(client).create(**request)

    async def ask_raw(
        self, client: Any, request: Mapping[str, Any]
    ) -> tuple[Any, Mapping[Any, Any]]:
        """Send a request; return what `ask` returns, and the headers of the HTTP response."""
        raw = getattr(self._resource(client), "with_raw_response", None)
        if raw is None:
            return await self.ask(client, request), {}
        answer = await raw.create(**request)
        reply = answer.parse()
        return (await reply if isawaitable(reply) else reply), answer.headers

    def _resource(self, client: Any) -> Any:
        found = client
        for name in self.resource.split("."):
            found = getattr(found, name, None)
        if not hasattr(found, "create"):
            raise DagexecError(
                f"{kind_of(client)} has no {self.resource}.create, which this planner asks"
                f" through: give an {self.client}, or another planner"
            )
        if any(kind.__name__ == _SYNC for kind in type(client).__mro__):
            raise DagexecError(
                f"{type(client).__name__} is the synchronous client, which would block the event"
                f" loop: give an {self.client}"
            )
        return found
