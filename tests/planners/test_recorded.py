"""A conversation in a journal: no reply is paid for twice, and no call that is done runs again."""

from __future__ import annotations

import anyio
import pytest

from dagexec import Approve, Call, DagexecError, Executor, Timeouts, tool
from dagexec.journal import MemoryJournal
from dagexec.testing import Reply, ScriptedModel, ToolBox
from planners import solve
from planners.anthropic import MessagesPlanner
from planners.openai import ChatPlanner, ResponsesPlanner

pytestmark = pytest.mark.anyio
PLANNERS = {"chat": ChatPlanner, "responses": ResponsesPlanner, "messages": MessagesPlanner}
FIRST = [("look", {}), ("change", {})]
SECOND = [("look", {}), ("change", {}), ("change", {})]


def box_of_tools():
    box = ToolBox()
    box.tool("look", seconds=1, returns="seen", effect="read")
    box.tool("change", seconds=2, returns="changed", effect="idempotent")
    return box


async def ask_model(api, script, box, journal, *, stream, speed=None, **options):
    """Solve with a new planner, client and executor, as a new process would."""
    model = ScriptedModel(script, speed=speed)
    client = model.anthropic() if api == "messages" else model.openai()
    planner = PLANNERS[api](box.tools)
    return await solve(
        "Do it.",
        planner=planner,
        client=client,
        model="m",
        stream=stream,
        journal=journal,
        **{"executor": Executor(box.tools), "run_id": "talk", **options},
    )


@pytest.mark.parametrize("api", PLANNERS)
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize(
    "after",
    [
        0.5,
        pytest.param(1.5, marks=pytest.mark.slow),
        2.5,
        pytest.param(3.5, marks=pytest.mark.slow),
    ],
)
async def test_a_crashed_conversation_goes_on(api, stream, after):
    """Wherever it ended: each reply is asked for once, and no call that was done runs again."""
    journal = MemoryJournal()
    box = box_of_tools()
    with anyio.move_on_after(after) as scope:
        await ask_model(api, [FIRST, SECOND, "Done."], box, journal, stream=stream)
    assert scope.cancelled_caught
    heard = len([each for each in await journal.read("talk") if each.kind == "reply"])
    rest = [FIRST, SECOND, "Done."][heard:]
    solution = await ask_model(api, rest, box, journal, stream=stream)
    assert solution.text == "Done."
    assert [list(report.outputs.values()) for report in solution.reports] == [
        ["seen", "changed"],
        ["seen", "changed", "changed"],
    ]
    done = {
        record.call
        for info in await journal.runs()
        for record in await journal.read(info.id)
        if record.kind == "settled"
    }
    assert len(done) == 5
    again = await ask_model(api, [], box, journal, stream=stream)
    assert again.text == "Done."
    assert again.conversation.messages == solution.conversation.messages


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
async def test_a_conversation_waits_for_a_person(stream):
    """It returns as pending; with the answer it goes on, and the first reply is not asked again."""
    journal = MemoryJournal()

    @tool(approval=True)
    async def pay(amount: int) -> str:
        return f"paid {amount}"

    class Box:
        tools = (pay,)

    script = [[("pay", {"amount": 3})]]
    waiting = await ask_model("chat", script, Box, journal, stream=stream)
    assert waiting.status == "pending"
    run_id = waiting.reports[0].run_id
    await Executor([pay], journal=journal).resume(run_id, {"1": Approve()})
    solution = await ask_model("chat", ["Paid."], Box, journal, stream=stream)
    assert solution.text == "Paid."
    assert "paid 3" in str(solution.conversation.messages)


UNKNOWN = [("pay", {}), ("look", {"x": {"$ref": "9"}})]
CYCLE = [("pay", {}), ("look", {"x": {"$ref": "3"}}), ("look", {"x": {"$ref": "2"}})]
CUT = Reply("", [("look", {}), ("look", {"x": "abc" * 10})], truncated=True)
NO_JSON = [("pay", {}), ("anything", "{bad json"), ("look", {})]


@pytest.mark.parametrize("api", PLANNERS)
@pytest.mark.parametrize(
    "reply", [UNKNOWN, CYCLE, CUT, NO_JSON], ids=["unknown", "cycle", "cut", "no_json"]
)
async def test_a_recorded_stream_gives_the_same_calls_again(api, reply):
    """However a whole reply would be judged: a repeat goes on, and one after the end."""
    journal = MemoryJournal()

    @tool(approval=True)
    async def pay(x: object = None) -> str:
        return f"paid {x}"

    @tool(effect="read")
    async def look(x: object = None) -> str:
        return f"seen {x}"

    @tool(effect="read")
    async def anything(**kw: object) -> str:
        return f"had {kw}"

    class Box:
        tools = (pay, look, anything)

    script = [reply, "Done."]
    first = await ask_model(api, script, Box, journal, stream=True)
    if first.status == "pending":
        await Executor(Box.tools, journal=journal).resume("talk.1", {"1": Approve()})
        first = await ask_model(api, script[1:], Box, journal, stream=True)
    assert first.text == "Done."
    for stream in (True, False):
        again = await ask_model(api, [], Box, journal, stream=stream)
        assert again.text == "Done."
        assert again.conversation.to_dict() == first.conversation.to_dict()


@pytest.mark.parametrize("api", PLANNERS)
@pytest.mark.parametrize("seconds", [None, 5])
async def test_a_reply_whose_run_stops_early_is_recorded(api, seconds):
    """By a failure or a deadline: a repeat pays for nothing, and says the same."""
    journal = MemoryJournal()

    @tool(effect="read")
    async def bad() -> str:
        if seconds is None:
            raise OSError("x")
        return "not bad"

    @tool(effect="read")
    async def look(x: str = "") -> str:
        return f"seen {x}"

    class Box:
        tools = (bad, look)

    executor = Executor(Box.tools, on_failure="stop", timeouts=Timeouts(workflow=seconds))
    script = [[("bad", {}), ("look", {"x": "y" * 200})], [("look", {})], "Done."]
    ways = {"stream": True, "executor": executor}
    if seconds is not None:
        ways["speed"] = 10
    first = await ask_model(api, script, Box, journal, **ways)
    assert first.status == ("done" if seconds is None else "timed_out")
    replies = [each.call for each in await journal.read("talk") if each.kind == "reply"]
    assert replies == [str(turn + 1) for turn in range(first.conversation.turns)]
    again = await ask_model(api, [], Box, journal, **ways)
    assert (again.text, again.status, again.scope) == (first.text, first.status, first.scope)
    assert again.conversation.to_dict() == first.conversation.to_dict()


@pytest.mark.parametrize("api", PLANNERS)
async def test_nobody_is_asked_about_a_reply_that_was_cut_off(api):
    """Its run could not go on with an answer: the model is told, and goes on."""
    journal = MemoryJournal()

    @tool(effect="read", approval=True)
    async def see(x: str = "") -> str:
        return f"seen {x}"

    class Box:
        tools = (see,)

    calls = [("see", {}), ("see", {"x": "y" * 200})]
    script = [Reply("", calls, truncated=True), "Done."]
    first = await ask_model(api, script, Box, journal, stream=True, speed=50)
    assert first.text == "Done."
    assert first.reports[0]["1"].status == "pending"
    assert "cut off" in str(first.messages)
    again = await ask_model(api, [], Box, journal, stream=True)
    assert again.messages == first.messages


@pytest.mark.parametrize("way", ["resume", "run", "stream"])
async def test_a_conversation_is_no_run(way):
    """Its id leads to those of its runs, and it can go on."""
    journal = MemoryJournal()
    box = box_of_tools()
    await ask_model("chat", [FIRST, SECOND, "Done."], box, journal, stream=False)
    executor = Executor(box.tools, journal=journal)

    async def calls():
        yield Call("1", "look")

    with pytest.raises(DagexecError, match=r"is a conversation .* 'talk.1', 'talk.2'$"):
        if way == "resume":
            await executor.resume("talk")
        else:
            await executor.run([] if way == "run" else calls(), run_id="talk")
    assert [info.state for info in await journal.runs()] == ["done"] * 3
    again = await ask_model("chat", [], box, journal, stream=False)
    assert again.text == "Done."


async def test_another_question_under_the_same_name_is_refused():
    """And so is a conversation that another solve leads."""
    journal, box = MemoryJournal(), box_of_tools()
    await ask_model("chat", ["Done."], box, journal, stream=False)
    model = ScriptedModel(["x"])
    with pytest.raises(DagexecError, match="another question"):
        await solve(
            "Do something else.",
            planner=ChatPlanner(box.tools),
            client=model.openai(),
            model="m",
            executor=Executor(box.tools),
            journal=journal,
            run_id="talk",
        )


@pytest.mark.parametrize("shown", [False, True])
async def test_the_model_reads_the_same_after_a_crash(shown):
    """What failed is told in the same words, and what is not shown to it stays hidden."""

    @tool(effect="read")
    async def fails(n: int) -> None:
        raise ValueError("the password is hunter2")

    @tool(approval=True)
    async def pay(amount: int) -> str:
        return f"paid {amount}"

    executor = Executor([fails, pay], journal=MemoryJournal())
    planner = ChatPlanner([fails, pay], show_errors=shown)
    again = planner.fresh()
    script = [[("fails", {"n": 1}), ("fails", {"n": "x"}), ("nothing", {})], "Done."]
    client = ScriptedModel(script).openai()
    reply = await client.chat.completions.create(
        model="m", messages=[{"role": "user", "content": "x"}], tools=planner.tools
    )
    live = planner.results(await executor.run(planner.plan(reply), run_id="r"))
    later = again.results(await executor.run(again.plan(reply), run_id="r"))
    assert later == live
    assert ("hunter2" in str(later)) == shown
