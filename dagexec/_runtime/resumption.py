"""Whether a recorded run can go on, with the plan, the tools and the answers that are given now."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, final

from dagexec._core.nested import DOUBT, InnerAnswers, awaits_answer, kind_of, waits_in
from dagexec._core.outcomes import Deny, Done, InDoubt, Outcome
from dagexec._core.plan import Call, Plan
from dagexec._core.scheduler import State
from dagexec._errors import DagexecError
from dagexec._runtime.history import History
from dagexec._runtime.state import RunState
from dagexec.journal._answers import (
    check_answer,
    check_inner_edits,
    kept_call,
    missing_secrets,
    repeated,
    same_question,
    same_wait,
)
from dagexec.journal._records import answer_of, replay


class ToolMissing(DagexecError):
    """A run cannot go on, because the executor does not have the tool that a call needs."""

    def __init__(self, text: str, tool: str) -> None:
        """Keep the name of the tool."""
        super().__init__(text)
        self.tool = tool


@final
class Resumption:
    """The history of one run and what is asked of it now; empty of history for a new run."""

    __slots__ = ("_inner", "_machine", "_run", "_tools", "answers", "arriving", "asked", "history")

    def __init__(
        self,
        run: RunState,
        history: History,
        answers: Mapping[str, object] | None,
        inner: Sequence[dict[str, Any]] = (),
        *,
        arriving: bool = False,
    ) -> None:
        """Change nothing yet; `answers` are those of `resume`, None for `run`.

        `inner` are those that the call got in which this run is nested.
        """
        self._run = run
        self._machine = run.machine
        self._tools = run.settings.tools
        self.history = history
        # Whether it was asked to go on, by `resume`.
        self.asked = answers is not None
        # The answers given now, without those recorded earlier.
        self.answers = dict(answers or {})
        self._inner = inner
        # Whether there is a source that gives the rest of its plan.
        self.arriving = arriving

    # ---------------------------------------------------------------------------- the machine again

    def restore(self, plan: Plan | None, *, new: bool) -> None:
        """Tell the machine what was recorded; raise DagexecError if the run cannot go on."""
        history, run = self.history, self._run
        if not new:
            run.follow(history.on_failure, barrier=history.barrier)
            self._machine = run.machine
        if plan is not None and not new:
            self.compare(plan.calls)
        if history.is_blank and plan is not None and not history.streamed:
            return  # the runner has the plan itself, with its secrets
        calls = {} if plan is None else {call.id: call for call in plan}
        replay(history.records, run.machine, calls)
        run.already = history.lasted
        run.elapsed = history.elapsed
        run.abandoned = history.abandoned
        blocking = run.blocking
        blocking.count, blocking.seconds, by_call = history.blocked
        blocking.by_call = dict(by_call)
        self._take_inner()
        self._check_tools()
        self._check_answers()

    def compare(self, calls: Iterable[Call]) -> None:
        """Raise DagexecError if these are not the calls that the run was begun with."""
        if not self.history.began_with([self.kept(call) for call in calls]):
            self.refuse_other_plan()

    def refuse_other_plan(self) -> None:
        """Raise DagexecError: this is not the plan of the run."""
        msg = (
            f"the run {self._run.run_id!r} was begun with another plan; give a new run a new"
            " run_id, or continue this one with resume()"
        )
        raise DagexecError(msg)

    def kept(self, call: Call) -> dict[str, Any]:
        """Return a call as it is recorded: without the arguments that are secret."""
        return kept_call(call, self._tools)

    # ----------------------------------------------------------------------------- calls of the run

    def waits(self, name: str) -> bool:
        """Whether a call waits for an answer itself, not for another that does."""
        outcome = self._machine.outcomes.get(name)
        return outcome is not None and awaits_answer(outcome)

    def is_doubtful(self, name: str) -> bool:
        """Whether a call was running when its process ended, and may not simply run again."""
        machine = self._machine
        if machine.state(name) not in (State.RUNNING, State.STOPPING):
            return False
        tool = self._tools.get(machine.call(name).tool)
        return tool is None or not tool.effect.reruns

    def _take_inner(self) -> None:
        """Take over what the enclosing call was answered, less what was acted upon before.

        The enclosing tool runs from its first line and brings all of it again.
        """
        deeper: dict[str, list[dict[str, Any]]] = {}
        for item in self._inner:
            name = item["call"]
            outcome = self._waiting_outcome(name)
            if outcome is None:
                continue
            if item["path"]:
                if any(same_wait(item, wait) for wait in waits_in(outcome)):
                    deeper.setdefault(name, []).append(item)
            elif item["for"] == kind_of(outcome) and (
                item["for"] == DOUBT or same_question(item["question"], outcome.question)
            ):
                self.answers[name] = answer_of(item["answer"])
        self.answers.update((name, InnerAnswers(tuple(each))) for name, each in deeper.items())

    def _waiting_outcome(self, name: str) -> Outcome | None:
        """Return with what outcome a call waits for an answer itself, None if it does not."""
        try:
            if self.is_doubtful(name):
                return InDoubt()
        except KeyError:
            return None
        return self._machine.outcomes[name] if self.waits(name) else None

    # --------------------------------------------------------------------------------------- checks

    def _check_tools(self) -> None:
        machine, run_id = self._machine, self._run.run_id
        for call in self._to_go_on():
            if call.problem is None and call.tool not in self._tools:
                msg = (
                    f"the run {run_id!r} cannot go on: call {call.id!r} needs the tool"
                    f" {call.tool!r}, which this executor does not have"
                )
                raise ToolMissing(msg, call.tool)
            self._check_secrets(call)
        if self.asked and not self.arriving and not machine.closed and not machine.finished:
            msg = (
                f"the plan of run {run_id!r} was still arriving when its process ended; give"
                f" its calls again, run(calls, run_id={run_id!r}), or if it is that of a program,"
                f" resume({run_id!r}, answers, plan=program), `dagexec resume --program FILE`:"
                " what is done stays done"
            )
            raise DagexecError(msg)

    def _to_go_on(self) -> list[Call]:
        """Return the calls that may run now: not what waits for a person or was denied."""
        machine = self._machine
        left = [
            call
            for call in machine.calls
            if machine.state(call.id) is not State.SETTLED
            or machine.outcomes[call.id].status in ("pending", "in_doubt")
        ]
        answered = {*self.answers, *self.history.answered}
        waiting = {call.id for call in left if self.waits(call.id)} - answered
        denied = {name for name, answer in self.answers.items() if isinstance(answer, Deny)}
        count = -1
        while count != len(waiting) + len(denied):
            count = len(waiting) + len(denied)
            for call in left:
                if denied.intersection(call.needs):
                    denied.add(call.id)  # it will be skipped
                elif waiting.intersection((*call.needs, *call.waits)):
                    waiting.add(call.id)
        return [
            call
            for call in left
            if call.id not in waiting and (call.id not in denied or call.id in answered)
        ]

    def _check_secrets(self, call: Call) -> None:
        given = self.history.given.get(call.id)
        answer = self.answers.get(call.id)
        if isinstance(answer, Deny | Done) or (given is not None and given.verdict is not None):
            return  # it will not run
        hidden = missing_secrets(call, given, answer)
        if hidden:
            msg = (
                f"the run {self._run.run_id!r} cannot go on by itself: the journal does not keep"
                f" {hidden[0]!r} of call {call.id!r}, which is secret; give the plan again:"
                f" run(plan, run_id=...) or resume(run_id, answers, plan=plan)"
            )
            raise DagexecError(msg)

    def _check_answers(self) -> None:
        machine = self._machine
        for name, answer in list(self.answers.items()):
            try:
                call, state = machine.call(name), machine.state(name)
            except KeyError:
                known = ", ".join(each.id for each in machine.calls if self.waits(each.id))
                msg = (
                    f"the run {self._run.run_id!r} has no call {name!r} to answer;"
                    f" waiting for an answer: {known or 'none'}"
                )
                raise DagexecError(msg) from None
            outcome = machine.outcomes.get(name)
            if self.is_doubtful(name):
                outcome = InDoubt()
            if not self.waits(name) and repeated(self.history.given, name, answer):
                del self.answers[name]  # given twice; the first one was recorded, but for secrets
                self.history.given[name].complete(answer)
                continue
            check_answer(call, self._tools[call.tool], answer, outcome, state.value)
            if outcome is not None and not isinstance(answer, InnerAnswers):
                check_inner_edits(call, answer, waits_in(outcome), self._tools)
