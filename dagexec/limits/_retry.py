"""When a call that failed may be tried again: attempts, waits, budgets, and a breaker.

All of it is arithmetic over times that are given; the executor drives it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias, cast, final
from weakref import ref

from dagexec._core.outcomes import Outcome
from dagexec._core.wrong_names import explained
from dagexec._errors import CallError, DagexecError
from dagexec.limits._counted import default_random
from dagexec.limits._headers import longest, refusal_in, status_in
from dagexec.limits._permit import MAX_GATE
from dagexec.limits._rates import is_amount

On: TypeAlias = "type[Exception] | tuple[type[Exception], ...] | Callable[[Exception], bool]"

# Of the statuses below 500, those that may be different next time; 429 is a refusal.
_PASSING: Final = frozenset({408, 409, 425, 429})
_SERVER_ERROR: Final = 500
# The same call would raise them again.
_OWN_FAULTS: Final = (
    CallError,
    AssertionError,
    AttributeError,
    ImportError,
    NameError,
    NotImplementedError,
    TypeError,
)
# What a key may save up for a storm, in reserves.
_SAVINGS: Final = 10


def transient(error: Exception) -> bool:
    """Whether the same call may succeed later, as far as the error shows.

    Not an error that dagexec or Python raise for the call itself, and not an HTTP status from 400
    to 499 other than 408, 409, 425 and 429; everything else may pass.
    """
    if isinstance(error, _OWN_FAULTS):
        return False
    status = status_in(error)
    return status is None or status >= _SERVER_ERROR or status in _PASSING


@explained
@final
@dataclass(frozen=True, slots=True)
class Breaker:
    """Stops trying what fails again and again.

    After `failures` in a row, calls of the same key fail at once with BreakerOpen, without being
    started. After `interval` seconds one of them is let through; if it succeeds, all go on.

    A failure is an error that `Retry.on` would retry, a status of 401 or a timeout; a refusal
    (429) is none. Raises DagexecError for numbers that cannot be.
    """

    failures: int = 5
    interval: float = 30.0

    def __post_init__(self) -> None:
        """Refuse what cannot be, by name."""
        _whole("Breaker(failures", self.failures, 1)
        _seconds("Breaker(interval", self.interval)


@explained
@final
@dataclass(frozen=True, slots=True)
class Retry:
    """When a call is tried again, if its effect allows that; a write is never.

    Attributes:
        attempts: How often it is tried at most, the first time included.
        base: Seconds. Before the second attempt it waits for a random time from 0 to `base`,
            before each further one up to twice as long as before ("full jitter").
        cap: Seconds, the most that a wait may reach. What the other side asked for by
            `retry-after` comes on top.
        on: Which errors are worth another attempt: classes, or a function of the error. By
            default `transient`.
        timeout: Seconds that one attempt may take, None for no limit of its own. The timeout of
            the call bounds all attempts and the waits between them together, so without this a
            call that hangs is not tried again.
        refusals: How many refusals (429) a call survives, beside its attempts. With a limiter it
            waits in its old place until the key's gate opens.
        budget: How many retries there may be for each call, over all calls of a run and over all
            calls of a key: 0.2 lets a storm of failures add a fifth to the load.
        reserve: How many retries a run and a key have beside that.
        breaker: Stops trying a key that fails again and again; None for none.
        random: Returns a number from 0 to 1, for jitter.

    The key is that of the tool's first limiter, or the tool's name. What has been spent is kept by
    this object, so tools that share it and a key share one budget and one breaker.

    Raises DagexecError for settings that cannot be.
    """

    attempts: int = 3
    base: float = field(default=0.5, kw_only=True)
    cap: float = field(default=30.0, kw_only=True)
    on: On = field(default=transient, kw_only=True)
    timeout: float | None = field(default=None, kw_only=True)
    refusals: int = field(default=10, kw_only=True)
    budget: float = field(default=0.2, kw_only=True)
    reserve: int = field(default=10, kw_only=True)
    breaker: Breaker | None = field(default=None, kw_only=True)
    random: Callable[[], float] = field(default=default_random, kw_only=True, repr=False)
    _keys: dict[str, KeyState] = field(
        default_factory=dict["str", "KeyState"], init=False, repr=False, compare=False, hash=False
    )

    def __post_init__(self) -> None:
        """Refuse what cannot be, by name."""
        _whole("Retry(attempts", self.attempts, 1)
        _whole("Retry(refusals", self.refusals, 0)
        _whole("Retry(reserve", self.reserve, 0)
        for name in ("base", "cap", "budget"):
            value: object = getattr(self, name)
            if not is_amount(value):
                msg = f"Retry({name}={value!r}): it has to be a finite number from 0 on"
                raise DagexecError(msg)
        if self.timeout is not None:
            _seconds("Retry(timeout", self.timeout)
        on: Any = self.on
        kinds = cast("tuple[object, ...]", on if isinstance(on, tuple) else (on,))
        if not all(callable(kind) for kind in kinds):
            msg = f"Retry(on={self.on!r}): exception classes, or a function of the exception"
            raise DagexecError(msg)
        if self.breaker is not None and not isinstance(self.breaker, Breaker):
            msg = f"Retry(breaker={self.breaker!r}): give a Breaker, or None"
            raise DagexecError(msg)

    def covers(self, error: Exception) -> bool:
        """Whether this error is worth another attempt."""
        on: Any = self.on
        return isinstance(error, on) if isinstance(on, tuple | type) else bool(on(error))

    def wait(self, failures: int, retry_after: float | None = None) -> float:
        """Return the seconds to wait after so many failures."""
        window = min(self.cap, self.base * 2.0 ** min(failures - 1, 64))
        return longest(retry_after, MAX_GATE) + window * self.random()

    def run_budget(self) -> Budget:
        """Return the retries of a run that begins."""
        return Budget(self)

    def state(self, key: str, loop: object) -> KeyState:
        """Return what is known of a key; times belong to one event loop, and so does this."""
        state = self._keys.get(key)
        if state is None or state.loop() is not loop:
            state = self._keys[key] = KeyState(self, loop)
        return state


@final
class Budget:
    """Retries that may still be made."""

    __slots__ = ("_most", "_ratio", "left")

    def __init__(self, retry: Retry, *, most: float = math.inf) -> None:
        """Start with the reserve; `most` is what may be saved up."""
        self.left = float(retry.reserve)
        self._ratio = retry.budget
        self._most = max(most, self.left)

    def earn(self) -> None:
        """Note a call."""
        self.left = min(self._most, self.left + self._ratio)

    @staticmethod
    def spend(*budgets: Budget) -> bool:
        """Take one retry from all of them, or from none."""
        # A sum of fifths is not always a whole.
        if any(each.left < 1.0 - 1e-9 for each in budgets):
            return False
        for each in budgets:
            each.left -= 1.0
        return True


@final
class KeyState:
    """What is known of one key: its budget, and how its breaker stands."""

    __slots__ = ("_breaker", "_failures", "_let", "_opens", "budget", "loop")

    def __init__(self, retry: Retry, loop: object) -> None:
        """Start with nothing known."""
        self.budget = Budget(retry, most=_SAVINGS * retry.reserve)
        self.loop = ref(loop)
        self._breaker = retry.breaker
        # In a row.
        self._failures = 0
        # When the next call is let through; None while the breaker is closed.
        self._opens: float | None = None
        # When the last one was let through an open breaker.
        self._let = -math.inf

    def closed_for(self, now: float) -> float:
        """Return the seconds until a call may start; 0 if it may now."""
        return 0.0 if self._opens is None else max(0.0, self._opens - now)

    def enter(self, now: float) -> bool:
        """Return whether a call may start; the first through an open breaker goes alone."""
        if self._breaker is None or self._opens is None:
            return True
        if now < self._opens:
            return False
        self._let = now
        # If it never comes back, another one is let through after the same time.
        self._opens = now + self._breaker.interval
        return True

    def note(self, *, ok: bool, began: float, now: float) -> None:
        """Note how an attempt ended that began at `began`."""
        if self._breaker is None:
            return
        if self._opens is not None and began < self._let:
            return  # from before: it says nothing about how things are now
        if ok:
            self._failures = 0
            self._opens = None
            return
        self._failures += 1
        if self._opens is not None or self._failures >= self._breaker.failures:
            self._opens = now + self._breaker.interval
            self._let = now


def counts(retry: Retry, outcome: Outcome) -> bool:
    """Whether an outcome is a failure in the eyes of a breaker."""
    error = outcome.error
    if outcome.status == "timed_out":
        return outcome.scope == "call"
    if outcome.status != "failed" or error is None or refusal_in(error) is not None:
        return False
    return status_in(error) == 401 or retry.covers(error)  # noqa: PLR2004 - HTTP's number


def _whole(name: str, value: object, least: int) -> None:
    whole = isinstance(value, int) and not isinstance(value, bool)
    if not whole or cast("int", value) < least:
        msg = f"{name}={value!r}): it has to be a whole number from {least} on"
        raise DagexecError(msg)


def _seconds(name: str, value: Any) -> None:
    if not is_amount(value) or not value:
        msg = f"{name}={value!r}): it has to be a positive, finite number of seconds"
        raise DagexecError(msg)
