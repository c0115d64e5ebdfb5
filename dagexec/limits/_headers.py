"""What providers say about limits, in headers and in errors.

Sources: OpenAI, "Rate limits in headers" (`x-ratelimit-remaining-tokens`, resets such as `6m0s`);
Anthropic, "Rate limits: response headers" (`anthropic-ratelimit-output-tokens-remaining`, resets
as RFC 3339); RFC 9110, 10.2.3, for `retry-after`; OpenAI's clients for `retry-after-ms`.
Whatever cannot be read is as if it had not been said.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final, cast, final

from dagexec._errors import RateLimited
from dagexec.limits._rates import is_amount

# Dimensions of the presets, by the words of the headers.
_OPENAI: Final = re.compile(r"x-ratelimit-(limit|remaining)-(requests|tokens)")
_ANTHROPIC: Final = re.compile(
    r"anthropic-ratelimit-(requests|tokens|input-tokens|output-tokens)-(limit|remaining)"
)
_TOO_MANY: Final = 429
# OpenAI's 429 for an account without money: no wait helps.
_FOR_GOOD: Final = ("insufficient_quota", "billing_hard_limit_reached")


def limits_in(headers: Mapping[Any, Any]) -> dict[str, float]:
    """Return the limits per minute that headers name, by dimension."""
    return {name: said["limit"] for name, said in parsed(headers).items() if "limit" in said}


def remaining_in(headers: Mapping[Any, Any]) -> dict[str, float]:
    """Return what is left, by dimension, where headers say it in a way that can be."""
    return {name: s["remaining"] for name, s in parsed(headers).items() if "remaining" in s}


def parsed(headers: Mapping[Any, Any]) -> dict[str, dict[str, float]]:
    """Return `{dimension: {"limit": n, "remaining": n}}`; headers in this form come back as is."""
    found: dict[str, dict[str, float]] = {}
    for key, value in headers.items():
        if isinstance(value, Mapping):
            inner = cast("Mapping[str, object]", value)
            for word in ("limit", "remaining"):
                _note(found, _text(key), word, inner.get(word))
            continue
        name = _text(key).lower()
        if match := _OPENAI.fullmatch(name):
            _note(found, match[2], match[1], value)
        elif match := _ANTHROPIC.fullmatch(name):
            _note(found, match[1].replace("-", "_"), match[2], value)
    return found


def _note(found: dict[str, dict[str, float]], name: str, word: str, value: object) -> None:
    number = _number(value)
    if number is not None and is_amount(number) and (number or word == "remaining"):
        found.setdefault(name, {})[word] = number


def _text(value: object) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else str(value)


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str | bytes):
        return None
    try:
        return float(_text(value)) if isinstance(value, str | bytes) else float(value)
    except (ValueError, OverflowError):
        return None


def retry_after_in(headers: Mapping[Any, Any]) -> float | None:
    """Return the seconds to wait, or None where the headers do not say it in a way that can be.

    A date is measured against this machine's clock, not the event loop's.
    """
    said = {_text(key).lower(): value for key, value in headers.items()}
    for name, unit in (("retry-after-ms", 1e-3), ("retry-after", 1.0)):
        number = _number(said.get(name))
        if number is not None and is_amount(number):
            return number * unit
    return _until(said.get("retry-after"))


def _until(value: object) -> float | None:
    if not isinstance(value, str | bytes):
        return None
    try:
        moment = parsedate_to_datetime(_text(value))
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max(0.0, (moment - datetime.now(UTC)).total_seconds())


@final
@dataclass(frozen=True, slots=True)
class Refusal:
    """What a refusal said: seconds to wait if it did, and its headers."""

    retry_after: float | None
    headers: Mapping[Any, Any]


def refusal_in(error: BaseException) -> Refusal | None:
    """Return what an error says if it is a refusal for now, else None.

    That is a RateLimited, or the error of an HTTP client or SDK that has a status of 429:
    `error.status_code` or `error.response.status_code`, as openai, anthropic and httpx have them.
    """
    if isinstance(error, RateLimited):
        headers = error.headers or {}
        after = error.retry_after
        given = after if after is not None and is_amount(after) else retry_after_in(headers)
        return Refusal(given, headers)
    if status_in(error) != _TOO_MANY or getattr(error, "code", None) in _FOR_GOOD:
        return None
    headers = headers_in(error)
    return Refusal(retry_after_in(headers), headers)


def status_in(error: BaseException) -> int | None:
    """Return the HTTP status that an error of a client carries, or None."""
    for holder in (error, getattr(error, "response", None)):
        status = getattr(holder, "status_code", None)
        if isinstance(status, int):
            return status
    return None


def headers_in(holder: object) -> Mapping[Any, Any]:
    """Return the headers of an error's response, or of a response; empty without any."""
    for each in (getattr(holder, "response", None), holder):
        headers = getattr(each, "headers", None)
        if isinstance(headers, Mapping):
            return cast("Mapping[Any, Any]", headers)
    return {}


def longest(seconds: float | None, cap: float) -> float:
    """Return a wait that the other side asked for, within reason."""
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):
        return 0.0
    if is_amount(seconds):
        return min(seconds, cap)
    return cap if seconds > cap else 0.0  # infinity, or a whole number that no float can hold
