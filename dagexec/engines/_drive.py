"""The half of an engine that decides: drives the scheduler, with no clock, no I/O and no chance.

What an engine records is what it tells a `Drive`: the time, and which calls ended how, in that
order. Told the same again, after a crash and in another process, it asks for the same. Durable
engines that replay a workflow by position (DBOS, Restate) or by history (Temporal) need exactly
that, so nothing here knows any of them.

A run goes in rounds: one until nothing is left but questions, one more for each time that they are
answered after its end. A round ends with a log of all that the scheduler was told since the run
began but for the plan, from which the next one goes on. A log that was taken in the middle of a
round leads there too: what was under way is launched again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final, TypeAlias, final

from dagexec import Call, Cancelled, Failed, Outcome
from dagexec.engines._out import Out, Past, blocked_in, late, lost, told_why, unasked, unbegun
from dagexec.engines._program import LAST, Entry, Log, Steps, StepsTaken
from dagexec.journal import Record
from dagexec.lowlevel import (
    Abort,
    Action,
    Added,
    Closed,
    Event,
    Expired,
    Identical,
    Launch,
    Reopened,
    Scheduler,
    Settled,
    Spread,
    Started,
    State,
    Stop,
    outcome_of,
    resolved,
    shared,
    speaks_for_all,
    spread_of,
    to_event,
    to_record,
)

# Seconds that a call which is told to stop may take to say what became of it. After that its
# worker is taken to hang, and the run goes on without it.
GRACE: Final = 10.0

# Entries of the log that the scheduler does not hear of.
_SILENT: Final = ("answer", "starts", "steps", "last")
_UNANSWERED: Final = ("pending", "in_doubt")
_UNDER_WAY: Final = (State.READY, State.RUNNING, State.STOPPING)

# How the references of a ready call become arguments; raises where one leads nowhere.
Resolve: TypeAlias = "Callable[[Call, Mapping[str, Outcome]], dict[str, Any]]"
# How a ready call with `Each` becomes calls, at most so many; raises where it cannot.
Spreads: TypeAlias = "Callable[[Call, Scheduler, int], Spread]"


@final
class Drive:
    """One round of a run.

    `spec` is how it is to be run, as JSON: `calls`, the timeouts `call`, `layer`, `run` with its
    `scope`, `on_failure`, `barrier` and the `effects` of the tools. `result` is that of the round
    before, or of this one in the middle, None for the first. `resolve` and `spreads` are for
    engines that hold values in another form than tools do.

    The calls of a `program` are found while it runs: the spec has none then, but the log does.
    Before such a round begins, or reports, `catch_up` brings the program to where the log ends.

    After `begin`, and after each `take`, an engine gives `launches` to its workers, tells those of
    `aborts` to stop, and waits until something has ended, at most until `until`.
    """

    def __init__(
        self,
        spec: Mapping[str, Any],
        result: Mapping[str, Any] | None = None,
        *,
        resolve: Resolve = resolved,
        spreads: Spreads = spread_of,
        program: Steps | None = None,
    ) -> None:
        """Tell a fresh scheduler what it was told in the rounds before."""
        self.program = program
        # What it came to, where that was kept and it cannot be interpreted here.
        self.kept_end: Any = None
        # Whether somebody has ended the run, so that nobody would answer what asks from then on.
        self._cancelled = False
        # Whether a failure has ended the run, and the program has still to hear of it.
        self._failed = False
        # Whether a program that let others have their turn may go on.
        self._turned = False
        self._spec = spec
        self._resolve = resolve
        self._spreads = spreads
        self.machine = Scheduler(on_failure=spec["on_failure"], barrier=spec["barrier"])
        self.past: dict[str, Past] = {}
        self.out: dict[str, Out] = {}
        self.launches: list[Out] = []
        self.aborts: list[Out] = []
        # Those of `out` that were told to stop.
        self._stopping: dict[str, Out] = {}
        self.abandoned = 0 if result is None else int(result["abandoned"])
        # Steps that blocked an event loop, their seconds, and the seconds by call.
        self.blocked, self.blocked_seconds, self.blocked_by = blocked_in(result or {})
        self.elapsed = 0.0 if result is None else float(result["elapsed"])
        # When the run began, in seconds since the epoch; None where an older result does not say.
        self.began: float | None = None if result is None else result.get("began")
        self._log: Log = []
        self._steps = StepsTaken(self._log)
        self._zero = 0.0
        self._now = 0.0
        self._run_until: float | None = None
        self._layer_until: dict[int, float] = {}
        # What has settled and the scheduler has still to be told.
        self._settled: deque[tuple[str, Outcome]] = deque()
        # Identical calls of pure tools: who runs for them, and who waits for it, ready since when.
        # Of each call that follows: its layer and since when it is ready.
        self._identical: Identical[tuple[int, float]] = Identical()
        self._began = result is not None
        self._open = result is not None and bool(result.get("open"))
        if result is not None:
            if program is not None:
                program.left = int(result.get("left", 0))
            self._replay_all(result["log"])
            self._run_until = result.get("until")

    # -------------------------------------------------------------------------------- going on

    def catch_up(self) -> Iterator[None]:
        """Bring the program to where the log ends; yields where others may have a turn.

        Raises DagexecError where it makes other calls than those of the log.
        """
        return iter(()) if self.program is None else self.program.catch_up()

    def begin(
        self, now: float, answers: Mapping[str, dict[str, Any]], *, cancelled: bool = False
    ) -> None:
        """Start the round at `now`, on the engine's clock, with answers by call.

        That clock counts seconds since the epoch. A round that was moved goes on, with what was
        left of its time; the layers' time begins anew. `cancelled` ends the run, with all that
        waits for answers.
        """
        self._now = now
        self._zero = now - self.elapsed
        if not self._open:
            self._run_until = None if self._spec["run"] is None else now + self._spec["run"]
        if not self._began:
            self._began = True
            self.began = now if self.began is None else self.began
            # Not written: whoever has the log has the spec as well.
            self._act(self.machine.receive(*self._plan()))
        elif self._open:
            states = [(call.id, self.machine.state(call.id)) for call in self.machine.calls]
            self._reopen([name for name, state in states if state in _UNDER_WAY])
        self._open = False
        self._take_answers(answers)
        if cancelled:
            self._cancel()
        self._go_on()

    def compute(self) -> None:
        """Let the program go on that computes, after all others had a turn."""
        self.launches, self.aborts = [], []
        self._go_on()

    def ask(self) -> None:
        """Take note that whoever interprets the program is asked, with what it was told till now.

        The steps that it takes then are counted here in the log, when they are known.
        """
        self._steps.begin()

    def answered(self, now: float, answers: Mapping[str, dict[str, Any]]) -> None:
        """Take in answers in the middle of a round that was not stopped."""
        self._now = now
        self.launches, self.aborts = [], []
        self._take_answers(answers)
        self._go_on()

    def _take_answers(self, answers: Mapping[str, dict[str, Any]]) -> None:
        for name, body in answers.items():
            self._write([["answer", name, body]])
        self._reopen([*answers])

    def _reopen(self, names: list[str]) -> None:
        # In one batch: the machine must not find itself at its end.
        if names:
            self._feed(*(Reopened(name) for name in names))

    def _cancel(self) -> None:
        """Stop the run; what waits for a person ends too, as nobody would ask for it again."""
        self._cancelled = True
        self._reopen(self.waiting)
        if not self.machine.stopped:
            self._feed(Stop(Cancelled()))

    def take(
        self, now: float, ended: Iterable[tuple[str, dict[str, Any]]], *, cancelled: bool = False
    ) -> None:
        """Take in the time, and what ended since: results of calls, in plan order."""
        self._now = now
        self.launches, self.aborts = [], []
        if cancelled:
            self._cancel()
        for name, result in ended:
            self._ended(name, result)
        self._expire()
        self._go_on()

    def withdrawn(self, names: Iterable[str]) -> None:
        """Take in which aborted calls no worker had begun: none will."""
        self.launches, self.aborts = [], []
        for name in names:
            out = self.out.get(name)
            if out is not None and out.aborted is not None:
                self._settled.append((name, unbegun(self.past.get(name), out.aborted)))
        self._go_on()

    def program_end(self) -> Any:
        """Return what the program came to, so far; None for a plan."""
        if self.program is None:
            return self.kept_end
        return self.program.end(stands=self.stands)

    @property
    def is_program(self) -> bool:
        """Whether the run is one of a program."""
        return bool(self._spec.get("program"))

    @property
    def computing(self) -> bool:
        """Whether the program goes on by itself: call `compute`, after all others had a turn."""
        return self.program is not None and not self.machine.closed and self.program.due

    @property
    def ended(self) -> bool:
        """Whether nothing is left of the round but questions."""
        return self.machine.finished or self.stands

    @property
    def stands(self) -> bool:
        """Whether the program can do nothing but wait for answers."""
        if self.program is None or self.machine.closed or self.program.busy:
            return False
        return not self.out and bool(self.waiting)

    @property
    def waiting(self) -> list[str]:
        """The calls that wait for an answer to themselves, in plan order."""
        outcomes = self.machine.outcomes.items()
        asked = [(name, each) for name, each in outcomes if each.status in _UNANSWERED]
        return [name for name, each in asked if each.because is None]

    @property
    def zero(self) -> float:
        """When the run began, on the engine's clock, less the time between its rounds."""
        return self._zero

    @property
    def until(self) -> float | None:
        """When something happens by itself, on the engine's clock; None if nothing will."""
        times = [out.late for out in self._stopping.values() if out.late is not None]
        if self._run_until is not None and not self.machine.stopped:
            times.append(self._run_until)
        if self.computing:
            times.append(self._now)
        if self._layer_until:
            layers = [out.layer for out in self.out.values() if out.aborted is None]
            times += [self._layer_until[each] for each in layers if each in self._layer_until]
        return min(times, default=None)

    def result(self) -> dict[str, Any]:
        """Return what the next round goes on from, and a report is made of.

        In the middle of a round, what this one goes on from: `until` is the end of its time.
        """
        elapsed = max(self.elapsed, self._now - self._zero)
        found = {
            "log": self._log,
            "elapsed": elapsed,
            "abandoned": self.abandoned,
            "blocked": [self.blocked, self.blocked_seconds, self.blocked_by],
            "began": self.began,
        }
        if self.program is not None and self.program.left:
            found["left"] = self.program.left
        if not self.ended:
            found |= {"open": True, "until": self._run_until}
        return found

    # --------------------------------------------------------------------- the machine and its log

    def _plan(self) -> list[Event]:
        """Return what the machine is told of the plan; a program's calls are found, and logged."""
        if self._spec.get("program"):
            return []
        return [*(Added(Call.from_dict(body)) for body in self._spec["calls"]), Closed()]

    def _replay_all(self, log: Log) -> None:
        # Logs of versions before this one have the plan in them.
        if not any(kind == "closed" for batch in log[:1] for kind, _, _ in batch):
            self.machine.receive(*self._plan())
        for batch in log:
            self._replay(batch)

    def _replay(self, batch: list[Entry]) -> None:
        self._write(batch)
        records = [Record(kind, call, body) for kind, call, body in batch]
        events = [to_event(each) for each in records if each.kind not in _SILENT]
        actions = self.machine.receive(*events) if events else []
        if self.program is not None:
            steps = [body for kind, _, body in batch if kind in ("steps", "last")]
            self.program.recorded([*events, *actions, *steps])

    def _write(self, batch: list[Entry]) -> None:
        self._log.append(batch)
        for kind, name, body in batch:
            if kind == "answer":
                self.of(name).answers.append(body)
            elif kind == "starts":
                self.of(name).starts = body
            elif kind == "settled" and body["status"] in _UNANSWERED:
                self.of(name).waited = body

    def of(self, name: str) -> Past:
        """Return what a call has been through."""
        return self.past.setdefault(name, Past())

    def _feed(self, *events: Event) -> None:
        records = [to_record(event) for event in events]
        self._write([[record.kind, record.call, record.body] for record in records])
        before = self.machine.stopped
        actions = self.machine.receive(*events)
        if self.program is not None:
            if self.machine.stopped and not before:
                self._failed = not any(isinstance(event, Stop) for event in events)
            for item in (*events, *actions):
                self.program.hear(item)
        self._act(actions)

    def _act(self, actions: Iterable[Action]) -> None:
        for action in actions:
            if isinstance(action, Launch):
                self._on_launch(action)
            elif isinstance(action, Abort):
                self._on_abort(action)

    def _go_on(self) -> None:
        """Tell the scheduler what has settled, and what settles or comes because of it."""
        self._turned = True
        self._settle_all()
        while self._step_program():
            self._settle_all()

    def _step_program(self) -> bool:
        """Let the program go one step on, if it can; return whether it did."""
        program, closed = self.program, self.machine.closed
        if program is None or not program.may_advance(turned=self._turned, closed=closed):
            return False
        if closed:
            return self._step_last(program)
        self._turned = False
        calls = program.advance()
        self._steps.count(program.taken)
        if calls:
            self._feed(*(Added(call, eager=True) for call in calls))
        if program.over and not self.machine.closed:
            self._feed(Closed())
        return True

    def _step_last(self, program: Steps) -> bool:
        """Let a program hear of the failure that ended its run: what it raises then is its end."""
        failed, self._failed = self._failed, False
        if failed:
            self._write([["last", None, LAST]])
            program.advance()  # what it would call does not start any more
        return failed

    def _settle_all(self) -> None:
        while self._settled:
            name, outcome = self._settled.popleft()
            if self.machine.state(name) is State.SETTLED:
                continue
            self.out.pop(name, None)
            self._stopping.pop(name, None)
            self._feed(Settled(name, outcome))
            self._share(name, outcome)

    # ---------------------------------------------------------------------------------- launching

    def _on_launch(self, action: Launch) -> None:
        if self._spec["layer"] is not None:
            self._layer_until[action.layer] = self._now + self._spec["layer"]
        for name in action.calls:
            self._launch(name, action.layer, self._now - self._zero)

    def _launch(self, name: str, layer: int, ready: float) -> None:
        call = self.machine.call(name)
        if call.each:
            self._spread(call)
            return
        try:
            args = self._resolve(call, self.machine.outcomes)
        except Exception as error:  # noqa: BLE001 - values that a tool made are looked into
            self._settled.append((name, Failed(error, ended=self._now - self._zero)))
            return
        if self._follows(name, args, layer, ready):
            return
        self._feed(Started(name, ready))
        until, scope = self._run_until, str(self._spec["scope"])
        own = self._layer_until.get(layer)
        if own is not None and (until is None or own < until):
            until, scope = own, "layer"
        out = self.out[name] = Out(name, layer, ready, args, until, scope)
        self.launches.append(out)

    def _spread(self, call: Call) -> None:
        """Put a call for each item in the place of one that is ready."""
        try:
            event = self._spreads(call, self.machine, self._spec.get("max_items", 1000))
        except Exception as error:  # noqa: BLE001 - a tool made the values that are looked into
            self._settled.append((call.id, Failed(error, ended=self._now - self._zero)))
            return
        if call.tool in self._spec.get("ordered", ()):
            # Which resources the items name is known to the tools alone: one after the other.
            pairs = tuple((index - 1, index) for index in range(1, event.count))
            event = Spread(event.call, event.count, pairs)
        self._feed(event)

    def _follows(self, name: str, args: dict[str, Any], layer: int, ready: float) -> bool:
        """Whether an identical call of a pure tool runs or ran, whose outcome this one gets."""
        call, outcomes = self.machine.call(name), self.machine.outcomes
        if self._spec["effects"].get(call.tool) != "pure":
            return False
        leader = self._identical.leader_of(name, call.tool, args, outcomes)
        if leader is None:
            return False
        if leader in outcomes:
            self._settled.append((name, self._shared(outcomes[leader], leader, ready)))
        else:
            self._identical.follow(leader, name, (layer, ready))
        return True

    def _share(self, leader: str, outcome: Outcome) -> None:
        for name, (layer, ready) in self._identical.released(leader):
            if self.machine.state(name) is not State.READY:
                continue  # a deadline or a stop came first
            if speaks_for_all(outcome):
                self._settled.append((name, self._shared(outcome, leader, ready)))
            else:
                self._launch(name, layer, ready)

    def _shared(self, outcome: Outcome, leader: str, ready: float) -> Outcome:
        return shared(outcome, leader, self._now - self._zero, ready)

    # ------------------------------------------------------------------------------------- ending

    def _ended(self, name: str, result: dict[str, Any]) -> None:
        outcome = outcome_of(result["outcome"])
        self.abandoned += result["abandoned"]
        self._add_blocked(name, result)
        if result["starts"]:
            self._write([["starts", name, result["starts"]]])
        if outcome.scope == self._spec["scope"] and not self.machine.stopped:
            # The worker's clock was first to see that the time of the run is up.
            self._feed(Stop(late(self._spec["scope"])))
        out = self.out.get(name)
        if out is not None and out.aborted is not None and outcome.status == "cancelled":
            outcome = told_why(outcome, out.aborted)
        if self._cancelled and outcome.status in _UNANSWERED:
            outcome = unasked(outcome)
        self._settled.append((name, outcome))
        self._go_on()

    def _add_blocked(self, name: str, result: Mapping[str, Any]) -> None:
        count, seconds, _ = blocked_in(result)
        if count:
            self.blocked += count
            self.blocked_seconds += seconds
            self.blocked_by[name] = self.blocked_by.get(name, 0.0) + seconds

    def _on_abort(self, action: Abort) -> None:
        for name in action.calls:
            out = self.out[name]
            out.aborted = action.outcome
            if out in self.launches:  # no worker has heard of it
                self.launches.remove(out)
                self._settled.append((name, unbegun(self.past.get(name), action.outcome)))
                continue
            out.late = self._now + GRACE
            self._stopping[name] = out
            self.aborts.append(out)

    def _expire(self) -> None:
        """End what time has ended: the run, layers, and what did not stop when it was told to."""
        now = self._now
        if self._run_until is not None and now >= self._run_until and not self.machine.stopped:
            self._feed(Stop(late(self._spec["scope"])))
        for layer, until in self._layer_until.items():
            if now >= until and any(
                out.layer == layer and out.aborted is None for out in self.out.values()
            ):
                self._feed(Expired(layer))
        for out in [*self._stopping.values()]:
            if out.aborted is not None and out.late is not None and now >= out.late:
                effect = self._spec["effects"].get(self.machine.call(out.name).tool)
                given_up = lost(out, out.aborted, now - self._zero, effect)
                self._settled.append((out.name, given_up))
