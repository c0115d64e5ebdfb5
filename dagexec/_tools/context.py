"""What a tool can know of the call that it runs for."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from contextvars import Context, ContextVar, Token, copy_context
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, Protocol, TypeAlias, final

from anyio import CancelScope
from anyio.lowlevel import current_token

from dagexec._concurrency.signals import Asked, CancelledCall
from dagexec._concurrency.slots import Lease
from dagexec._concurrency.threads import ThreadCall
from dagexec._core.events import Progress
from dagexec._core.nested import Wait
from dagexec._core.plan import Call
from dagexec._errors import DagexecError


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


class Replies(Protocol):
    """The answers that one call was given."""

    @property
    def nested(self) -> Sequence[dict[str, Any]]:
        """The last answers to what runs of its own waited for; see `InnerAnswers`."""
        ...

    def reply(self, question: Any) -> list[Any]:
        """Return the answer to a question, in a list; an empty one if there is none yet."""
        ...


@final
@dataclass(slots=True)
class NestedRuns:
    """What is known of the runs that one call has begun."""

    # How many there were of each plan, so that each has a name that it has the next time too.
    begun: dict[str, int] = field(default_factory=dict[str, int])
    # What those wait for that have ended, by run, and whether something in one has failed.
    waits: dict[str, tuple[Sequence[Wait], bool]] = field(
        default_factory=dict[str, "tuple[Sequence[Wait], bool]"]
    )
    # Keeps their records, by the journal that they are for.
    records: dict[int, Any] = field(default_factory=dict[int, Any])

    def asked(self) -> list[Wait]:
        """Return what all of them wait for."""
        return [wait for waits, _ in self.waits.values() for wait in waits]

    def failed(self) -> bool:
        """Whether a call in one of them failed, so that not only an answer is missing."""
        return any(failed for _, failed in self.waits.values())


@final
@dataclass(slots=True)
class Surroundings:
    """What the calls of one lane share: their context, the scopes round them, their answers.

    Each call gets a copy of `context`, in which `enter` is called before the tool. `scopes` are
    those round the calls, the run's first.
    """

    run_id: str
    context: Context
    scopes: tuple[CancelScope, ...]
    enter: Callable[[Facts], None]
    # Whether a synchronous tool runs in the event loop's own thread.
    in_place: bool = False
    # Takes a call's progress to those who look on, from any thread; None where nobody does.
    tell: Callable[[Progress], object] | None = None
    # With a journal: what people answered, and how often each call was started.
    given: Mapping[str, Replies] | None = None
    starts: Mapping[str, int] | None = None
    # The runs that calls have begun, by call; None as long as there are none to be known of.
    nested: dict[str, NestedRuns] | None = None


# Where calls may be tried again: the number of the attempt, and its `dagexec.limits.Permit`.
Trial: TypeAlias = tuple[int, Any]

# What a `CallContext` is made of: the call, its surroundings, its slot, its deadline, its thread,
# its trial. Most tools never ask for a context, so that each call pays for a tuple only; a
# NamedTuple would cost 0.15 us more. Whoever reads one unpacks it.
Facts: TypeAlias = "tuple[Call, Surroundings, Lease | None, float, ThreadCall | None, Trial | None]"

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
    call, *_ = _current.get()
    return call.id


def inside_a_call() -> bool:
    """Whether this code runs for a call."""
    return _current.get(None) is not None


def enclosing_lease() -> Lease | None:
    """Return the slot of the call that this code runs for, or None.

    None in any other event loop too: a copied context carries the ContextVar there, but slots
    belong to one loop.
    """
    facts = _current.get(None)
    if facts is None:
        return None
    call, _, lease, _, _, _ = facts
    if lease is None or lease.call is not call:  # it may be over, and this be what it left behind
        return None
    return lease if lease.slots.loop() is current_token().native_token else None


def given_back_meanwhile() -> list[AbstractAsyncContextManager[None]]:
    """Return, as context managers, what the call gives back while it waits for a nested run.

    Its slot, and its place under a limit: otherwise calls that wait for nested runs would hold all
    of these, and wait for ever.
    """
    facts = _current.get(None)
    if facts is None:
        return []
    lease = enclosing_lease()
    blocks: list[AbstractAsyncContextManager[None]] = [] if lease is None else [lease]
    *_, trial = facts
    if trial is not None:
        _, permit = trial
        if permit is not None:
            blocks.append(permit.rest(None if lease is None else lease.holder))
    return blocks


def enclosing_calls(context: Context) -> Iterator[tuple[str, str]]:
    """Iterate over the calls that a context is nested in, innermost first: ids of run and call."""
    facts = context.get(_current)
    while facts is not None:
        call, surroundings, *_ = facts
        yield surroundings.run_id, call.id
        facts = surroundings.context.get(_current)


def call_of(run_id: str) -> str | None:
    """Return the call of this run that this code runs for, also from a run inside of it."""
    for run, call in enclosing_calls(copy_context()):
        if run == run_id:
            return call
    return None


def enter_call(facts: Facts) -> None:
    """Make this the `current_call` of this ContextVar context."""
    _current.set(facts)


def context_of(facts: Facts) -> CallContext:
    """Return what a tool can know of a call."""
    call, surroundings, lease, own, thread, trial = facts
    attempt, permit = trial or (1, None)
    deadline = min([own, *(scope.deadline for scope in surroundings.scopes)])
    starts = surroundings.starts
    return CallContext(
        call.id,
        call.tool,
        surroundings.run_id,
        attempt if starts is None else attempt - 1 + starts.get(call.id, 1),
        deadline=None if deadline == math.inf else deadline,
        lease=lease,
        cancelled=bool if thread is None else (lambda: thread.abandoned),
        tell=surroundings.tell,
        permit=permit,
    )


def answer_from(given: Mapping[str, Replies]) -> None:
    """Let `ask` look here for the answers to the calls of this run, by id; inside a call.

    For adapters whose answers come from elsewhere than a journal.
    """
    _, surroundings, *_ = _current.get()
    surroundings.given = given


# The call whose runs are none of its tool's, see `stand_apart`.
_apart: ContextVar[Facts | None] = ContextVar("dagexec_apart", default=None)


def stand_apart(before: Token[Facts | None] | None = None) -> Token[Facts | None] | None:
    """Let the call that this code runs for not wait with the runs that the code begins.

    For adapters that run plans on a framework's behalf, which brings questions to people itself.
    Called again with what it returned, it takes that back.
    """
    if before is None:
        return _apart.set(_current.get(None))
    _apart.reset(before)
    return None


def _nesting() -> Facts | None:
    """Return the call that the runs are nested in that this code begins."""
    facts = _current.get(None)
    return None if facts is _apart.get() else facts


def note_nested(run_id: str, waits: Sequence[Wait], *, failed: bool) -> None:
    """Note what a run waits for that this code has run, on the call that it runs for."""
    facts = _nesting()
    if facts is None:
        return
    _, surroundings, *_ = facts
    if waits or surroundings.nested is not None:
        known = _nested_of(facts).waits
        known.pop(run_id, None)
        if waits:
            known[run_id] = (waits, failed)


def _nested_of(facts: Facts) -> NestedRuns:
    call, surroundings, *_ = facts
    if surroundings.nested is None:
        surroundings.nested = {}
    return surroundings.nested.setdefault(call.id, NestedRuns())


def nested_runs() -> NestedRuns | None:
    """Return the runs of the call that this code runs for; None where nobody could answer it."""
    facts = _nesting()
    if facts is None:
        return None
    _, surroundings, *_ = facts
    return None if surroundings.given is None else _nested_of(facts)


def inner_answers() -> Sequence[dict[str, Any]]:
    """Return the last answers to what runs of the call waited for that this code runs for."""
    facts = _nesting()
    if facts is None:
        return ()
    call, surroundings, *_ = facts
    replies = None if surroundings.given is None else surroundings.given.get(call.id)
    return () if replies is None else replies.nested


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
    call, surroundings, *_ = _current.get()
    given = surroundings.given
    replies = None if given is None else given.get(call.id)
    for answer in [] if replies is None else replies.reply(question):
        return answer
    raise Asked(question)
