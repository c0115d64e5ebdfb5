"""What engines say to their users, and to those who drive: settings, answers, refusals.

An engine has a `Front`; what differs between engines is two names in its messages.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterable, Callable, Iterable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Final, Literal, cast, final

from dagexec import (
    Call,
    CallError,
    DagexecError,
    Edit,
    Executor,
    Failed,
    Plan,
    Tool,
)
from dagexec.engines._drive import Drive
from dagexec.engines._one import Assignment
from dagexec.engines._program import RunProgram
from dagexec.lowlevel import (
    answer_entry,
    check_answer,
    checked_id,
    current_id,
    inner_secrets,
    order_conflicts,
    outcome_body,
    repeats,
    same_call,
    secret_call,
    written_secrets,
)

# How often a call may take its worker down with it before it counts as the cause.
DEATHS: Final = 10
# What an assignment is made of, as it travels.
FIELDS: Final = tuple(field.name for field in fields(Assignment))
# What makes two programs the same one; earlier attempts and limits do not.
SAME: Final = ("source", "variables", "definitions")


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Front:
    """The settings of an engine, and what it refuses.

    `engine` is the name of its class, `through` what calls travel through, for messages.
    """

    engine: str
    through: str
    tools: Mapping[str, Tool[..., Any]]
    executor: Executor
    on_failure: Literal["skip", "stop"]
    barrier: bool
    # Why a call of a program cannot travel, None if it can; of a plan that is seen when it begins.
    misfit: Callable[[Call], str | None] = lambda _: None

    def __post_init__(self) -> None:
        """Refuse to run calls one by one; raise DagexecError."""
        if self.executor.concurrency == 0:
            msg = (
                "concurrency=0 runs calls one by one in the caller's task, to debug; use Executor"
                f" for that, and give {self.engine} (or DAGEXEC_CONCURRENCY) a number from 1 on"
            )
            raise DagexecError(msg)

    # ------------------------------------------------------------------------------------- programs

    def program_of(self, given: object) -> dict[str, Any] | None:
        """Return what a run of a program stores of it; None for what is no program.

        Raises DagexecError for one that cannot run here.
        """
        if not hasattr(given, "live"):
            return None
        from dagexec.programs import Program

        if not isinstance(given, Program):
            return None
        begun = given.live(self.tools).begun_with()
        if begun.pop("secret", False):
            msg = (
                "an earlier attempt at this program made calls with arguments that are secret, and"
                f" what it did would travel through {self.through}: correct it where it ran"
            )
            raise DagexecError(msg)
        return {"source": given.source, **begun, "limits": given.limits}

    def drive(self, spec: Mapping[str, Any], result: Mapping[str, Any] | None = None) -> Drive:
        """Return a round of a run; its program has still to `catch_up`."""
        stored = spec.get("program")
        return Drive(spec, result, program=None if stored is None else self._run_of(stored))

    def _run_of(self, stored: Mapping[str, Any]) -> RunProgram:
        from dagexec.programs import EarlierCall, Program

        program = Program(
            stored["source"],
            variables=stored.get("variables"),
            definitions=stored.get("definitions"),
            earlier=[EarlierCall.from_dict(each) for each in stored.get("earlier", ())],
            **stored["limits"],
        )
        return RunProgram(program.live(self.tools), self._checked)

    def _checked(self, call: Call) -> Call:
        """Return a call of a program, with its problem if it cannot run, and without secrets."""
        tool = self.tools[call.tool]
        hidden = written_secrets(call, tool.secret)
        if hidden:
            bare = replace(call, args={**call.args, **dict.fromkeys(hidden, "")})
            kept = Call.from_dict(secret_call(bare, tool.secret))
            return replace(kept, problem=self._secret(hidden[0], call.id, tool.name))
        problems = tool.problems(call.args)
        if problems:
            return replace(call, problem="; ".join(problems))
        misfit = self.misfit(call)
        return call if misfit is None else replace(call, args={}, problem=misfit)

    # ------------------------------------------------------------------------------------ beginning

    def calls_of(self, given: object) -> list[dict[str, Any]]:
        """Return the calls of a plan that can run here; raise PlanError or DagexecError."""
        if isinstance(given, AsyncIterable):
            msg = (
                f"{self.engine} runs whole plans: a plan that is still being written needs Executor"
            )
            raise DagexecError(msg)
        if hasattr(given, "live"):
            msg = (
                f"{self.engine} runs whole plans, and a program finds its calls while it runs: use"
                " Executor(tools, journal=...).run(program, run_id=...), which any process resumes;"
                f" {self.engine} runs a dagexec.programs.Program that is whole"
            )
            raise DagexecError(msg)
        plan = given if isinstance(given, Plan) else Plan(cast("Iterable[Call]", given))
        self.executor.check(plan)
        for call in plan:
            tool = self.tools.get(call.tool)
            if tool is not None and tool.secret:
                hidden = written_secrets(call, tool.secret)
                self._refuse_secret(call.id, tool, hidden, call.args)
        return [call.to_dict() for call in order_conflicts(plan.calls, self.tools)]

    def spec(
        self,
        run_id: str,
        calls: list[dict[str, Any]],
        program: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        """Return how a run is to be run, for whoever drives it, now and after a crash.

        Of a program, `program` is what is stored, and it has no calls yet.
        """
        timeouts = self.executor.timeouts
        turn = timeouts.turn is not None and timeouts.turn < (timeouts.workflow or math.inf)
        used = self.tools.keys() if program else {call["tool"] for call in calls}
        return {
            "run_id": run_id,
            "calls": calls,
            **({} if program is None else {"program": program}),
            "call": timeouts.call,
            "layer": timeouts.layer,
            "run": timeouts.turn if turn else timeouts.workflow,
            "scope": "turn" if turn else "workflow",
            "on_failure": self.on_failure,
            "barrier": self.barrier,
            "effects": {
                name: str(tool.effect) for name, tool in self.tools.items() if name in used
            },
            "ordered": [name for name, tool in self.tools.items() if tool.reads or tool.writes],
        }

    # -------------------------------------------------------------------------------------- answers

    def checked(
        self, run_id: str, drive: Drive, answers: Mapping[str, object]
    ) -> dict[str, dict[str, Any]]:
        """Return the answers to record, in plan order; raise DagexecError for one that is wrong."""
        if answers and drive.is_program and drive.machine.stopped:
            msg = (
                f"the program of run {run_id!r} was stopped before its end, so that an answer leads"
                " nowhere: run it again under another run_id"
            )
            raise DagexecError(msg)
        known = [call.id for call in drive.machine.calls]
        asked = {*drive.waiting}
        waiting = [name for name in known if name in asked]
        for name in answers:
            if name not in known:
                msg = (
                    f"the run {run_id!r} has no call {name!r} to answer;"
                    f" waiting for an answer: {', '.join(waiting) or 'none'}"
                )
                raise DagexecError(msg)
        left: dict[str, dict[str, Any]] = {}
        for name in known:
            if name not in answers:
                continue
            past = drive.past.get(name)
            last = past.answers[-1] if past is not None and past.answers else None
            if name not in asked and repeats(last, answers[name]):
                continue  # given again by who did not know that it had arrived
            left[name] = self._entry(run_id, drive, name, answers[name])
        return left

    def _entry(self, run_id: str, drive: Drive, name: str, answer: object) -> dict[str, Any]:
        """Return an answer as it is recorded; raise DagexecError if it does not fit."""
        machine = drive.machine
        call, outcome = machine.call(name), machine.outcomes.get(name)
        tool = self.tools.get(call.tool)
        if tool is None:
            msg = (
                f"the run {run_id!r} cannot go on: call {name!r} needs the tool {call.tool!r},"
                " which this engine does not have"
            )
            raise DagexecError(msg)
        check_answer(call, tool, answer, outcome, machine.state(name).value)
        assert outcome is not None  # noqa: S101 - a call without one does not wait
        if isinstance(answer, Edit):
            self._refuse_secret(name, tool, tool.secret, {**answer.args})
        entry = answer_entry(answer, outcome)
        for inner, named, hidden in inner_secrets(entry):
            raise DagexecError(self._secret(hidden, inner, named))
        return entry

    # ------------------------------------------------------------------------------------- refusals

    def _refuse_secret(
        self, call: str, tool: Tool[..., Any], names: Iterable[str], args: Mapping[str, Any]
    ) -> None:
        for name in names:
            if args.get(name) not in (None, "<secret>"):
                raise DagexecError(self._secret(name, call, tool.name))

    def _secret(self, name: str, call: str, tool: str) -> str:
        return (
            f"{name!r} of call {call!r} is secret, and calls travel through {self.through}:"
            f" let {tool!r} get it where it runs, from its environment for one"
        )


def refuse_inside() -> None:
    """Raise DagexecError inside of a tool."""
    try:
        inside = current_id()
    except LookupError:
        return
    msg = (
        f"call {inside!r} would hold its worker while it waits for a run of other workers,"
        " which can lock all of them; run plans inside of tools with an Executor"
    )
    raise DagexecError(msg)


def refuse_elsewhere(loop: asyncio.AbstractEventLoop) -> None:
    """Raise DagexecError in another event loop than the one in which the engine is open."""
    if loop is not asyncio.get_running_loop():
        msg = "the engine is open in another event loop; use it there"
        raise DagexecError(msg)


def not_open() -> DagexecError:
    """Return the error of an engine that is not open."""
    return DagexecError("the engine is not open; write: async with engine: await engine.run(plan)")


def asyncio_only(service: str, engine: str) -> None:
    """Raise DagexecError under another loop than asyncio's."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        msg = f"{service} works on asyncio only: run {engine} under asyncio.run(), not under trio"
        raise DagexecError(msg) from None


def check_asked(run_id: object, answers: object = None) -> None:
    """Raise DagexecError for what is no id of a run, and for what is no answers by call id."""
    checked_id(run_id)
    if answers is not None and not isinstance(answers, Mapping):
        kind = type(answers).__name__
        msg = f"resume() takes answers by call id, {{call_id: Approve()}}, not a {kind}"
        raise DagexecError(msg)


def unknown_run(engine: str, run_id: str, place: str) -> DagexecError:
    """Return the error of a run that there is not."""
    return DagexecError(f"the engine {engine!r} knows no run {run_id!r} in {place}")


def refuse_other(
    run_id: str,
    begun: Mapping[str, Any],
    calls: list[dict[str, Any]],
    program: Mapping[str, Any] | None,
) -> None:
    """Raise DagexecError if a run was begun with another plan, or another program, than this."""
    before = begun.get("program")
    if (before is None) is not (program is None):
        raise another_plan(run_id)
    if before is not None and program is not None:
        differing = [part for part in SAME if not _equal(before.get(part), program.get(part))]
        if differing:
            verb = "differs" if differing[0] == "source" else "differ"
            raise another_plan(run_id, f"program: its {differing[0]} {verb}")
        return
    kept = begun["calls"]
    if len(kept) != len(calls) or not all(map(same_call, kept, calls)):
        raise another_plan(run_id)


def refuse_mark(run_id: str, before: object, now: object) -> None:
    """Raise DagexecError for other fingerprints than those of the plan or program of a run.

    That of a plan is a text, those of a program are texts by its parts.
    """
    if before != now and not (isinstance(before, dict) and isinstance(now, dict)):
        raise another_plan(run_id)
    if isinstance(before, dict) and isinstance(now, dict):
        parts = cast("dict[str, str]", before), cast("dict[str, str]", now)
        refuse_other(run_id, {"program": parts[0], "calls": []}, [], parts[1])


def _equal(one: object, other: object) -> bool:
    return one == other or repr(one) == repr(other)  # not a number is not equal to itself


def another_plan(run_id: str, what: str = "plan") -> DagexecError:
    """Return the error of an id that another plan's run has."""
    msg = (
        f"the run {run_id!r} was begun with another {what}; give a new run a new run_id, or"
        " continue this one with resume()"
    )
    return DagexecError(msg)


def died() -> dict[str, Any]:
    """Return the result of a call that was begun too often, and came to no end."""
    why = "its worker went down with it, or its end could not be recorded"
    return broken(f"it was begun {DEATHS + 1} times, and each time {why}")


def broken(why: str) -> dict[str, Any]:
    """Return the result of a call that has none."""
    failed = Failed(CallError(f"the call ended without an outcome: {why}"), maybe=True)
    return {"outcome": outcome_body(failed), "starts": 0, "abandoned": 0}
