"""A journal beside everything else that has to do with when a call starts."""

from __future__ import annotations

import anyio
import pytest

from dagexec import (
    Call,
    DagexecError,
    Edit,
    Executor,
    Plan,
    Report,
    Timeouts,
    ask,
    current_call,
    tool,
)
from dagexec.journal import MemoryJournal
from dagexec.limits import Limiter, Retry

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("layer", [None, 30], ids=["", "layers"])
@pytest.mark.parametrize("concurrency", [0, 1, 20])
async def test_resources_limits_and_shared_calls_in_a_recorded_run(concurrency, layer):
    """What one call gives back the next one gets; the times are those without a journal."""

    @tool(uses={"gpu": 1})
    async def train(n: int) -> int:
        """Use the only GPU."""
        await anyio.sleep(1)
        return n

    @tool(effect="pure")
    async def square(n: int) -> int:
        """Return the square."""
        await anyio.sleep(1)
        return n * n

    limiter = Limiter("look", in_flight=1)

    @tool(effect="read", uses={"gpu": 1}, limits=(limiter,), retry=Retry(attempts=2))
    async def look(n: int) -> int:
        """Use the GPU, and a limit."""
        await anyio.sleep(1)
        return n

    calls = [
        *(Call(f"t{n}", "train", {"n": n}) for n in range(2)),
        *(Call(f"s{n}", "square", {"n": 2}) for n in range(3)),
        *(Call(f"l{n}", "look", {"n": n}, after=("t0",)) for n in range(2)),
    ]
    elapsed = []
    for journal in (None, MemoryJournal()):
        executor = Executor(
            [train, square, look],
            capacities={"gpu": 1},
            concurrency=concurrency,
            journal=journal,
            timeouts=Timeouts(layer=layer),
        )
        report = await executor.run(calls)
        assert report.ok, report
        assert [report[f"s{n}"].attempts for n in range(3)] == [1, 0, 0]
        elapsed.append(report.elapsed)
    assert elapsed[0] == elapsed[1]


class SlowJournal(MemoryJournal):
    """A journal on a disk that takes a minute for each record of a call's start."""

    def __init__(self, group):
        super().__init__()
        self.group = group

    async def claim(self, run_id, first=None):
        """Return a session that is slow."""
        session = await super().claim(run_id, first)
        append = session.append

        async def later(record, done):
            await anyio.sleep(60)
            append(record, done)

        def put(record, done):
            if record.kind == "started":
                self.group.start_soon(later, record, done)
            else:
                append(record, done)

        session.append = put
        return session


@pytest.mark.parametrize("timeout", [2, 30, None])
@pytest.mark.parametrize("concurrency", [0, 1])
async def test_a_slow_disk_takes_no_time_from_a_call(concurrency, timeout):
    """Neither its own deadline runs while its intent is written, nor that of the call before."""

    @tool
    async def work(n: int) -> int:
        """Take a second."""
        await anyio.sleep(1)
        return n

    async with anyio.create_task_group() as group:
        executor = Executor(
            [work],
            concurrency=concurrency,
            journal=SlowJournal(group),
            timeouts=Timeouts(call=timeout),
        )
        report = await executor.run([Call(f"w{n}", "work", {"n": n}) for n in range(3)])
    assert report.ok, report
    assert [report[f"w{n}"].attempts for n in range(3)] == [1, 1, 1]
    took = [report[f"w{n}"].ended - report[f"w{n}"].started for n in range(3)]
    assert took == pytest.approx([1, 1, 1])


async def test_what_people_said_holds_for_every_attempt():
    """A second attempt has the edited arguments, and the answers that the first one had."""
    paid, told = [], []

    @tool(effect="idempotent", approval=True, retry=Retry(attempts=2))
    async def pay(amount: int) -> int:
        """Pay, the second time."""
        paid.append(amount)
        if len(paid) == 1:
            raise OSError("try again")
        return amount

    @tool(effect="idempotent", retry=Retry(attempts=2))
    async def book() -> str:
        """Ask twice, and fail between the questions, once."""
        told.append(await ask("which day?"))
        if len(told) == 1:
            raise OSError("try again")
        return f"{told[-1]} {await ask('which hour?')}"

    executor = Executor([pay, book], journal=MemoryJournal())
    await executor.run(Plan([Call("p", "pay", {"amount": 1000}), Call("b", "book")]), run_id="r")
    report = await executor.resume("r", answers={"p": Edit({"amount": 5}), "b": "Monday"})
    assert paid == [5, 5]
    assert report["b"].question == "which hour?"
    report = await executor.resume("r", answers={"b": "9"})
    assert report["b"].value == "Monday 9"
    assert report.ok


async def test_an_error_that_cannot_say_what_it_is():
    """An exception class of a tool may do anything; one failure costs one result."""

    class Mute(Exception):
        def __str__(self):
            raise RuntimeError("no text")

    @tool
    async def bad() -> None:
        """Fail."""
        raise Mute

    @tool(effect="read")
    async def good() -> str:
        """Work."""
        return "fine"

    executor = Executor([bad, good], journal=MemoryJournal())
    for _ in range(2):
        report = await executor.run([Call("a", "bad"), Call("b", "good")], run_id="r")
        assert (report["a"].status, report["b"].value) == ("failed", "fine")
        assert Report.from_json(report.to_json())["a"].error.kind == "Mute"


async def test_an_answer_with_half_a_surrogate_pair():
    """It is an answer like any other, also when it is given again or another one is."""

    @tool(effect="read")
    async def who() -> object:
        """Ask."""
        return await ask("who?\ud801")

    executor = Executor([who], journal=MemoryJournal())
    await executor.run([Call("q", "who")], run_id="r")
    for _ in range(2):
        report = await executor.resume("r", answers={"q": "a\ud800"})
        assert report["q"].value == "a\ud800"
    with pytest.raises(DagexecError, match="does not wait for an answer"):
        await executor.resume("r", answers={"q": "b"})


async def test_a_run_inside_a_tool_under_the_key_of_its_call():
    """Each attempt of the tool asks for the same run: what is done in it is not done twice."""
    paid: list[str] = []
    attempts: list[int] = []

    @tool
    async def pay(amount: float) -> float:
        paid.append(current_call().idempotency_key)
        return amount

    @tool(effect="idempotent", retry=Retry(attempts=3))
    async def order(amount: float) -> float:
        call = current_call()
        inner = await executor.run(
            [Call("p", "pay", {"amount": amount})], run_id=call.idempotency_key
        )
        attempts.append(call.attempt)
        if len(attempts) < 3:
            msg = "the line broke"
            raise ConnectionError(msg)
        return inner.outputs["p"]

    plan = Plan([Call("o", "order", {"amount": 9.5})])
    executor = Executor([pay, order], journal=MemoryJournal())
    assert (await executor.run(plan, run_id="r")).outputs == {"o": 9.5}
    assert attempts == [1, 2, 3]
    assert len(paid) == 1

    attempts.clear()
    executor = Executor([pay, order])  # without a journal at least the key stays
    assert (await executor.run(plan, run_id="r")).outputs == {"o": 9.5}
    assert len(paid) == 4
    assert len(set(paid)) == 1
