"""Agents of smolagents whose turns run as graphs. They run in threads, on the machine's clock."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import subprocess
import sys
import threading
import time
from contextvars import ContextVar

import pytest

pytest.importorskip("smolagents", reason="needs the extra smolagents")

from PIL import Image
from smolagents import ActionStep, AgentError, CodeAgent, ToolCallingAgent, ToolOutput, tool

from dagexec import DagexecError, Timeouts
from dagexec import tool as dagexec_tool
from dagexec.integrations import smolagents as integration
from dagexec.integrations.smolagents import _loop, dag_agent
from dagexec.limits import Retry

pytestmark = pytest.mark.real_time

FIVE = [
    ("search", {"query": "a"}),
    ("count", {"items": {"$ref": "1.items"}}),
    ("search", {"query": "hung", "seconds": 60.0}),
    ("count", {"items": {"$ref": "3.items"}}),
    ("fail",),
    ("save", {"path": "x", "text": "first", "seconds": 0.2}),
    ("save", {"path": "x", "text": "second"}),
]


def steps(agent):
    """Return the steps of an agent that had calls."""
    return [step for step in agent.memory.steps if isinstance(step, ActionStep)]


def observed(agent, step=0):
    """Return what the model sees of the calls of a step, by their numbers."""
    parts = steps(agent)[step].observations.split("[call ")[1:]
    return {int(part.partition("]")[0]): part.partition("]")[2].strip() for part in parts}


def test_a_turn_with_all_of_it(script, talk, log, left_over):
    """References, a hung call, a failing one, two conflicting writes.

    In the time of the critical path, which here is the deadline of the hung call.
    """
    options = {"save": {"writes": "file:{path}"}}
    agent = talk(script(FIVE, "end"), timeouts=Timeouts(call=0.6), options=options)
    began = time.monotonic()
    assert agent.run("go") == "end"
    assert 0.6 <= time.monotonic() - began < 20
    assert log == ["first", "second"]
    found = observed(agent)
    assert found[1] == "{'items': ['a', 'b']}"
    assert found[2] == "2"
    assert "Timed out: the time limit of the call" in found[3]
    assert "call 3 (search) gave no result" in found[4]
    assert "LookupError: boom" in found[5]
    assert (found[6], found[7]) == ("first", "second")
    assert not left_over()


def test_the_same_turn_without_it(script, talk, log):
    """The framework by itself: references reach nobody, and one error costs all results."""
    without = [each for each in FIVE if each[1:] == () or "seconds" not in each[1]]
    agent = talk(script(without, FIVE[5:], "end"), bare=True)
    agent.run("go")
    assert steps(agent)[0].observations is None
    assert steps(agent)[0].error is not None
    assert log[-2:] == ["second", "first"]


def test_what_the_model_is_shown(script, talk):
    """Schemas that take references, instructions, numbers over all steps and runs."""
    model = script(
        [("search", {"query": "a"}), ("fail",)],
        [("count", {"items": {"$ref": "1.items"}})],
        "end",
    )
    agent = talk(model)
    before = {name: dict(each.inputs) for name, each in agent.tools.items()}
    agent.run("go")
    assert '{"$ref": "1"}' in model.seen[0]
    assert model.tools[0]["count"]["items"]["type"] == ["array", "object"]
    assert model.tools[0]["final_answer"] == before["final_answer"]
    assert {name: each.inputs for name, each in agent.tools.items()} == before
    assert "[call 1]" in model.seen[1]
    assert observed(agent, 1) == {3: "2"}
    # What goes on may refer to what was before; what begins anew may not.
    model.replies = [[("save", {"path": "x", "text": {"$template": "${3} again"}})], "end"]
    agent.run("more", reset=False)
    assert observed(agent, 3) == {5: "2 again"}
    model.replies = [[("save", {"path": "x", "text": {"$ref": "7"}}), ("fail",)], "end"]
    agent.run("new")
    assert set(observed(agent)) == {1, 2}
    assert "no call '7'" in observed(agent)[1]


def test_values_keep_their_type(script, talk):
    """Those that the framework wraps too, within a turn and after it."""
    got = []

    @tool
    def draw() -> object:
        """Draw."""
        return Image.new("RGB", (2, 2))

    @tool
    def pair() -> object:
        """Make."""
        return ("a", 1.5)

    @tool
    def say() -> str:
        """Say."""
        return '["a"]'

    @tool
    def take(value: object) -> str:
        """Take.

        Args:
            value: anything
        """
        got.append(value)
        return "taken"

    draw.output_type = "image"
    turn = [
        ("draw",),
        ("pair",),
        ("say",),
        *[("take", {"value": {"$ref": n}}) for n in "123"],
        ("count", {"items": {"$ref": "3"}}),
    ]
    agent = talk(
        script(turn, [("take", {"value": {"$ref": "2"}})], "end"),
        tools=[draw, pair, say, take],
        concurrency=1,
    )
    for name in ("take",):
        agent.tools[name].inputs["value"]["type"] = "any"
    agent.run("go")
    assert isinstance(got[0], Image.Image)
    assert got[1:] == [("a", 1.5), '["a"]', ("a", 1.5)]
    assert observed(agent)[7] == "1"
    assert observed(agent)[1] == "Stored 'image.png' in memory."


def test_calls_that_cannot_run(script, talk):
    """Unknown tools, wrong arguments, texts for arguments, ids that come twice."""
    turn = [
        ("nope", {}, "same"),
        ("search", {"query": {"$ref": "1"}}, "same"),
        ("search", {"query": 3}),
        ("count", "not an object"),
        ("search", {"query": {"$ref": "6"}}),
        ("search", {"query": "b"}),
    ]
    agent = talk(script(turn, "end"))
    agent.run("go")
    found = observed(agent)
    assert "Unknown tool nope" in found[1]
    assert "call 1 (nope) gave no result" in found[2]
    assert "should be 'string'" in found[3]
    assert "should be" in found[4] or "Error" in found[4]
    assert found[6] == "{'items': ['b', 'b']}"
    assert len(found) == 6


def test_final_answers(script, talk):
    """Alone it ends the run, and is data; beside others it is refused, as always."""
    agent = talk(script([("final_answer", {"answer": {"$ref": "1"}})]))
    assert agent.run("go") == {"$ref": "1"}
    agent = talk(script([("final_answer", {"answer": "x"}), ("count", {"items": []})], "end"))
    assert agent.run("go") == "end"
    assert "do not perform any other tool calls" in str(steps(agent)[0].error)


def test_errors_as_before(script, talk, log):
    """The step has the error when all have ended, and the run goes on."""
    turn = [("fail",), ("save", {"path": "x", "text": "t", "seconds": 0.1})]
    agent = talk(script(turn, "end"), errors="raise")
    assert agent.run("go") == "end"
    assert "boom" in str(steps(agent)[0].error)
    assert log == ["t"]


def test_retries_and_tools_of_dagexec(script, talk):
    """A retry looks at what the tool raised; dagexec's tools have their own options."""
    attempts = []

    @tool
    def flaky() -> str:
        """Fail twice."""
        attempts.append(1)
        if len(attempts) < 3:
            raise ConnectionError("not yet")
        return "there"

    @dagexec_tool(timeout=0.2)
    async def wait(seconds: float, why: str | None = None) -> dict:
        """Wait."""
        await asyncio.sleep(seconds)
        return {"waited": seconds}

    options = {"flaky": {"effect": "read", "retry": Retry(3, base=0.01, on=ConnectionError)}}
    turn = [
        ("flaky",),
        ("wait", {"seconds": 0.01}),
        ("wait", {"seconds": 30.0}),
        ("wait", {}),
        ("search", {"query": {"$template": "${2.waited}"}}),
    ]
    agent = talk(script(turn, "end"), tools=[flaky], own=[wait], options=options)
    agent.run("go")
    found = observed(agent)
    assert found[1] == "there"
    assert found[2] == "{'waited': 0.01}"
    assert "Timed out" in found[3]
    assert "seconds" in found[4]
    assert "0.01" in found[5]


def test_streams_and_context(script, talk, left_over):
    """Outputs come as calls end; calls see the caller's context; who stops reading ends them."""
    where = ContextVar("where", default="nowhere")

    @tool
    def place() -> str:
        """Say where."""
        return where.get()

    where.set("here")
    turn = [("search", {"query": "a", "seconds": 0.3}), ("place",)]
    agent = talk(script(turn, "end"), tools=[place])
    outputs = [each for each in agent.run("go", stream=True) if isinstance(each, ToolOutput)]
    assert [each.observation for each in outputs[:2]] == ["here", "{'items': ['a', 'b']}"]
    agent = talk(script([("search", {"query": "a", "seconds": 60.0}), ("place",)]), tools=[place])
    stream = agent.run("go", stream=True)
    began = time.monotonic()
    next(each for each in stream if isinstance(each, ToolOutput))
    del agent.memory.steps[:]
    with contextlib.suppress(RuntimeError):  # the framework yields in a `finally`
        stream.close()
    assert time.monotonic() - began < 20
    assert not left_over()


def test_interrupting_the_agent(script, talk, log, left_over):
    """What runs is left behind and answered; the run ends."""
    turn = [
        ("search", {"query": "a", "seconds": 60.0}),
        ("save", {"path": "x", "text": {"$ref": "1.items[0]"}}),
    ]
    agent = talk(script(turn))
    began = time.monotonic()
    threading.Timer(0.2, agent.interrupt).start()
    with pytest.raises(AgentError, match="interrupted"):
        agent.run("go")
    assert time.monotonic() - began < 20
    assert "may have taken effect" in observed(agent)[1]
    assert observed(agent)[2].startswith("Not run")
    assert log == []
    assert not left_over()


def test_inside_an_event_loop_and_managed_agents(script, talk):
    """An agent in an agent, both with turns of their own, called where a loop runs."""
    inner = talk(
        script([("search", {"query": "in"})], "found it"),
        agent={"name": "inner", "description": "Finds."},
    )
    turn = [("inner", {"task": "go"}), ("search", {"query": {"$ref": "1"}})]
    outer = talk(script(turn, "end"), agent={"managed_agents": [inner]})

    async def main():
        return outer.run("go")

    assert asyncio.run(main()) == "end"
    assert "found it" in observed(outer)[2]


def test_the_given_agent_stays(script, talk):
    """The result is a copy, and of the same kind by name."""
    model = script([("search", {"query": "a"}), ("fail",)], "end")
    agent = talk(model, bare=True)
    other = dag_agent(agent)
    assert other.run("go") == "end"
    assert agent.memory.steps == []
    assert type(agent) is ToolCallingAgent
    assert isinstance(other, ToolCallingAgent)
    assert type(other).__name__ == "ToolCallingAgent"


def test_without_references(script, talk):
    """The model's side stays as it is."""
    model = script([("search", {"query": "a"}), ("count", {"items": []})], "end")
    agent = talk(model, references=False)
    agent.run("go")
    assert "$ref" not in str(model.seen)
    assert steps(agent)[0].observations == "{'items': ['a', 'b']}\n0"


def test_one_after_the_other(script, talk, log):
    """With concurrency=0, to debug."""
    turn = [("search", {"query": "a"}), ("save", {"path": "x", "text": {"$ref": "1.items[0]"}})]
    talk(script(turn, "end"), concurrency=0).run("go")
    assert log == ["a"]


def test_settings_and_reports(script, talk):
    """What cannot be is refused; each turn tells what became of it."""
    with pytest.raises(DagexecError, match=r"planners\.programs"):
        dag_agent(CodeAgent([], script()))
    with pytest.raises(DagexecError, match="nobody to ask"):
        talk(script(), options={"save": {"approval": True}})
    with pytest.raises(DagexecError, match="errors="):
        talk(script(), errors="ignore")
    reports = []
    turn = [("search", {"query": "a"}), ("count", {"items": {"$ref": "1.items"}})]
    talk(script(turn, "end"), on_report=reports.append).run("go")
    assert str(reports[0]).startswith("2 calls: 2 done")
    assert integration.__all__ == ["dag_agent"]


def test_a_version_that_lacks_a_name(script, talk, monkeypatch, caplog):
    """It is said once, and the agent runs as it always did."""
    agent = talk(script("end"), bare=True)
    monkeypatch.delattr(ToolCallingAgent, "tools_and_managed_agents")
    with caplog.at_level(logging.WARNING, logger="dagexec"):
        other = dag_agent(agent)
    assert type(other) is ToolCallingAgent
    assert [record.message.partition(":")[0] for record in caplog.records] == [
        "ToolCallingAgent of smolagents has no tools_and_managed_agents in this version"
    ]


def test_without_the_extra_the_error_names_it():
    """One line, with the way out."""
    code = (
        "import sys; sys.modules['smolagents'] = None; import dagexec\n"
        "try:\n    import dagexec.integrations.smolagents\n"
        "except dagexec.MissingExtra as error:\n    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "smolagents is not installed: pip install 'dagexec[smolagents]'\n"


def living():
    """Return the threads of agents' event loops."""
    return [each for each in threading.enumerate() if each.name == "dagexec smolagents"]


def test_one_loop_for_all_turns_of_an_agent(script, talk, monkeypatch):
    """It is there for the next turn, and ends when there is none for a while."""
    monkeypatch.setattr(_loop, "IDLE_SECONDS", 0.2)
    before = set(living())
    loops = set()
    agent = talk(
        script([("search", {"query": "a"})], [("search", {"query": "b"})], "end"),
        on_report=lambda report: loops.add(threading.current_thread()),
    )
    agent.run("go")
    (loop,) = loops
    assert loop in living()
    loop.join(30)
    assert set(living()) <= before
    agent.model.replies[:] = [[("search", {"query": "c"})], "end"]
    assert agent.run("go") == "end"
    assert len(loops) == 2


def test_an_agent_that_is_gone_leaves_no_loop(script, talk):
    """One is made for each question in a service."""
    before = set(living())
    agent = talk(script([("search", {"query": "a"})], "end"))
    agent.run("go")
    (loop,) = set(living()) - before
    del agent
    gc.collect()
    loop.join(1.5)  # sooner than it would for want of turns
    assert not loop.is_alive()


def test_a_loop_that_cannot_start(script, talk, monkeypatch):
    """The agent is told why, and does not wait."""

    def refuse(coroutine):
        coroutine.close()
        raise OSError("Too many open files")

    agent = talk(script([("search", {"query": "a"})], "end"))
    monkeypatch.setattr(_loop.asyncio, "run", refuse)
    with pytest.raises(DagexecError, match="no event loop"):
        agent.run("go")


def test_an_agent_within_its_own_loop(script, talk):
    """What looks at a report runs in the loop, and runs the agent once more."""
    inner = talk(script([("search", {"query": "in"})], "inner"))
    found = []
    outer = talk(
        script([("search", {"query": "out"})], "outer"),
        on_report=lambda report: found.append(inner.run("go")),
    )
    assert outer.run("go") == "outer"
    again = []

    def once_more(report):
        if not again:
            again.append(None)
            again.append(same.run("go", reset=False))

    same = talk(
        script([("search", {"query": "1"})], [("search", {"query": "2"})], "end", "last"),
        on_report=once_more,
    )
    same.run("go")
    assert (found[0], again) == ("inner", [None, "end"])


def test_a_tool_that_ends_the_interpreter(script, talk, left_over):
    """It ends this run, and no other that uses the loop."""

    @tool
    def leave() -> str:
        """Leave."""
        sys.exit(3)

    turn = [("leave",), ("search", {"query": "a", "seconds": 60.0})]
    agent = talk(script(turn, [("search", {"query": "b"})], "end"), tools=[leave])
    with pytest.raises(SystemExit, match="3"):
        agent.run("go")
    assert not left_over()
    assert agent.run("go") == "end"


@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork.*:DeprecationWarning")
def test_a_forked_child_has_a_loop_of_its_own(script, talk):
    """The parent's thread is not there."""
    agent = talk(script([("search", {"query": "a"})], "end"))
    agent.run("go")
    agent.model.replies[:] = [[("search", {"query": "b"})], "child"]
    pid = os.fork()
    if pid == 0:
        os._exit(0 if agent.run("go") == "child" else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
