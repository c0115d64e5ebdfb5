"""Agents of Pydantic AI whose turns run as graphs."""

from __future__ import annotations

import asyncio

import pytest
from pydantic_ai import Agent, DeferredToolRequests, ModelRetry, RunContext, ToolOutput, UsageLimits
from pydantic_ai.capabilities import AbstractCapability
from pydantic_ai.exceptions import (
    ApprovalRequired,
    CallDeferred,
    RunCancelled,
    SkipToolExecution,
    UnexpectedModelBehavior,
    UsageLimitExceeded,
)
from pydantic_ai.messages import ToolReturn, ToolReturnPart
from pydantic_ai.tools import DeferredToolResults, ToolApproved, ToolDenied
from pydantic_ai.toolsets import FunctionToolset

from dagexec import DagexecError, Timeouts, ToolDefinitionError, ask, tool
from dagexec.integrations.pydantic_ai import Dag
from dagexec.limits import Retry


def returns(result, turn=-1):
    """Return `(tool, outcome, content)` of the calls of a turn, the last one by default."""
    requests = [
        message
        for message in result.all_messages()
        if any(isinstance(part, ToolReturnPart) for part in message.parts)
    ]
    return [
        (part.tool_name, part.outcome, part.content)
        for part in requests[turn].parts
        if isinstance(part, ToolReturnPart)
    ]


def now():
    """Return the seconds since the test began."""
    return asyncio.get_running_loop().time() - 1000


pytestmark = pytest.mark.anyio

FIVE = [
    ("search", {"query": "a"}),
    ("count", {"items": {"$ref": "1.items"}}),
    ("search", {"query": "hung", "seconds": 999}),
    ("count", {"items": {"$ref": "3.items"}}),
    ("fail",),
    ("save", {"path": "x", "text": "first", "seconds": 1.5}),
    ("save", {"path": "x", "text": "second", "seconds": 0}),
    ("drop",),
]


def with_approval(agent):
    """Add a tool that a person has to agree to."""

    @agent.tool
    async def drop(ctx: RunContext) -> str:
        """Drop all."""
        if not ctx.tool_call_approved:
            raise ApprovalRequired
        return "dropped"

    return agent


async def test_a_turn_with_all_of_it(script, made):
    """References, a hung call, a failing one, two conflicting writes, an approval: right results.

    In the time of the critical path, which here is the deadline of the hung call.
    """
    dag = Dag(timeouts=Timeouts(call=2), options={"save": {"writes": "file:{path}"}})
    agent = with_approval(made(script(FIVE), dag, output_type=[str, DeferredToolRequests]))
    result = await agent.run("go")
    assert now() == pytest.approx(2)
    assert agent.log == ["first", "second"]
    assert [call.tool_name for call in result.output.approvals] == ["drop"]
    found = returns(result)
    assert [(name, outcome) for name, outcome, _ in found] == [
        ("search", "success"),
        ("count", "success"),
        ("search", "failed"),
        ("count", "failed"),
        ("fail", "failed"),
        ("save", "success"),
        ("save", "success"),
    ]
    assert found[1][2] == 2
    assert "Timed out: the time limit of the call" in found[2][2]
    assert "call 3 (search) gave no result" in found[3][2]
    assert found[4][2] == "ValueError: boom"
    again = await agent.run(
        message_history=result.all_messages(),
        deferred_tool_results=DeferredToolResults(
            approvals={result.output.approvals[0].tool_call_id: True}
        ),
    )
    assert ("drop", "success", "dropped") in returns(again)


async def test_the_same_turn_without_it(script, made):
    """The framework by itself: the first exception ends the run, and the writes are in no order."""
    agent = with_approval(made(script(FIVE), output_type=[str, DeferredToolRequests]))
    with pytest.raises(ValueError, match="boom"):
        await agent.run("go")
    without = [each for each in FIVE if each[0] not in ("fail", "count")]
    agent = with_approval(made(script(without), output_type=[str, DeferredToolRequests]))
    await agent.run("go")
    assert now() == pytest.approx(999)
    assert agent.log == ["second", "first"]


async def test_what_the_model_is_shown(script, made):
    """Schemas that take references, instructions, numbers; the history has none of it."""
    model = script(
        [("search", {"query": "a"}), ("fail",)], [("count", {"items": {"$ref": "1.items"}})]
    )
    agent = made(model, Dag(), instructions="Be brief.")
    result = await agent.run("go")
    messages, info = model.seen[1]
    count = info.function_tools[1]
    plain = {"items": {"items": {"type": "string"}, "type": "array"}}
    assert count.name == "count"
    assert count.parameters_json_schema["properties"] != plain, "it takes a reference too"
    assert info.instructions.startswith("Be brief.")
    assert '{"$ref": "1"}' in info.instructions
    shown = [part.content for part in messages[-1].parts]
    assert shown == ['[call 1]\n{"items":["a","b"]}', "[call 2: failed]\nValueError: boom"]
    assert model.seen[2][0][-1].parts[0].content == "[call 3]\n2"
    assert returns(result) == [("count", "success", 2)]
    kept = str(result.all_messages())
    assert "[call" not in kept.replace("[call(", "")
    assert "$template" not in kept


async def test_a_schema_is_widened_once(script, made, monkeypatch):
    """Not at each request, though the framework makes the schemas anew; a changed one is again."""
    from dagexec.integrations.pydantic_ai import _messages

    seen = []

    def counted(schema):
        seen.append(schema)
        return widened(schema)

    widened = _messages.widened
    monkeypatch.setattr(_messages, "widened", counted)
    turns = [[("search", {"query": "a"})]] * 3
    agent = made(script(*turns, "done", *turns), Dag())
    await agent.run("go")
    await agent.run("go")
    assert len(seen) == 4  # the tools of the agent


async def test_without_references_nothing_is_shown(script, made):
    """And an argument that looks like one is a value."""
    model = script([("echo", {"value": {"$ref": "1"}})])
    agent = made(model, Dag(references=False))

    @agent.tool_plain
    async def echo(value: dict) -> dict:
        return value

    result = await agent.run("go")
    assert returns(result) == [("echo", "success", {"$ref": "1"})]
    assert model.seen[0][1].instructions is None


async def test_references_to_turns_before_and_across_runs(script, made):
    """By number, also in a run that begins with a history."""
    model = script(
        [("search", {"query": "a"})],
        "so far",
        [("search", {"query": {"$template": "${1.items[0]} again"}})],
    )
    agent = made(model, Dag())
    first = await agent.run("go")
    second = await agent.run("on", message_history=first.all_messages())
    assert returns(second) == [("search", "success", {"items": ["a again", "b"]})]


async def test_values_keep_their_type(script):
    """An object of the user's goes from tool to tool, and the schema of the second is asked."""

    class Thing:
        pass

    agent = Agent(script([("make",), ("use", {"thing": {"$ref": "1.part"}})]), capabilities=[Dag()])
    given = []

    @agent.tool_plain
    async def make() -> ToolReturn:
        return ToolReturn(return_value={"part": Thing()}, content="for the model")

    @agent.tool_plain
    async def use(thing: object) -> str:
        given.append(thing)
        return "used"

    with pytest.raises(Exception, match="Unable to serialize"):
        await agent.run("go")
    assert isinstance(given[0], Thing)


async def test_arguments_are_validated_when_the_values_are_there(script, made):
    """By the tool's own schema: a wrong value is a retry of that call, as ever."""
    model = script([("search", {"query": "a"}), ("count", {"items": {"$ref": "1"}})])
    result = await made(model, Dag()).run("go")
    _, wrong = returns(result)
    assert wrong[1] == "retried"
    assert wrong[2][0]["type"] == "list_type"


@pytest.mark.parametrize("bad", [("count", {"items": 3}), ("nope", {}), ("count", {})])
async def test_calls_that_never_come(script, made, bad):
    """Wrong arguments, an unknown tool: what needs them is skipped, at once; the rest runs."""
    model = script([bad, ("search", {"query": {"$ref": "1"}}), ("search", {"query": "b"})])
    result = await made(model, Dag()).run("go")
    assert now() == pytest.approx(1)
    assert [outcome for _, outcome, _ in returns(result)] == ["retried", "failed", "success"]
    assert "call 1" in returns(result)[1][2]


async def test_a_reference_to_an_output_tool(script, made):
    """Its call is none of those that run."""
    model = script(
        [
            ("count", {"items": {"$ref": "2"}}),
            ("final_result", {"query": "x"}),
            ("save", {"path": "", "text": "t"}),
        ]
    )

    async def final(query: str) -> str:
        return query

    agent = made(model, Dag(), output_type=ToolOutput(final, name="final_result"))
    result = await agent.run("go")
    assert result.output == "x"
    assert agent.log == ["t"]
    assert now() == pytest.approx(1)


async def test_sequential_tools_are_barriers(script):
    """They run alone, and a reference to one that starts later does not wait."""
    model = script(
        [
            ("slow", {"name": "1"}),
            ("slow", {"name": {"$ref": "3"}}),
            ("alone", {"name": "3"}),
            ("slow", {"name": {"$ref": "3"}}),
        ]
    )
    agent = Agent(model, capabilities=[Dag()])
    log = []

    async def work(name):
        log.append(f"+{name}")
        await asyncio.sleep(1)
        log.append(f"-{name}")
        return f"{name}!"

    agent.tool_plain(work, name="slow")
    agent.tool_plain(work, name="alone", sequential=True)
    result = await agent.run("go")
    assert log == ["+1", "-1", "+3", "-3", "+3!", "-3!"]
    assert [outcome for _, outcome, _ in returns(result)] == [
        "success",
        "failed",
        "success",
        "success",
    ]
    assert now() == pytest.approx(3)


async def test_sequential_mode(script, made):
    """One call after the other: a reference back works, one forward does not wait."""
    model = script(
        [
            ("count", {"items": {"$ref": "2.items"}}),
            ("search", {"query": "a"}),
            ("count", {"items": {"$ref": "2.items"}}),
        ]
    )
    agent = made(model, Dag())
    with agent.parallel_tool_call_execution_mode("sequential"):
        result = await agent.run("go")
    assert [outcome for _, outcome, _ in returns(result)] == ["failed", "success", "success"]


async def test_model_retry_and_its_budget(script):
    """A tool asks for another try; the budget is the framework's."""
    agent = Agent(script(*[[("picky",)]] * 3), capabilities=[Dag()], retries=1)

    @agent.tool_plain
    async def picky() -> None:
        raise ModelRetry("not like that")

    with pytest.raises(UnexpectedModelBehavior, match="exceeded max retries"):
        await agent.run("go")


async def test_retries_by_effect(script):
    """What only reads is tried again, and what was made good counts as no failure."""
    agent = Agent(
        script(*[[("flaky",)]] * 3),
        retries=1,
        capabilities=[Dag(options={"flaky": {"effect": "read", "retry": Retry(3, base=0.1)}})],
    )
    attempts = []

    @agent.tool_plain
    async def flaky() -> int:
        attempts.append(1)
        if len(attempts) % 2:
            raise ConnectionError
        return len(attempts)

    result = await agent.run("go")
    assert returns(result) == [("flaky", "success", 6)]


async def test_approval_by_option(script, made):
    """`approval` defers a call as `ApprovalRequired` does; what needs it is told."""
    dag = Dag(options={"save": {"approval": lambda args: args["path"] == "x"}})
    model = script(
        [
            ("save", {"path": "x", "text": "t"}),
            ("search", {"query": {"$ref": "1"}}),
            ("save", {"path": "y", "text": "u"}),
        ]
    )
    agent = made(model, dag, output_type=[str, DeferredToolRequests])
    result = await agent.run("go")
    assert [call.tool_call_id for call in result.output.approvals] == ["id1"]
    assert agent.log == ["u"]
    assert now() == pytest.approx(1)
    skipped = next(content for name, _, content in returns(result) if name == "search")
    assert "call 1 (save) has no result yet" in skipped
    for answer, outcome in ((True, "success"), (ToolDenied("no"), "denied")):
        model.replies = []
        again = await agent.run(
            message_history=result.all_messages(),
            deferred_tool_results=DeferredToolResults(approvals={"id1": answer}),
        )
        assert ("save", outcome) in [(name, found) for name, found, _ in returns(again)]
    assert agent.log == ["u", "t"]


async def test_a_call_that_was_approved_uses_results_of_its_turn(script, made):
    """The others of its reply ran before, in another run."""
    dag = Dag(options={"save": {"approval": True}})
    model = script(
        [("search", {"query": "a"}), ("save", {"path": "x", "text": {"$ref": "1.items[0]"}})]
    )
    agent = made(model, dag, output_type=[str, DeferredToolRequests])
    result = await agent.run("go")
    again = await agent.run(
        message_history=result.all_messages(),
        deferred_tool_results=DeferredToolResults(approvals={"id2": ToolApproved()}),
    )
    assert ("save", "success", "a") in returns(again)


async def test_deferred_tools(script, made):
    """A call that is answered elsewhere has no result yet."""
    model = script([("later",), ("search", {"query": {"$ref": "1"}})])
    agent = made(model, Dag(), output_type=[str, DeferredToolRequests])

    @agent.tool_plain
    async def later() -> str:
        raise CallDeferred

    result = await agent.run("go")
    assert [call.tool_name for call in result.output.calls] == ["later"]
    assert now() == 0


async def test_dagexecs_tools(script):
    """With their options, their context, and questions to a person."""
    from dagexec import CallContext

    @tool(writes="file:{path}", timeout=2)
    async def put(path: str, seconds: float, context: CallContext) -> str:
        """Write.

        Args:
            path: where
            seconds: how long
        """
        await asyncio.sleep(seconds)
        return f"{context.tool} {path}"

    @tool
    async def color() -> str:
        """Ask for a colour."""
        return await ask("Which colour?")

    model = script(
        [
            ("put", {"path": "x", "seconds": 1}),
            ("put", {"path": "x", "seconds": 1}),
            ("put", {"path": "y", "seconds": 9}),
            ("put", {"path": "y"}),
            ("color",),
        ]
    )
    agent = Agent(model, capabilities=[Dag([put, color])], output_type=[str, DeferredToolRequests])
    result = await agent.run("go")
    assert now() == pytest.approx(2)
    assert [(outcome, content) for _, outcome, content in returns(result)][:2] == [
        ("success", "put x"),
        ("success", "put x"),
    ]
    assert [outcome for _, outcome, _ in returns(result)] == [
        "success",
        "success",
        "failed",
        "retried",
    ]
    assert result.output.metadata["id5"] == {"question": "Which colour?"}
    assert model.seen[0][1].function_tools[0].description == "Write."


async def test_errors_may_end_the_run(script, made):
    """As the framework does; the siblings are cancelled, and nothing is left."""
    agent = made(script([("fail",), ("save", {"path": "x", "text": "t"})]), Dag(errors="raise"))
    with pytest.raises(ValueError, match="boom"):
        await agent.run("go")
    assert agent.log == []
    assert now() == 0
    assert not [task for task in asyncio.all_tasks() if task.get_name() == "dagexec turn"]


async def test_a_cap_over_all_runs(script):
    """Twenty calls in each of two runs, three at a time."""
    dag = Dag(concurrency=3)
    at_work, most = 0, 0

    async def work() -> None:
        nonlocal at_work, most
        at_work += 1
        most = max(most, at_work)
        await asyncio.sleep(1)
        at_work -= 1

    def agent():
        return Agent(script([("work",)] * 20), tools=[work], capabilities=[dag])

    await asyncio.gather(agent().run("go"), agent().run("go"))
    assert most == 3
    assert now() == pytest.approx(14)


@pytest.mark.parametrize("after", [0.0, 0.5, 1.5])
async def test_cancelling_the_run(script, made, after):
    """At any time, and nothing is left."""
    model = script(
        [
            ("save", {"path": "x", "text": "t"}),
            ("count", {"items": {"$ref": "3.items"}}),
            ("search", {"query": "q", "seconds": 9}),
        ]
    )
    agent = made(model, Dag())
    task = asyncio.ensure_future(agent.run("go"))
    await asyncio.sleep(after)
    task.cancel()
    with pytest.raises((asyncio.CancelledError, RunCancelled)):
        await task
    assert agent.log == (["t"] if after > 1 else [])
    assert not [each for each in asyncio.all_tasks() if each.get_name() == "dagexec turn"]


async def test_streaming_and_iterating(script, made):
    """`run_stream`, events, and node by node."""
    turn = [("search", {"query": "a"}), ("count", {"items": {"$ref": "1.items"}})]
    async with made(script(turn), Dag()).run_stream("go") as stream:
        assert await stream.get_output() == "done"
        assert returns(stream)[1] == ("count", "success", 2)
    async with made(script(turn), Dag()).iter("go") as run:
        async for _ in run:
            pass
    assert returns(run.result)[1] == ("count", "success", 2)


async def test_usage_limits(script, made):
    """Counted and enforced by the framework."""
    turn = [("search", {"query": "a"}), ("fail",), ("search", {"query": "b"})]
    result = await made(script(turn), Dag()).run("go")
    assert result.usage.tool_calls == 2
    with pytest.raises(UsageLimitExceeded):
        await made(script(turn), Dag()).run("go", usage_limits=UsageLimits(tool_calls_limit=2))


async def test_other_capabilities_wrap_the_call_itself(script, made):
    """One that answers by itself costs nothing, and may be referred to."""

    class Cached(AbstractCapability):
        async def wrap_tool_execute(self, ctx, *, call, tool_def, args, handler):
            if call.tool_name == "search":
                raise SkipToolExecution({"items": ["cached"]})
            return await handler(args)

    model = script([("search", {"query": "a"}), ("count", {"items": {"$ref": "1.items"}})])
    result = await made(model, Cached(), Dag()).run("go")
    assert now() == 0
    assert [content for _, _, content in returns(result)] == [{"items": ["cached"]}, 1]


async def test_an_agent_as_a_tool_with_the_same_dag(script, made):
    """Runs nest without a deadlock, also with one slot."""
    dag = Dag(concurrency=1)
    inner = made(
        script([("search", {"query": "a"}), ("count", {"items": {"$ref": "1.items"}})]), dag
    )
    outer = Agent(script([("delegate",)] * 2), capabilities=[dag])

    @outer.tool_plain
    async def delegate() -> str:
        return (await inner.run("go")).output

    result = await outer.run("go")
    assert [content for _, _, content in returns(result)] == ["done", "done"]


async def test_dependencies_and_toolsets(script):
    """`RunContext` is the framework's, in tools of any toolset."""
    toolset = FunctionToolset()

    @toolset.tool
    async def who(ctx: RunContext[str], greeting: str) -> str:
        return f"{greeting} {ctx.deps} {ctx.tool_call_id}"

    model = script([("who", {"greeting": "hi"}), ("who", {"greeting": {"$ref": "1"}})])
    agent = Agent(model, toolsets=[toolset], deps_type=str, capabilities=[Dag()])
    result = await agent.run("go", deps="Ann")
    assert returns(result)[1][2] == "hi Ann id1 Ann id2"


async def test_reports(script, made):
    """Each turn tells what became of it, with its pictures."""
    reports = []
    turn = [("search", {"query": "a"}), ("count", {"items": {"$ref": "1.items"}}), ("fail",)]
    await made(script(turn, turn[:1]), Dag(on_report=reports.append)).run("go")
    assert [str(each).split(" in ")[0] for each in reports] == [
        "3 calls: 2 done, 1 failed",
        "1 call: 1 done",
    ]
    assert "count" in str(reports[0].diagram)


async def test_settings_that_cannot_be():
    """They are refused where they are written."""
    with pytest.raises(ToolDefinitionError, match="effect"):
        Dag(options={"search": {"effect": "none"}})
    with pytest.raises(ToolDefinitionError, match="runs="):
        Dag(options={"search": {"runs": "process"}})
    with pytest.raises(DagexecError, match="errors="):
        Dag(errors="ignore")


async def test_agents_that_are_replayed_are_refused(script):
    """With the reason."""

    class Durable(AbstractCapability):
        pass

    Durable.__module__ = "pydantic_ai.durable_exec.temporal._durability"
    with pytest.raises(DagexecError, match="replay"):
        await Agent(script(), capabilities=[Durable(), Dag()]).run("go")


@pytest.mark.real_time
async def test_synchronous_tools_run_in_threads(script):
    """At the same time, and one that blocks is left at its limit."""
    import threading

    gate = threading.Barrier(2, timeout=40)
    agent = Agent(script([("meet",), ("meet",)]), capabilities=[Dag()])

    @agent.tool_plain
    def meet() -> str:
        gate.wait()
        return "met"

    result = await agent.run("go")
    assert [content for _, _, content in returns(result)] == ["met", "met"]
