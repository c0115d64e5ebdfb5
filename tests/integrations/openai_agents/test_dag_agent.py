"""Agents of the OpenAI Agents SDK whose turns run as graphs."""

from __future__ import annotations

import asyncio
import gc

import pytest
from agents import (
    Agent,
    FunctionTool,
    ModelBehaviorError,
    RunConfig,
    RunHooks,
    Runner,
    ToolExecutionConfig,
    ToolGuardrailFunctionOutput,
    ToolInputGuardrail,
    UserError,
    function_tool,
)

from dagexec import Timeouts, tool
from dagexec.integrations.openai_agents import _agent, dag_agent
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
    ("drop", {"what": {"$template": "${2}"}}),
]


def now():
    """Return the seconds since the test began."""
    return asyncio.get_running_loop().time() - 1000


def outputs(result):
    """Return what went back to the model, by the calls' ids."""
    return {
        item["call_id"]: item["output"]
        for item in result.to_input_list()
        if item.get("type") == "function_call_output"
    }


def left_over():
    """Return what still runs of turns."""
    return [task for task in asyncio.all_tasks() if task.get_name() == "dagexec turn"]


async def test_a_turn_with_all_of_it(script, made):
    """References, a hung call, a failing one, two conflicting writes, an approval: right results.

    In the time of the critical path, which here is the deadline of the hung call.
    """
    options = {"save": {"writes": "file:{path}"}}
    plain = made(script(FIVE))
    agent = dag_agent(plain, timeouts=Timeouts(call=2), options=options)
    result = await Runner.run(agent, "go")
    assert now() == pytest.approx(2)
    assert plain.log == ["first", "second"]
    state = result.to_state()
    state.approve(result.interruptions[0])
    result = await Runner.run(agent, state)
    found = outputs(result)
    assert result.final_output == "done"
    assert found["id2"] == "2"
    assert "Timed out: the time limit of the call" in found["id3"]
    assert "call 3 (search) gave no result" in found["id4"]
    assert found["id5"] == "sorry: boom"
    assert (found["id6"], found["id7"]) == ("first", "second")
    assert found["id8"] == "dropped 2"
    assert not left_over()


async def test_the_same_turn_without_it(script, made):
    """The SDK by itself: references are no arguments, the hung call holds all, writes race."""
    agent = made(script(FIVE))
    result = await Runner.run(agent, "go")
    assert now() == pytest.approx(999)
    assert agent.log == ["second", "first"]
    assert "error" in outputs(result)["id2"]


async def test_what_the_model_is_shown(script, made):
    """Schemas that take references, instructions, numbers; the history has none of it."""
    counts = ("count", {"items": {"$ref": "1.items"}})
    model = script([("search", {"query": "a"}), ("fail",)], [counts])
    agent = dag_agent(made(model, instructions="Be brief."))
    result = await Runner.run(agent, "go")
    instructions, items, tools = model.seen[1]
    assert instructions.startswith("Be brief.")
    assert '{"$ref": "1"}' in instructions
    assert not tools[1].strict_json_schema
    shown = [item["output"] for item in items if item.get("type") == "function_call_output"]
    assert shown == ["[call 1]\n{'items': ['a', 'b']}", "[call 2]\nsorry: boom"]
    assert outputs(result)["id3"] == "2"
    assert "[call" not in str(result.to_input_list())
    again = await Runner.run(
        dag_agent(made(script([("count", {"items": {"$ref": "1.items"}})]))),
        [*result.to_input_list(), {"role": "user", "content": "more"}],
    )
    assert "id1" in outputs(again)


async def test_without_references_nothing_is_shown(script, made):
    """Schemas and instructions stay as they are."""
    model = script([("search", {"query": "a"})])
    await Runner.run(dag_agent(made(model), references=False), "go")
    assert model.seen[0][0] is None
    assert model.seen[0][2][1].strict_json_schema


async def test_arguments_are_validated_when_the_values_are_there(script, made):
    """By the tool's own schema, and by its own failure policy."""
    model = script(
        [("search", {"query": "a"}), ("count", {"items": {"$ref": "1"}}), ("count", "{")]
    )
    result = await Runner.run(dag_agent(made(model)), "go")
    assert "error" in outputs(result)["id2"]
    assert "error" in outputs(result)["id3"]


async def test_a_guardrail_that_refuses(script, made):
    """What needs the call is skipped when the guardrail has decided; the others do not wait."""

    async def slow_no(data):
        await asyncio.sleep(3)
        return ToolGuardrailFunctionOutput.reject_content("not allowed")

    @function_tool(tool_input_guardrails=[ToolInputGuardrail(guardrail_function=slow_no)])
    async def guarded() -> str:
        return "never"

    ended = {}

    class Hooks(RunHooks):
        async def on_tool_end(self, context, agent, tool, result):
            ended[context.tool_call_id] = now()

    model = script([("guarded",), ("search", {"query": {"$ref": "1"}}), ("search", {"query": "b"})])
    result = await Runner.run(dag_agent(made(model, guarded)), "go", hooks=Hooks())
    assert outputs(result)["id1"] == "not allowed"
    assert "call 1 (guarded) gave no result" in outputs(result)["id2"]
    assert ended["id3"] == pytest.approx(1)
    assert now() == pytest.approx(3)


async def test_the_sdks_cap(script, made):
    """Two at a time: a reference back works, and one that would wait for ever does not."""
    counts = ("count", {"items": {"$ref": "3.items"}})
    model = script([counts, counts, ("search", {"query": "a"}), counts])
    config = RunConfig(tool_execution=ToolExecutionConfig(max_function_tool_concurrency=2))
    result = await Runner.run(dag_agent(made(model)), "go", run_config=config)
    found = outputs(result)
    assert "call 3 (search) gave no result" in found["id1"]
    assert "call 3 (search) gave no result" in found["id2"]
    assert found["id4"] == "2"
    assert now() == pytest.approx(1)


async def test_handoffs_and_hosted_calls_stay(script, made):
    """A call that hands over is none of those that run; the next agent has a turn of its own."""
    model = script(
        [("search", {"query": {"$ref": "2"}}), ("transfer_to_b",)], [("search", {"query": "b"})]
    )
    other = dag_agent(Agent(name="b", model=model, tools=made(model).tools))
    result = await Runner.run(dag_agent(made(model, handoffs=[other])), "go")
    assert result.last_agent.name == "b"
    assert "gave no result" in outputs(result)["id1"]
    assert now() == pytest.approx(1)


async def test_unknown_tools_end_the_run_as_ever(script, made):
    """Before anything has started."""
    with pytest.raises(ModelBehaviorError):
        await Runner.run(dag_agent(made(script([("nope",), ("search", {"query": "a"})]))), "go")
    assert not left_over()


async def test_errors(script, made):
    """A tool without a policy of its own is answered, or ends the run as before."""

    async def broken(context, arguments):
        raise ValueError("boom")

    raw = FunctionTool("raw", "Raw.", {"type": "object", "properties": {}}, broken, False)
    turn = [("raw",), ("save", {"path": "x", "text": "t"})]
    result = await Runner.run(dag_agent(made(script(turn), raw)), "go")
    assert "error" in outputs(result)["id1"]
    agent = made(script(turn), raw)
    agent.log.clear()
    with pytest.raises(UserError, match="boom"):
        await Runner.run(dag_agent(agent, errors="raise"), "go")
    await asyncio.sleep(5)
    assert agent.log == []
    assert not left_over()


async def test_a_tool_that_leaves_its_failures_to_the_run(script, made):
    """`failure_error_function=None` is no policy either."""

    @function_tool(failure_error_function=None)
    async def broken() -> None:
        raise ValueError("boom")

    turn = [("broken",), ("count", {"items": {"$ref": "1"}}), ("search", {"query": "q"})]
    found = outputs(await Runner.run(dag_agent(made(script(turn), broken)), "go"))
    assert "error" in found["id1"]
    assert "call 1 (broken) gave no result" in found["id2"]
    assert "q" in found["id3"]
    with pytest.raises(UserError, match="boom"):
        await Runner.run(dag_agent(made(script(turn), broken), errors="raise"), "go")


async def test_timeouts_of_tools_count_from_their_start(script):
    """Not from when they are handed in."""

    @function_tool(timeout=2)
    async def quick(after: int | str = 0) -> str:
        await asyncio.sleep(1)
        return "there"

    @function_tool(timeout=0.5)
    async def hung() -> str:
        await asyncio.sleep(99)

    model = script([("quick", {}), ("quick", {"after": {"$ref": "1"}}), ("hung",)])
    model.replies[0].append(("quick", {"after": {"$ref": "2"}}))
    agent = dag_agent(Agent(name="A", model=model, tools=[quick, hung]))
    found = outputs(await Runner.run(agent, "go"))
    assert found["id4"] == "there"
    assert "timed out" in found["id3"]


async def test_streaming(script, made):
    """`run_streamed` too."""
    turn = [("search", {"query": "a"}), ("count", {"items": {"$ref": "1.items"}})]
    result = Runner.run_streamed(dag_agent(made(script(turn))), "go")
    async for _ in result.stream_events():
        pass
    assert outputs(result)["id2"] == "2"


@pytest.mark.real_time
def test_running_from_synchronous_code(script, made):
    """`run_sync` too."""
    turn = [("search", {"query": "a", "seconds": 0}), ("count", {"items": {"$ref": "1.items"}})]
    try:
        assert outputs(Runner.run_sync(dag_agent(made(script(turn))), "go"))["id2"] == "2"
    finally:  # the SDK leaves its loop open, for its next call
        asyncio.get_event_loop_policy().get_event_loop().close()
        asyncio.set_event_loop(None)


async def test_an_agent_as_a_tool(script, made):
    """Runs nest, also with one slot."""
    turn = [("search", {"query": "a"}), ("count", {"items": {"$ref": "1.items"}})]
    inner = dag_agent(made(script(turn, "three")), concurrency=1)
    model = script([("ask", {"input": "x"}), ("search", {"query": {"$ref": "1"}})])
    outer = made(model, inner.as_tool("ask", "Ask."))
    result = await Runner.run(dag_agent(outer, concurrency=1), "go")
    assert outputs(result)["id2"] == "{'items': ['three', 'b']}"


async def test_hooks_and_spans(script, made):
    """The agent's own hooks are called, and each span of a call has its agent as its parent."""
    from agents import AgentHooks, set_trace_processors, set_tracing_disabled
    from agents.tracing import TracingProcessor

    told = []

    class Own(AgentHooks):
        async def on_llm_end(self, context, agent, response):
            told.append(len(response.output))

    class Spans(TracingProcessor):
        def __init__(self):
            self.ended = []

        def on_trace_start(self, trace): ...
        def on_trace_end(self, trace): ...
        def on_span_start(self, span): ...
        def on_span_end(self, span):
            self.ended.append(span)

        def shutdown(self): ...
        def force_flush(self): ...

    set_tracing_disabled(disabled=False)
    spans = Spans()
    set_trace_processors([spans])

    from agents.tracing import custom_span

    @function_tool
    async def spanned(x: str = "") -> str:
        with custom_span("inside"):
            await asyncio.sleep(1)
        return "ok"

    model = script([("spanned", {}), ("spanned", {"x": {"$ref": "1"}})])
    await Runner.run(dag_agent(made(model, spanned, hooks=Own())), "go")
    set_trace_processors([])
    assert told == [2, 1]
    names = {span.span_id: getattr(span.span_data, "name", "") for span in spans.ended}
    inside = [names.get(span.parent_id) for span in spans.ended if names[span.span_id] == "inside"]
    assert inside == ["spanned", "spanned"]


async def test_retries_approvals_and_tools_of_dagexec(script, made):
    """Options of dagexec hold for the SDK's tools, and its own tools keep theirs."""
    attempts = []

    @function_tool(failure_error_function=None)
    async def flaky() -> str:
        attempts.append(1)
        if len(attempts) < 3:
            raise ConnectionError
        return "there"

    @tool(timeout=1)
    async def wait(seconds: float) -> str:
        """Wait."""
        await asyncio.sleep(seconds)
        return "waited"

    options = {
        "flaky": {"effect": "read", "retry": Retry(3, base=0.1)},
        "save": {"approval": lambda args: args["path"] == "x"},
    }
    model = script(
        [
            ("flaky",),
            ("wait", {"seconds": 0.5}),
            ("wait", {"seconds": 5}),
            ("wait", {"seconds": "x"}),
            ("save", {"path": "x", "text": "t"}),
            ("save", {"path": "y", "text": "u"}),
        ]
    )
    agent = made(model, flaky)
    result = await Runner.run(dag_agent(agent, tools=[wait], options=options), "go")
    assert [each.raw_item.call_id for each in result.interruptions] == ["id5"]
    found = outputs(result)
    assert (found["id1"], found["id2"], found["id6"]) == ("there", "waited", "u")
    assert "Timed out" in found["id3"]
    assert "seconds" in found["id4"]
    assert agent.log == ["u"]


# A run that is cancelled before its first step is one that the SDK has not awaited.
@pytest.mark.filterwarnings("ignore:coroutine 'run_single_turn'")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("after", [0.0, 0.5, 1.5])
async def test_cancelling_the_run(script, made, after):
    """At any time; the SDK does not wait, but nothing goes on."""
    turn = [
        ("save", {"path": "x", "text": "t"}),
        ("count", {"items": {"$ref": "3.items"}}),
        ("search", {"query": "q", "seconds": 9}),
    ]
    agent = made(script(turn))
    task = asyncio.ensure_future(Runner.run(dag_agent(agent), "go"))
    await asyncio.sleep(after)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.sleep(0.3)
    assert not left_over()
    await asyncio.sleep(20)
    assert agent.log == (["t"] if after > 1 else [])


async def test_what_a_run_leaves_is_forgotten(script, made):
    """The agent keeps nothing of runs that are over."""
    agent = dag_agent(made(script()))
    desk = agent.hooks._desk
    for _ in range(3):
        agent.model.replies = [[("search", {"query": "a"})]]
        await Runner.run(agent, "go")
    gc.collect()
    assert len(desk._runs._runs) <= 1


async def test_a_missing_name_is_said_once(script, made, monkeypatch, caplog):
    """And the agent runs as it always did."""
    monkeypatch.setattr(_agent, "_NEEDED", ("_gone",))
    agent = made(script([("search", {"query": "a"})]))
    assert dag_agent(agent) is agent
    assert "_gone" in caplog.text


async def test_copies_of_tools_equal_them(made, script):
    """What hooks and models see can be compared with the tools that a user has."""
    model = script("done")
    agent = made(model)
    adapted = dag_agent(agent)
    await Runner.run(adapted, "go")
    assert adapted.tools == agent.tools == model.seen[0][2]
    assert adapted.tools[0] is not agent.tools[0]
    assert adapted.tools[0] != agent.tools[1]
    adapted.tools.remove(agent.tools[1])
    assert adapted.tools == [agent.tools[0], *agent.tools[2:]]
    with pytest.raises(TypeError, match="unhashable"):
        hash(adapted.tools[0])  # as the tool itself


async def test_tools_that_come_later_are_in_the_graph(made, script):
    """Hooks add tools, and so do clones."""

    @function_tool
    async def late(text: str) -> str:
        return f"late {text}"

    class Adds(RunHooks):
        async def on_agent_start(self, context, agent):
            agent.tools.append(late)

    turn = [("search", {"query": "q"}), ("late", {"text": {"$ref": "1.items[0]"}})]
    adapted = dag_agent(made(script(turn, "end", turn)))
    cloned = adapted.clone(tools=[*adapted.tools, late])
    assert "late q" in outputs(await Runner.run(cloned, "go"))["id2"]
    assert late not in adapted.tools
    result = await Runner.run(adapted, "go", hooks=Adds())
    assert "late q" in outputs(result)["id4"]
