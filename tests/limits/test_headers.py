"""What providers say about limits; what makes no sense is as if it had not been said."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import anyio
import httpx2
import openai
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dagexec import DagexecError
from dagexec.limits import Limiter, Rate, RateLimited
from dagexec.limits._headers import refusal_in, remaining_in, retry_after_in
from dagexec.testing import run_virtual

OPENAI = {
    "x-ratelimit-limit-requests": "500",
    "x-ratelimit-limit-tokens": "300000",
    "x-ratelimit-remaining-requests": "499",
    "x-ratelimit-remaining-tokens": "299984",
    "x-ratelimit-reset-requests": "120ms",
    "x-ratelimit-reset-tokens": "6m0s",
}
ANTHROPIC = {
    "anthropic-ratelimit-requests-limit": "1000",
    "anthropic-ratelimit-requests-remaining": "999",
    "anthropic-ratelimit-requests-reset": "2026-11-20T12:00:00Z",
    "anthropic-ratelimit-input-tokens-limit": "450000",
    "anthropic-ratelimit-input-tokens-remaining": "449000",
    "anthropic-ratelimit-output-tokens-limit": "90000",
    "anthropic-ratelimit-output-tokens-remaining": "1000",
}


def test_a_limiter_from_the_headers_of_openai():
    """Limits, what is left, and how this provider counts."""
    limiter = Limiter.from_headers("openai:x", OPENAI)
    assert {name: rate.limit for name, rate in limiter.rates.items()} == {
        "requests": 500,
        "tokens": 300_000,
    }
    assert limiter.rates["tokens"].settle == "reserved"
    assert limiter.level("tokens") == 299_984
    assert limiter.ledger.in_flight == 50


def test_a_limiter_from_the_headers_of_anthropic():
    """In an SDK's own type, whose names have no case."""
    limiter = Limiter.from_headers("anthropic:x", httpx2.Headers(ANTHROPIC), in_flight=7)
    assert set(limiter.rates) == {"requests", "input_tokens", "output_tokens"}
    assert limiter.rates["output_tokens"].settle == "expected"
    assert limiter.level("output_tokens") == 1000
    assert limiter.ledger.in_flight == 7


HUGE = 10**400


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_number_that_no_float_can_hold_is_none(backend):
    """In what a call used or costs, a limit, and the seconds to wait: they are an hour then."""

    async def main():
        limiter = Limiter("k", rates={"tokens": Rate(60)}, random=lambda: 0.0)
        begun = anyio.current_time()
        async with limiter.acquire({"tokens": 10}) as permit:
            permit.settle(tokens=HUGE)
            permit.observe({"tokens": {"remaining": HUGE}})
            permit.rejected(retry_after=HUGE)
            await permit.again()
        assert anyio.current_time() - begun == pytest.approx(3600)
        with pytest.raises(DagexecError, match="no amount"):
            limiter.acquire({"tokens": HUGE})

    run_virtual(main, backend=backend)
    with pytest.raises(DagexecError, match="positive, finite"):
        Rate(HUGE)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_number_that_nothing_can_have_is_none(backend):
    """Neither used nor announced: a key would be in debt for longer than anybody lives."""

    async def main():
        limiter = Limiter("k", rates={"tokens": Rate(60)}, random=lambda: 0.0)
        async with limiter.acquire({"tokens": 10}) as permit:
            permit.settle(tokens=1e300)
        assert limiter.level("tokens") == pytest.approx(50)
        with pytest.raises(DagexecError, match=r"tokens=1e\+300 is no amount"):
            limiter.acquire({"tokens": 1e300})

    run_virtual(main, backend=backend)


def test_headers_without_limits_are_refused():
    """With the way out."""
    with pytest.raises(DagexecError, match="rates="):
        Limiter.from_headers("k", {"content-type": "text/plain"})


@pytest.mark.parametrize(
    ("preset", "in_flight", "dimensions"),
    [
        (Limiter.openai, 50, {"requests", "tokens"}),
        (Limiter.anthropic, 20, {"requests", "input_tokens", "output_tokens"}),
        (Limiter.gemini, 60, {"requests", "tokens"}),
    ],
)
def test_the_presets(preset, in_flight, dimensions):
    """Starting points, to be given the account's own numbers."""
    limiter = preset("key", requests=77)
    assert limiter.ledger.in_flight == in_flight
    assert set(limiter.rates) == dimensions
    assert limiter.rates["requests"].limit == 77


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "7"}, 7),
        ({"Retry-After": "0.5"}, 0.5),
        ({"retry-after-ms": "250", "retry-after": "1"}, 0.25),
        ({b"retry-after": b"3"}, 3),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "-3"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": ""}, None),
        ({}, None),
        ({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0),
    ],
)
def test_retry_after(headers, seconds):
    """Seconds, milliseconds, a date; anything else is nothing."""
    assert retry_after_in(headers) == seconds


def test_retry_after_as_a_date():
    """Measured against this machine's clock."""
    later = format_datetime(datetime.now(UTC) + timedelta(seconds=90), usegmt=True)
    assert 85 < retry_after_in({"retry-after": later}) <= 90


absurd = st.one_of(
    st.floats(), st.text(max_size=8), st.none(), st.binary(max_size=8), st.booleans(), st.integers()
)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@given(value=absurd, after=absurd, limit=absurd)
def test_absurd_headers_are_harmless(backend, value, after, limit):
    """They never raise the level, and at most cost one filling of the bucket and an hour."""

    async def main():
        limiter = Limiter("k", rates={"tokens": Rate(60, settle="reserved")}, random=lambda: 0.0)
        bucket = limiter.ledger.buckets["tokens"]
        async with limiter.acquire({"tokens": 10}) as permit:
            permit.observe(
                {"x-ratelimit-remaining-tokens": value, "x-ratelimit-limit-tokens": limit}
            )
            assert bucket.level <= 50 + 1e-9
            assert bucket.level >= -bucket.cap
            assert math.isfinite(bucket.level)
            permit.rejected(headers={"retry-after": after, "retry-after-ms": after})
            with anyio.fail_after(3600 + 125):
                await permit.again()
        async with limiter.acquire({"tokens": 1}):
            pass
        assert limiter.in_flight == 0

    run_virtual(main, backend=backend)


@given(given_=st.dictionaries(st.text(max_size=40) | st.binary(max_size=9), absurd, max_size=5))
def test_any_headers_can_be_read(given_):
    """Whatever the keys and values are."""
    assert all(math.isfinite(left) and left >= 0 for left in remaining_in(given_).values())
    seconds = retry_after_in(given_)
    assert seconds is None or seconds >= 0


def error_of(status, **body):
    """Return the SDK's own error."""
    request = httpx2.Request("POST", "http://127.0.0.1/")
    response = httpx2.Response(status, headers={"retry-after": "4"}, request=request)
    return openai.RateLimitError("no", response=response, body=body or None)


def test_what_is_a_refusal():
    """A 429 of an SDK or of httpx, and RateLimited; not an account without money."""
    assert refusal_in(error_of(429)).retry_after == 4
    assert refusal_in(RateLimited(retry_after=2)).retry_after == 2
    assert refusal_in(RateLimited(headers={"retry-after": "9"})).retry_after == 9
    assert refusal_in(error_of(429, code="insufficient_quota")) is None
    assert refusal_in(error_of(500)) is None
    assert refusal_in(OSError()) is None


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_refusal_refunds_once_and_closes_one_gate(backend):
    """The place is kept, the slot is free meanwhile, the jitter comes on top."""

    async def main():
        limiter = Limiter(
            "k", in_flight=2, rates={"tokens": Rate(60)}, margin=0, random=lambda: 1.0
        )
        order = []

        async def one(name, delay):
            await anyio.sleep(delay)
            async with limiter.acquire({"tokens": 10}) as permit:
                if name == "first":
                    await anyio.sleep(1)
                    permit.rejected(retry_after=20)
                    permit.rejected(retry_after=500)
                    assert limiter.in_flight == 0
                    assert limiter.level("tokens") == 60
                    await permit.again()
                order.append((name, anyio.current_time() - 1000))

        async with anyio.create_task_group() as group:
            group.start_soon(one, "first", 0)
            group.start_soon(one, "later", 2)
        assert [name for name, _ in order] == ["first", "later"]
        assert order[0][1] == pytest.approx(1 + 20 + 1)

    run_virtual(main, backend=backend)


def test_a_limiter_goes_on_in_the_next_event_loop():
    """With what was left, on another clock; even after a loop that ended in the middle."""
    limiter = Limiter("k", in_flight=1, rates={"tokens": Rate(60, settle="reserved")}, margin=0)

    async def use(amount):
        async with limiter.acquire({"tokens": amount}):
            pass
        return limiter.level("tokens")

    assert run_virtual(use, 60) == pytest.approx(0)
    assert run_virtual(use, 0, backend="trio") == pytest.approx(0, abs=5)

    async def leave():
        await limiter.acquire({"tokens": 1}).__aenter__()

    run_virtual(leave)
    assert limiter.in_flight == 1
    run_virtual(use, 1, backend="trio")
    assert limiter.in_flight == 0
