"""A model that answers from a script, below the provider's own client.

The seam is HTTP: the clients are the real `openai.AsyncOpenAI` and `anthropic.AsyncAnthropic`, so
their parsing, their streams and their retries are under test too; only the network is not there.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, cast, final

import anyio

from dagexec._core.wrong_names import explained
from dagexec._errors import MissingExtra

from ._check import check_conversation
from ._reply import API, Event, Reply, ReplyScript, to_reply
from ._wire import WIRES, Exchange, Wire

if TYPE_CHECKING:
    import anthropic
    import httpx2
    import openai

__all__ = ["Request", "ScriptedModel"]

JSON = dict[str, Any]


@final
@dataclass(frozen=True, slots=True)
class Request:
    """One request that a scripted model got; `at` is in seconds on the event loop's clock."""

    api: API
    body: dict[str, Any]
    at: float
    problems: tuple[str, ...] = ()
    """What `check_conversation` found in it."""


@explained
@final
class ScriptedModel:
    """Answers the requests of real SDK clients from a list of replies, one after the other.

    >>> model = ScriptedModel([[("search", {"q": "x"}), ("read", {"n": 1})], "the answer"])
    >>> client = model.openai()      # or model.anthropic()

    Calls get the ids `call_1`, `call_2` ... (`toolu_1` ... for Messages), counted over the whole
    script. A request beyond the last reply is answered with a 400 that says so.

    Args:
        replies: texts, lists of `(tool, arguments)`, `Reply`, raw bodies, functions of the
            request; see `ReplyScript`.
        delay: seconds from a request to the first byte of its answer.
        speed: tokens per second, None for no waiting; an answer that does not stream takes the
            time of all its tokens before the first byte. A token is `size` characters.
        size: characters in a token, which is one event of a stream.
        strict: answer 400 with the provider's text when the calls in a conversation are not
            answered as they must be; otherwise the problems are only kept in `requests`.
    """

    def __init__(
        self,
        replies: Iterable[ReplyScript],
        *,
        delay: float = 0.0,
        speed: float | None = None,
        size: int = 4,
        strict: bool = True,
    ) -> None:
        self.requests: list[Request] = []
        """Every request, in order, with those that were refused."""
        self._replies = list(replies)
        self._used = 0
        self._calls = 0
        self._delay = delay
        self._token = 0.0 if speed is None else 1.0 / speed
        self._size = size
        self._strict = strict
        # Responses: all items up to and with each answer, by its id, for `previous_response_id`.
        self._history: dict[str, list[JSON]] = {}

    @property
    def bodies(self) -> list[dict[str, Any]]:
        """The bodies of all requests, in order."""
        return [request.body for request in self.requests]

    @property
    def left(self) -> int:
        """How many replies have not been used."""
        return len(self._replies) - self._used

    def openai(self, **options: Any) -> openai.AsyncOpenAI:
        """Return a client whose requests this model answers; options are those of `AsyncOpenAI`."""
        try:
            import openai
        except ImportError as error:
            raise MissingExtra("openai is not installed: pip install openai") from error
        return cast("openai.AsyncOpenAI", self._client(openai.AsyncOpenAI, "/v1", options))

    def anthropic(self, **options: Any) -> anthropic.AsyncAnthropic:
        """Return a client whose requests this model answers; options are `AsyncAnthropic`'s."""
        try:
            import anthropic
        except ImportError as error:
            raise MissingExtra("anthropic is not installed: pip install anthropic") from error
        return cast("anthropic.AsyncAnthropic", self._client(anthropic.AsyncAnthropic, "", options))

    def transport(self) -> httpx2.MockTransport:
        """Return the transport itself, for a client of your own."""
        import httpx2

        return httpx2.MockTransport(self._answer)

    def _client(self, base: type[Any], path: str, options: dict[str, Any]) -> Any:
        """Make a client of the SDK's class."""
        import httpx2

        # The SDK asks a worker thread for the platform, and threads have no virtual time. A
        # subclass, so that the client's own copies (`with_options`) know it too.
        platform = property(lambda _: "Unknown", lambda _self, _value: None)
        scripted = type(base.__name__, (base,), {"_platform": platform})
        options.setdefault("api_key", "scripted")
        options.setdefault("base_url", f"https://scripted.invalid{path}")
        http = httpx2.AsyncClient(transport=self.transport())
        return scripted(**{"http_client": http, **options})

    # -- one request -------------------------------------------------------------------------------

    async def _answer(self, request: httpx2.Request) -> httpx2.Response:
        import httpx2

        path = request.url.path
        api: API
        for api, wire in WIRES.items():  # noqa: B007 - both are used behind the loop
            if path.endswith(wire.path):
                break
        else:
            return httpx2.Response(HTTPStatus.NOT_FOUND, text=f"no script for {path}")
        body = cast("JSON", json.loads(request.content))
        problems = self._check(api, body)
        self.requests.append(Request(api, body, anyio.current_time(), tuple(problems)))
        if problems and self._strict:
            return _refuse(wire, problems[0])
        if self.left == 0:
            number = len(self.requests)
            return _refuse(wire, f"the script has {self._used} replies; this is request {number}")
        reply = to_reply(self._replies[self._used], body)
        self._used += 1
        exchange = self._exchange(api, body, reply)
        self._remember(api, body, exchange)
        return await self._send(wire, exchange, streams=bool(body.get("stream")))

    def _check(self, api: API, body: JSON) -> list[str]:
        previous = body.get("previous_response_id") if api == "responses" else None
        if previous is not None and previous not in self._history:
            return [f"Previous response with id '{previous}' not found."]
        return check_conversation(api, body, previous=self._history.get(str(previous), ()))

    def _exchange(self, api: API, body: JSON, reply: Reply) -> Exchange:
        prefix = "toolu" if api == "messages" else "call"
        ids = [f"{prefix}_{self._calls + at}" for at in range(1, len(reply.calls) + 1)]
        self._calls += len(ids)
        stream_options: JSON = body.get("stream_options") or {}
        usage = bool(stream_options.get("include_usage"))
        model = str(body.get("model", "scripted"))
        return Exchange(self._used, model, reply, tuple(ids), self._size, usage=usage)

    def _remember(self, api: API, body: JSON, exchange: Exchange) -> None:
        if (
            api != "responses"
            or exchange.reply.status != HTTPStatus.OK
            or exchange.reply.events is not None
        ):
            return
        whole = exchange.reply.raw or WIRES[api].whole(exchange)
        given = body.get("input", [])
        items: list[JSON] = [] if isinstance(given, str) else list(given)
        before = self._history.get(str(body.get("previous_response_id")), [])
        self._history[str(whole.get("id"))] = [*before, *items, *whole.get("output", [])]

    async def _send(self, wire: Wire, exchange: Exchange, *, streams: bool) -> httpx2.Response:
        import httpx2

        reply = exchange.reply
        await anyio.sleep(self._delay if reply.delay is None else reply.delay)
        if reply.status != HTTPStatus.OK:
            error = wire.error(reply.text, "scripted_error")
            return httpx2.Response(reply.status, headers=dict(reply.headers), json=error)
        if reply.breaks is not None and not streams:
            raise _dropped()
        try:
            events = _events(wire, exchange) if streams else []
            whole = None if streams else _whole(wire, exchange)
        except ValueError as error:
            return _refuse(wire, f"the script cannot answer this request: {error}")
        headers = dict(reply.headers)
        if whole is not None:
            await anyio.sleep(self._token * exchange.tokens)
            return httpx2.Response(HTTPStatus.OK, headers=headers, json=whole)
        headers.setdefault("content-type", "text/event-stream")
        stream = _Stream(events, self._token, reply.breaks, _dropped)
        return httpx2.Response(HTTPStatus.OK, headers=headers, content=stream)


def _refuse(wire: Wire, message: str) -> httpx2.Response:
    import httpx2

    return httpx2.Response(
        HTTPStatus.BAD_REQUEST, json=wire.error(message, "invalid_request_error")
    )


def _dropped() -> Exception:
    import httpx2

    return httpx2.ReadError("the script dropped the connection")


def _whole(wire: Wire, exchange: Exchange) -> JSON:
    """Return the body of an answer that does not stream; ValueError if there cannot be one."""
    if exchange.reply.events is not None:
        raise ValueError("the reply is a list of events, and the request does not stream")
    return wire.whole(exchange) if exchange.reply.raw is None else dict(exchange.reply.raw)


def _events(wire: Wire, exchange: Exchange) -> list[Event]:
    """Return the events of an answer that streams; ValueError if there cannot be any."""
    if exchange.reply.raw is not None:
        raise ValueError("the reply is a whole body, and the request streams: give Reply(events=)")
    if exchange.reply.events is None:
        return wire.stream(exchange)
    chat = wire is WIRES["chat"]
    events = [
        Event(data, None if chat else str(data.get("type"))) for data in exchange.reply.events
    ]
    return [*events, Event("[DONE]")] if chat else events


class _Stream:
    """The bytes of a stream, each event after its time; no generator, which trio wants closed."""

    def __init__(
        self, events: list[Event], token: float, breaks: int | None, error: Callable[[], Exception]
    ) -> None:
        self._events = iter(events)
        self._token = token
        self._left = breaks
        self._error = error

    def __aiter__(self) -> _Stream:
        return self

    async def __anext__(self) -> bytes:
        if self._left == 0:
            raise self._error()
        event = next(self._events, None)
        if event is None:
            raise StopAsyncIteration
        if self._left is not None:
            self._left -= 1
        # Also a checkpoint where no time is set: a reader must not get a stream in one go.
        await anyio.sleep(self._token if event.token else 0)
        return event.encode()
