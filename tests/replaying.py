"""Every run of the suite is recorded and replayed: the same events give the same actions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dagexec._core.scheduler import Abort, Action, Conclude, Event, Launch, Refused, Scheduler
from dagexec._errors import JournalError
from dagexec.journal import Record, Types
from dagexec.journal._records import to_event, to_record

if TYPE_CHECKING:
    from collections.abc import Iterator

TYPES = Types()
machines: list[Recording] = []


class Recording(Scheduler):  # type: ignore[misc]
    """The scheduler of a run, which keeps what it was told and what it said."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.options = options
        self.heard: list[tuple[tuple[Event, ...], list[Any]]] = []
        machines.append(self)

    def receive(self, *events: Event) -> list[Action]:
        actions = super().receive(*events)
        self.heard.append((events, [outline(action) for action in actions]))
        return actions


def outline(action: Action) -> Any:
    """Return what an action says, without values and errors, which have no equality."""
    match action:
        case Launch():
            return action
        case Abort(calls, outcome):
            return ("abort", calls, outcome.status, outcome.scope, outcome.because)
        case Conclude(call, outcome):
            return ("conclude", call, outcome.status, outcome.scope, outcome.because)
        case _:
            return type(action).__name__


def recorded(event: Event) -> Event:
    """Return an event as a journal would give it back; as it is, if it holds what none can."""
    record = to_record(event)
    try:
        body = TYPES.loads(TYPES.dumps(record.body))
    except JournalError:
        return event
    return to_event(Record(record.kind, record.call, body))


def contradictions() -> Iterator[str]:
    """Replay the runs since the last time, and forget them."""
    done, machines[:] = list(machines), []
    for machine in done:
        fresh = Scheduler(**machine.options)
        for events, said in machine.heard:
            try:
                actions = fresh.receive(*map(recorded, events))
            except Refused as error:
                yield f"{events} were refused in the replay: {error}"
                break
            again = [outline(action) for action in actions]
            if again != said:
                yield f"{events} led to {said}, and in the replay to {again}"
                break
