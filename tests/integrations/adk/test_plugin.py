"""Agents of Google ADK whose turns run as graphs."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys

import pytest

pytest.importorskip("google.adk.plugins.base_plugin", reason="needs the extra adk")

from google.adk.agents import LlmAgent, ParallelAgent
from google.adk.tools import LongRunningFunctionTool

from dagexec import DagexecError, Timeouts, tool
from dagexec.integrations import adk as integration
from dagexec.integrations.adk import DagPlugin
from dagexec.limits import Retry
from tests.integrations.adk.conftest import Talk, count, save, search

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.filterwarnings("ignore::UserWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]

FIVE = [
    ("search", {"query": "a"}),
    ("count", {"items": {"$ref": "1.items"}}),
    ("search", {"query": "hung", "seconds": 999}),
    ("count", {"items": {"$ref": "3.items"}}),
    ("fail",),
    ("save", {"path": "x", "text": "first", "seconds": 1.5}),
    ("save", {"path": "x", "text": "second", "seconds": 0}),
    ("drop", {"what": {"$ref": "2"}}),
]


def now():
    """Return the seconds since the test began."""
    return asyncio.get_running_loop().time() - 1000


def left_over():
    """Return what still runs of turns."""
    return [task for task in asyncio.all_tasks() if task.get_name() == "dagexec turn"]


async def test_a_turn_with_all_of_it(script, talk):
    """References, a hung call, a failing one, two conflicting writes, a confirmation.

    In the time of the critical path, which here is the deadline of the hung call.
    """
    plugin = DagPlugin(timeouts=Timeouts(call=2), options={"save": {"writes": "file:{path}"}})
    session = talk(script(FIVE), plugin)
    found = [response for _, response in await session.say()]
    assert now() == pytest.approx(2)
    assert session.log == ["first", "second"]
    assert found[1] == {"result": 2}
    assert "Timed out: the time limit of the call" in found[2]["error"]
    assert "call 3 (search) gave no result" in found[3]["error"]
    assert found[4] == {"error": "ValueError: boom"}
    assert found[5:7] == [{"result": "first"}, {"result": "second"}]
    assert "confirm" in found[7]["error"]
    assert ("drop", {"result": "dropped 2"}) in await session.confirm(yes=True)
    assert not left_over()


async def test_the_same_turn_without_it(script, talk):
    """The framework by itself: the exception ends the run; without it the hung call holds all."""
    with pytest.raises(ValueError, match="boom"):
        await talk(script(FIVE)).say()
    without = [each for each in FIVE if each[0] not in ("fail", "count", "drop")]
    session = talk(script(without))
    await session.say()
    assert now() == pytest.approx(999)
    assert session.log[-2:] == ["second", "first"]


async def test_what_the_model_is_shown(script, talk):
    """Declarations that take references, instructions, numbers; the session has none of it."""
    counts = ("count", {"items": {"$ref": "1.items"}})
    model = script([("search", {"query": "a"}), ("fail",)], [counts])
    session = talk(model, DagPlugin(), instruction="Be brief.")
    found = await session.say()
    request = model.seen[1]
    assert request.config.system_instruction.startswith("Be brief.")
    assert '{"$ref": "1"}' in request.config.system_instruction
    shown = [
        part.function_response.response
        for content in request.contents
        for part in content.parts
        if part.function_response
    ]
    assert shown == [
        {"call": "[call 1]", "items": ["a", "b"]},
        {"call": "[call 2]", "error": "ValueError: boom"},
    ]
    assert found[-1] == ("count", {"result": 2})
    assert found[0] == ("search", {"items": ["a", "b"]})
    # The next message of the session may refer to it as well.
    model.replies = [[("search", {"query": {"$template": "${3} again"}})]]
    assert await session.say() == [("search", {"items": ["2 again", "b"]})]


async def test_a_declaration_is_widened_once(script, talk, monkeypatch):
    """Not at each request, though the ADK makes the declarations anew."""
    from dagexec.integrations.adk import _contents

    seen = []

    def counted(schema):
        seen.append(schema)
        return widened(schema)

    widened = _contents.widened
    monkeypatch.setattr(_contents, "widened", counted)
    session = talk(script(*[[("search", {"query": "a"})]] * 3), DagPlugin())
    await session.say()
    assert len(seen) == 4  # the tools of the agent that have parameters


async def test_calls_that_never_come(script, talk):
    """Answered by a callback, unknown: what needs them is skipped, and the others run."""

    def answers(tool, args, tool_context):
        return {"cached": True} if args.get("query") == "cached" else None

    model = script(
        [
            ("search", {"query": "cached"}),
            ("search", {"query": {"$ref": "1"}}),
            ("nope",),
            ("search", {"query": {"$ref": "3"}}),
            ("search", {"query": "b"}),
        ]
    )
    session = talk(model, DagPlugin(), before_tool_callback=answers)
    found = [response for _, response in await session.say()]
    assert found[0] == {"cached": True}
    assert "call 1 (search) gave no result" in found[1]["error"]
    assert "call 3 (nope) gave no result" in found[3]["error"]
    assert found[4] == {"items": ["b", "b"]}
    assert now() == pytest.approx(1)


async def test_callbacks_state_and_errors(script, talk):
    """Callbacks see what the tool returned; state is kept; who answers an error goes first."""
    seen = []

    def after(tool, args, tool_context, tool_response):
        seen.append((tool.name, tool_response))

    def on_error(tool, args, tool_context, error):
        return {"handled": str(error)}

    async def note(text: str, tool_context) -> str:
        """Note."""
        tool_context.state["note"] = text
        return text

    from google.adk.tools.tool_context import ToolContext

    note.__annotations__["tool_context"] = ToolContext
    turn = [("search", {"query": "a"}), ("note", {"text": {"$ref": "1.items[0]"}}), ("fail",)]
    session = talk(
        script(turn),
        DagPlugin(),
        tools=[note],
        after_tool_callback=after,
        on_tool_error_callback=on_error,
    )
    found = await session.say()
    assert ("fail", {"handled": "boom"}) in found
    assert ("note", "a") in seen
    service = session.runner.session_service
    kept = await service.get_session(
        app_name=session.runner.app_name, user_id="u", session_id=session.session.id
    )
    assert kept.state["note"] == "a"
    with pytest.raises(ValueError, match="boom"):
        await talk(script([("fail",)]), DagPlugin(errors="raise")).say()


async def test_confirmations(script, talk):
    """By option too: confirmed, it runs; rejected, it does not."""
    plugin = DagPlugin(options={"save": {"approval": lambda args: args["path"] == "x"}})
    turn = [("save", {"path": "x", "text": "t"}), ("search", {"query": {"$ref": "1"}})]
    for yes in (False, True):
        session = talk(script(turn), plugin)
        found = [response for _, response in await session.say()]
        assert "has no result yet" in found[1]["error"]
        answered = dict(await session.confirm(yes=yes))
        assert ("result" if yes else "error") in answered["save"]
    assert session.log == ["t"]


async def test_tools_that_run_for_long(script, talk):
    """Their first answer is not a result to build on."""

    async def start() -> dict:
        """Start."""
        return {"status": "pending"}

    turn = [("start",), ("search", {"query": {"$ref": "1"}})]
    session = talk(script(turn), DagPlugin(), tools=[LongRunningFunctionTool(start)])
    found = dict(await session.say())
    assert found["start"] == {"status": "pending"}
    assert "call 1 (start) has no result yet" in found["search"]["error"]


async def test_transfers_and_other_agents(script, talk):
    """An agent that is handed over to is of the same runner, and its turns are graphs too."""
    turn = [("search", {"query": "a"}), ("count", {"items": {"$ref": "3.items"}})]
    other = talk(script(turn)).runner.agent.clone(update={"name": "b", "description": "B."})
    model = script(
        [("search", {"query": {"$ref": "2"}}), ("transfer_to_agent", {"agent_name": "b"})]
    )
    session = talk(model, DagPlugin(), sub_agents=[other])
    found = await session.say()
    assert ("count", {"result": 2}) in found
    assert any("gave no result" in str(response) for _, response in found)


async def test_tools_of_dagexec_and_retries(script, talk):
    """With their options; and options for the agent's own."""
    attempts = []

    async def flaky() -> str:
        """Fail twice."""
        attempts.append(1)
        if len(attempts) < 3:
            raise ConnectionError
        return "there"

    @tool(timeout=1)
    async def wait(seconds: float) -> str:
        """Wait."""
        await asyncio.sleep(seconds)
        return "waited"

    plugin = DagPlugin(
        [wait], options={"flaky": {"effect": "read", "retry": Retry(3, base=0.1)}}, concurrency=2
    )
    turn = [("flaky",), ("wait", {"seconds": 0.5}), ("wait", {"seconds": 5}), ("wait", {})]
    found = [response for _, response in await talk(script(turn), plugin, tools=[flaky]).say()]
    assert found[0] == {"result": "there"}
    assert found[1] == {"result": "waited"}
    assert "Timed out" in found[2]["error"]
    assert "seconds" in found[3]["error"]


@pytest.mark.parametrize("after", [0.0, 0.5, 1.5])
async def test_cancelling_the_run(script, talk, after):
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


async def test_without_references(script, talk):
    """The model's side stays as it is."""
    model = script([("search", {"query": "a"})])
    await talk(model, DagPlugin(references=False)).say()
    assert "$ref" not in str(model.seen[0].config)


async def test_settings_and_reports(script, talk):
    """What cannot be is refused; each turn tells what became of it."""
    with pytest.raises(DagexecError, match="errors="):
        DagPlugin(errors="ignore")
    reports = []
    turn = [("search", {"query": "a"}), ("count", {"items": {"$ref": "1.items"}})]
    await talk(script(turn), DagPlugin(on_report=reports.append)).say()
    assert str(reports[0]).startswith("2 calls: 2 done")
    assert LlmAgent is not None


def test_the_guide_runs():
    """Offline, in an empty folder; and prints what it says."""
    code, printed = re.findall(r"```(?:python|text)\n(.*?)```", integration.__doc__, re.DOTALL)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == printed.split()


async def test_agents_beside_one_another_have_numbers_of_their_own(script):
    """Neither sees the other's calls, so a number never leads there."""
    turns = [
        [("search", {"query": "x"}), ("count", {"items": {"$ref": "1.items"}})],
        [("save", {"path": "p", "text": {"$ref": "1.items[0]"}})],
    ]
    agents = [
        LlmAgent(name="x", model=script(*turns), tools=[search, count, save]),
        LlmAgent(
            name="y",
            model=script([("search", {"query": "y"}), *turns[0][1:]], turns[1]),
            tools=[search, count, save],
        ),
    ]
    answers = await Talk(ParallelAgent(name="both", sub_agents=agents), [DagPlugin()]).say()
    assert sorted(str(r["result"]) for name, r in answers if name == "save") == ["x", "y"]
    assert [r for name, r in answers if name == "count"] == [{"result": 2}] * 2
    for agent in agents:
        assert heads(agent.model) == ["[call 1]", "[call 2]", "[call 3]"]


async def test_calls_of_another_agent_between_an_agents_own(script):
    """They are texts in its requests, and keep their numbers."""
    model = script(
        [("search", {"query": "1"})],
        [("transfer_to_agent", {"agent_name": "b"})],
        [("search", {"query": "3"})],
        [("transfer_to_agent", {"agent_name": "a"})],
        [("search", {"query": "5"})],
        "end",
    )
    b = LlmAgent(name="b", model=model, tools=[search])
    a = LlmAgent(name="a", model=model, tools=[search], sub_agents=[b])
    await Talk(a, [DagPlugin()]).say()
    assert heads(model) == ["[call 1]", "[call 2]", "[call 5]"]


def heads(model):
    """Return what the last request says of its calls."""
    responses = [
        part.function_response.response
        for content in model.seen[-1].contents
        for part in content.parts
        if part.function_response is not None
    ]
    return [each["call"] for each in responses if "call" in each]
