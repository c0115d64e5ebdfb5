"""Agents of Strands whose turns run as graphs."""

from __future__ import annotations

import asyncio
import logging
import re
import subprocess
import sys
import threading
import time

import pytest

pytest.importorskip("strands", reason="needs the extra strands")

import strands
from pydantic import BaseModel
from strands.hooks import AfterToolCallEvent, BeforeToolCallEvent
from strands.middleware import ExecuteToolStage
from strands.tools.executors import ConcurrentToolExecutor, SequentialToolExecutor
from strands.types.events import ToolResultEvent
from strands.types.exceptions import EventLoopException

from dagexec import DagexecError, Timeouts, tool
from dagexec.integrations import strands as integration
from dagexec.integrations.strands import DagPlugin
from dagexec.limits import Retry

pytestmark = pytest.mark.anyio

FIVE = [
    ("search", {"query": "a"}),
    ("count", {"items": {"$ref": "1.items"}}),
    ("search", {"query": "hung", "seconds": 999}),
    ("count", {"items": {"$ref": "3.items"}}),
    ("fail",),
    ("save", {"path": "x", "text": "first", "seconds": 1.5}),
    ("save", {"path": "x", "text": "second", "seconds": 0}),
    ("drop", {"what": {"$ref": "2"}}),
    ("search", {"query": {"$ref": "8"}, "seconds": 0}),
]


def now():
    """Return the seconds since the test began."""
    return asyncio.get_running_loop().time() - 1000


def left_over():
    """Return what still runs of turns."""
    return [task for task in asyncio.all_tasks() if task.get_name() == "dagexec turn"]


def answered(session):
    """Whether each call in an agent's messages has its result, once."""
    uses, results = [], []
    for message in session.agent.messages:
        uses += [each["toolUse"]["toolUseId"] for each in message["content"] if "toolUse" in each]
        results += [
            each["toolResult"]["toolUseId"] for each in message["content"] if "toolResult" in each
        ]
    return sorted(uses) == sorted(results)


async def test_a_turn_with_all_of_it(script, talk):
    """References, a hung call, a failing one, two conflicting writes, an interrupt.

    In the time of the critical path, which here is the deadline of the hung call. What needs the
    interrupted call goes on with it.
    """
    plugin = DagPlugin(timeouts=Timeouts(call=2), options={"save": {"writes": "file:{path}"}})
    session = talk(script(FIVE), plugin)
    assert await session.say() == {}
    assert session.result.stop_reason == "interrupt"
    assert now() == pytest.approx(2)
    assert session.log == ["first", "second"]
    (asked,) = session.result.interrupts
    assert asked.reason == {"what": 2}
    found = await session.answer("yes")
    assert now() == pytest.approx(2)
    assert found["use2"] == ("success", "2")
    assert "Timed out: the time limit of the call" in found["use3"][1]
    assert "call 3 (search) gave no result" in found["use4"][1]
    assert found["use5"] == ("error", "Error: LookupError - boom")
    assert (found["use6"], found["use7"]) == (("success", "first"), ("success", "second"))
    assert found["use8"] == ("success", "yes: dropped 2")
    assert "yes: dropped 2" in found["use9"][1]
    assert answered(session)
    assert not left_over()


async def test_the_same_turn_without_it(script, talk):
    """The framework by itself: references reach nobody, the hung call holds all."""
    session = talk(script(FIVE[:7]))
    found = await session.say()
    assert now() == pytest.approx(999)
    assert session.log == ["second", "first"]
    assert found["use2"][0] == "error"


async def test_what_the_model_is_shown(script, talk):
    """Schemas that take references, instructions, numbers; the agent's messages have none of it."""
    counts = ("count", {"items": {"$ref": "1.items"}})
    model = script([("search", {"query": "a"}), ("fail",)], [counts])
    session = talk(model, DagPlugin(), system_prompt="Be brief.")
    found = await session.say()
    request = model.seen[1]
    assert request["system"].startswith("Be brief.")
    assert '{"$ref": "1"}' in request["system"]
    items = request["tools"]["count"]["inputSchema"]["json"]["properties"]["items"]
    assert items["type"] == ["array", "object"]
    shown = [
        block["toolResult"]["content"][0]["text"] for block in request["messages"][-1]["content"]
    ]
    assert shown == ["[call 1]", "[call 2]"]
    assert found["use3"] == ("success", "2")
    assert "[call" not in str(session.agent.messages)
    assert "'array', 'object'" not in str(session.agent.tool_registry.get_all_tool_specs())
    # The next message may refer to it as well.
    model.replies = [[("search", {"query": {"$template": "${3} again"}})]]
    assert "2 again" in (await session.say())["use4"][1]


async def test_numbers_stay_when_messages_are_dropped(script, talk):
    """And where more is changed, no number is read in two ways."""
    model = script([("search", {"query": "a"})], "one", [("search", {"query": "b"})], "two")
    session = talk(model, DagPlugin())
    await session.say()
    await session.say()
    del session.agent.messages[:4]
    model.replies = [
        [("count", {"items": {"$ref": "2.items"}}), ("count", {"items": {"$ref": "1.items"}})]
    ]
    found = await session.say()
    assert found["use3"] == ("success", "2")
    assert found["use4"][0] == "error"
    session.agent.messages.clear()
    model.replies = [[("save", {"path": "x", "text": {"$ref": "2"}})], [("fail",)]]
    assert "error" in (await session.say())["use5"]
    assert "[call 5]" in str(model.seen[-1]["messages"])


async def test_ids_that_come_again(script, talk):
    """Some providers name a call by its tool."""
    turn = [
        ("search", {"query": "a"}, "search"),
        ("count", {"items": {"$ref": "1.items"}}, "count"),
    ]
    after = [
        ("search", {"query": {"$ref": "1.items[0]"}, "seconds": 0}, "search"),
        ("save", {"path": "x", "text": {"$ref": "3.items[1]"}}, "save"),
    ]
    session = talk(script(turn, after), DagPlugin())
    await session.agent.invoke_async("go")
    assert session.log == ["b"]


async def test_values_keep_their_type(script, talk):
    """What a function returned travels, unless a hook has changed the result."""
    got = []

    @strands.tool
    async def make() -> tuple:
        """Make."""
        return ("a", 1.5)

    @strands.tool
    async def take(value: object) -> str:
        """Take."""
        got.append(value)
        return "taken"

    turn = [("make",), ("take", {"value": {"$ref": "1"}})]
    await talk(script(turn), DagPlugin(), tools=[make, take]).say()
    session = talk(script(turn), DagPlugin(), tools=[make, take])

    def redact(event):
        if event.tool_use["name"] == "make":
            event.result = {**event.result, "content": [{"text": '["gone"]'}]}

    session.agent.add_hook(redact, AfterToolCallEvent)
    await session.say()
    assert got == [("a", 1.5), ["gone"]]


async def test_hooks_see_values(script, talk):
    """A policy judges what will happen; who refuses a call refuses those that need it."""
    seen = []

    def judge(event):
        args = event.tool_use["input"]
        seen.append(args)
        if args.get("path") == "a":
            event.cancel_tool = "not there"

    turn = [
        ("search", {"query": "a"}),
        ("save", {"path": {"$ref": "1.items[0]"}, "text": "t"}),
        ("save", {"path": "b", "text": {"$ref": "2"}}),
        ("nope",),
        ("search", {"query": {"$ref": "4"}}),
    ]
    session = talk(script(turn), DagPlugin())
    session.agent.add_hook(judge, BeforeToolCallEvent)
    found = await session.say()
    assert {"path": "a", "text": "t"} in seen
    assert found["use2"] == ("error", "not there")
    assert "call 2 (save) gave no result" in found["use3"][1]
    assert found["use4"] == ("error", "Unknown tool: nope")
    assert "call 4 (nope) gave no result" in found["use5"][1]
    assert session.log == []


async def test_hooks_hear_the_end(script, talk):
    """Each call that began has one end, with its result; what never began has neither."""
    events = []

    def before(event):
        events.append(("before", event.tool_use["toolUseId"]))

    def after(event):
        events.append(("after", event.tool_use["toolUseId"]))
        if event.tool_use["toolUseId"] == "use1":
            event.result = {**event.result, "content": [{"text": "late"}]}

    turn = [
        ("search", {"query": "a", "seconds": 9}),
        ("search", {"query": {"$ref": "1"}}),
        ("fail",),
    ]
    session = talk(script(turn), DagPlugin(timeouts=2))
    session.agent.add_hook(before, BeforeToolCallEvent)
    session.agent.add_hook(after, AfterToolCallEvent)
    found = await session.say()
    assert sorted(events) == [
        (when, id_) for when in ("after", "before") for id_ in ("use1", "use3")
    ]
    assert found["use1"] == ("error", "late")


async def test_retries(script, talk):
    """Those of a hook, and those of an option; the model gets the last result, once."""
    attempts = []

    @strands.tool
    async def flaky(times: int) -> str:
        """Fail a few times."""
        attempts.append(times)
        if attempts.count(times) <= times:
            raise ConnectionError
        return "there"

    def again(event):
        event.retry = (
            event.tool_use["input"].get("times") == 1 and event.result["status"] == "error"
        )

    options = {"flaky": {"effect": "read", "retry": Retry(3, base=0.1, on=ConnectionError)}}
    turn = [("flaky", {"times": 1}), ("flaky", {"times": 2}), ("flaky", {"times": 3})]
    session = talk(script(turn), DagPlugin(options=options), tools=[flaky])
    session.agent.add_hook(again, AfterToolCallEvent)
    found = await session.say()
    assert [found[f"use{n}"][0] for n in (1, 2, 3)] == ["success", "success", "error"]
    assert attempts.count(3) == 3


async def test_a_hook_that_raises_ends_the_run(script, talk):
    """As before; and nothing is left."""

    def broken(event):
        if event.tool_use["name"] == "fail":
            raise ZeroDivisionError

    session = talk(script([("search", {"query": "a", "seconds": 50}), ("fail",)]), DagPlugin())
    session.agent.add_hook(broken, BeforeToolCallEvent)
    with pytest.raises(EventLoopException) as caught:
        await session.say()
    assert isinstance(caught.value.__cause__, ZeroDivisionError)
    assert now() == pytest.approx(0)
    assert not left_over()


async def test_approval_by_option(script, talk):
    """An interrupt that shows the values, without secrets; yes lets it run, all else does not."""
    options = {"save": {"approval": lambda args: args["path"] == "a", "secret": ["text"]}}
    turn = [
        ("search", {"query": "a"}),
        ("save", {"path": {"$ref": "1.items[0]"}, "text": "t"}),
        ("count", {"items": [{"$ref": "2"}]}),
    ]
    for response, status in (("Yes", "success"), ("no", "error")):
        session = talk(script(turn), DagPlugin(options=options))
        await session.say()
        (asked,) = session.result.interrupts
        assert asked.reason == {"approve": "save", "args": {"path": "a", "text": "<secret>"}}
        found = await session.answer(response)
        assert found["use2"][0] == found["use3"][0] == status
        assert answered(session)
    assert session.log == ["t"]


async def test_two_interrupts_one_after_the_other(script, talk):
    """What comes again may ask again."""
    turn = [("drop", {"what": 1}), ("drop", {"what": {"$ref": "3"}}), ("count", {"items": ["a"]})]
    session = talk(script(turn), DagPlugin(concurrency=1))
    await session.say()
    assert len(session.result.interrupts) == 2
    found = await session.answer("ok")
    assert found["use2"] == ("success", "ok: dropped 1")
    assert session.log == ["dropped 1", "dropped 1"]
    assert answered(session)


@pytest.mark.parametrize("after", [0.0, 0.5, 1.5])
async def test_cancelling_the_task(script, talk, after):
    """At any time, and nothing is left."""
    turn = [
        ("save", {"path": "x", "text": "t"}),
        ("count", {"items": {"$ref": "3.items"}}),
        ("search", {"query": "q", "seconds": 9}),
    ]
    session = talk(script(turn), DagPlugin())
    task = asyncio.ensure_future(session.say())
    await asyncio.sleep(after)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not left_over()
    await asyncio.sleep(20)
    assert session.log == (["t"] if after > 1 else [])


async def test_cancelling_the_agent(script, talk):
    """What runs ends by itself; what has not begun does not."""
    turn = [("search", {"query": "a"}), ("save", {"path": {"$ref": "1.items[0]"}, "text": "t"})]
    session = talk(script(turn), DagPlugin())
    task = asyncio.ensure_future(session.say())
    await asyncio.sleep(0.5)
    session.agent.cancel()
    found = await task
    assert session.result.stop_reason == "cancelled"
    assert found["use1"][0] == "success"
    assert found["use2"] == ("error", "Tool execution cancelled")
    assert session.log == []


async def test_a_stream_that_nobody_reads_on(script, talk):
    """Leaving the stream of an agent ends its calls."""
    session = talk(script([("search", {"query": "a", "seconds": 99}), ("fail",)]), DagPlugin())
    stream = session.agent.stream_async("go")
    async for event in stream:
        if "message" in event and event["message"]["role"] == "assistant":
            break
    await stream.aclose()
    await asyncio.sleep(0)
    assert not left_over()


async def test_streams_of_tools(script, talk):
    """Events of tools that stream reach the agent's stream; the last is the result."""

    @strands.tool
    async def slow():
        """Stream."""
        for n in range(3):
            await asyncio.sleep(1)
            yield n

    session = talk(
        script([("slow",), ("search", {"query": {"$ref": "1"}})]), DagPlugin(), tools=[slow]
    )
    seen = []
    async for event in session.agent.stream_async("go"):
        if "tool_stream_event" in event:
            seen.append((event["tool_stream_event"]["data"], now()))
    assert seen == [(0, 1.0), (1, 2.0), (2, 3.0)]
    assert '"2"' in str(session.agent.messages)


async def test_structured_answers(script, talk):
    """The tool by which an agent answers is none of the graph: its arguments are data."""

    class Found(BaseModel):
        """What was found."""

        text: str
        link: dict

    model = script([("search", {"query": "a"})], [("Found", {"text": "b", "link": {"$ref": "1"}})])
    session = talk(model, DagPlugin(), structured_output_model=Found)
    await session.say()
    assert session.result.structured_output == Found(text="b", link={"$ref": "1"})
    text = model.seen[0]["tools"]["Found"]["inputSchema"]["json"]["properties"]["text"]
    assert text["type"] == "string"


async def test_tools_of_dagexec(script, talk):
    """With their options, and with what only they know."""

    @tool(timeout=1, reads="clock")
    async def wait(seconds: float) -> dict:
        """Wait."""
        await asyncio.sleep(seconds)
        return {"waited": seconds}

    turn = [
        ("wait", {"seconds": 0.5}),
        ("wait", {"seconds": 5}),
        ("wait", {}),
        ("search", {"query": {"$ref": "1.waited"}}),
    ]
    found = await talk(script(turn), DagPlugin([wait], concurrency=2)).say()
    assert found["use1"] == ("success", '{"waited":0.5}')
    assert "Timed out" in found["use2"][1]
    assert "seconds" in found["use3"][1]
    assert found["use4"][0] == "error"  # a number is no query


async def test_agents_as_tools(script, talk):
    """One inside of another; each with its own turns, or without."""
    inner = talk(script([("search", {"query": "in"})], "found"), DagPlugin()).agent
    inner.name = "inner"
    inner.description = "Finds."
    turn = [("inner", {"input": "go"}), ("search", {"query": {"$ref": "1"}})]
    session = talk(
        script(turn), DagPlugin(), tools=[inner.as_tool(name="inner", description="Finds.")]
    )
    found = await session.say()
    assert "found" in found["use2"][1]
    assert now() == pytest.approx(2)


async def test_middleware(script, talk):
    """It stays, and what it answers counts."""

    async def cached(context, next_fn):
        if context.tool_use["name"] == "search":
            yield ToolResultEvent(
                {
                    "toolUseId": context.tool_use["toolUseId"],
                    "status": "success",
                    "content": [{"json": {"items": ["cached"]}}],
                }
            )
        else:
            async for event in next_fn(context):
                yield event

    turn = [("search", {"query": "a"}), ("count", {"items": {"$ref": "1.items"}})]
    session = talk(script(turn), DagPlugin())
    session.agent.add_middleware(ExecuteToolStage, cached)
    assert (await session.say())["use2"] == ("success", "1")
    assert now() == pytest.approx(0)


async def test_in_order_and_alone(script, talk):
    """With concurrency=0 one after the other, in the agent's task."""
    turn = [("search", {"query": "a"}), ("save", {"path": "x", "text": {"$ref": "1.items[0]"}})]
    session = talk(script(turn), DagPlugin(concurrency=0))
    await session.say()
    assert session.log == ["a"]
    assert now() == pytest.approx(2)


async def test_without_references(script, talk):
    """The model's side stays as it is."""
    model = script([("search", {"query": "a"})])
    await talk(model, DagPlugin(references=False)).say()
    assert "$ref" not in str(model.seen)
    assert "[call" not in str(model.seen)


async def test_settings_and_reports(script, talk):
    """What cannot be is refused; each turn tells what became of it."""
    with pytest.raises(DagexecError, match="leave tool_executor= out"):
        talk(script(), DagPlugin(), tool_executor=SequentialToolExecutor())
    with pytest.raises(DagexecError, match="positive number"):
        DagPlugin(timeouts=-1)
    reports = []
    turn = [("search", {"query": "a"}), ("count", {"items": {"$ref": "1.items"}})]
    await talk(script(turn), DagPlugin(on_report=reports.append)).say()
    assert str(reports[0]).startswith("2 calls: 2 done")
    assert integration.__all__ == ["DagPlugin"]


async def test_a_version_that_lacks_a_name(script, talk, monkeypatch, caplog):
    """It is said once, and the agent runs as it always did."""
    monkeypatch.delattr("strands.tools.executors._executor.ToolExecutor._stream_with_trace")
    with caplog.at_level(logging.WARNING, logger="dagexec"):
        session = talk(script(), DagPlugin())
    assert type(session.agent.tool_executor) is ConcurrentToolExecutor
    assert [record.message.partition(":")[0] for record in caplog.records] == [
        "ConcurrentToolExecutor of strands has no _stream_with_trace in this version"
    ]


@pytest.mark.real_time
@pytest.mark.parametrize("way", ["call", "async"])
def test_synchronous_tools(script, talk, way, caplog):
    """In threads, with their values; one that hangs is left behind, and holds up nothing."""
    end = threading.Event()

    @strands.tool
    def hang() -> str:
        """Hang."""
        end.wait(60)
        return "too late"

    @strands.tool
    def upper(text: str) -> str:
        """Write in capitals."""
        return text.upper()

    turn = [("hang",), ("upper", {"text": "a"}), ("upper", {"text": {"$ref": "1"}})]
    session = talk(script(turn), DagPlugin(timeouts=Timeouts(call=1)), tools=[hang, upper])
    began = time.monotonic()
    if way == "call":
        session.agent("go")
    else:
        asyncio.run(session.agent.invoke_async("go"))
    assert time.monotonic() - began < 40
    end.set()
    assert "Timed out" in str(session.agent.messages)
    assert "'A'" in str(session.agent.messages)
    assert answered(session)


def test_the_guide_runs():
    """Offline, in an empty folder; and prints what it says."""
    code, printed = re.findall(r"```(?:python|text)\n(.*?)```", integration.__doc__, re.DOTALL)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == printed.split()


def test_without_the_extra_the_error_names_it():
    """One line, with the way out."""
    code = (
        "import sys; sys.modules['strands'] = None; import dagexec\n"
        "try:\n    import dagexec.integrations.strands\n"
        "except dagexec.MissingExtra as error:\n    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "Strands Agents is not installed: pip install 'dagexec[strands]'\n"
