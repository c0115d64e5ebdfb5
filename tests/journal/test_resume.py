"""What resuming does: crashes, answers, doubts, cancellations, streams; in both journals."""

from __future__ import annotations

from contextlib import asynccontextmanager
from functools import partial

import anyio
import pytest

from dagexec import (
    Approve,
    Call,
    DagexecError,
    Deny,
    Done,
    Edit,
    Executor,
    Plan,
    Ref,
    Timeouts,
    ask,
    current_call,
    tool,
)
from dagexec.journal import MemoryJournal, sweep
from dagexec.lowlevel import Added, Closed, Conclude, Finish, Reopened, Settled, Started

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.real_time,
    pytest.mark.timeout(240),  # for machines that are slow
]
HUNG = []  # the calls that wait for ever, as they began to


class Log(list):
    """What ran, in order."""


def crash_tools(log, *, reconcile=None):
    """Tools of the four effects; each waits for ever the first time if it is told to."""
    stuck = set()

    def make(effect):
        @tool(name=effect, effect=effect, reconcile=reconcile if effect == "write" else None)
        async def work(n: int, hang: bool = False) -> int:
            key = current_call().idempotency_key
            log.append((current_call().id, current_call().attempt, key))
            if hang and key not in stuck:
                stuck.add(key)
                HUNG.append(current_call().id)
                await anyio.sleep_forever()
            return n + 1

        return work

    return [make(effect) for effect in ("pure", "read", "idempotent", "write")]


def in_flight(hang=True):
    """One call of each effect that hangs, one that is done, and one that depends on them all."""
    names = ("pure", "read", "idempotent", "write")
    return Plan(
        [
            Call("first", "write", {"n": 0}),
            *(Call(name[0], name, {"n": Ref("first"), "hang": hang}) for name in names),
            Call("last", "write", {"n": Ref("w")}, after=("p", "r", "i")),
        ]
    )


@asynccontextmanager
async def hanging(executor, plan, run_id="run"):
    """Have a run for the block that hangs, as its records say; then cancel it from outside."""
    before = len(HUNG)
    count = 1 if executor.concurrency == 0 else sum(bool(call.args.get("hang")) for call in plan)
    async with anyio.create_task_group() as group:
        group.start_soon(partial(executor.run, plan, run_id=run_id))
        with anyio.fail_after(50):
            while len(HUNG) < before + count:
                await anyio.sleep(0.005)
            # A read does not wait until its start is recorded; the tests do.
            while set(HUNG[before:]) - {
                each.call for each in await executor.journal.read(run_id) if each.kind == "started"
            }:
                await anyio.sleep(0.005)
        yield
        group.cancel_scope.cancel()


async def interrupt(executor, plan, run_id="run"):
    """Begin a run and cancel it from outside, as a shutdown does."""
    async with hanging(executor, plan, run_id):
        pass


async def test_a_cancelled_run_goes_on_where_it_was(journal):
    """What is done stays done; what may run again does, with the same key; a write is in doubt."""
    log = Log()
    executor = Executor(crash_tools(log), journal=journal)
    await interrupt(executor, in_flight())
    assert [info.state for info in await journal.runs()] == ["stale"]
    before = list(log)
    report = await executor.run(in_flight(), run_id="run")
    statuses = {name: each.status for name, each in report.items()}
    done = dict.fromkeys(("first", "p", "r", "i"), "done")
    assert statuses == {**done, "w": "in_doubt", "last": "pending"}
    assert report["last"].because == "w"
    again = log[len(before) :]
    assert sorted(name for name, _, _ in again) == ["i", "p", "r"]
    assert {attempt for _, attempt, _ in again} == {2}
    keys = {name: key for name, _, key in before}
    assert all(keys[name] == key for name, _, key in again)
    assert report["p"].attempts == 2
    assert [info.state for info in await journal.runs()] == ["waiting"]


@pytest.mark.parametrize(
    ("answer", "status", "value", "runs"),
    [
        (Approve(), "done", 2, 2),
        (Deny("it bounced"), "failed", None, 1),
        (Done(41), "done", 41, 1),
    ],
)
async def test_answers_to_a_doubt(journal, answer, status, value, runs):
    """Approve runs it again, Deny fails it, Done takes the value."""
    log = Log()
    executor = Executor(crash_tools(log), journal=journal)
    await interrupt(executor, in_flight())
    report = await executor.resume("run", {"w": answer})
    assert (report["w"].status, report["w"].value) == (status, value)
    assert [name for name, _, _ in log].count("w") == runs
    if status == "failed":
        assert "it bounced" in str(report["w"].error)
        assert report["last"].because == "w"
    else:
        assert report["last"].value == value + 1
    assert (await executor.run(in_flight(), run_id="run"))["w"].status == status


@pytest.mark.parametrize("decided", [Done(7), Deny("not there"), Approve(), None])
async def test_the_tool_itself_may_know(journal, decided):
    """`reconcile` is asked with the call's context and its arguments."""
    log, asked = Log(), []

    async def reconcile(context, arguments):
        asked.append((context.id, context.idempotency_key, arguments["n"]))
        return decided

    executor = Executor(crash_tools(log, reconcile=reconcile), journal=journal)
    await interrupt(executor, in_flight())
    report = await executor.resume("run")
    expected = {Done: "done", Deny: "failed", Approve: "done", type(None): "in_doubt"}
    assert report["w"].status == expected[type(decided)]
    key = next(key for name, _, key in log if name == "w")
    assert asked == [("w", key, 1)]


@pytest.mark.parametrize("policy", ["rerun", lambda context, arguments: Done(arguments["n"])])
async def test_a_policy_may_decide(journal, policy):
    """`in_doubt=` of the executor."""
    log = Log()
    executor = Executor(crash_tools(log), journal=journal, in_doubt=policy)
    await interrupt(executor, in_flight())
    report = await executor.resume("run")
    assert report.ok
    assert report["w"].value == (2 if policy == "rerun" else 1)


async def test_a_finished_run_returns_its_report_and_runs_nothing(journal):
    """Also the order, the times and the errors."""
    log = Log()

    @tool
    async def fails() -> None:
        raise ValueError("no")

    executor = Executor([*crash_tools(log), fails], journal=journal)
    plan = Plan([*in_flight(hang=False), Call("f", "fails"), Call("s", "write", after=("f",))][:7])
    first = await executor.run(plan, run_id="run")
    ran = list(log)
    second = await executor.run(plan, run_id="run")
    assert log == ran
    assert second.outputs == first.outputs
    assert list(second) == list(first)
    assert second.elapsed == first.elapsed
    assert str(second["f"].error) == "ValueError: no"
    third = await executor.resume("run")
    assert third.plan == second.plan == plan
    async with executor.start(plan, run_id="run") as run:
        events = [event async for event in run]
    assert not [event for event in events if isinstance(event, Started)]
    assert events[-1] == Finish()
    assert run.report.outputs == first.outputs


async def test_what_a_known_id_refuses(journal):
    """Another plan, an unknown run, answers to calls that do not wait."""
    log = Log()
    executor = Executor(crash_tools(log), journal=journal)
    plan = in_flight(hang=False)
    await executor.run(plan, run_id="run")
    ran = len(log)
    other = Plan([Call("first", "write", {"n": 1})])
    with pytest.raises(DagexecError, match="another plan"):
        await executor.run(other, run_id="run")
    with pytest.raises(DagexecError, match="knows no run 'rum'; did you mean 'run'"):
        await executor.resume("rum")
    for name, text in (("nobody", "no call 'nobody'"), ("w", "'w' is done")):
        with pytest.raises(DagexecError, match=text):
            await executor.resume("run", {name: Approve()})
    with pytest.raises(DagexecError, match="no journal"):
        await Executor(crash_tools(log)).resume("run")
    with pytest.raises(DagexecError, match="needs the tool 'pure'"):
        await interrupt(executor, in_flight(), "second")
        await Executor([], journal=journal).resume("second")
    assert len([entry for entry in log if entry[0] == "w"]) == 2
    assert ran == 6


@tool(approval=True)
async def pay(amount: int, note: str = "") -> str:
    """Pay."""
    return f"{amount} {note}".strip()


@tool
async def form(n: int) -> str:
    """Ask twice, in a group, so that the order of the questions is anyone's."""
    answers = {}

    async def one(what):
        answers[what] = await ask(what)

    first = await ask("size?")
    second = await ask("colour?")
    return f"{n} {first} {second}"


@pytest.mark.parametrize(
    ("call", "answer", "text"),
    [
        ("p", True, "waits to be approved"),
        ("p", Edit({"amount": "much"}), "do not fit"),
        ("p", Edit({"sum": 1}), "do not fit"),
        ("f", Approve(), "asks a question"),
        ("late", Approve(), "only waits for 'p'"),
    ],
)
async def test_answers_that_do_not_fit_are_refused_before_anything_happens(
    journal, call, answer, text
):
    """All are checked first; none is recorded."""
    executor = Executor([pay, form], journal=journal)
    plan = Plan(
        [
            Call("p", "pay", {"amount": 1}),
            Call("f", "form", {"n": 1}),
            Call("late", "pay", {"amount": 1}, after=("p",)),
        ]
    )
    await executor.run(plan, run_id="run")
    records = len(await journal.read("run"))
    with pytest.raises(DagexecError, match=text):
        await executor.resume("run", {"f": "large", call: answer})
    assert len(await journal.read("run")) == records


async def test_answers_one_by_one_and_again(journal):
    """Edits keep what they do not name; the same answer twice is one; a denial has its reason."""
    executor = Executor([pay, form], journal=journal)
    plan = Plan(
        [
            Call("p", "pay", {"amount": 1, "note": "x"}),
            Call("d", "pay", {"amount": 2}),
            Call("f", "form", {"n": 1}),
        ]
    )
    report = await executor.run(plan, run_id="run")
    assert report["p"].question == {"approve": "pay", "args": {"amount": 1, "note": "x"}}
    assert report["f"].question == "size?"
    report = await executor.resume("run", {"p": Edit({"amount": 9})})
    assert report["p"].value == "9 x"
    report = await executor.resume("run", {"p": Edit({"amount": 9}), "d": Deny("too much")})
    assert str(report["d"].error).endswith("too much")
    with pytest.raises(DagexecError, match="'p' is done"):
        await executor.resume("run", {"p": Approve()})
    report = await executor.resume("run", {"f": "large"})
    assert report["f"].question == "colour?"
    report = await executor.resume("run", {"f": "red"})
    assert report["f"].value == "1 large red"


async def test_a_run_has_one_owner(journal):
    """While it is driven nobody else may; the records can be read all the same."""
    log = Log()
    executor = Executor(crash_tools(log), journal=journal)
    async with hanging(executor, in_flight()):
        for attempt in (executor.resume("run"), executor.run(in_flight(), run_id="run")):
            with pytest.raises(DagexecError, match="driven by"):
                await attempt
        assert [info.state for info in await journal.runs()] == ["running"]
        assert len(await journal.read("run")) > 2
    assert (await executor.resume("run", {"w": Approve()})).ok


async def test_deadlines_are_outcomes_and_cancellations_are_not(journal):
    """What timed out stays so; run.cancel() ends the run for good."""
    log = Log()
    executor = Executor(crash_tools(log), journal=journal, timeouts=Timeouts(call=None, workflow=1))
    report = await executor.run(in_flight(), run_id="late")
    assert report["w"].status == "timed_out"
    assert report["w"].maybe
    ran = len(log)
    again = await executor.run(in_flight(), run_id="late")
    assert {name: each.status for name, each in again.items()} == {
        name: each.status for name, each in report.items()
    }
    assert again["w"].scope == "workflow"
    patient = executor.within(Timeouts())
    async with patient.start(in_flight(), run_id="cancelled") as run:
        with anyio.fail_after(50):
            while len(log) < ran + 5:
                await anyio.sleep(0.005)
        run.cancel()
    assert (await executor.resume("cancelled"))["w"].status == "cancelled"
    assert [info.state for info in await journal.runs()] == ["done", "done"]
    assert len(log) == ran + 5


async def test_streamed_plans_are_recorded_too(journal):
    """A stream that broke goes on when its calls come again; what is done is not run again."""
    log = Log()
    executor = Executor(crash_tools(log), journal=journal)
    calls = list(in_flight(hang=False))
    order = [calls[1], calls[0], *calls[2:]]

    async def stream(*, breaks):
        for index, call in enumerate(order):
            if breaks and index == 4:
                raise ConnectionError("gone")
            yield call
            await anyio.sleep(0.01)

    executor_read = Executor(crash_tools(log), journal=journal)
    with pytest.raises(DagexecError, match="gone"):
        await executor_read.run(stream(breaks=True), run_id="run")
    with pytest.raises(DagexecError, match="still arriving"):
        await executor.resume("run")
    report = await executor.run(stream(breaks=False), run_id="run")
    assert report.ok, report.diagram
    assert sorted(name for name, _, _ in log) == ["first", "i", "last", "p", "r", "w"]
    again = await executor.run(stream(breaks=False), run_id="run")
    assert again.outputs == report.outputs


async def test_a_crash_at_every_record_ends_well(anyio_backend_name):
    """The journal as it was after each record: resuming gives the same report."""
    log = Log()
    journal = MemoryJournal()
    tools = crash_tools(log)
    executor = Executor(tools, journal=journal, in_doubt="rerun")
    plan = in_flight(hang=False)
    whole = await executor.run(plan, run_id="run")
    records = list(journal._runs["run"].records)
    for length in range(1, len(records) + 1):
        crashed = journal.copy()
        crashed._runs["run"].records = records[:length]
        crashed._runs["run"].state = "open"
        again = await Executor(tools, journal=crashed, in_doubt="rerun").resume("run")
        assert again.outputs == whole.outputs, length
        asked = journal.copy()
        asked._runs["run"].records = records[:length]
        done = {call for kind, call, _ in records[:length] if kind == "settled"}
        begun = {call for kind, call, _ in records[:length] if kind == "started"}
        count = len(log)
        report = await Executor(tools, journal=asked).resume("run")
        doubtful = {name for name, each in report.items() if each.status == "in_doubt"}
        assert doubtful == {name for name in begun - done if name in ("first", "w", "last")}
        assert not done & {name for name, _, _ in log[count:]}


async def test_the_sweeper_takes_over_and_is_not_held_up(journal):
    """Also while every slot is taken by calls that never end."""
    log = Log()
    executor = Executor(crash_tools(log), journal=journal, concurrency=4, in_doubt="rerun")
    await interrupt(executor, in_flight(), "one")
    await interrupt(executor, in_flight(), "two")
    reports = []
    await sweep(executor, every=None, on_report=reports.append)
    assert sorted(report.run_id for report in reports) == ["one", "two"]
    assert all(report.ok for report in reports)
    full = Executor(crash_tools(log), journal=journal, concurrency=1)
    plan = Plan([Call("h", "read", {"n": 1, "hang": True})])
    async with hanging(full, plan, "full"), anyio.create_task_group() as group:
        await interrupt(executor, in_flight(), "three")
        group.start_soon(lambda: sweep(full, every=0.05))
        with anyio.fail_after(50):
            while True:
                infos = {info.id: info.state for info in await journal.runs()}
                if infos["three"] == "running":
                    break
                await anyio.sleep(0.02)
        group.cancel_scope.cancel()


async def test_one_by_one_in_the_debugging_mode(journal):
    """concurrency=0 records and resumes like any other."""
    log = Log()
    executor = Executor(crash_tools(log), journal=journal, concurrency=0)
    for _ in range(4):  # one hangs at a time
        await interrupt(executor, in_flight())
    report = await executor.resume("run", {"w": Approve()})
    assert report.ok
    assert [name for name, _, _ in log] == ["first", "p", "p", "r", "r", "i", "i", "w", "w", "last"]


async def test_layers_deadlines_and_barriers_resume(journal):
    """The same with a lane for each layer."""
    log = Log()
    settings = {
        "journal": journal,
        "barrier": True,
        "timeouts": Timeouts(call=None, layer=60, workflow=None),
    }
    executor = Executor(crash_tools(log), **settings)
    await interrupt(executor, in_flight())
    report = await executor.resume("run", {"w": Approve()})
    assert report.ok


async def test_arguments_that_are_secret_are_not_kept(journal):
    """The plan gives them again; a person is not shown them."""
    seen = []

    @tool(approval=True, secret="token")
    async def send(to: str, token: str) -> str:
        seen.append(token)
        return to

    executor = Executor([send], journal=journal)
    plan = Plan([Call("s", "send", {"to": "me", "token": "hunter2"})])
    report = await executor.run(plan, run_id="run")
    assert "hunter2" not in str(await journal.read("run"))
    assert report["s"].question["args"]["token"] == "<secret>"
    with pytest.raises(DagexecError, match="'token' of call 's'"):
        await executor.resume("run", {"s": Approve()})
    report = await executor.resume("run", {"s": Edit(report["s"].question["args"])}, plan=plan)
    assert report.ok
    assert seen == ["hunter2"]


async def test_another_stream_under_the_same_id_is_refused():
    """As another plan is: longer, shorter or with other arguments, of a run at any point."""

    @tool(approval=True)
    async def pay(amount: int) -> int:
        """Pay."""
        return amount

    async def stream(*amounts, hang=False):
        for number, amount in enumerate(amounts):
            yield Call(str(number), "pay", {"amount": amount})
        if hang:
            await anyio.sleep(10)

    def plan(*amounts):
        return [Call(str(number), "pay", {"amount": each}) for number, each in enumerate(amounts)]

    executor = Executor([pay], journal=MemoryJournal())
    with anyio.move_on_after(1):
        await executor.run(stream(1, 2, hang=True), run_id="cut off")
    await executor.run(stream(1, 2), run_id="waiting")
    await executor.run(stream(1, 2), run_id="done")
    await executor.resume("done", {"0": Approve(), "1": Deny("no")})
    for run_id in ("cut off", "waiting", "done"):
        for amounts in ((1,), (1, 3), (1, 2, 3))[: 2 if run_id == "cut off" else 3]:
            with pytest.raises(DagexecError, match="was begun with another plan"):
                await executor.run(stream(*amounts), run_id=run_id)
            if run_id != "cut off":
                with pytest.raises(DagexecError, match="was begun with another plan"):
                    await executor.run(plan(*amounts), run_id=run_id)
        report = await executor.run(stream(1, 2), run_id=run_id)
        assert [each.status for each in report.values()] == (
            ["done", "failed"] if run_id == "done" else ["pending", "pending"]
        )


async def test_a_stream_that_is_only_compared_is_closed_and_may_break():
    """As one that is run: an error of its own is no error of the run, which stays as it is."""
    closed = []

    async def stream(*, broken=False):
        try:
            yield Call("1", "look")
            if broken:
                raise OSError("gone")
        finally:
            closed.append(broken)

    @tool(effect="read")
    async def look() -> int:
        """Look."""
        return 1

    executor = Executor([look], journal=MemoryJournal())
    assert (await executor.run(stream(), run_id="r")).ok
    with pytest.raises(DagexecError, match="the source of the plan broke"):
        await executor.run(stream(broken=True), run_id="r")
    assert (await executor.run(stream(), run_id="r")).ok
    assert closed == [False, True, False]


async def test_only_what_runs_now_needs_its_secrets():
    """Other calls can be answered, and this one be denied, without the plan."""

    @tool(effect="read", approval=True, secret="key")
    async def look(key: str) -> int:
        """Use a secret."""
        return len(key)

    @tool(approval=True)
    async def pay(amount: int = 1) -> int:
        """Pay."""
        return amount

    @tool(effect="read", secret="key")
    async def then(n: int, key: str) -> int:
        """Use another."""
        return n + len(key)

    plan = [
        Call("p", "pay"),
        Call("k", "look", {"key": "1234"}),
        Call("t", "then", {"n": Ref("k"), "key": "12"}),
    ]
    answers = {"p": Approve(), "k": Deny("no")}
    journal = MemoryJournal()
    for answered in ({"p"}, {"k"}, {"p", "k"}):
        copy = Executor([look, pay, then], journal=journal)
        run_id = "".join(sorted(answered))
        await copy.run(plan, run_id=run_id)
        report = await copy.resume(run_id, {name: answers[name] for name in answered})
        assert (report["p"].status == "done") == ("p" in answered)
        assert (report["k"].status == "failed") == ("k" in answered)
    executor = Executor([look, pay, then], journal=journal)
    await executor.run(plan, run_id="needed")
    for answer in (Approve(), Done(3)):  # and what waits for it needs its own
        with pytest.raises(DagexecError, match="which is secret; give the plan again"):
            await executor.resume("needed", {"k": answer})
    report = await executor.resume("needed", {"k": Approve()}, plan=Plan(plan))
    assert report["t"].value == 6


async def test_observers_know_the_calls_of_a_resumed_run(journal):
    """They hear of every call and of what it became before anything starts, as in a new run."""
    log, told = Log(), []
    executor = Executor(asking_tools(log), journal=journal, observers=[told.append])
    plan = [
        Call("first", "note"),
        Call("pay", "pay", after=("first",)),
        Call("last", "note", after=("pay",)),
    ]
    await executor.run(plan, run_id="run")
    new = told.copy()
    told.clear()
    report = await executor.resume("run", {"pay": Approve()})
    assert report.ok
    assert [str(item.call.id) for item in new if isinstance(item, Added)] == [
        "first",
        "pay",
        "last",
    ]
    assert told[:3] == [item for item in new if isinstance(item, Added)]
    assert told[3] == Closed()
    restored = told[4:7]
    assert [(item.call, item.outcome.status) for item in restored] == [
        ("first", "done"),
        ("pay", "pending"),
        ("last", "pending"),
    ]
    assert [type(item) for item in restored] == [Settled, Settled, Conclude]
    assert told[7] == Reopened("pay")
    assert [item.call for item in told if isinstance(item, Started)] == ["pay", "last"]
    assert told[-1] == Finish()

    # One that has ended is told as such, and nothing runs.
    told.clear()
    await executor.resume("run")
    assert [type(item) for item in told] == [Added] * 3 + [Closed] + [Settled] * 3 + [Finish]
    async with executor.start(Plan(plan), run_id="run") as run:
        events = [event async for event in run]
    assert events == told[len(told) // 2 :]
    assert log == ["first", "pay", "last"]


def asking_tools(log):
    """Return a tool that notes its call, and one that needs approval."""

    @tool
    async def note() -> None:
        log.append(current_call().id)

    @tool(approval=True)
    async def pay() -> None:
        log.append(current_call().id)

    return [note, pay]
