"""Generated programs on the deciding half of an engine, with workers that are functions."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING, Any

from dagexec import Done, Executor, Failed, InDoubt, Outcome, Pending, Report, tool
from dagexec.engines._drive import Drive
from dagexec.engines._front import Front
from dagexec.engines._report import report_of
from dagexec.journal import Types
from dagexec.lowlevel import outcome_body
from dagexec.programs import Program
from tests.programs.generated import Account, World

if TYPE_CHECKING:
    from collections.abc import Iterator

TYPES = Types()


@tool(effect="read")
def read(x: Any) -> Any: ...


@tool(effect="pure")
def pure(x: Any) -> Any: ...


@tool(effect="write")
def write(x: Any, y: Any = 0) -> Any: ...


def front_of(tools: list[Any]) -> Front:
    executor = Executor(tools)
    return Front(
        engine="DbosEngine",
        through="the database",
        tools=executor.tools,
        executor=executor,
        on_failure="skip",
        barrier=False,
    )


FRONT = front_of([read, pure, write])


def spec_of(source: str, front: Front = FRONT, **options: Any) -> dict[str, Any]:
    """Return how a run of a program is stored."""
    program = front.program_of(Program(source, **options))
    return TYPES.loads(TYPES.dumps(front.spec("r", [], program)))


def caught_up(drive: Drive) -> Drive:
    for _ in drive.catch_up():
        pass
    return drive


def again(spec: dict[str, Any], drive: Drive, front: Front = FRONT) -> Drive:
    """Return what another process makes of what is kept of a round."""
    return caught_up(front.drive(spec, TYPES.loads(TYPES.dumps(drive.result()))))


def works(world: World, tool: str, args: dict[str, Any]) -> dict[str, Any]:
    """Return what a worker leaves of a call."""
    try:
        outcome: Any = Done(getattr(world, tool)(**args))
    except Exception as error:
        outcome = Failed(error)
    return left(outcome)


def left(outcome: Outcome) -> dict[str, Any]:
    """Return what a worker leaves of a call that ended so."""
    return {"outcome": outcome_body(outcome), "starts": 1, "abandoned": 0}


def news(
    drive: Drive, world: World, random: Random, asked: set[str] | None = None
) -> list[tuple[str, dict[str, Any]]]:
    """Let some of the calls that are out end, in plan order.

    With the calls that were `asked` about, a call may wait for a person first, or be in doubt.
    """
    out = [call for call in drive.machine.calls if call.id in drive.out]
    ended = random.sample(out, min(len(out), random.choice([1, 1, 2, 5])))
    ended.sort(key=lambda call: drive.machine.place(call.id))
    found: list[tuple[str, dict[str, Any]]] = []
    for call in ended:
        if asked is not None and call.id not in asked and random.random() < 0.3:
            asked.add(call.id)
            outcome = random.choice([Pending("sure?"), InDoubt()])
            found.append((call.id, left(outcome)))
        else:
            found.append((call.id, works(world, call.tool, drive.out[call.id].args)))
    return found


def turns(drive: Drive, world: World, random: Random) -> Iterator[list[Any]]:
    """Drive a round to its end; yields what it was told, before it is told."""
    now = 100.0
    while not drive.ended:
        told = [] if drive.computing else news(drive, world, random)
        yield told
        now += 1
        if drive.computing:
            drive.compute()
        else:
            drive.take(now, told)


def account_of(report: Report, world: World) -> Account:
    """Return what a program did."""
    cause, told = None, None
    if report.error is not None:
        cause = report.error.__cause__
        assert cause is not None, report.error
        told = (type(cause).__name__, str(cause), report.error.line)
    result = repr(report.result) if report.error is None else None
    return Account(result, report.printed, told, world.writes, world.cells)


def asked(drive: Drive) -> list[Any]:
    """Return what a drive asks for."""
    calls = [(out.name, drive.machine.call(out.name).tool, out.args) for out in drive.launches]
    return [calls, drive.until, drive.ended, drive.computing]


def told(drive: Drive) -> dict[str, Any]:
    """Return what the report of a round says."""
    report = report_of("r", drive)
    end = report.program
    assert end is not None
    outcomes = {name: outcome_body(each) for name, each in report.items()}
    lines = [(call.id, call.tool, call.line) for call in report.plan]
    return {
        "outcomes": outcomes,
        "calls": lines,
        "end": (repr(end.result), end.printed, str(end.error), dict(end.lines)),
        "left": (repr(dict(end.variables)), repr(dict(end.left)), dict(end.definitions)),
    }
