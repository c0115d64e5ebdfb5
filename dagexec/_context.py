"""What a tool can know of the call that it runs for."""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass, field
from hashlib import sha256
from typing import TYPE_CHECKING, Any, final

from dagexec._errors import DagexecError

if TYPE_CHECKING:
    from collections.abc import Callable

    from dagexec._slots import Lease


@final
@dataclass(frozen=True, slots=True, eq=False)
class CallContext:
    """The call that a tool runs for.

    A parameter annotated with this class gets it and is left out of the tool's schema;
    `current_call()` returns the same from anywhere below the tool. `deadline` is a point on the
    event loop's clock in seconds (`anyio.current_time()`), None without one; it is the nearest of
    all that apply.
    """

    id: str
    tool: str
    run_id: str
    attempt: int = 1
    deadline: float | None = None
    # The slot that the call holds; a nested run gives it back while the call waits for it, so
    # that a pool cannot lock itself. The driver's own affair.
    lease: Lease | None = field(default=None, repr=False)
    cancelled: Callable[[], bool] = field(default=bool, repr=False)

    @property
    def idempotency_key(self) -> str:
        """A key for this call of this run, the same at each attempt and after a crash.

        64 hexadecimal digits of SHA-256 over run id and call id: below every provider's limit,
        and it gives away neither. (Stripe takes at most 255 characters.)
        """
        return sha256(f"{self.run_id}\0{self.id}".encode()).hexdigest()

    def check(self) -> None:
        """Raise CancelledCall if the run no longer waits for this call; for long loops in threads.

        An async tool needs no such check: each of its awaits is one.
        """
        if self.cancelled():
            raise CancelledCall


class CancelledCall(BaseException):
    """Ends a synchronous tool whose deadline has passed; raised by `CallContext.check`.

    A BaseException, as cancellation is everywhere: `except Exception` must not swallow it.
    """


# What makes the context: most tools never ask for it.
_current: ContextVar[Callable[[], CallContext]] = ContextVar("dagexec_current_call")


def current_call() -> CallContext:
    """Return the call that this code runs for; raise DagexecError outside of a tool."""
    make = _current.get(None)
    if make is None:
        msg = "current_call() works inside a tool that dagexec runs; there is no call here"
        raise DagexecError(msg)
    return make()


def enclosing_call() -> CallContext | None:
    """Return the call that this code runs for, or None."""
    make = _current.get(None)
    return None if make is None else make()


def enter_call(make: Callable[[], CallContext]) -> None:
    """Make what `make` returns, the same each time, the `current_call` of this context."""
    _current.set(make)


class Asked(BaseException):
    """Ends a tool that asked a person; the call becomes pending with this question.

    A BaseException, so that a tool's `except Exception` cannot take it for a failure.
    """

    def __init__(self, question: Any) -> None:
        """Keep the question, any JSON value."""
        super().__init__(question)
        self.question = question


async def ask(question: Any) -> Any:
    """Ask a person, from inside a tool; return the answer given for this call.

    The tool ends here when there is no answer yet, its call becomes `pending` with the question,
    and the run returns when nothing else is left to do. When the answer is there the tool runs
    again from its first line, so effects belong after the question.

    Raises DagexecError outside of a tool.
    """
    current_call()
    raise Asked(question)
