"""Calls that pass through limits, and may be tried again; all others never come here."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Any, final

import anyio
from anyio import CancelScope
from anyio.lowlevel import current_token

from dagexec._core.events import Retrying, Waiting
from dagexec._core.json_form import snapshot
from dagexec._core.outcomes import Done, Failed, Outcome, TimedOut
from dagexec._core.plan import Call
from dagexec._core.scheduler import State
from dagexec._errors import AdmissionTimeout, BreakerOpen, CallTimeout
from dagexec._runtime.lane import Lane
from dagexec._runtime.parts import Parts
from dagexec._runtime.state import RunState
from dagexec._runtime.worker import Worker
from dagexec._tools.checking import arguments_of
from dagexec._tools.tool import Tool
from dagexec.limits._headers import Refusal, refusal_in
from dagexec.limits._limiter import acquire
from dagexec.limits._permit import Permit
from dagexec.limits._retry import Budget, KeyState, Retry, counts
from dagexec.limits._tool_limits import ToolLimits


@final
@dataclass(slots=True)
class _Trial:
    """How far the attempts of one call have come."""

    limits: ToolLimits
    state: KeyState | None
    budget: Budget | None
    permit: Permit | None
    # Seconds of the call's timeout that are left.
    left: float
    failures: int = 0
    refusals: int = 0


@final
class LimitedWorker(Worker):
    """A worker some of whose calls have limits, or may be tried again."""

    __slots__ = ("_attempt", "_reservation", "limited")

    def __init__(self, run: RunState, lane: Lane, parts: Parts) -> None:
        """Take over a slot that was just taken."""
        super().__init__(run, lane, parts)
        self._attempt = 1
        # A process that is kept for the next attempt of a call, as a block that was entered.
        self._reservation: AbstractAsyncContextManager[None] | None = None
        # The call that waits for its limits before it starts, and their keys.
        self.limited: tuple[str, tuple[str, ...]] | None = None

    def _attempts(self) -> int:
        return self._attempt

    async def _run_limited(
        self,
        limits: ToolLimits,
        call: Call,
        tool: Tool[..., Any],
        arguments: dict[str, Any],
        since: float,
    ) -> None:
        """Run one call through its limits, and again where it failed and may be."""
        run = self._run
        # The deadline of the call before is not that of waiting for limits, and each attempt has a
        # scope of its own.
        self._arm(math.inf)
        retry = limits.retry
        state = None if retry is None else retry.state(limits.key, current_token().native_token)
        try:
            permit = await self._enter(limits, state, call, arguments)
        except Exception as error:  # noqa: BLE001 - the cost function is a user's code too
            if run.machine.state(call.id) is State.READY:
                self._lane.settle(call.id, self._unstarted(error, since))
            return
        try:
            if not await self._is_ready(call, tool, since):
                if permit is not None:
                    permit.withdraw()
                return
            timeout = run.settings.call_timeout if tool.timeout is None else tool.timeout
            left = math.inf if timeout is None else timeout
            budget = None if retry is None else self._budget(limits.key, retry)
            self._begin(call, tool, since)
            outcome = await self._try_all(
                _Trial(limits, state, budget, permit, left), call, tool, arguments
            )
        finally:
            await self._reserve(None)
            if permit is not None:
                permit.close()
                await permit.flush()
        self._conclude(outcome)

    async def _is_ready(self, call: Call, tool: Tool[..., Any], since: float) -> bool:
        """Wait for a process, where the tool runs in one, and record the start; whether it may."""
        if self._run.machine.state(call.id) is not State.READY:
            return False
        try:
            await self._reserve(call)
        except Exception as error:  # noqa: BLE001 - told as the outcome of the call
            self._not_started(call, error, since)
            return False
        if self._run.machine.state(call.id) is not State.READY:
            return False
        return await self._may_begin(call, tool)

    async def _reserve(self, call: Call | None) -> None:
        """Give back the process that was kept, and wait for one for the next attempt of a call."""
        block, self._reservation = self._reservation, None
        if block is not None:
            await block.__aexit__(None, None, None)
        reserves = self._run.settings.reserves
        if call is not None and reserves is not None and call.tool in reserves:
            self._has_waited = True
            block = reserves[call.tool](self._run.run_id, call.id)
            await block.__aenter__()
            self._reservation = block

    def _budget(self, key: str, retry: Retry) -> Budget:
        """Return the retries that the run may still make with a key."""
        budgets = self._parts.budgets
        found = budgets.get(key)
        if found is None:
            found = budgets[key] = retry.run_budget()
        return found

    def _begin(self, call: Call, tool: Tool[..., Any], since: float) -> None:
        run = self._run
        self._since = since
        self._started = run.now()
        self._attempt = 0
        run.start_call(call.id, self._started)
        self._call = call
        self._tool = tool
        if self._lease is not None:
            self._lease.call = call

    def _conclude(self, outcome: Outcome) -> None:
        if outcome.status == "done" and self._call is not None:
            run, name = self._run, self._call.id
            outcome = replace(
                outcome,
                started=self._started,
                ended=run.now(),
                queued=self._started - self._since,
                attempts=self._attempt,
            )
            self._call = None
            self._lane.settle(name, outcome)
        else:
            self._end(outcome)
        self._attempt = 1

    # ------------------------------------------------------------------------- before it starts

    async def _enter(
        self, limits: ToolLimits, state: KeyState | None, call: Call, arguments: dict[str, Any]
    ) -> Permit | None:
        """Wait for the limits, without the slot; raise what keeps the call from starting."""
        run = self._run
        if state is not None and state.closed_for(run.clock()):
            raise self._open_breaker(limits, state)
        permit: Permit | None = None
        if limits.limiters:
            scopes = self._lane.surroundings.scopes
            deadline = min((scope.deadline for scope in scopes), default=math.inf)
            permit = acquire(limits.limiters, limits.cost_of(arguments), deadline=deadline)
            if not permit.enter_now():
                self.limited = call.id, tuple(each.key for each in limits.limiters)
                run.mark(call.id, "limit")
                run.tell(Waiting(*self.limited))
                try:
                    await self._without_slot(call.id, 0.0, permit, permit.wait)
                finally:
                    self.limited = None
        if state is not None and not state.enter(run.clock()):
            if permit is not None:
                permit.withdraw()
            raise self._open_breaker(limits, state)
        return permit

    async def _without_slot(
        self,
        name: str,
        seconds: float,
        permit: Permit | None,
        admitted: Callable[[], Any] | None,
    ) -> None:
        """Give the slot back, wait so long and then for the limits, and take it again in turn."""
        self._has_waited = True
        try:
            async with self._lease or nullcontext():
                if seconds > 0:
                    await anyio.sleep(seconds)
                if admitted is not None:
                    await admitted()
                    self._run.mark(name, "slot")
        except BaseException:
            if permit is not None:
                permit.withdraw()
            raise

    def _open_breaker(self, limits: ToolLimits, state: KeyState) -> BreakerOpen:
        seconds = state.closed_for(self._run.clock())
        return BreakerOpen(
            f"{limits.key!r} has failed again and again, so this call was not tried;"
            f" the next attempt is possible in {seconds:.3g} s"
        )

    def _unstarted(self, error: Exception, since: float) -> Outcome:
        """Return the outcome of a call that could not start."""
        now = self._run.now()
        if not isinstance(error, AdmissionTimeout):
            return Failed(error, ended=now, queued=now - since)
        scopes = self._lane.surroundings.scopes
        inner = len(scopes) > 1 and scopes[-1].deadline < scopes[0].deadline
        error.scope = "layer" if inner else self._run.settings.run_scope
        return TimedOut(error.scope, error=error, ended=now, queued=now - since)

    # ----------------------------------------------------------------------------- its attempts

    async def _try_all(
        self, trial: _Trial, call: Call, tool: Tool[..., Any], arguments: dict[str, Any]
    ) -> Outcome:
        """Try until the outcome is final."""
        if trial.budget is not None and trial.state is not None:
            trial.budget.earn()
            trial.state.budget.earn()
        while True:
            self._attempt += 1
            if self._attempt > 1:
                self._run.mark(call.id, "again")
            began = self._run.clock()
            outcome = await self._try(call, tool, arguments, trial)
            try:
                if not await self._goes_on(trial, call, outcome, began):
                    return outcome
                arguments = self._again(call, tool)
                await self._reserve(call)
            except Exception as error:  # noqa: BLE001 - a retry's rule and validators: a user's code
                _add_note(outcome, f"it was not tried again: {error!r}")
                return outcome

    async def _goes_on(self, trial: _Trial, call: Call, outcome: Outcome, began: float) -> bool:
        """Take note of how an attempt ended, and wait for the next; return whether there is one."""
        now, permit, retry = self._run.clock(), trial.permit, trial.limits.retry
        trial.left -= now - began
        if trial.state is not None and retry is not None:
            failed = counts(retry, outcome)
            if failed or outcome.ok:
                trial.state.note(ok=not failed, began=began, now=now)
        refusal = None if outcome.error is None else refusal_in(outcome.error)
        if refusal is not None and permit is not None:
            permit.rejected(refusal.retry_after, refusal.headers)
        wait = self._wait_before_next(trial, outcome, refusal)
        if wait is None:
            return False
        self._run.mark(call.id, "retry", wait)
        self._run.tell(Retrying(call.id, self._attempt, wait, outcome.error))
        return await self._wait_again(call, trial, wait, outcome)

    def _again(self, call: Call, tool: Tool[..., Any]) -> dict[str, Any]:
        """Return new arguments: what the tool did to its own must not reach the next attempt."""
        recorder = self._parts.recorder
        if recorder is None:
            return arguments_of(call, tool, self._run.machine.outcomes)
        return recorder.again(call, tool)

    async def _wait_again(self, call: Call, trial: _Trial, wait: float, outcome: Outcome) -> bool:
        """Wait without slot and permit; return whether to go on."""
        permit = trial.permit
        if permit is not None:
            permit.close()
        try:
            again = None if permit is None else permit.again
            await self._without_slot(call.id, wait, permit, again)
        except AdmissionTimeout as error:
            _add_note(outcome, f"it was not tried again: {error}")
            return False
        finally:
            # Time in a queue is no part of the call's timeout; a back-off is.
            trial.left -= wait
        if trial.state is not None and not trial.state.enter(self._run.clock()):
            if permit is not None:
                permit.withdraw()
            _add_note(outcome, f"it was not tried again: {trial.limits.key!r} keeps failing")
            return False
        return True

    async def _try(  # noqa: C901 - each frame costs
        self, call: Call, tool: Tool[..., Any], arguments: dict[str, Any], trial: _Trial
    ) -> Outcome:
        """Run the tool once, under a scope of its own."""
        own = math.inf if trial.limits.retry is None else trial.limits.retry.timeout or math.inf
        seconds = min(trial.left, own)
        deadline = self._run.clock() + seconds
        nested = self._lane.surroundings.nested
        if nested is not None:
            nested.pop(call.id, None)  # the runs of the attempt before
        before = self._scope, self._deadline
        outcome: Outcome | None = None
        try:
            with CancelScope(deadline=deadline) as scope:
                self._scope, self._deadline = scope, deadline
                try:
                    value = await self._invoke(call, tool, arguments, (self._attempt, trial.permit))
                    if self._lane.surroundings.nested is not None:
                        self._wait_with_nested(call.id)
                except BaseException as error:  # noqa: BLE001 - a cancellation is raised again
                    outcome = self._outcome_of(error)
                else:
                    outcome = Done(value, form=snapshot(value))
        except self._run.cancelled as error:
            if not self._is_own_deadline(error):
                raise
        finally:
            self._scope, self._deadline = before
        if outcome is None:
            msg = f"tool {tool.name!r} did not end within {seconds:g} s"
            outcome = TimedOut("call", error=CallTimeout(msg, "call"))
        if self._was_cancelled:
            self._find_swallowed()
        if self._task is not None and self._task.cancelling() > self._requests_before:
            await self._drop_requests()
        return outcome

    def _wait_before_next(
        self, trial: _Trial, outcome: Outcome, refusal: Refusal | None
    ) -> float | None:
        """Return the seconds until the next attempt, None if the outcome is final."""
        retry = trial.limits.retry
        if retry is None or not self._may_repeat(outcome):
            return None
        wait = (
            self._after_failure(trial, retry, outcome)
            if refusal is None
            else self._after_refusal(trial, retry, refusal)
        )
        if wait is None:
            return None
        why = ""
        holdings = self._parts.holdings
        if holdings is not None and holdings.outlived(self._call):
            why = "its thread did not end, and uses what the next attempt would use"
        elif wait >= trial.left:
            why = f"{max(0.0, trial.left):.3g} s are left"
        elif refusal is None and not self._spend(trial):
            why = f"the budget of {trial.limits.key!r} has no retries left"
        if why:
            _add_note(outcome, f"it was not tried again: {why}")
            return None
        return wait

    def _may_repeat(self, outcome: Outcome) -> bool:
        failed = outcome.status in ("failed", "timed_out") and outcome.error is not None
        return failed and self._tool.effect.retries and not self._lane.is_over()

    @staticmethod
    def _after_refusal(trial: _Trial, retry: Retry, refusal: Refusal) -> float | None:
        trial.refusals += 1
        if trial.refusals > retry.refusals:
            return None
        # With a limiter the gate says when.
        return 0.0 if trial.permit else retry.wait(trial.refusals, refusal.retry_after)

    def _after_failure(self, trial: _Trial, retry: Retry, outcome: Outcome) -> float | None:
        trial.failures += 1
        error = outcome.error
        late = outcome.status == "timed_out"
        if trial.failures >= retry.attempts or not (late or (error and retry.covers(error))):
            return None
        if trial.state is not None and trial.state.closed_for(self._run.clock()):
            return None
        return retry.wait(trial.failures)

    @staticmethod
    def _spend(trial: _Trial) -> bool:
        if trial.state is None or trial.budget is None:
            return False
        return Budget.spend(trial.budget, trial.state.budget)


def _add_note(outcome: Outcome, text: str) -> None:
    if outcome.error is not None:
        outcome.error.add_note(text)
