"""The half of an engine that works: one call, and what it had been through."""

from __future__ import annotations

import asyncio
import itertools
import time
from typing import Any

import pytest

from dagexec import Approve, CallContext, Deny, Done, Edit, Executor, Timeouts, ask, tool
from dagexec._tools import settle
from dagexec.engines._one import Assignment, Attempt
from dagexec.journal import Types
from dagexec.lowlevel import answer_entry, outcome_body, outcome_of

pytestmark = [pytest.mark.anyio, pytest.mark.real_time]

ran: list[tuple[str, int]] = []


@tool
async def send(context: CallContext, x: object = 0) -> str:
    ran.append((context.idempotency_key, context.attempt))
    return f"sent {x}"


@tool(effect="idempotent")
async def put(context: CallContext, x: object = 0) -> str:
    ran.append((context.idempotency_key, context.attempt))
    return f"put {x}"


@tool(approval=True)
async def pay(amount: int) -> int:
    return amount


@tool
async def wonder() -> list[object]:
    return [await ask("one"), await ask("two")]


@tool
async def sleep(seconds: float) -> None:
    await asyncio.sleep(seconds)


class Odd(BaseException):
    """What is no Exception, and goes through a run."""


THROWN = [Odd, SystemExit, KeyboardInterrupt, GeneratorExit]


@tool
async def throw(number: int) -> None:
    raise THROWN[number]("out")


@tool(effect="read")
def throw_in_a_thread(number: int) -> None:
    raise THROWN[number]("out")


TOOLS = [send, put, pay, wonder, sleep, throw, throw_in_a_thread]


@pytest.fixture(autouse=True)
def nothing_ran():
    ran.clear()


def assignment(name: str, args: dict[str, Any], **more: Any) -> Assignment:
    """Return a call that became ready at second 2 of a run that began at 100."""
    given: dict[str, Any] = {
        "run": "r",
        "call": "c",
        "tool": name,
        "args": args,
        "timeout": 30,
        "until": None,
        "scope": "workflow",
        "zero": 100.0,
        "ready": 2.0,
        "past": {"starts": 0, "waited": None, "answers": []},
    }
    return Assignment(**{**given, **more})


async def outcome(
    work: Assignment, marks: tuple[str, ...] = (), now: float = 105.0, **settings: Any
) -> Any:
    """Run a call at second 5; return its outcome, and how often it was started in all."""
    attempt = Attempt(
        Executor(TOOLS, **settings),
        work,
        types=Types(),
        clock=lambda: now,
        marks=marks,
        intend=lambda _mark, done: done(None),
    )
    result = await attempt.run()
    return outcome_of(result["outcome"]), result["starts"]


async def test_a_call_in_the_times_of_its_run():
    """Started, ended and queued count from the run's beginning."""
    found, starts = await outcome(assignment("send", {"x": {"$ref": "text"}}))
    assert (found.value, found.attempts, starts) == ("sent {'$ref': 'text'}", 1, 1)
    assert 5 <= found.started <= found.ended < 15
    assert 3 <= found.queued < 13
    assert ran[0][1] == 1


@pytest.mark.parametrize(
    ("name", "mark", "settings", "status", "attempts"),
    [
        ("send", "", {}, "in_doubt", 1),
        ("send", "", {"in_doubt": "rerun"}, "done", 2),
        ("send", "", {"in_doubt": lambda *_: Done("known")}, "done", 0),
        ("send", "", {"in_doubt": lambda *_: Deny("no")}, "failed", 0),
        ("put", "", {}, "done", 2),
        ("put", "other arguments", {}, "in_doubt", 0),
    ],
)
async def test_a_call_whose_worker_died_over_it(name, mark, settings, status, attempts):
    """As its effect and the policy say; under the same key."""
    found, starts = await outcome(assignment(name, {}), (mark,), **settings)
    assert found.status == status
    if attempts:
        assert found.attempts == attempts
    assert starts == (2 if ran else 1)
    assert [attempt for _, attempt in ran] == ([2] if ran else [])


async def test_a_deadline_that_has_passed():
    """It does not begin; one that had begun is still in doubt."""
    late = assignment("send", {}, until=104.0, scope="turn")
    found, starts = await outcome(late)
    assert (found.status, found.scope, found.started, starts) == ("timed_out", "turn", None, 0)
    assert str(found.error) == "the deadline of the turn expired"
    found, _ = await outcome(late, ("",))
    assert found.status == "in_doubt"
    assert not ran


@pytest.mark.parametrize("scope", ["layer", "turn", "workflow"])
async def test_a_deadline_while_it_runs(scope):
    """It is told as the run's own."""
    work = assignment("sleep", {"seconds": 50}, until=105.1, scope=scope)
    found, _ = await outcome(work)
    assert (found.status, found.scope, found.maybe) == ("timed_out", scope, True)
    assert str(found.error) == f"the deadline of the {scope} expired"
    work = assignment("sleep", {"seconds": 50}, timeout=0.1, scope=scope)
    found, _ = await outcome(work)
    assert (found.status, found.scope) == ("timed_out", "call")


async def test_what_cannot_run():
    """Failed, with the text for the model."""
    found, starts = await outcome(assignment("put", {"y": 1}))
    assert (found.status, type(found.error).__name__, starts) == ("failed", "ArgumentError", 0)
    found, _ = await outcome(assignment("gone", {}))
    assert "there is no tool 'gone'" in str(found.error)


async def rounds(work: Assignment, *answers: object) -> Any:
    """Answer a call that waits, again and again."""
    past: dict[str, Any] = {"starts": 0, "waited": None, "answers": []}
    found, past["starts"] = await outcome(work)
    for answer in answers:
        entry = answer_entry(answer, found)
        past = {**past, "waited": outcome_body(found), "answers": [*past["answers"], entry]}
        again = assignment(work.tool, dict(work.args), past=past)
        found, past["starts"] = await outcome(again)
    return found, past["starts"]


async def test_answers():
    """Approved, edited, refused, done by hand; questions one after the other."""
    work = assignment("pay", {"amount": 3})
    assert (await rounds(work))[0].question == {"approve": "pay", "args": {"amount": 3}}
    assert (await rounds(work, Approve()))[0].value == 3
    assert (await rounds(work, Edit({"amount": 4})))[0].value == 4
    assert str((await rounds(work, Deny("why")))[0].error) == "why"
    assert (await rounds(work, Done(9)))[0].value == 9
    work = assignment("wonder", {})
    assert (await rounds(work, 1))[0].question == "two"
    found, starts = await rounds(work, 1, 2)
    assert (found.value, found.attempts, starts) == ([1, 2], 3, 3)


async def test_a_tool_that_changed_while_a_person_was_asked():
    """The answer gives what it needs now; without that, one line says what is missing."""
    pending, _ = await outcome(assignment("pay", {"amount": 3}))

    @tool(name="pay", approval=True)
    async def newer(amount: int, to: str) -> str:
        return f"{amount} to {to}"

    async def answered(answer: object) -> Any:
        entry = answer_entry(answer, pending)
        past = {"starts": 0, "waited": outcome_body(pending), "answers": [entry]}
        work = assignment("pay", {"amount": 3}, past=past)
        attempt = Attempt(
            Executor([newer]),
            work,
            types=Types(),
            clock=lambda: 105.0,
            marks=(),
            intend=lambda _mark, done: done(None),
        )
        return outcome_of((await attempt.run())["outcome"])

    assert (await answered(Edit({"to": "Ada"}))).value == "3 to Ada"
    assert "to: missing" in str((await answered(Approve())).error)


async def test_an_answered_call_whose_worker_died_over_it():
    """What was approved once is in doubt all the same."""
    work = assignment("pay", {"amount": 3})
    pending, _ = await outcome(work)
    past = {
        "starts": 0,
        "waited": outcome_body(pending),
        "answers": [answer_entry(Approve(), pending)],
    }
    found, starts = await outcome(assignment("pay", {"amount": 3}, past=past), ("",))
    assert (found.status, starts) == ("in_doubt", 1)


async def test_a_call_that_is_told_to_stop_before_it_begins():
    """It never does, as nothing came of it."""
    attempt = Attempt(
        Executor(TOOLS),
        assignment("send", {"x": 1}),
        types=Types(),
        clock=lambda: 105.0,
        marks=(),
        intend=lambda _mark, done: done(None),
    )
    attempt.stop("a")
    result = await attempt.run()
    found = outcome_of(result["outcome"])
    assert (found.status, found.because, found.maybe) == ("cancelled", "a", False)
    assert result["starts"] == 0
    assert ran == []


async def test_a_call_that_is_told_to_stop():
    """Cancelled because of the call that failed, and it may have taken effect."""
    attempt = Attempt(
        Executor(TOOLS, timeouts=Timeouts()),
        assignment("sleep", {"seconds": 50}),
        types=Types(),
        clock=lambda: 105.0,
        marks=(),
        intend=lambda _mark, done: done(None),
    )
    running = asyncio.create_task(attempt.run())
    await asyncio.sleep(0.1)
    attempt.stop("a")
    found = outcome_of((await running)["outcome"])
    assert (found.status, found.because, found.maybe) == ("cancelled", "a", True)


@pytest.mark.parametrize("number", range(4))
@pytest.mark.parametrize("name", ["throw", "throw_in_a_thread"])
async def test_what_is_no_exception_fails_its_call(name, number):
    """In a worker nobody could catch it, and the run would wait for the call for ever."""
    found, starts = await outcome(assignment(name, {"number": number}))
    kind = THROWN[number].__name__
    assert (found.status, str(found.error)) == ("failed", f"the tool raised {kind}: out")
    assert (found.attempts, starts, found.maybe) == (1, 1, name == "throw")
    assert found.started is not None


async def test_a_call_that_blocked_the_loop_tells_the_engine():
    """With what it leaves, for the report of the run."""

    @tool
    async def block() -> None:
        time.sleep(0.12)

    attempt = Attempt(
        Executor([block]),
        assignment("block", {}),
        types=Types(),
        clock=lambda: 105.0,
        marks=(),
        intend=lambda _mark, done: done(None),
    )
    count, seconds = (await attempt.run())["blocked"]
    assert count == 1
    assert seconds >= 0.12


async def _later(value: object) -> object:
    await asyncio.sleep(0.001)
    return value


async def _numbers() -> Any:
    yield 0
    yield 1


@pytest.mark.parametrize(
    ("make", "value"),
    [
        (lambda: map(str, [1, 2]), ["1", "2"]),
        (lambda: _later(iter([1])), [1]),
        (_numbers, [0, 1]),
        (lambda: {"a": (each for each in "ab")}, {"a": ["a", "b"]}),
    ],
)
@pytest.mark.parametrize("runs", ["async", "thread"])
async def test_what_is_still_to_be_read_is_read_before_the_engine_gets_it(make, value, runs):
    """It could not be written down, and could be read once only."""

    async def waiting() -> object:
        return make()

    def blocking() -> object:
        return make()

    found = await outcome_of_tool(waiting if runs == "async" else blocking)
    assert found.value == value


@pytest.mark.parametrize("runs", ["async", "thread"])
async def test_what_never_ends_is_over_with_its_call(runs, monkeypatch):
    """Under the deadline of the call, as in any run."""
    monkeypatch.setattr(settle, "MOST_ITEMS", 1000)

    async def waiting() -> object:
        return itertools.count()

    found = await outcome_of_tool(
        waiting if runs == "async" else itertools.count, timeout=0.3, description="Count."
    )
    assert found.scope == "call"


async def outcome_of_tool(function: Any, **options: Any) -> Any:
    given = tool(effect="read", name="given", **options)(function)
    attempt = Attempt(
        Executor([given]),
        assignment("given", {}),
        types=Types(),
        clock=lambda: 105.0,
        marks=(),
        intend=lambda _mark, done: done(None),
    )
    return outcome_of(Types().loads(Types().dumps(await attempt.run()))["outcome"])
