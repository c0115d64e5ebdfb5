"""What users write, as type checkers must see it; `make lint` checks it, nothing runs it."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, assert_type

from dagexec import (
    Approve,
    Call,
    CallContext,
    CallTimeout,
    DagexecError,
    Deny,
    Done,
    Edit,
    Effect,
    Executor,
    Failed,
    Outcome,
    Pending,
    Plan,
    PlanError,
    Problem,
    Ref,
    Report,
    Run,
    Template,
    Timeouts,
    Tool,
    ask,
    current_call,
    tool,
)
from dagexec.journal import Journal, MemoryJournal, RunInfo, SqliteJournal
from dagexec.limits import Limiter, Rate, Retry
from dagexec.lowlevel import Settled
from dagexec.processes import CommandResult, Guards, run_command
from planners import CallStream, Dialogue, Planner, Solution, Turn, solve
from planners.anthropic import MessagesPlanner
from planners.llmcompiler import LLMCompilerPlanner
from planners.openai import ChatPlanner, ResponsesPlanner

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Coroutine, Mapping

    from openai import AsyncStream
    from openai.types.chat import ChatCompletionChunk

# --------------------------------------------------------------------------------------- tools


@tool
def add(a: int, b: int = 0) -> int:
    """Keep its parameters and its value."""
    return a + b


@tool(effect="read", timeout=5, retry=Retry(3), limits=[Limiter("search", in_flight=2)], cost=1)
async def search(query: str, *, limit: int = 10) -> list[str]:
    """Stay a coroutine function."""
    return [query] * limit


@tool(effect=Effect.write, reads="file:{path}", writes=["log"], approval=True, secret="token")
def save(path: str, token: str, context: CallContext) -> None:
    """Have every option that a tool can have."""


def is_long(n: int) -> bool:
    """Return whether a person has to agree."""
    return n > 5


@tool(runs="process", uses={"gpu": 1}, name="other", approval=is_long)
def train(n: int) -> float:
    """Run elsewhere."""
    return n / 2


class Account:
    """Has tools for methods."""

    @tool
    async def pay(self, amount: int) -> str:
        """Be bound to its account."""
        return str(await ask(f"{amount}?"))


def tools_keep_their_signatures() -> None:
    """A tool is called as the function that it was made of."""
    assert_type(add(1, b=2), int)
    found: Coroutine[Any, Any, list[str]] = search("x", limit=3)
    found.close()
    assert_type(train(3), float)
    paid: Coroutine[Any, Any, str] = Account().pay(amount=3)
    paid.close()
    assert_type(add.name, str)
    assert_type(add.effect, Effect)
    anything: Tool[..., Any] = add
    schema: Mapping[str, Any] = anything.parameters
    made = Tool.from_schema("lookup", schema, train, effect="read")
    assert_type(made, Tool[..., float])
    assert_type(current_call().idempotency_key, str)
    one = add.call("one", 1, b=2)
    assert_type(one, Call)
    assert_type(add.call("two", one.value), Call)
    assert_type(search.call("three", "x", limit=3), Call)
    assert_type(Account().pay.call("four", amount=3), Call)
    tool(train.raw, effect="pure", timeout=timedelta(seconds=3))


# --------------------------------------------------------------------------------------- plans


def plans() -> Plan:
    """Return a plan; what is in it has types."""
    plan = Plan(
        [
            Call("a", "search", {"query": "x"}),
            Call("b", "add", {"a": Ref("a", (0, "count")), "b": Ref("c", default=1)}),
            Call("c", "search", {"query": Template("{} or {}", Ref("a"), Ref("b"))}, after=("a",)),
        ]
    )
    assert_type(plan["a"], Call)
    assert_type([call.refs for call in plan], list[tuple[Ref, ...]])
    assert_type(plan.edges, tuple[tuple[str, str], ...])
    assert_type(plan.layers, tuple[tuple[str, ...], ...])
    assert_type(plan.to_mermaid() + plan.to_json(), str)
    assert_type(plan.graph.number_of_nodes(), int)
    try:
        return Plan.from_json("[]")
    except PlanError as error:
        assert_type(error.problems, tuple[Problem, ...])
        raise


# ---------------------------------------------------------------------------------------- runs


async def calls() -> AsyncIterator[Call]:
    """Give calls one by one."""
    yield Call("a", "add", {"a": 1})


def executor_with_everything(journal: Journal) -> Executor:
    """Give every setting."""

    def seen(item: object) -> None:
        """Look on."""

    return Executor(
        [add, search, save, train, Account().pay, len],
        timeouts=Timeouts(call=5, layer=None, turn=30, workflow=None),
        concurrency=None,
        on_failure="stop",
        barrier=True,
        journal=journal,
        observers=[seen],
        in_doubt="rerun",
        capacities={"gpu": 2},
    )


async def runs(executor: Executor) -> None:
    """Run a plan in each way that there is."""
    assert_type(await executor.run(plans()), Report)
    assert_type(await executor.run(calls(), run_id="one"), Report)
    assert_type(await executor.run([Call("a", "add", {"a": 1})]), Report)
    assert_type(executor.run_sync(plans()), Report)
    answers = {"a": Approve(), "b": Deny("no"), "c": Edit({"a": 1}), "d": Done(3), "e": "text"}
    assert_type(await executor.resume("one", answers), Report)
    async with executor.start(plans()) as run:
        assert_type(run, Run)
        async for event in run:
            if isinstance(event, Settled):
                assert_type(event.outcome, Outcome)
        run.cancel()
    async with executor as entered:
        assert_type(entered, Executor)


def reports(report: Report) -> str:
    """Read what a run has brought."""
    assert_type(report["a"], Outcome)
    assert_type(report["a"].value, Any)
    assert_type(report["a"].error, Exception | None)
    assert_type(report["a"].scope, str | None)
    assert_type(report.ok, bool)
    assert_type(report.outputs, dict[str, Any])
    assert_type(report.exceptions, ExceptionGroup[Exception] | None)
    assert_type(report.elapsed, float)
    assert_type(report.abandoned, int)
    assert_type(report.critical_path, tuple[str, ...])
    assert_type(report.plan, Plan)
    assert_type(Report.from_json(report.to_json()), Report)
    assert_type(report.save_html("run.html"), Path)
    report.raise_for_failures()
    assert_type(report.started_at, datetime | None)
    rows: list[dict[str, Any]] = [*report.rows(), *report.compare(report).rows()]
    assert_type(report["a"].seconds, float | None)
    assert_type(report["a"].tool, str | None)
    print(rows, report["a"].result())
    for name, outcome in report.items():
        match outcome:
            case Done(value=value):
                return f"{name}: {value}"
            case Failed(error=CallTimeout() as error):
                return str(error)
            case Pending(question=question, because=None):
                return str(question)
            case _:
                continue
    return str(report.diagram) + str(report.timeline)


# -------------------------------------------------------------------- journals, limits, commands


async def journals(path: Path) -> None:
    """Open and read them."""
    in_memory: Journal = MemoryJournal()
    executor_with_everything(in_memory)
    with SqliteJournal(path) as journal:
        executor_with_everything(journal)
        assert_type([info.state for info in await journal.runs()], list[str])
        assert_type((await journal.runs())[0], RunInfo)


async def limits() -> None:
    """Make them and wait for them."""
    limiter = Limiter("key", rates={"requests": Rate(500, burst=83), "tokens": 30_000})
    assert_type(Limiter.openai("gpt", requests=500), Limiter)
    async with limiter.acquire({"tokens": 100}, priority=1) as permit:
        permit.settle(tokens=80)
    Retry(5, base=1, on=(OSError, TimeoutError), timeout=3)
    Retry(on=lambda error: isinstance(error, OSError))


async def commands() -> None:
    """Run a command."""
    result = await run_command(["ls"], guards=Guards(wall=60, progress=None), cwd=Path())
    assert_type(result.check(), CommandResult)
    assert_type(result.text, str)


# ------------------------------------------------------------------------------------- planners


async def planner(
    response: object, stream: AsyncStream[ChatCompletionChunk], client: object, executor: Executor
) -> None:
    """Lead a conversation, by hand and by `solve`."""
    for each in (ChatPlanner, ResponsesPlanner, MessagesPlanner, LLMCompilerPlanner):
        planner: Planner = each([add, search], references=True)
        assert_type(planner.plan(response), Plan)
        report = await executor.run(planner.stream(stream))
        messages: list[Any] = [*planner.tools, *planner.results(report)]
        assert_type(planner.instructions, str)
        assert_type(messages, list[Any])
    chat = ChatPlanner([add], limit=None, strict=True)
    assert_type(chat.fresh(), ChatPlanner)
    assert_type(chat.stream(stream), CallStream)

    async def before(turn: Turn) -> None:
        turn.request["temperature"] = 0

    try:
        answer = await solve(
            "Why?",
            planner=chat,
            client=client,
            model="m",
            executor=executor,
            max_turns=3,
            stream=True,
            before_turn=before,
            after_turn=lambda turn: print(turn.text),
            limiter=Limiter("key"),
            journal=MemoryJournal(),
            tool_choice="auto",
        )
    except DagexecError as error:
        raise SystemExit(str(error)) from None
    assert_type(answer, Solution)
    assert_type(answer.upper(), str)
    assert_type(answer.reports, tuple[Report, ...])
    assert_type(answer.conversation, Dialogue)


def statuses(outcome: Outcome) -> str:
    """A status is one of seven words, which a type checker knows."""
    status = outcome.status
    if status in {"pending", "in_doubt"}:
        return "waits"
    word: Literal["done", "failed", "timed_out", "cancelled", "skipped", "pending", "in_doubt"]
    word = status
    return word


def mistakes_that_are_none() -> None:
    """What can mean one thing only is taken."""
    Executor([add], timeouts=30)
    Executor([add], timeouts=timedelta(minutes=1)).within(5)
    Plan([first := Call("a", add, {"a": 1}), Call("b", train, {}, after=[first])])
    assert_type(Ref("a")["items"][0], Ref)
    assert_type(Ref("a").items[0], Ref)
