"""Limiters: the public face of the machine, one for each key."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Literal, Self, cast, final
from weakref import WeakValueDictionary

from dagexec._concurrency import forks
from dagexec._core.wrong_names import explained
from dagexec._errors import DagexecError
from dagexec.limits._counted import Counted, default_random
from dagexec.limits._crowd import Crowd
from dagexec.limits._headers import limits_in, remaining_in
from dagexec.limits._ledger import Ledger, Oversize, Ticket
from dagexec.limits._permit import Permit
from dagexec.limits._rates import Rate, is_amount, is_count
from dagexec.limits._store import Store

_MAX_PRIORITY: Final = 8
# Enough where headers correct the model; what it costs is this share of a bucket, once.
_MARGIN: Final = 0.005
_SHARED_MARGIN: Final = 0.02

# How each provider counts, by dimension; the presets say where it is written.
_OPENAI: Final[dict[str, Callable[[float], Rate]]] = {
    "requests": lambda n: Rate(n, burst=max(1.0, n / 6), refund=False),
    "tokens": lambda n: Rate(n, settle="reserved"),
}
_ANTHROPIC: Final[dict[str, Callable[[float], Rate]]] = {
    "requests": Rate,
    "input_tokens": Rate,
    "output_tokens": lambda n: Rate(n, settle="expected"),
}
# The limiters that there are, by key; of those with the same key, the one made last.
_named: Final[WeakValueDictionary[str, Limiter]] = WeakValueDictionary()


@explained
@final
class Limiter(Counted):
    """Lets calls go as fast as a key allows, and no faster, first come, first served.

    Args:
        key: Its name, such as "openai:gpt-5.5": a tool can name it in `limits=`, errors show it.
        in_flight: How many calls may be under way at a time; None for no limit.
        rates: How much of what may go in what time, by dimension: `{"requests": Rate(500),
            "tokens": Rate(300_000)}`. Each call counts as one of "requests"; the other amounts
            are what `acquire` is given.
        margin: The share of each bucket that is kept back, because clocks and estimates differ;
            by default 0.005, and 0.02 for a key that several processes use.
        oversize: What becomes of a call that needs more than a bucket holds: "debt" lets it go
            when the bucket is full, and what comes after works it off; "reject" refuses it.
        peers: How many processes use the key, this one included, if they have no store: each keeps
            to its part, and to its part of what headers say that the others leave. With "auto" it
            learns its part from refusals and headers.
        store: What they share instead, a `Store` such as RedisStore or PostgresStore: then they
            are served as if they were one, in the order in which their calls come. `in_flight` is
            for each of them. While it cannot be reached, each goes on with its part if `peers` is
            given too, else calls fail with StoreLost.
        random: Returns a number from 0 to 1, for jitter.

    One limiter may serve any number of executors and `async with` blocks on one event loop, and
    then on the next; not on two at the same time.

    Raises DagexecError for a setting that cannot be.
    """

    def __init__(
        self,
        key: str,
        *,
        in_flight: int | None = None,
        rates: Mapping[str, Rate | float] | None = None,
        margin: float | None = None,
        oversize: Oversize = "debt",
        peers: int | Literal["auto"] = 1,
        store: Store | None = None,
        random: Callable[[], float] = default_random,
    ) -> None:
        """Check the settings; buckets start full."""
        self.rates = _rates(key, rates or {})
        if margin is None:
            margin = _MARGIN if peers == 1 and store is None else _SHARED_MARGIN
        self.peers = peers
        _check(key, in_flight, margin, oversize, peers)
        ledger = Ledger(
            key,
            self.rates,
            now=0.0,
            in_flight=in_flight,
            margin=margin,
            oversize=oversize,
            # With a store they matter only while that is gone.
            peers=peers if store is None and peers != "auto" else 1,
        )
        if store is None and peers == "auto":
            ledger.learn(Crowd(), 0.0)
        super().__init__(ledger, store, random, peers)
        _named[key] = self
        forks.forgets(self)

    def after_fork(self) -> None:
        """Drop, in a forked child, the calls of the parent: they never end here."""
        self.ledger.reset()

    # -------------------------------------------------------------------------- starting points

    @classmethod
    def openai(
        cls,
        key: str,
        *,
        requests: float = 500,
        tokens: float = 30_000,
        in_flight: int | None = 50,
        **options: Any,
    ) -> Self:
        """Return a limiter for a model of OpenAI; amounts per minute, those of your account.

        "tokens" are those of the prompt plus `max_tokens`: that is what OpenAI counts, at the
        start. Refused requests count, and requests are enforced over 10 seconds.
        """
        rates = _rates_of(_OPENAI, {"requests": requests, "tokens": tokens})
        given: dict[str, Any] = {"oversize": "reject", **options}
        return cls(key, in_flight=in_flight, rates=rates, **given)

    @classmethod
    def anthropic(
        cls,
        key: str,
        *,
        requests: float = 50,
        input_tokens: float = 30_000,
        output_tokens: float = 8_000,
        in_flight: int | None = 20,
        **options: Any,
    ) -> Self:
        """Return a limiter for a model of Anthropic; amounts per minute, those of your account.

        "input_tokens" count without cached ones, "output_tokens" as they really are, at the end.
        """
        limits = {
            "requests": requests,
            "input_tokens": input_tokens,
            "output_tokens": output_tokens,
        }
        return cls(key, in_flight=in_flight, rates=_rates_of(_ANTHROPIC, limits), **options)

    @classmethod
    def gemini(
        cls,
        key: str,
        *,
        requests: float = 150,
        tokens: float = 1_000_000,
        in_flight: int | None = 60,
        **options: Any,
    ) -> Self:
        """Return a limiter for a model of Gemini; amounts per minute, those of your project.

        "tokens" are those of the prompt alone. Gemini sends no headers about its limits.
        """
        rates = {"requests": Rate(requests), "tokens": Rate(tokens)}
        given: dict[str, Any] = {"oversize": "reject", "margin": _SHARED_MARGIN, **options}
        return cls(key, in_flight=in_flight, rates=rates, **given)

    @classmethod
    def from_headers(cls, key: str, headers: Mapping[Any, Any], **options: Any) -> Self:
        """Return a limiter with the limits that a first response's headers name.

        OpenAI's and Anthropic's headers are known; levels start at what they say is left. The
        options are those of the class. Raises DagexecError where the headers name no limit.
        """
        limits = limits_in(headers)
        kinds = _ANTHROPIC if "output_tokens" in limits or "input_tokens" in limits else _OPENAI
        rates = _rates_of(kinds, limits)
        if not rates:
            msg = (
                f"the headers given for {key!r} name no limits: they have to be those of a"
                " response of OpenAI or Anthropic; elsewhere, give rates="
            )
            raise DagexecError(msg)
        given: dict[str, Any] = {"in_flight": 20 if kinds is _ANTHROPIC else 50}
        limiter = cls(key, rates=rates, **{**given, **options})
        for name, left in remaining_in(headers).items():
            if name in limiter.ledger.buckets:
                bucket = limiter.ledger.buckets[name]
                bucket.level = min(bucket.level, left)
        return limiter

    # ---------------------------------------------------------------------------------- using it

    def acquire(
        self,
        cost: Mapping[str, float] | None = None,
        *,
        deadline: float | None = None,
        priority: int = 0,
    ) -> Permit:
        """Return leave for one call, to be entered with `async with`.

        Args:
            cost: What it needs, by dimension: an estimate where it is settled later.
            deadline: A point on the event loop's clock (`anyio.current_time()`, seconds). A call
                that cannot go before fails at once.
            priority: From -8 to 8. Each step gets four times the turns of the one below.

        Raises DagexecError for amounts that cannot be and dimensions that the limiter lacks.
        """
        return acquire((self,), cost, deadline=deadline, priority=priority)

    @property
    def unlimited(self) -> bool:
        """Whether it limits nothing."""
        return not self.rates and self.ledger.in_flight == math.inf

    @property
    def in_flight(self) -> int:
        """How many calls are under way."""
        return self.ledger.used

    @property
    def waiting(self) -> int:
        """How many calls wait."""
        return self.ledger.waiting

    def level(self, dimension: str) -> float:
        """Return what is left of a dimension, as of its last use; a debt is below zero."""
        return self.ledger.buckets[dimension].level

    def __repr__(self) -> str:
        """Return the key and what is going on."""
        return f"<Limiter {self.key!r}: {self.in_flight} in flight, {self.waiting} waiting>"


def acquire(
    limiters: Sequence[Limiter],
    cost: Mapping[str, float] | None = None,
    *,
    deadline: float | None = None,
    priority: int = 0,
) -> Permit:
    """Return leave for one call that draws on several limiters; all are charged in one step.

    Each limiter takes the dimensions that it counts. A refusal counts for the first of them. The
    arguments and errors are those of `Limiter.acquire`.
    """
    if not limiters:
        msg = "acquire() takes at least one limiter"
        raise DagexecError(msg)
    if not -_MAX_PRIORITY <= priority <= _MAX_PRIORITY:
        msg = f"priority={priority!r}: it is a number from {-_MAX_PRIORITY} to {_MAX_PRIORITY}"
        raise DagexecError(msg)
    amounts: Mapping[str, float] = {} if cost is None else cost
    _check_cost(limiters, amounts)
    asks: list[tuple[Ledger, dict[str, float]]] = []
    for limiter in dict.fromkeys(limiters):
        needs = {name: float(amounts[name]) for name in limiter.rates if name in amounts}
        if "requests" in limiter.rates and "requests" not in amounts:
            needs["requests"] = 1.0
        asks.append((limiter.ledger, needs))
    limit = math.inf if deadline is None else deadline
    return Permit(limiters, Ticket(asks, limit, priority))


def named(key: str) -> Limiter:
    """Return the limiter with this key; of several, the one made last. Raises DagexecError."""
    found = _named.get(key)
    if found is None:
        known = ", ".join(sorted(_named)) or "none"
        msg = f"there is no limiter {key!r}; there are: {known}. Make it first: Limiter({key!r}, …)"
        raise DagexecError(msg)
    return found


def _check_cost(limiters: Sequence[Limiter], cost: Mapping[str, float]) -> None:
    for name, amount in cost.items():
        if not is_count(amount):
            msg = f"cost: {name}={amount!r} is no amount; it has to be a number from 0 to 2**53"
            raise DagexecError(msg)
        if not any(name in limiter.rates for limiter in limiters):
            counted = dict.fromkeys(each for limiter in limiters for each in limiter.rates)
            keys = ", ".join(limiter.key for limiter in limiters)
            msg = (
                f"cost: the limiter {keys!r} does not count {name!r};"
                f" it counts {', '.join(counted) or 'nothing'}"
            )
            raise DagexecError(msg)


def _rates_of(kinds: Mapping[str, Callable[[float], Rate]], limits: Mapping[str, float]) -> Any:
    return {name: kind(limits[name]) for name, kind in kinds.items() if name in limits}


def _rates(key: str, rates: Mapping[str, Rate | float]) -> dict[str, Rate]:
    checked: dict[str, Rate] = {}
    given: object = rates
    if not isinstance(given, Mapping):
        msg = (
            f"rates={rates!r:.80} of limiter {key!r}: name what is counted, as in"
            ' {"requests": Rate(500)}'
        )
        raise DagexecError(msg)
    for name, rate in rates.items():
        given = rate
        if isinstance(given, int | float):
            given = Rate(given)
        if not isinstance(given, Rate):
            msg = f"rates={{{name!r}: {rate!r}}} of limiter {key!r}: give a Rate, such as Rate(500)"
            raise DagexecError(msg)
        checked[name] = given
    return checked


def _check(key: str, in_flight: object, margin: object, oversize: object, peers: object) -> None:
    text: object = key
    if not isinstance(text, str) or not text:
        msg = f"the key of a limiter is a text such as 'openai:gpt-5.5', not {key!r}"
        raise DagexecError(msg)
    whole = isinstance(in_flight, int) and not isinstance(in_flight, bool)
    if in_flight is not None and not (whole and cast("int", in_flight) > 0):
        msg = f"in_flight={in_flight!r} of limiter {key!r}: a number of calls from 1, or None"
        raise DagexecError(msg)
    known = isinstance(peers, int) and not isinstance(peers, bool) and peers >= 1
    if not known and peers != "auto":
        msg = f'peers={peers!r} of limiter {key!r}: a number of processes from 1, or "auto"'
        raise DagexecError(msg)
    if not is_amount(margin) or cast("float", margin) >= 1:
        msg = f"margin={margin!r} of limiter {key!r}: a share of the bucket, from 0 to below 1"
        raise DagexecError(msg)
    if oversize not in ("debt", "reject"):
        msg = f'oversize={oversize!r} of limiter {key!r}: it is "debt" or "reject"'
        raise DagexecError(msg)
