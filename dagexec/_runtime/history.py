"""What a run had been through before: read from its records, and checked against what is asked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, final

from dagexec._core.outcomes import Cancelled, Deny, Done, Edit, InDoubt, Outcome, TimedOut
from dagexec._core.scheduler import State
from dagexec._errors import DagexecError
from dagexec.journal._answers import (
    Given,
    apply_answer,
    check_answer,
    missing_secrets,
    repeated,
    secret_call,
)
from dagexec.journal._records import answer_body, outcome_of, policies_of, replay, same_call

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from dagexec._core.plan import Call, Plan
    from dagexec._runtime.runner import Runner
    from dagexec.journal._base import Record


@final
class Past:
    """What a run had been through before this process drove it; empty for a new one."""

    def __init__(self, run_id: str, answers: Mapping[str, object] | None) -> None:
        """Start empty; `answers` are those of `resume`, None for `run`."""
        self.run_id = run_id
        self.asked_to_resume = answers is not None
        # What is answered now, less what had arrived before.
        self.answers = dict(answers or {})
        # What people answered, by call; `ask` reads it too.
        self.given: dict[str, Given] = {}
        # How often each call was started, and with which arguments.
        self.starts: dict[str, int] = {}
        self.fingerprints: dict[str, str] = {}
        # Answers that were recorded, and not yet acted upon when the process ended.
        self.answered: list[str] = []
        # What a stop or a deadline had decided for the calls that were under way.
        self.stopped_by: Outcome = Cancelled()
        # Whether nothing but the plan is recorded.
        self.fresh = False
        self.runner: Runner

    def waits(self, name: str) -> bool:
        outcome = self.runner.machine.outcomes.get(name)
        return (
            outcome is not None
            and outcome.status in ("pending", "in_doubt")
            and outcome.because is None
        )

    def kept(self, call: Call) -> dict[str, Any]:
        """Return a call as it is recorded: without the arguments that are secret."""
        tool = self.runner.settings.tools.get(call.tool)
        return secret_call(call, () if tool is None else tool.secret)

    def restore(self, plan: Plan | None, records: Sequence[Record], *, new: bool) -> None:
        """Tell the machine what was recorded; raise DagexecError if the run cannot go on."""
        runner = self.runner
        begun_as_plan = records[0].kind == "plan"
        self.fresh = len(records) == 1 and (plan is not None or not begun_as_plan)
        if not new:
            on_failure, barrier = policies_of(records[0])
            runner.follow(on_failure, barrier=barrier)
        if plan is not None and not new:
            self.compare(plan.calls, records)
        if self.fresh and plan is not None and begun_as_plan:
            return  # the runner has the plan itself, with its secrets
        replay(records, runner.machine, {} if plan is None else {call.id: call for call in plan})
        for record in records:
            self._look_at(record)
        self._check_tools()
        self._check_answers()

    def _look_at(self, record: Record) -> None:
        name, body = record.call or "", record.body
        if record.kind == "started":
            self.starts[name] = self.starts.get(name, 0) + 1
            self.fingerprints[name] = body["args"]
            self.runner.already = max(self.runner.already, body["at"])
        elif record.kind == "void":
            self.starts[name] -= 1
        elif record.kind == "settled":
            self.runner.already = max(self.runner.already, body.get("ended") or 0.0)
        elif record.kind in ("stop", "expired"):
            late = record.kind == "expired"
            self.stopped_by = TimedOut("layer") if late else outcome_of(body)
        elif record.kind == "answer":
            apply_answer(self.given, name, body)
            self.answered.append(name)
        elif record.kind == "reopened":
            self.answered = [each for each in self.answered if each != name]
        elif record.kind == "end":
            self.runner.already = self.runner.elapsed = body["elapsed"]
            self.runner.abandoned = body["abandoned"]

    def compare(self, given: Iterable[Call], records: Sequence[Record]) -> None:
        """Raise DagexecError if these are not the calls that the run was begun with."""
        calls = [self.kept(call) for call in given]
        if records[0].kind == "plan":
            kept = records[0].body["calls"]
            same = len(kept) == len(calls) and all(map(same_call, kept, calls))
        else:
            by_id = {call["id"]: call for call in calls}
            added = [record.body["call"] for record in records if record.kind == "added"]
            closed = any(record.kind == "closed" for record in records)
            same = all(each["id"] in by_id and same_call(each, by_id[each["id"]]) for each in added)
            same = same and (not closed or len(added) == len(calls))
        if not same:
            self.refuse_other_plan()

    def refuse_other_plan(self) -> None:
        msg = (
            f"the run {self.run_id!r} was begun with another plan; give a new run a new run_id, or"
            " continue this one with resume()"
        )
        raise DagexecError(msg)

    def _check_tools(self) -> None:
        machine, tools = self.runner.machine, self.runner.settings.tools
        for call in self._to_go_on():
            if call.problem is None and call.tool not in tools:
                msg = (
                    f"the run {self.run_id!r} cannot go on: call {call.id!r} needs the tool"
                    f" {call.tool!r}, which this executor does not have"
                )
                raise DagexecError(msg)
            self._check_secrets(call)
        if self.asked_to_resume and not machine.closed and not machine.finished:
            msg = (
                f"the plan of run {self.run_id!r} was still arriving when its process ended; give"
                f" its calls again, run(calls, run_id={self.run_id!r}): what is done stays done"
            )
            raise DagexecError(msg)

    def _to_go_on(self) -> list[Call]:
        """Return the calls that may run now: not what waits for a person or was denied."""
        machine = self.runner.machine
        left = [
            call
            for call in machine.calls
            if machine.state(call.id) is not State.SETTLED
            or machine.outcomes[call.id].status in ("pending", "in_doubt")
        ]
        answered = {*self.answers, *self.answered}
        waiting = {call.id for call in left if self.waits(call.id)} - answered
        lost = {name for name, answer in self.answers.items() if isinstance(answer, Deny)}
        count = -1
        while count != len(waiting) + len(lost):
            count = len(waiting) + len(lost)
            for call in left:
                if lost.intersection(call.needs):
                    lost.add(call.id)
                elif waiting.intersection((*call.needs, *call.waits)):
                    waiting.add(call.id)
        return [
            call
            for call in left
            if call.id not in waiting and (call.id not in lost or call.id in answered)
        ]

    def _check_secrets(self, call: Call) -> None:
        given = self.given.get(call.id)
        answer = self.answers.get(call.id)
        if isinstance(answer, Deny | Done) or (given is not None and given.verdict is not None):
            return  # it will not run
        if isinstance(answer, Edit):
            given = Given()
            given.apply(answer_body(answer))
        hidden = missing_secrets(call, given)
        if hidden:
            msg = (
                f"the run {self.run_id!r} cannot go on by itself: the journal does not keep"
                f" {hidden[0]!r} of call {call.id!r}, which is secret; give the plan again:"
                f" run(plan, run_id=...) or resume(run_id, answers, plan=plan)"
            )
            raise DagexecError(msg)

    def _check_answers(self) -> None:
        machine, settings = self.runner.machine, self.runner.settings
        for name, answer in list(self.answers.items()):
            try:
                call, state = machine.call(name), machine.state(name)
            except KeyError:
                known = ", ".join(each.id for each in machine.calls if self.waits(each.id))
                msg = (
                    f"the run {self.run_id!r} has no call {name!r} to answer;"
                    f" waiting for an answer: {known or 'none'}"
                )
                raise DagexecError(msg) from None
            outcome = machine.outcomes.get(name)
            if self.lost(name):
                outcome = InDoubt()
            if not self.waits(name) and repeated(self.given, name, answer):
                del self.answers[name]  # given again by who did not know that it had arrived
                continue
            check_answer(call, settings.tools[call.tool], answer, outcome, state.value)

    def lost(self, name: str) -> bool:
        """Whether a call was running when its process ended, and may not simply run again."""
        machine = self.runner.machine
        if machine.state(name) not in (State.RUNNING, State.STOPPING):
            return False
        tool = self.runner.settings.tools.get(machine.call(name).tool)
        return tool is None or not tool.effect.reruns
