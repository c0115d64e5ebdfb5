"""The loop: ask the model, run its calls, feed everything back, until it answers."""

from __future__ import annotations

import logging
import math
from collections.abc import AsyncIterable, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from inspect import isawaitable
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypeVar, final

import anyio

from dagexec import Call, CallTimeout, DagexecError, Executor, Plan
from dagexec.journal import Journal, MemoryJournal
from planners._core.api import Ending
from planners._core.edge import mended, plain
from planners._core.planner import Planner
from planners._core.reply_stream import ReplyStream
from planners._loop.approving import Approver, answers_of, waiting_in
from planners._loop.asking import Asked, Asking, usage
from planners._loop.checks import check
from planners._loop.deadlines import Deadlines, Expired, by_deadline
from planners._loop.dialogue import Dialogue
from planners._loop.recording import RecordedCalls, Recording
from planners._loop.solution import Solution, Status, Turn
from planners._loop.updates import CallEnded, OnUpdate, Said, Solving, follow

if TYPE_CHECKING:  # `dagexec.limits` loads the standard library's email parser
    from dagexec.limits import Limiter
    from planners._loop.output import Output

_log = logging.getLogger("planners")

T = TypeVar("T")

Hook: TypeAlias = "Callable[[Turn], Awaitable[object] | object]"

# Ends of replies that have no calls and should have some.
_WITHOUT_CALLS: Final[tuple[Ending, ...]] = ("calls", "malformed")
_FAULTS: Final[Mapping[Ending, str]] = {
    "failed": "the reply failed",
    "calls": "the model stopped for calls twice and made none; the last reply was",
    "malformed": "the server could not read the model's calls, twice; the last reply was",
}
_WAITING: Final = frozenset({"pending", "in_doubt"})


async def solve(
    question: str | Sequence[Any] | None,
    *,
    planner: Planner,
    client: Any,
    model: str,
    executor: Executor,
    max_turns: int = 10,
    stream: bool = False,
    output_type: Any = None,
    approve: Approver | None = None,
    conversation: Dialogue | None = None,
    system: str = "",
    before_turn: Hook | None = None,
    after_turn: Hook | None = None,
    on_event: Callable[[Any], object] | None = None,
    on_update: OnUpdate | None = None,
    limiter: Limiter | None = None,
    journal: Journal | None = None,
    run_id: str = "",
    **options: Any,
) -> Solution:
    """Ask a model and run its calls until it answers; return the answer.

    Args:
        question: what the user says; messages in the API's form; or None to go on with a
            conversation as it is.
        planner: for the API of the client. It keeps the numbers and values of the calls; one that
            has led a conversation before lends its tools and options to a new one.
        client: `openai.AsyncOpenAI` or `anthropic.AsyncAnthropic`, or anything that speaks as they
            do. With a `limiter`, its own retries are off.
        model: the model's name.
        executor: has the same tools. Its `Timeouts.turn` covers one reply and its calls,
            `Timeouts.workflow` all of it, both in seconds.
        max_turns: how many replies to ask for at most.
        stream: whether calls start while the model is still writing: `pure` and `read` ones at
            once, the others when the reply is complete.
        output_type: what the final answer is: a pydantic model, or any type that pydantic knows.
            `Solution.output` is the answer as a value of it. The API's structured output is used
            where it has one; an answer that does not fit is sent back once, with what is wrong.
        approve: asked when calls wait for a person, with their outcomes by id (`outcome.question`,
            `outcome.call`); returns answers by id as for `executor.resume`, or one `Approve()` or
            `Deny(reason)` for all. Calls without an answer stay pending. May be async; if not, it
            is called in a thread, so it may ask at the keyboard. No journal is needed, and its
            time counts for no deadline.
        conversation: one to go on with, from an earlier answer or `Dialogue.from_json`. It is
            changed in place, and can be sent to its provider again whatever happens: have one of
            your own to look into after an exception.
        system: text for the system prompt of a new conversation, before `planner.instructions`.
        before_turn: called with each `Turn` before its request, which it may change.
        after_turn: called with each `Turn` when its calls are answered. Both may be async.
        on_event: called with each event of the streams.
        on_update: called with pieces of text and with calls that begin and end (`Said`,
            `CallBegan`, `CallEnded`), for a user interface. `solving` gives them as an iterator.
        limiter: admits each request, `dagexec.limits.Limiter` or what has the same methods.
        journal: where the model's replies and the runs of their calls are recorded. The same
            `solve` again, after a crash or when calls that waited have their answers
            (`executor.resume`), goes on where it was and asks for no reply twice.
        run_id: names the conversation there; by default `conversation.id`. A new one for a known
            conversation begins a recording of its own there, which goes on from it.
        options: more arguments for the SDK's `create`, such as `tool_choice`. `tools` are added
            to the planner's. Anthropic's `max_tokens` is 8192 if it is not given.

    When a deadline expires or `max_turns` is reached, the solution holds what the model has said
    so far and all reports, and says so in `status`.

    Errors: what the SDK raises; DagexecError for arguments that cannot be, for a stream that
    breaks off (its `report` holds what was done), or where the executor lacks a tool of the
    planner's.
    """
    check(planner, executor, max_turns, run_id, options)
    output = _output_of(output_type)
    if conversation is None:
        conversation = Dialogue(planner, system=system, id=run_id)
    elif conversation.planner.api is not planner.api:
        raise DagexecError(
            f"the conversation is one over {conversation.planner.api.name!r}, and the planner is"
            f" for {planner.api.name!r}"
        )
    id_, said = conversation.id, len(conversation.messages)
    conversation.id = run_id or id_
    if isinstance(question, str):
        conversation.say(question)
    elif question is not None:
        conversation.messages += question
        conversation.adopt()
    if not conversation.messages:
        raise DagexecError("there is nothing to ask: give a question, or a conversation with one")
    loop = _Loop(
        conversation,
        Asking(planner.api, client, limiter, output),
        executor,
        model=model,
        streams=stream,
        options=options,
        hooks=(before_turn, after_turn),
        on_event=on_event,
        on_update=on_update,
        output=output,
        approve=approve,
    )
    if journal is None:
        return await loop.run(max_turns)
    try:
        recording = await Recording.claim(journal, conversation)
    except BaseException:
        conversation.id = id_  # as if it had not been asked
        del conversation.messages[said:]
        raise
    return await loop.run_recorded(max_turns, journal, recording)


def _output_of(kind: Any) -> Output | None:
    if kind is None:
        return None
    # pydantic takes longer to import than the rest.
    from planners._loop.output import Output

    return Output(kind)


def solving(question: str | Sequence[Any] | None, **options: Any) -> Solving:
    """Return a `solve` to be entered with `async with`: iterating over it gives its updates.

    For a user interface: pieces of text (`Said`), calls that begin (`CallBegan`) and end
    (`CallEnded`), in the order in which they happen; then `solution`. The options are those of
    `solve`. Leaving the block early cancels it; it raises what `solve` raises.

    ```python
    async with solving("…", planner=planner, client=client, model="…", executor=executor,
                       stream=True) as updates:
        async for update in updates:
            print(update)
    answer = updates.solution
    ```
    """
    return Solving(lambda tell: solve(question, **options, on_update=tell))


@final
@dataclass(slots=True)
class _Loop:
    """One `solve`."""

    conversation: Dialogue
    asking: Asking
    executor: Executor
    model: str = field(kw_only=True)
    streams: bool = field(kw_only=True)
    options: dict[str, Any] = field(kw_only=True)
    hooks: tuple[Hook | None, Hook | None] = field(kw_only=True)
    on_event: Callable[[Any], object] | None = field(kw_only=True)
    on_update: OnUpdate | None = field(kw_only=True)
    output: Output | None = field(kw_only=True)
    approve: Approver | None = field(kw_only=True)
    # The final answer, read; and whether one was sent back already.
    value: Any = None
    corrected: bool = False
    used: dict[str, float] = field(default_factory=dict[str, float])
    # Round the turns, and round the turn that goes on.
    deadlines: list[Deadlines] = field(default_factory=list[Deadlines])
    # Where runs are kept that wait for `approve`, without a journal.
    memory: Journal | None = None
    began: float = 0.0
    first_report: int = 0
    # Whether the reply was cut off: its run cannot go on, so nobody is waited for.
    broken: bool = False
    said: str = ""
    # How many replies in a row have stopped for calls and had none.
    empty: int = 0
    last: Turn | None = None
    journal: Journal | None = None
    recording: Recording | None = None

    async def run_recorded(
        self, max_turns: int, journal: Journal, recording: Recording
    ) -> Solution:
        """Run turns, with their replies and runs recorded."""
        self.journal, self.recording = journal, recording
        state = "open"
        try:
            solution = await self.run(max_turns)
            state = {"done": "done", "pending": "waiting"}.get(solution.status, "open")
        finally:
            await recording.release(state)
        return solution

    async def run(self, max_turns: int) -> Solution:
        """Run turns until there is an answer, or a reason to stop."""
        self.began = anyio.current_time()
        self.first_report = len(self.conversation.reports)
        overall = self.executor.timeouts.workflow
        deadlines = Deadlines(math.inf if overall is None else self.began + overall)
        self.deadlines.append(deadlines)
        for number in range(1, max_turns + 1):
            turn = Turn(number, self.conversation, self._request())
            try:
                status = await self._turn(turn, deadlines)
            except Expired as expired:
                return self._solution("timed_out", str(expired))
            if status is not None:
                return self._solution(status)
        return self._solution("max_turns")

    @property
    def _number(self) -> int:
        """The number of the turn, from 1, over the whole conversation."""
        return self.conversation.turns + 1

    def _request(self) -> dict[str, Any]:
        talk = self.conversation
        talk.look(talk.messages)
        tools = [*talk.planner.tools, *self.options.get("tools", ())]
        system, options = talk.instructions, self.options
        if self.output is not None:
            system = "\n\n".join(part for part in (system, self.output.instructions) if part)
            options = self.output.options(talk.planner.api, options)
        request = talk.planner.api.request(
            model=self.model, system=system, messages=talk.messages, tools=tools
        )
        rest = talk.carried | {k: v for k, v in options.items() if k != "tools"}
        # Without a limiter nobody asks what a reply used.
        usage = self.asking.limiter is not None
        streaming = talk.planner.api.streaming(usage=usage) if self.streams else {}
        return talk.planner.api.ready({**request, **streaming, **rest})

    def _solution(self, status: Status, scope: str | None = None) -> Solution:
        last = self.last
        reports = tuple(self.conversation.reports[self.first_report :])
        return Solution.of(
            (last.text if last else "") or self.said,
            conversation=self.conversation,
            elapsed=anyio.current_time() - self.began,
            reports=reports,
            response=last.response if last else None,
            scope=scope,
            status=status,
            turns=last.number if last else 0,
            output=self.value,
            usage={name: round(amount) for name, amount in self.used.items()},
        )

    # ------------------------------------------------------------------------------------- one turn

    async def _turn(self, turn: Turn, deadlines: Deadlines) -> Status | None:
        """Run one turn; return why it is the last one, or None. Raises Expired."""
        before, after = self.hooks
        if before is not None:
            await by_deadline(deadlines, _called(before, turn))
            request = turn.request
            self.conversation.look(request.get("messages", request.get("input")))
        timeout = self.executor.timeouts.turn
        end = math.inf if timeout is None else anyio.current_time() + timeout
        own = Deadlines(deadlines.workflow, end)
        self.deadlines[1:] = [own]
        try:
            known = None if self.recording is None else self.recording.reply(self.conversation)
            if known is not None:
                await self._again(turn, known, own)
            elif self.streams:
                await self._streamed(turn, own)
            else:
                await self._whole(turn, own)
        finally:
            # On every way out: a reply and the answers to its calls go in together.
            self._keep(turn)
        if after is not None:
            await by_deadline(deadlines, _called(after, turn))
        return self._status(turn)

    def _keep(self, turn: Turn) -> None:
        if turn.response is None:
            return
        self.last = turn
        self.said = turn.text or self.said
        self.conversation.turns += 1
        if turn.whole and turn.report is None and self._ending(turn) in _WITHOUT_CALLS:
            self.empty += 1  # asked again, as if it had not been said
            return
        self.empty = 0
        self.conversation.keep(turn.response, turn.report, whole=turn.whole)

    def _ending(self, turn: Turn) -> Ending:
        return self.conversation.planner.api.ending(turn.response)

    async def _whole(self, turn: Turn, deadlines: Deadlines) -> None:
        """Ask for a reply and run its calls; ask again once for an error that came as a reply."""
        response = await self._answered(turn, deadlines)
        fault = self.conversation.planner.api.fault
        if fault(response) is not None:
            response = await self._answered(turn, deadlines)
        if (why := fault(response)) is not None:
            raise DagexecError(f"the API answered with an error{why}")
        if self.recording is not None:
            await self.recording.keep(self._number, response)
        await self._planned(turn, response, deadlines)

    async def _answered(self, turn: Turn, deadlines: Deadlines) -> Any:
        asked = await self._asked(turn, deadlines)
        response = mended(plain(asked.reply))
        asked.close(response)
        self._count(response)
        return response

    def _count(self, response: Any) -> None:
        for name, amount in usage(response).items():
            self.used[name] = self.used.get(name, 0.0) + amount

    async def _planned(self, turn: Turn, response: Any, deadlines: Deadlines) -> None:
        """Run the calls of a whole reply, as a dict, wherever it comes from."""
        plan = self.conversation.planner.plan(response)
        self._heard(turn, response, whole=True)
        if self.on_update is not None and turn.text:
            self.on_update(Said(turn.text))
        if len(plan):
            await self._executed(turn, plan, deadlines)

    async def _again(self, turn: Turn, response: Any, deadlines: Deadlines) -> None:
        """Go on with the calls of a reply that was recorded; they are those of then."""
        recording = self.recording
        streamed = None if recording is None else recording.streamed(self._number)
        self._count(response)
        if streamed is None:
            await self._planned(turn, response, deadlines)
            return
        heard, whole = streamed["heard"], streamed["whole"]
        calls = self.conversation.planner.replayed(response, heard, whole=whole)
        try:
            await self._executed(turn, calls, deadlines)
        finally:
            self._read(turn, calls)
        if streamed["expired"] is not None:
            raise Expired(streamed["expired"])

    def _heard(self, turn: Turn, response: Any, *, whole: bool) -> None:
        """Take note of a reply; all of them come through here."""
        self.broken = False
        turn.response, turn.whole = response, whole

    async def _streamed(self, turn: Turn, deadlines: Deadlines) -> None:
        """Ask for a reply and run its calls while they come."""
        asked = await self._asked(turn, deadlines)
        calls = self.conversation.planner.stream(asked.reply, on_event=self._told)
        recording, expired = self.recording, None
        recorded = None if recording is None else RecordedCalls(calls, recording, self._number)
        try:
            await self._executed(turn, recorded or calls, deadlines)
        except Expired as error:
            expired = str(error)
        finally:
            await calls.aclose()  # does nothing if it has been read; shields itself if it has not
            self._read(turn, calls)
            asked.close(calls.response)
            self._count(calls.response)
        if not calls.whole and anyio.current_time() >= deadlines.nearest:
            expired = expired or deadlines.scope
        if recorded is not None:  # what the run did not read to its end
            await recorded.keep(expired)
        if expired is not None:
            raise Expired(expired)

    def _read(self, turn: Turn, calls: ReplyStream) -> None:
        """Take note of what a stream has brought."""
        self._heard(turn, calls.response, whole=calls.whole)
        self.broken = calls.broken is not None
        if turn.report is not None and not len(turn.report.plan):
            turn.report = None

    async def _asked(self, turn: Turn, deadlines: Deadlines) -> Asked:
        """Send the request of a turn; all of them go out here."""
        try:
            return await by_deadline(deadlines, self.asking.ask(turn.request, deadlines.nearest))
        except CallTimeout:  # the limiter: there will be no turn for it before the deadline
            raise Expired(deadlines.scope) from None

    async def _executed(
        self, turn: Turn, plan: Plan | AsyncIterable[Call], deadlines: Deadlines
    ) -> None:
        """Run calls; their report is there whatever happens."""
        executor = self._executor(deadlines)
        name = f"{self.conversation.id}.{self._number}"
        if self.recording is not None:
            name = await self.recording.name(self.conversation, streams=self.streams)
        run = executor.start(plan, run_id=name)
        try:
            async with run:
                if self.on_update is not None:
                    await follow(run, self.on_update)
        finally:
            turn.report = run.report
        if self.approve is not None:
            await self._approved(turn, self.approve, name, plan)
        for outcome in turn.report.values():
            if outcome.status == "timed_out" and outcome.scope in ("turn", "workflow"):
                raise Expired(outcome.scope)

    def _executor(self, deadlines: Deadlines) -> Executor:
        """Return the executor for what is left of the time; raise Expired if nothing is."""
        journal = self.journal
        if journal is None and self.approve is not None:
            journal = self.memory = self.memory or MemoryJournal()
        left = deadlines.left(self.executor.timeouts)
        return self.conversation.planner.equipped(self.executor.within(left, journal=journal))

    async def _approved(
        self, turn: Turn, approve: Approver, name: str, plan: Plan | AsyncIterable[Call]
    ) -> None:
        """Ask for answers and go on with the run, as often as calls wait for one."""
        while not self.broken and turn.report is not None and (held := waiting_in(turn.report)):
            began = anyio.current_time()
            answers = await answers_of(approve, held)
            for each in self.deadlines:
                each.move(anyio.current_time() - began)
            if not answers:
                return
            executor = self._executor(self.deadlines[-1])
            whole = plan if isinstance(plan, Plan) else None
            earlier, report = turn.report, await executor.resume(name, answers, plan=whole)
            turn.report = report
            if self.on_update is not None:
                for id_, outcome in report.items():
                    if id_ not in earlier or earlier[id_].status in _WAITING:
                        self.on_update(CallEnded(report.plan[id_], outcome))

    def _told(self, event: Any) -> None:
        """Tell of an event of a stream."""
        if self.on_event is not None:
            self.on_event(event)
        if self.on_update is not None and (piece := self.conversation.planner.api.piece(event)):
            self.on_update(Said(piece))

    def _answer(self, turn: Turn) -> Status | None:
        """Read the final answer; send it back once if it does not have its form."""
        if self.output is None:
            return "done"
        try:
            self.value = self.output.read(turn.text)
        except ValueError as error:
            if self.corrected:
                return "wrong_output"
            self.corrected = True
            self.conversation.say(self.output.correction(str(error)))
            return None
        return "done"

    def _status(self, turn: Turn) -> Status | None:
        if turn.report is not None:
            waits = any(outcome.status in _WAITING for outcome in turn.report.values())
            return "pending" if waits and not self.broken else None
        ending = self._ending(turn)
        if ending == "answered":
            if not self.conversation.planner.looks_like_calls(turn.response):
                return self._answer(turn)
            _log.warning(
                "the model's answer looks like calls that its server did not parse: %.80r;"
                " %s(..., text_calls=True) runs them",
                turn.text,
                type(self.conversation.planner).__name__,
            )
            return "text_calls"
        if ending in ("cut_off", "refused"):
            return "refused" if ending == "refused" else "cut_off"
        if ending == "failed" or self.empty > 1:
            raise DagexecError(f"{_FAULTS[ending]}: {turn.response!r:.300}")
        return None


async def _called(hook: Hook, turn: Turn) -> None:
    done = hook(turn)
    if isawaitable(done):
        await done
