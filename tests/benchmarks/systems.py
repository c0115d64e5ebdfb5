"""The systems that are compared: dagexec, what one writes by hand, and other libraries' ways.

A system that knows no dependencies gets the calls of one depth at a time, which is what an agent
loop with it does. What a system cannot do it says, in a sentence that stands below the table.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING, Any

import anyio

from dagexec import Call, Executor, Plan, Ref, tool
from dagexec.limits import Limiter
from planners.llmcompiler import LLMCompilerPlanner
from tests.benchmarks import journal
from tests.benchmarks.workloads import CAP, INNER, NOOP, Do, Workload, same

if TYPE_CHECKING:
    from pathlib import Path

    from tests.benchmarks.streamed import Reply

Flat = Callable[[list[Do]], Awaitable[object]]
Tools = dict[str, Callable[..., Awaitable[object]]]

TIMEOUT = 30
POLL = 0.01  # seconds between two looks, as the scheduler of the LLMCompiler paper's code does
LINKS = 5  # tools that a large value goes through
BATCH = same("inner", INNER, NOOP)

BY_HAND = "knows no references between calls: the code between them carries each value"
THROUGH_TEXT = "a tool's result is text for the model, so a value does not stay what it is"
NO_JOURNAL = "keeps no journal"
WHOLE_REPLY = "runs the calls of a reply when the reply is complete"


@dataclass(frozen=True)
class System:
    """How to run a graph, start calls as they come, pass a value on, record: or why it cannot."""

    run: Callable[[Workload], Awaitable[None]]
    stream: Callable[[Reply], Awaitable[None]] | str
    carry: Callable[[object], Awaitable[object]] | str
    record: Callable[[Path], Awaitable[float]] | str = NO_JOURNAL
    """Return the seconds of a link of a chain whose every step is on the disk before the next."""
    setup: Callable[[Workload], object] = lambda _: None
    """What is not counted."""


def tools(inner: Flat, gate: Callable[[], Any]) -> Tools:
    """Return the tools; a nested one runs a batch with its own system."""

    async def noop() -> str:
        """Do nothing."""
        return ""

    async def wait(seconds: float) -> str:
        """Wait, if there is anything to wait for."""
        if seconds:
            await anyio.sleep(seconds)
        return ""

    async def capped() -> str:
        """Do nothing, a few at a time."""
        async with gate():
            return ""

    async def nested() -> str:
        """Run a batch of calls."""
        await inner([NOOP] * INNER)
        return ""

    return {each.__name__: each for each in (noop, wait, capped, nested)}


class Gate:
    """Lets so many in at a time; a new one for each run, because it belongs to an event loop."""

    def __init__(self) -> None:
        self._gate: Any = None

    def renew(self, _load: Workload | None = None) -> None:
        """Forget the event loop of the last run."""
        self._gate = None

    def __call__(self) -> Any:
        """Return what to enter."""
        if self._gate is None:
            self._gate = anyio.CapacityLimiter(CAP)
        return self._gate


def by_layers(
    flat: Flat,
    gate: Gate,
    *,
    stream: Any = WHOLE_REPLY,
    carry: Any = THROUGH_TEXT,
    record: Any = NO_JOURNAL,
) -> System:
    """Return a system that knows no graph: it gets one batch for each depth."""

    async def run(load: Workload) -> None:
        for batch in load.batches:
            await flat(batch)

    return System(run, stream, carry, record, gate.renew)


def dagexec() -> System:
    """Run the graph as one plan."""
    given: list[Any] = []  # what the tools of the moment work with

    async def inner(_: list[Do]) -> None:
        await executor.run(BATCH.plan)

    @tool(effect="read")
    async def mark(number: int) -> None:
        await given[0].call(number)

    @tool(effect="read")
    async def make() -> Any:
        return given[0]

    @tool(effect="read")
    async def through(value: Any) -> Any:
        return value

    own = tools(inner, Gate())
    plain = [tool(effect="read")(own[name]) for name in ("noop", "wait", "nested")]
    executor = Executor([*plain, mark, make, through], concurrency=None)
    # In an executor of its own: calls with limits run in workers of their own kind.
    cap = Limiter("capped", in_flight=CAP)
    capped = Executor(
        [tool(effect="read", name="capped", limits=[cap])(own["noop"])], concurrency=None
    )

    async def run(load: Workload) -> None:
        using = capped if load.do("0")[0] == "capped" else executor
        report = await using.run(load.plan)
        assert report.ok, report

    async def stream(reply: Reply) -> None:
        given[:] = [reply]
        report = await executor.run(planner.stream(reply.text()))
        assert report.ok, report

    async def carry(value: object) -> object:
        given[:] = [value]
        rest = [Call(str(n), "through", {"value": Ref(str(n - 1))}) for n in range(1, LINKS)]
        report = await executor.run(Plan([Call("0", "make"), *rest]))
        return report[str(LINKS - 1)].value

    planner = LLMCompilerPlanner([mark])

    return System(run, stream, carry, journal.link, lambda load: load.plan)


def gather() -> System:
    """Bare asyncio.gather."""

    async def flat(batch: list[Do]) -> None:
        await asyncio.gather(*(own[name](**args) for name, args in batch))

    gate = Gate()
    own = tools(flat, gate)
    return by_layers(flat, gate, stream="takes all calls at once", carry=BY_HAND)


def task_group() -> System:
    """Return asyncio's TaskGroup."""

    async def flat(batch: list[Do]) -> None:
        async with asyncio.TaskGroup() as group:
            for name, args in batch:
                group.create_task(own[name](**args))  # type: ignore[arg-type]

    async def stream(reply: Reply) -> None:
        async with asyncio.TaskGroup() as group:
            async for number in reply.numbers():
                group.create_task(reply.call(number))

    gate = Gate()
    own = tools(flat, gate)
    return by_layers(flat, gate, stream=stream, carry=BY_HAND)


def anyio_group(*, scope: bool) -> System:
    """Return anyio's task group, with or without a `move_on_after` for each call."""

    async def guarded(do: Callable[..., Awaitable[object]], *args: object) -> None:
        with anyio.move_on_after(TIMEOUT):
            await do(*args)

    async def flat(batch: list[Do]) -> None:
        async with anyio.create_task_group() as group:
            for name, args in batch:
                if scope:
                    group.start_soon(guarded, own[name], *args.values())
                else:
                    group.start_soon(own[name], *args.values())

    async def stream(reply: Reply) -> None:
        async with anyio.create_task_group() as group:
            async for number in reply.numbers():
                if scope:
                    group.start_soon(guarded, reply.call, number)
                else:
                    group.start_soon(reply.call, number)

    gate = Gate()
    own = tools(flat, gate)
    return by_layers(flat, gate, stream=stream, carry=BY_HAND)


def events() -> System:
    """One task for each call, which waits for an event of each call before it."""

    async def graph(before: dict[str, tuple[str, ...]], do: Callable[[str], Do]) -> None:
        ended = {call: asyncio.Event() for call in before}

        async def one(call: str) -> None:
            for each in before[call]:
                await ended[each].wait()
            name, args = do(call)
            await own[name](**args)
            ended[call].set()

        async with asyncio.TaskGroup() as group:
            for call in before:
                group.create_task(one(call))

    async def inner(_: list[Do]) -> None:
        await graph(BATCH.before, BATCH.do)

    gate = Gate()
    own = tools(inner, gate)
    whole = "takes the whole graph at once"
    return System(lambda load: graph(load.before, load.do), whole, BY_HAND, setup=gate.renew)


def polling() -> System:
    """One task for each call, which looks every 10 ms whether it may start: LLMCompiler's way."""

    async def graph(before: dict[str, tuple[str, ...]], do: Callable[[str], Do]) -> None:
        ended: dict[str, bool] = {}

        async def one(call: str) -> None:
            while not all(each in ended for each in before[call]):
                await asyncio.sleep(POLL)
            name, args = do(call)
            await own[name](**args)
            ended[call] = True

        await asyncio.gather(*(one(call) for call in before))

    async def inner(_: list[Do]) -> None:
        await graph(BATCH.before, BATCH.do)

    async def stream(reply: Reply) -> None:
        """Look into the queue every 10 ms; the one who writes fills it."""
        queue: list[int | None] = []
        running: list[asyncio.Task[None]] = []

        async def read() -> None:
            async for number in reply.numbers():
                queue.append(number)
            queue.append(None)

        reading = asyncio.create_task(read())
        while True:
            while queue:
                number = queue.pop(0)
                if number is None:
                    await asyncio.gather(reading, *running)
                    return
                running.append(asyncio.create_task(reply.call(number)))
            await asyncio.sleep(POLL)

    gate = Gate()
    own = tools(inner, gate)
    text = "replaces references in text, so a value does not stay what it is"
    return System(lambda load: graph(load.before, load.do), stream, text, setup=gate.renew)


def clock() -> System:
    """Wait along the critical path, one wait after the other: what the event loop's timers add."""

    async def run(load: Workload) -> None:
        for seconds in load.path:
            await anyio.sleep(seconds)

    return System(run, "", "", "")


async def taken(system: System, load: Workload) -> float:
    """Return how many seconds a system takes for a graph, once."""
    system.setup(load)
    _ = load.batches
    begin = perf_counter()
    for _ in range(load.times):
        await system.run(load)
    return (perf_counter() - begin) / load.times
