"""Asking a model, under a limiter or not: the one place where a request goes out."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, final

import anyio

from planners._core.api import Api
from planners._core.edge import get

if TYPE_CHECKING:  # `dagexec.limits` loads the standard library's email parser, output pydantic
    from dagexec.limits import Limiter, Permit
    from planners._loop.output import Output

# As the SDKs do it when nobody tells them not to.
_ATTEMPTS: Final = 3
_RETRIED: Final = frozenset({408, 409, 429, 529})
_REFUSED: Final = frozenset({429, 529})
_SERVER_ERROR: Final = 500
_FIRST_DELAY: Final = 0.5  # seconds
_MAX_DELAY: Final = 8.0
# Where nothing says how long a reply may get: a guess, in tokens.
_REPLY: Final = 1000
_CHARACTERS: Final = 4  # of JSON, to a token
_LIMITS_OF_REPLY: Final = ("max_tokens", "max_completion_tokens", "max_output_tokens")


@final
@dataclass(slots=True)
class Asked:
    """A request that was answered: the reply or its stream, and the permit while it is read."""

    reply: Any
    permit: Permit | None = None

    def close(self, response: Any) -> None:
        """Give the permit back, and say what the reply used; twice is as once."""
        permit, self.permit = self.permit, None
        if permit is None:
            return
        used = usage(response)
        if used:
            permit.settle(used)
        permit.close()


@final
@dataclass(frozen=True, slots=True)
class Asking:
    """How a conversation reaches its model.

    With a limiter the SDK's own retries are off: each would be an attempt that it never sees.
    """

    api: Api
    client: Any
    limiter: Limiter | None
    output: Output | None = None

    async def ask(self, request: Mapping[str, Any], deadline: float) -> Asked:
        """Send a request, and again where a server refuses to be held to a form of the answer."""
        try:
            return await self._ask(request, deadline)
        except Exception as error:
            plainer = None if self.output is None else self.output.plainer(request, error)
            if plainer is None:
                raise
        return await self._ask(plainer, deadline)

    async def _ask(self, request: Mapping[str, Any], deadline: float) -> Asked:
        """Send a request; `deadline` is a point on the clock of the event loop.

        Raises what the SDK and the limiter raise.
        """
        if self.limiter is None:
            return Asked(await self.api.ask(self.client, request))
        options = getattr(self.client, "with_options", None)
        client = self.client if options is None else options(max_retries=0)
        limit = None if deadline == math.inf else deadline
        permit = self.limiter.acquire(estimate(request, self.limiter.rates), deadline=limit)
        await permit.__aenter__()
        try:
            reply, headers = await _attempts(self.api, client, request, permit)
        except BaseException:
            permit.close()
            raise
        permit.observe(headers)
        return Asked(reply, permit)


async def _attempts(
    api: Api, client: Any, request: Mapping[str, Any], permit: Permit
) -> tuple[Any, Mapping[Any, Any]]:
    """Ask until there is an answer; wait between attempts as the limiter and the server say."""
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            return await api.ask_raw(client, request)
        except Exception as error:
            status = get(error, "status_code")
            if attempt == _ATTEMPTS or not _may_pass(error, status):
                raise
            if status in _REFUSED:
                permit.rejected(headers=get(get(error, "response"), "headers") or {})
                await permit.again()
            else:
                window = min(_MAX_DELAY, _FIRST_DELAY * 2.0**attempt)
                await anyio.sleep(window * random.random())  # noqa: S311 - spreads load
    raise AssertionError  # the last attempt returns or raises


def _may_pass(error: Exception, status: Any) -> bool:
    """Whether the same request may succeed later."""
    if isinstance(status, int):
        return status in _RETRIED or status >= _SERVER_ERROR
    # Both SDKs name it so, and neither is imported here; a timeout is one of them.
    return any(kind.__name__ == "APIConnectionError" for kind in type(error).__mro__)


def estimate(request: Mapping[str, Any], rates: Mapping[str, Any]) -> dict[str, float]:
    """Return what a request may cost, for the dimensions that a limiter counts."""
    written = {name: request[name] for name in _WRITTEN if name in request}
    given = len(json.dumps(written, default=str)) / _CHARACTERS
    reply = next((request[name] for name in _LIMITS_OF_REPLY if request.get(name)), _REPLY)
    costs = {"tokens": given + reply, "input_tokens": given, "output_tokens": float(reply)}
    return {name: cost for name, cost in costs.items() if name in rates}


_WRITTEN: Final = ("messages", "input", "system", "instructions", "tools")


def usage(response: Any) -> dict[str, float]:
    """Return what a reply says that it used, under the limiter's names."""
    found = get(response, "usage")
    if found is None:
        return {}
    given = get(found, "prompt_tokens", get(found, "input_tokens"))
    made = get(found, "completion_tokens", get(found, "output_tokens"))
    total = get(found, "total_tokens")
    if total is None and given is not None and made is not None:
        total = given + made
    amounts = {"input_tokens": given, "output_tokens": made, "tokens": total}
    return {name: float(amount) for name, amount in amounts.items() if amount is not None}
