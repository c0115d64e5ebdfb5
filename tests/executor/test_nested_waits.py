"""A call whose own run waits for a person waits too, and its answer finds its way in."""

from __future__ import annotations

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
    Ref,
    ask,
    current_call,
    tool,
)
from dagexec.journal import MemoryJournal, SqliteJournal
from dagexec.limits import Retry

pytestmark = pytest.mark.anyio

PAY = Call("p", "pay", {"amount": 5})


class World:
    """Tools, and executors that come and go over one journal."""

    def __init__(self, *tools, named=False, journal=True, **settings):
        self.effects = []
        self.named = named
        self.settings = settings
        self.journal = MemoryJournal() if journal is True else journal or None
        self.executor = None
        self.tools = [*self._tools(), *tools]
        self.reborn()

    def _tools(self):
        @tool(approval=True)
        async def pay(amount: int) -> str:
            self.effects.append(f"paid {amount}")
            return f"paid {amount}"

        @tool
        async def note(text: object) -> str:
            self.effects.append(f"noted {text}")
            return f"noted {text}"

        @tool
        async def survey(topics: list[str]) -> list:
            return [await ask(topic) for topic in topics]

        @tool
        async def fails() -> str:
            raise ValueError("broken")

        return [pay, note, survey, fails]

    def reborn(self):
        """Go on in what might be another process: nothing is kept but the journal."""
        if isinstance(self.journal, MemoryJournal):
            self.journal = self.journal.copy()
        self.executor = Executor(self.tools, journal=self.journal, **self.settings)

    async def inside(self, *calls):
        """Run a plan inside a call."""
        run_id = current_call().idempotency_key if self.named else None
        return await self.executor.run(calls, run_id=run_id)

    async def resume(self, answer, run_id="R"):
        self.reborn()
        return await self.executor.resume(run_id, {"1": answer})


def sub_agent(*calls, named=False, effect="write", after=None, **settings):
    """Return a world with a tool that runs these calls."""

    @tool(effect=effect)
    async def agent(amount: int = 0) -> dict:
        report = await world.inside(*calls)
        report.raise_for_failures()
        return {**report.outputs, **({} if after is None else await after())}

    world = World(agent, named=named, **settings)
    return world


def waits(report):
    """Return what call 1 waits for, by name."""
    assert report["1"].status == "pending", report["1"]
    assert report["1"].because is None
    return {each["name"]: each["question"] for each in report["1"].question["nested"]}


ANSWERS = [
    (Approve(), "done", {"p": "paid 5"}, ["paid 5"]),
    (Edit({"amount": 3}), "done", {"p": "paid 3"}, ["paid 3"]),
    (Done("by cheque"), "done", {"p": "by cheque"}, []),
    (Deny("too much"), "failed", "too much", []),
    ({"p": Approve()}, "done", {"p": "paid 5"}, ["paid 5"]),
]


@pytest.mark.parametrize("named", [True, False], ids=["named", "unnamed"])
@pytest.mark.parametrize("effect", ["write", "idempotent", "pure"])
@pytest.mark.parametrize(("answer", "status", "value", "effects"), ANSWERS)
async def test_the_answer_finds_its_way_in(  # noqa: PLR0917 - what is asked, what is answered
    named, effect, answer, status, value, effects
):
    """Whatever a person can answer to the inner call, the outer call takes."""
    world = sub_agent(PAY, named=named, effect=effect)
    plan = [Call("1", "agent"), Call("2", "note", {"text": Ref("1")})]
    report = await world.executor.run(plan, run_id="R")
    assert waits(report) == {"p": {"approve": "pay", "args": {"amount": 5}}}
    assert (report["2"].status, report["2"].because) == ("pending", "1")
    report = await world.resume(answer)
    assert report["1"].status == status
    if status == "done":
        assert report["1"].value == value
        assert world.effects == [*effects, f"noted {value}"]
    else:
        (error,) = report["1"].error.exceptions
        assert str(error) == value
        assert report["2"].status == "skipped"
    assert (await world.resume(answer))["1"].status == status  # given twice


@pytest.mark.parametrize("named", [True, False], ids=["named", "unnamed"])
async def test_several_are_answered_by_name(named):
    """In any order, and none runs twice, nor what was done beside them."""
    calls = [
        Call("n", "note", {"text": "before"}),
        PAY,
        Call("q", "pay", {"amount": 7}),
        Call("s", "survey", {"topics": ["tea?"]}),
    ]
    world = sub_agent(*calls, named=named)
    report = await world.executor.run([Call("1", "agent")], run_id="R")
    assert list(waits(report)) == ["p", "q", "s"]
    for wrong in (Approve(), "green", {}, {"x": Approve()}, {"p": "yes"}, {"s": Approve()}):
        with pytest.raises(DagexecError, match="call '1' waits for calls of a run of its own"):
            await world.resume(wrong)
    with pytest.raises(DagexecError, match=r"by name.*'p'.*'q'.*'s' .*asks a question"):
        await world.resume(Approve())
    assert list(waits(await world.resume({"q": Approve()}))) == ["p", "s"]
    assert list(waits(await world.resume({"s": "green"}))) == ["p"]
    report = await world.resume(Approve())
    assert report["1"].value == {
        "n": "noted before",
        "p": "paid 5",
        "q": "paid 7",
        "s": ["green"],
    }
    assert sorted(world.effects) == ["noted before", "paid 5", "paid 7"]


async def test_deny_may_stand_for_all():
    """Whoever refuses need not say what."""
    world = sub_agent(PAY, Call("q", "pay", {"amount": 7}))
    await world.executor.run([Call("1", "agent")], run_id="R")
    report = await world.resume(Deny("no"))
    assert [str(each) for each in report["1"].error.exceptions] == ["no", "no"]


@pytest.mark.parametrize("named", [True, False], ids=["named", "unnamed"])
async def test_a_tool_that_asks_again(named):
    """Each answer is for its own question, also the same one twice."""
    topics = ["tea?", "milk?", "milk?", "sugar?"]
    world = sub_agent(Call("s", "survey", {"topics": topics}), PAY, named=named)
    report = await world.executor.run([Call("1", "agent")], run_id="R")
    for topic, answer in zip(topics, ["yes", "yes", "no", {"s": 1}], strict=True):
        assert waits(report)["s"] == topic
        report = await world.resume({"s": answer})
    assert list(waits(report)) == ["p"]
    report = await world.resume(Approve())
    assert report["1"].value["s"] == ["yes", "yes", "no", {"s": 1}]
    assert world.effects == ["paid 5"]


async def test_a_value_may_be_a_dict():
    """One question: what is no name is a value."""
    world = sub_agent(Call("s", "survey", {"topics": ["what?"]}))
    await world.executor.run([Call("1", "agent")], run_id="R")
    report = await world.resume({"colour": "green"})
    assert report["1"].value == {"s": [{"colour": "green"}]}


def deep(named, *, catches=False):
    """Return a world whose call has a run in a run."""

    @tool(effect="idempotent")
    async def inner(amount: int) -> dict:
        report = await world.inside(
            Call("n", "note", {"text": amount}), Call("p", "pay", {"amount": amount})
        )
        if not catches:
            report.raise_for_failures()
        return report.outputs

    @tool
    async def outer() -> dict:
        return (
            await world.inside(
                Call("a", "inner", {"amount": 1}),
                Call("b", "inner", {"amount": 2}),
                Call("p", "pay", {"amount": 3}),
            )
        ).outputs

    world = World(inner, outer, named=named)
    return world


@pytest.mark.parametrize("named", [True, False], ids=["named", "unnamed"])
@pytest.mark.parametrize("catches", [True, False], ids=["returns", "raises"])
async def test_deeper(named, catches):
    """Names are paths where the calls' own would not do."""
    world = deep(named, catches=catches)
    report = await world.executor.run([Call("1", "outer")], run_id="R")
    assert list(waits(report)) == ["a/p", "b/p", "p"]
    report = await world.resume({"b/p": Approve(), "p": Approve()})
    assert list(waits(report)) == ["p"]
    report = await world.resume(Approve())
    assert report["1"].value == {
        "a": {"n": "noted 1", "p": "paid 1"},
        "b": {"n": "noted 2", "p": "paid 2"},
        "p": "paid 3",
    }
    assert sorted(world.effects) == ["noted 1", "noted 2", "paid 1", "paid 2", "paid 3"]


@pytest.mark.parametrize("named", [True, False], ids=["named", "unnamed"])
async def test_two_runs_of_one_call(named):
    """Side by side, each with an id of its own, or with none."""

    @tool
    async def outer() -> dict:
        found = {}

        async def run(amount):
            run_id = f"{current_call().idempotency_key}/{amount}" if named else None
            calls = [Call("p", "pay", {"amount": amount})]
            found[amount] = (await world.executor.run(calls, run_id=run_id)).outputs

        async with anyio.create_task_group() as group:
            group.start_soon(run, 1)
            group.start_soon(run, 2)
        return found

    world = World(outer)
    report = await world.executor.run([Call("1", "outer")], run_id="R")
    _, second = waits(report)
    report = await world.resume({second: Approve()})
    assert list(waits(report)) == ["p"]
    report = await world.resume(Approve())
    assert report["1"].value == {1: {"p": "paid 1"}, 2: {"p": "paid 2"}}
    assert sorted(world.effects) == ["paid 1", "paid 2"]


@pytest.mark.parametrize("how", ["returns", "raises", "swallows", "retries", "follows", "limits"])
async def test_what_the_tool_does_with_a_report_that_waits(how):
    """A value that was made without the results is none, and an error about it neither."""
    attempts = []
    settings = {"retry": Retry(3, base=0.0), "effect": "idempotent"} if how == "retries" else {}

    @tool(**settings)
    async def outer() -> object:
        attempts.append(how)
        if how == "follows":
            async with world.executor.start([PAY]) as run:
                async for _ in run:
                    pass
            return run.report.outputs
        report = await world.inside(PAY)
        if how == "returns":
            return report.outputs
        if how == "swallows":
            try:
                report.raise_for_failures()
            except DagexecError:
                return "something went wrong"
            return report.outputs
        return {"p": report["p"].value.upper()} if how != "limits" else dict(report.outputs)

    world = World(outer)
    report = await world.executor.run([Call("1", "outer")], run_id="R")
    assert list(waits(report)) == ["p"]
    assert len(attempts) == 1
    report = await world.resume(Approve())
    assert report["1"].value["p"].lower() == "paid 5"
    assert world.effects == ["paid 5"]


async def test_a_failure_beside_it_stands():
    """The tool misses more than an answer."""
    world = sub_agent(PAY, Call("f", "fails"))
    report = await world.executor.run([Call("1", "agent")], run_id="R")
    assert report["1"].status == "failed"


async def test_a_tool_that_answers_itself():
    """It knows whom to ask, and resumes its own run."""

    @tool
    async def outer() -> dict:
        report = await world.executor.run([PAY], run_id="inner")
        assert report["p"].status == "pending"
        return (await world.executor.resume("inner", {"p": Approve()})).outputs

    world = World(outer)
    report = await world.executor.run([Call("1", "outer")], run_id="R")
    assert report["1"].value == {"p": "paid 5"}


async def test_the_tool_asks_too():
    """Its own question comes when the run is done, and the run is not done again."""

    async def after():
        return {"who": await ask("who?")}

    world = sub_agent(PAY, after=after)
    report = await world.executor.run([Call("1", "agent")], run_id="R")
    assert list(waits(report)) == ["p"]
    report = await world.resume(Approve())
    assert report["1"].question == "who?"
    report = await world.resume("me")
    assert report["1"].value == {"p": "paid 5", "who": "me"}
    assert world.effects == ["paid 5"]


@pytest.mark.parametrize(
    ("answer", "value"), [(Approve(), "again"), (Done("it did"), "it did"), (Deny("no"), None)]
)
async def test_what_a_crash_left_in_doubt_inside(answer, value):
    """The call waits for whoever knows whether the inner write took effect."""

    @tool
    async def write() -> str:
        if world.crash:
            world.left = world.journal.copy()
            await anyio.sleep(10)
        return "again"

    @tool(effect="idempotent")
    async def outer() -> dict:
        report = await world.inside(Call("w", "write"))
        report.raise_for_failures()
        return report.outputs

    world = World(write, outer, named=True)
    world.crash = True
    with anyio.move_on_after(1):
        await world.executor.run([Call("1", "outer")], run_id="R")
    world.journal, world.crash = world.left, False
    world.reborn()
    report = await world.executor.resume("R")
    assert waits(report) == {"w": {"in_doubt": "write"}}
    with pytest.raises(DagexecError, match="is in doubt"):
        await world.resume(Edit({}))
    report = await world.resume(answer)
    if value is None:
        assert report["1"].status == "failed"
    else:
        assert report["1"].value == {"w": value}


@pytest.mark.parametrize("named", [True, False], ids=["named", "unnamed"])
async def test_a_crash_after_the_answer(named):
    """The answer is recorded before anything is done with it, and is not used up by a crash."""

    @tool(effect="idempotent")
    async def slow() -> str:
        if world.crash:
            world.left = world.journal.copy()
            await anyio.sleep(10)
        return "slow"

    calls = [PAY, Call("q", "pay", {"amount": 7}), Call("s", "slow", after=("p",))]

    @tool(effect="idempotent")
    async def agent() -> dict:
        return (await world.inside(*calls)).outputs

    world = World(slow, agent, named=named)
    world.crash = True
    await world.executor.run([Call("1", "agent")], run_id="R")
    with anyio.move_on_after(1):
        await world.resume({"p": Approve()})
    world.journal, world.crash = world.left, False
    world.reborn()
    report = await world.executor.resume("R")
    assert list(waits(report)) == ["q"]
    report = await world.resume(Approve())
    assert report["1"].value == {"p": "paid 5", "q": "paid 7", "s": "slow"}
    assert world.effects == ["paid 5", "paid 7"]


async def test_another_plan_the_second_time():
    """A run that begins with other calls is another run: it asks anew, and nothing is mixed up."""
    amounts = iter([5, 6, 6])

    @tool
    async def outer() -> dict:
        return (await world.inside(Call("p", "pay", {"amount": next(amounts)}))).outputs

    world = World(outer)
    await world.executor.run([Call("1", "outer")], run_id="R")
    report = await world.resume(Approve())
    assert waits(report)["p"]["args"] == {"amount": 6}
    assert world.effects == []
    assert (await world.resume(Approve()))["1"].value == {"p": "paid 6"}


async def test_without_a_journal_it_waits_all_the_same():
    """Nobody can answer it, but nobody is told that it failed either."""
    world = sub_agent(PAY, journal=False)
    report = await world.executor.run([Call("1", "agent")])
    assert list(waits(report)) == ["p"]


async def test_arguments_that_do_not_fit_are_refused_at_once():
    """Before anything runs, and the call goes on waiting."""
    world = sub_agent(PAY)
    await world.executor.run([Call("1", "agent")], run_id="R")
    with pytest.raises(DagexecError, match="amount"):
        await world.resume(Edit({"amount": "much"}))
    assert (await world.resume(Edit({"amount": 2})))["1"].value == {"p": "paid 2"}


async def test_what_is_secret_stays_out_of_the_question():
    """A person is shown the arguments as at the top."""

    @tool(approval=True, secret=("key",))
    async def login(key: str, user: str) -> str:
        return f"{user} {len(key)}"

    world = sub_agent(Call("l", "login", {"key": "hunter2", "user": "ann"}))
    world.tools.append(login)
    world.reborn()
    report = await world.executor.run([Call("1", "agent")], run_id="R")
    assert "hunter2" not in str(report["1"].question)
    assert "hunter2" not in str(world.journal._runs)
    report = await world.resume(Edit({"user": "bob"}))
    assert report["1"].value == {"l": "bob 7"}


@pytest.mark.parametrize("concurrency", [0, 1, None])
async def test_any_concurrency(concurrency):
    """Also one after the other in the caller's task."""
    world = sub_agent(PAY, concurrency=concurrency)
    report = await world.executor.run([Call("1", "agent")], run_id="R")
    assert list(waits(report)) == ["p"]
    assert (await world.resume(Approve()))["1"].value == {"p": "paid 5"}


@pytest.mark.real_time
@pytest.mark.parametrize("concurrency", [0, 1, 5])
async def test_synchronous_tools(concurrency):
    """With run_sync, in a thread or in place."""

    @tool
    def outer() -> dict:
        report = world.executor.run_sync([PAY, Call("n", "note", {"text": "x"})])
        report.raise_for_failures()
        return report.outputs

    world = World(outer, concurrency=concurrency)
    report = await world.executor.run([Call("1", "outer")], run_id="R")
    assert list(waits(report)) == ["p"]
    report = await world.resume(Approve())
    assert report["1"].value == {"p": "paid 5", "n": "noted x"}
    assert world.effects == ["noted x", "paid 5"]


@pytest.mark.real_time
@pytest.mark.parametrize("named", [True, False], ids=["named", "unnamed"])
async def test_from_a_file(tmp_path, named):
    """In a journal that other processes read."""
    world = sub_agent(PAY, Call("n", "note", {"text": "x"}), named=named, journal=False)
    for answer in (None, Approve()):
        with SqliteJournal(tmp_path / "runs.db") as world.journal:
            world.reborn()
            if answer is None:
                report = await world.executor.run([Call("1", "agent")], run_id="R")
                assert list(waits(report)) == ["p"]
            else:
                report = await world.executor.resume("R", {"1": answer})
                assert report["1"].value == {"p": "paid 5", "n": "noted x"}
    assert world.effects == ["noted x", "paid 5"]
