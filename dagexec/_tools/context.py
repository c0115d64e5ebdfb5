"""What a tool can know of the call that it runs for."""

from __future__ import annotations

import math
from contextvars import ContextVar
from dataclasses import dataclass, field
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, final

from anyio.lowlevel import current_token

from dagexec._core.events import Progress
from dagexec._errors import DagexecError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from contextlib import AbstractAsyncContextManager
    from contextvars import Context

    from anyio import CancelScope
    from anyio.abc import TaskGroup

    from dagexec._concurrency.slots import Lease
    from dagexec._concurrency.threads import ThreadCall
    from dagexec._core.plan import Call


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
    # Takes the call's progress to those who look on, from any thread.
    tell: Callable[[Progress], object] | None = field(default=None, repr=False)

    # What its limiters gave it, a `dagexec.limits.Permit`; None for a tool without limits.
    permit: Any = field(default=None, repr=False)

    def progress(self, done: float, total: float | None = None, message: str | None = None) -> None:
        """Tell those who look on, observers and live runs, how far this call is.

        They get a `dagexec.lowlevel.Progress`. Costs nothing when nobody looks on, and nothing
        comes after the call has ended.
        """
        if self.tell is not None:
            self.tell(Progress(self.id, done, total, message))

    @property
    def idempotency_key(self) -> str:
        """A key for this call of this run, the same at each attempt and after a crash.

        64 hexadecimal digits of SHA-256 over run id and call id: below every provider's limit,
        and it gives away neither. (Stripe takes at most 255 characters.)
        """
        named = f"{self.run_id}\0{self.id}"
        # An id may hold half of a surrogate pair: a model's JSON can.
        return sha256(named.encode("utf-8", "surrogatepass")).hexdigest()

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


@final
@dataclass(slots=True)
class Ground:
    """What all calls of a lane stand on.

    Each call gets a copy of `context`. `scopes` are those round the calls, `group` is where a watch
    over one can be started, None where there is no task but the caller's. `enter` is called in
    that copy before the tool.
    """

    run_id: str
    context: Context
    scopes: tuple[CancelScope, ...]
    enter: Callable[[Facts], None]
    group: TaskGroup | None = None
    tell: Callable[[Progress], object] | None = None
    # With a journal: what people answered, and how often each call was started.
    given: Mapping[str, Replies] | None = None
    starts: Mapping[str, int] | None = None


class Replies(Protocol):
    """The answers that one call was given."""

    def reply(self, question: Any) -> list[Any]:
        """Return the answer to a question, in a list; an empty one if there is none yet."""
        ...


# A call, the ground it stands on, its slot, its deadline, its thread: what a context is made of.
# Most tools never ask for one, so each call pays for a tuple only.
# Where calls may be tried again, the number of the attempt and its permit come last.
Trial: TypeAlias = tuple[int, Any]
Facts: TypeAlias = "tuple[Call, Ground, Lease | None, float, ThreadCall | None, *tuple[Trial, ...]]"

_current: ContextVar[Facts] = ContextVar("dagexec_current_call")


def current_call() -> CallContext:
    """Return the call that this code runs for; raise DagexecError outside of a tool."""
    facts = _current.get(None)
    if facts is None:
        msg = "current_call() works inside a tool that dagexec runs; there is no call here"
        raise DagexecError(msg)
    return context_of(facts)


def current_id() -> str:
    """Return the id of `current_call()` without the rest; raises LookupError outside of a tool."""
    return _current.get()[0].id


def inside_a_call() -> bool:
    """Whether this code runs for a call."""
    return _current.get(None) is not None


def enclosing_lease() -> Lease | None:
    """Return the slot of the call that this code runs for, or None.

    Also None in another event loop than the call's: a ContextVar gets there with a copied context,
    and a loop cannot give back what is counted in another.
    """
    facts = _current.get(None)
    lease = None if facts is None else facts[2]
    if lease is None:
        return None
    return lease if lease.slots.loop() is current_token().native_token else None


def lent() -> list[AbstractAsyncContextManager[None]]:
    """Return what the call that this code runs for gives back while it waits for a run: blocks.

    Its slot, and its place under a limit: else calls that wait for nested runs would have all of
    these, and wait for ever.
    """
    facts = _current.get(None)
    if facts is None:
        return []
    lease = enclosing_lease()
    blocks: list[AbstractAsyncContextManager[None]] = [] if lease is None else [lease]
    if len(facts) > 5 and (permit := facts[5][1]) is not None:  # noqa: PLR2004 - see Facts
        blocks.append(permit.rest())
    return blocks


def enclosing_calls(context: Context) -> Iterator[tuple[str, str]]:
    """Iterate over the calls that a context is nested in, innermost first: ids of run and call."""
    facts = context.get(_current)
    while facts is not None:
        yield facts[1].run_id, facts[0].id
        facts = facts[1].context.get(_current)


def enter_call(facts: Facts) -> None:
    """Make this the `current_call` of this ContextVar context."""
    _current.set(facts)


def context_of(facts: Facts) -> CallContext:
    """Return what a tool can know of a call."""
    call, ground, lease, own, thread, *trial = facts
    attempt, permit = trial[0] if trial else (1, None)
    deadline = min([scope.deadline for scope in ground.scopes], default=own)
    deadline = min(deadline, own)
    return CallContext(
        call.id,
        call.tool,
        ground.run_id,
        attempt if ground.starts is None else attempt - 1 + ground.starts.get(call.id, 1),
        deadline=None if deadline == math.inf else deadline,
        lease=lease,
        cancelled=bool if thread is None else (lambda: thread.abandoned),
        tell=ground.tell,
        permit=permit,
    )


def answer_from(given: Mapping[str, Replies]) -> None:
    """Let `ask` look here for the answers to the calls of this run, by id; inside a call.

    For adapters whose answers come from elsewhere than a journal.
    """
    _current.get()[1].given = given


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
    again from its first line, so effects belong after the question. An answer is found by its
    question, so the tool must ask the same again. A synchronous tool asks through
    `dagexec.lowlevel.run_in_loop(lambda: ask(question))`.

    Raises DagexecError outside of a tool.
    """
    current_call()
    call, ground = _current.get()[:2]
    replies = None if ground.given is None else ground.given.get(call.id)
    for answer in [] if replies is None else replies.reply(question):
        return answer
    raise Asked(question)
