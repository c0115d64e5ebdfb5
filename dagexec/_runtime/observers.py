"""Those who look on at a run: what they are told, from where, and that they disturb nothing."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final, Protocol, TypeAlias, TypeGuard, runtime_checkable

from anyio.from_thread import run_sync as call_in_loop
from anyio.lowlevel import EventLoopToken, current_token

from dagexec._core.events import Added, Closed, Conclude, Finish, Notice, Progress, Settled
from dagexec._core.scheduler import Action, Event, Scheduler
from dagexec._errors import DagexecError
from dagexec._tools.context import Facts, enter_call
from dagexec._tools.tool import Tool

_log: Final = logging.getLogger("dagexec")

Observer: TypeAlias = Callable[[Event | Action | Notice], object]


@runtime_checkable
class Entering(Protocol):
    """An observer that also has something to do in the context of each call, before its tool."""

    def enter(self, call: str) -> None:
        """Set ContextVars, for one."""
        ...


@runtime_checkable
class ObservesRuns(Protocol):
    """What makes an observer for each run: an `Executor`'s `observers` may be such things."""

    def begin(self, run_id: str, tools: Mapping[str, Tool[..., Any]]) -> Observer:
        """Return what is told of this run's events and actions."""
        ...


def observes_runs(given: object) -> TypeGuard[ObservesRuns]:
    """Whether it makes an observer for each run; `isinstance` would take 30 times as long."""
    return hasattr(given, "begin")


def observers_of(given: Iterable[Any]) -> tuple[Any, ...]:
    """Return observers; raise DagexecError for what is no list of them."""
    held: object = given
    kind = type(held).__name__
    if callable(held) or observes_runs(held):
        name = getattr(held, "__name__", "observer")
        msg = f"observers are given as a list, not as a {kind}: write observers=[{name}]"
        raise DagexecError(msg)
    if not isinstance(held, Iterable):
        msg = f"observers are given as a list of functions, not as {held!r:.80}"
        raise DagexecError(msg)
    found = tuple(given)
    for each in found:
        if not (callable(each) or observes_runs(each)):
            msg = (
                f"an observer is a function of an event, or has a method begin(run_id, tools);"
                f" {each!r:.80} is neither"
            )
            raise DagexecError(msg)
    return found


def tell_all(observers: Sequence[Observer], items: Iterable[Event | Action | Notice]) -> None:
    """Tell each observer of each item; one that raises is logged."""
    for item in items:
        for observer in observers:
            try:
                observer(item)
            except Exception:  # noqa: BLE001 - whoever looks on must not disturb
                _log.exception("an observer failed on %s; the run goes on", type(item).__name__)


def tell_past(observers: Sequence[Observer], machine: Scheduler, *, over: bool) -> None:
    """Tell observers of the calls of a resumed run, and of the outcomes that they had.

    So whoever looks on knows of a call before it starts, as in a new run. What is `over`, a run
    with nothing left to do, ends for them as well.
    """
    if not observers or not machine.calls:
        return
    past: list[Event | Action] = [Added(call) for call in machine.calls]
    if machine.closed:
        past.append(Closed())
    for name, outcome in machine.outcomes.items():
        kind = Settled if outcome.because is None else Conclude
        past.append(kind(name, outcome))
    tell_all(observers, past if not over else [*past, Finish()])


def telling_from_anywhere(progress: Callable[[Progress], None]) -> Callable[[Progress], None]:
    """Return what takes progress to `progress` in the event loop that runs now.

    From a task of the loop it is a plain call, from a thread it waits until the loop has told.
    """
    loop = current_token()

    def tell(item: Progress) -> None:
        if _here() == loop:
            progress(item)
            return
        with suppress(RuntimeError):  # the loop has ended, and with it whoever looked on
            call_in_loop(progress, item, token=loop)

    return tell


def _here() -> EventLoopToken | None:
    try:
        return current_token()
    except RuntimeError:
        return None


def entering(observers: Sequence[object]) -> Callable[[Facts], None]:
    """Return what makes a call the current one, and lets observers into its context."""
    found: Sequence[Any] = observers
    enters = [each.enter for each in found if hasattr(each, "enter")]
    if not enters:
        return enter_call

    def enter(facts: Facts) -> None:
        enter_call(facts)
        call, *_ = facts
        for each in enters:
            try:
                each(call.id)
            except Exception:  # noqa: BLE001 - whoever looks on must not disturb
                _log.exception("an observer failed to enter call %r; it runs", call.id)

    return enter
