"""LLMCompilerPlanner: plans from text, results as text, decisions, streams, conversations."""

from __future__ import annotations

import anyio
import pytest

from dagexec import DagexecError, Done, Executor, Plan, Ref, Template, Timeouts, tool
from dagexec.testing import ScriptedModel, ToolBox
from planners import Dialogue, solve
from planners.llmcompiler import Decision, LLMCompilerPlanner
from planners.openai import ChatPlanner

QUERY = {"type": "object", "properties": {"query": {"type": "string"}}, "required": ["query"]}


@tool(effect="read")
async def search(query: str, limit: int = 3) -> dict:
    """Search the web.

    Args:
        query: what to look for
    """
    return {"items": [f"{query} {number}" for number in range(limit)]}


@tool(effect="pure")
async def join_texts(texts: list[str], sep: str = " ") -> str:
    """Join."""
    return sep.join(texts)


@tool
async def send(text: str) -> str:
    """Send."""
    return f"sent {text}"


TOOLS = [search, join_texts, send]
PLAN = """\
Thought: look first
1. search("a", limit=2)
2. join_texts(["${1.items[0]}", "b"], sep="-")
3. send("$2!")
4. join()<END_OF_PLAN>
"""


@pytest.fixture
def planner():
    """Return a planner."""
    return LLMCompilerPlanner(TOOLS)


def content(messages):
    """Return the text of the one message that goes back."""
    (message,) = messages
    assert message["role"] == "user"
    return message["content"]


# ----------------------------------------------------------------------------------------- plans


def test_text_pieces_and_responses_give_the_same_plan(planner):
    """What carries the text makes no difference; nor does reading it again."""
    said = [{"type": "text", "text": PLAN[:20]}, {"type": "text", "text": PLAN[20:]}]
    item = {"type": "message", "role": "assistant", "content": [{**said[0], "type": "output_text"}]}
    rest = {**item, "content": [{**said[1], "type": "output_text"}]}
    replies = [
        PLAN,
        list(PLAN),
        (PLAN[:7], PLAN[7:]),
        {"role": "assistant", "content": PLAN},
        {"choices": [{"message": {"role": "assistant", "content": PLAN}, "finish_reason": "stop"}]},
        {"type": "message", "role": "assistant", "content": said, "stop_reason": "end_turn"},
        {"output": [{"type": "reasoning"}, item, rest], "status": "completed"},
    ]
    plan = planner.plan(PLAN)
    assert [call.id for call in plan] == ["1", "2", "3"]
    assert plan["2"].args == {"texts": [Ref("1", ("items", 0)), "b"], "sep": "-"}
    assert plan["3"].args == {"text": Template("{}!", Ref("2"))}
    for reply in replies:
        assert planner.plan(reply) == plan
        assert planner.fresh().plan(reply) == plan


@pytest.mark.parametrize("reply", [7, None, object(), {"a": 1}, {"role": "user", "content": "x"}])
def test_what_is_no_reply_is_refused(planner, reply):
    """With the name of what was given."""
    with pytest.raises(DagexecError, match="cannot read"):
        planner.plan(reply)
    with pytest.raises(DagexecError, match="cannot read"):
        planner.stream(reply)


def test_arguments_go_by_place_and_by_name(planner):
    """In the order of the tool's parameters; too many and twice are told."""
    plan = planner.plan(
        '1. search("a", 2)\n2. search(limit=1, query="b")\n3. search("a", 1, 2)\n'
        '4. search("a", query="b")\n5. search(limit=1, "a")\n6. search("a", **{"limit": 2})\n'
        '7. search(1)\n8. search("a", depth=2)\n9. search()'
    )
    assert plan["1"].args == {"query": "a", "limit": 2}
    assert plan["2"].args == {"limit": 1, "query": "b"}
    assert plan["6"].args == {"query": "a", "limit": 2}
    problems = {call.id: call.problem for call in plan if call.problem}
    assert "too many for search(query: string, limit: integer = 3)" in problems["3"]
    assert "'query' is given twice" in problems["4"]
    assert "stands behind one with a name" in problems["5"]
    assert "query: " in problems["7"]
    assert "depth: unknown" in problems["8"]
    assert "query: missing" in problems["9"]


def test_without_references_dollars_are_dollars():
    """`references=False` switches all of it off, placeholders too."""
    planner = LLMCompilerPlanner(TOOLS, references=False)
    plan = planner.plan('1. search("a")\n2. send("$1 $$ <result of call 1>")\n3. send($1)')
    assert plan["2"].args == {"text": "$1 $$ <result of call 1>"}
    assert plan["3"].args == {"text": "$1"}
    assert "$" not in planner.instructions
    assert "referred" not in content(planner.results({}))


def test_jsons_form_of_a_literal_is_read(planner):
    """The way to pass a text that looks like a placeholder."""
    plan = planner.plan(
        '1. send({"$literal": "<result of call 1> $1"})\n2. send("<result of call 1>")'
    )
    assert plan["1"].problem is None
    assert "write ${1}," in plan["2"].problem


def test_a_tool_called_join_is_refused():
    """It would end the plan."""

    def join() -> None:
        """Join."""

    with pytest.raises(DagexecError, match=r"join\(\) ends a plan"):
        LLMCompilerPlanner([join])


def test_format_writes_what_plan_reads(planner):
    """The two are inverse, references and all."""
    plan = planner.plan(PLAN)
    text = planner.format(plan)
    assert text.splitlines()[1] == '2. join_texts(texts=["${1.items[0]}", "b"], sep="-")'
    assert planner.fresh().plan(text) == plan


def test_the_prompt_has_the_tools(planner):
    """Their parameters with types and defaults, their texts; examples where given."""
    text = planner.instructions
    assert "- search(query: string, limit: integer = 3): Search the web.\n" in text
    assert "    query: what to look for" in text
    assert '- join_texts(texts: [string], sep: string = " ")' in text
    assert planner.tools == []
    examples = LLMCompilerPlanner(TOOLS, examples=['Question: x\n1. search("x")'])
    assert examples.instructions.endswith('Examples:\n\nQuestion: x\n1. search("x")')


def test_the_prompts_own_example_is_a_plan(planner):
    """Every line of it is read: the original's example was broken."""

    @tool
    def find(what: str, limit: int = 1) -> list:
        """Find."""

    @tool
    def calculate(formula: str) -> float:
        """Calculate."""

    text = planner.instructions
    example = text[text.index("Thought: the two") : text.index("- Each call")]
    plan = LLMCompilerPlanner([find, calculate]).plan(example)
    assert [call.problem for call in plan] == [None, None, None]
    assert plan.edges == (("1", "3"), ("2", "3"))


# --------------------------------------------------------------------------------------- results


async def _ran(planner, text):
    return await Executor(TOOLS).run(planner.plan(text))


@pytest.mark.anyio
async def test_results_are_one_message_that_asks_for_a_decision(planner):
    """Every call is answered with its number and its name."""
    report = await _ran(planner, PLAN)
    text = content(planner.results(report))
    assert '[call 1: search]\n{"items":["a 0","a 1"]}\n\n' in text
    assert "[call 2: join_texts]\na 0-b\n\n[call 3: send]\nsent a 0-b!\n\n" in text
    assert '"action": "finish"' in text
    assert "Its numbers begin at 4" in text
    assert planner.close_out() == []


@pytest.mark.anyio
async def test_long_results_are_cut_and_stay_whole_by_reference():
    """The note says how to refer to the whole."""
    planner = LLMCompilerPlanner(TOOLS, limit=10)
    report = await _ran(planner, '1. search("abcdef")')
    assert "[cut: 10 of 44 characters shown; $1 is the whole value]" in content(
        planner.results(report)
    )
    report = await _ran(planner, "2. send(${1.items[2]})\n3. join()")
    assert report["2"].value == "sent abcdef 2"


def test_close_out_answers_what_was_not(planner):
    """A write may have taken effect, and the text says so."""
    planner.plan(PLAN)
    text = content(planner.close_out())
    assert "[call 1: search, not run]\nThis call was not run." in text
    assert "It may have taken effect" in text.split("[call 3: send, not run]")[1]
    assert planner.close_out() == []


def test_a_reply_that_never_went_back_is_forgotten(planner):
    """Its numbers are free again: the model has not seen them."""
    planner.plan('1. search("a")\n2. search("b")')
    assert [call.problem for call in planner.plan('1. search("c")\n2. send($1)')] == [None, None]


@pytest.mark.anyio
async def test_decisions(planner):
    """None for a plan; an answer in words is one; a replan may bring its plan along or not."""
    assert planner.decision is None
    assert planner.plan(PLAN)
    assert planner.decision is None
    planner.results({"1": Done({"items": []})})
    assert not planner.plan('{"thought": "t", "action": "finish", "answer": "42"}')
    assert planner.decision == Decision("finish", "42", "t")
    assert planner.results({}) == []
    planner.plan("Answer: it is 42")
    assert planner.decision == Decision("finish", "it is 42")
    planner.plan('{"thought": "more", "action": "replan"}')
    assert planner.decision == Decision("replan", "", "more")
    assert "its numbers begin at 4" in content(planner.results({}))
    assert planner.results({}) == planner.close_out() == []
    planner.plan('{"thought": "more", "action": "replan"}')
    assert "its numbers begin at 4" in content(planner.close_out())
    plan = planner.plan('{"action": "replan", "plan": "4. send(\\"x\\")\\n5. join()"}')
    assert [call.id for call in plan] == ["4"]
    assert planner.decision.action == "replan"
    planner.results({})
    assert not planner.plan("5. join()\n6. send(1)")
    assert planner.decision is None
    assert "The plan has no calls.\n\nNot run, because" in content(planner.close_out())


def test_the_decisions_schema_is_one_for_strict_modes():
    """All required, closed: an API can be held to it."""
    schema = LLMCompilerPlanner.decision_schema
    assert set(schema["required"]) == set(schema["properties"])
    assert schema["additionalProperties"] is False


def test_a_reply_that_was_cut_off_runs_what_is_complete_and_says_so(planner):
    """The last line is lost, with a message."""
    choice = {"message": {"role": "assistant", "content": '1. search("a")\n2. send("hel'}}
    plan = planner.plan({"choices": [{**choice, "finish_reason": "length"}]})
    assert plan["1"].problem is None
    assert "a text without its closing" in plan["2"].problem
    assert "Your reply was cut off" in content(planner.results({}))


# --------------------------------------------------------------------------------------- streams


def script():
    """Return a tool box with a read tool and a write tool of 0.5 s."""
    box = ToolBox()
    box.tool("look", seconds=0.5, effect="read", parameters=QUERY, returns="x")
    box.tool("put", seconds=0.5, parameters=QUERY, returns="y")
    return box


async def slow_text():
    """Write the first two calls at 100 ms and end at 1 s."""
    await anyio.sleep(0.1)
    yield '1. look("a")\n2. put("b")\n3. look("$1")\n'
    await anyio.sleep(0.9)
    yield "4. join()<END_OF_PLAN>"


@pytest.mark.anyio
async def test_reads_start_at_once_and_writes_when_the_reply_is_complete():
    """At 100 ms, at 600 ms when what it needs is there, and at 1 s; the longest, not the sum."""
    box = script()
    planner = LLMCompilerPlanner(box.tools)
    began = anyio.current_time()
    stream = planner.stream(slow_text())
    report = await Executor(box.tools).run(stream)
    assert report.ok
    starts = {span.call: round(span.started + 0.1, 6) for span in box.log}
    assert starts == {"1": 0.1, "3": 0.6, "2": 1.0}
    assert anyio.current_time() - began == pytest.approx(1.5)
    assert stream.whole
    assert planner.plan(stream.response).calls == tuple(report.plan)
    assert "[call 3: look]\nx" in content(planner.results(report))


@pytest.mark.anyio
@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
async def test_any_pieces_stream_the_same_calls(planner, size):
    """Lists of pieces, too."""
    pieces = [PLAN[at : at + size] for at in range(0, len(PLAN), size)]
    assert [call async for call in planner.stream(pieces)] == list(planner.fresh().plan(PLAN))


@pytest.mark.anyio
async def test_a_stream_that_breaks_off_keeps_what_is_complete(planner):
    """Its calls are answered, its text stays; nothing more starts."""

    async def broken():
        yield '1. search("a")\n2. send("b")\n3. sea'
        await anyio.sleep(1)
        raise OSError("cut")

    stream = planner.stream(broken())
    with pytest.raises(DagexecError, match="cut") as caught:
        await Executor(TOOLS).run(stream)
    assert caught.value.report["1"].status == "done"
    assert caught.value.report["2"].status == "cancelled"
    assert not stream.whole
    assert stream.response["content"].endswith("3. sea")
    text = content(planner.results(caught.value.report))
    assert "[call 2: send, cancelled]" in text


@pytest.mark.anyio
@pytest.mark.parametrize("api", ["openai", "anthropic"])
async def test_an_sdks_stream_is_read(planner, api):
    """Chunks and events, also of the SDK's own wrapper."""
    client = getattr(ScriptedModel([PLAN, PLAN], speed=100), api)()
    said = [{"role": "user", "content": "?"}]
    if api == "openai":
        first = await client.chat.completions.create(model="m", messages=said, stream=True)
        second = client.chat.completions.stream(model="m", messages=said)
    else:
        make = client.messages
        first = await make.create(model="m", messages=said, max_tokens=99, stream=True)
        second = make.stream(model="m", messages=said, max_tokens=99)
    expected = list(planner.fresh().plan(PLAN))
    assert [call async for call in planner.stream(first)] == expected
    with pytest.raises(DagexecError, match="async with"):
        planner.fresh().stream(second)
    async with second as events:
        assert [call async for call in planner.fresh().stream(events)] == expected


@pytest.mark.anyio
async def test_an_sdks_reply_is_read(planner):
    """As the object that it is."""
    model = ScriptedModel([PLAN] * 3)
    said = [{"role": "user", "content": "?"}]
    client = model.openai()
    replies = [
        await client.chat.completions.create(model="m", messages=said),
        await client.responses.create(model="m", input="?"),
        await model.anthropic().messages.create(model="m", messages=said, max_tokens=99),
    ]
    plan = planner.plan(PLAN)
    for reply in replies:
        assert planner.fresh().plan(reply) == plan
        assert [call async for call in planner.fresh().stream(reply)] == list(plan)


def test_a_plan_of_thousands_of_calls_takes_time_in_proportion(planner):
    """5,000 lines, each of which refers to the one before."""
    lines = ['1. send("a")', *(f"{at}. send(${at - 1})" for at in range(2, 5_001))]
    plan = planner.plan("\n".join(lines))
    assert len(plan) == 5_000
    assert plan["5000"].needs == ("4999",)


@pytest.mark.anyio
async def test_responses_events_are_read(planner):
    """The third API's stream, and one that ends too early."""
    client = ScriptedModel([PLAN]).openai()
    events = await client.responses.create(model="m", input="?", stream=True)
    kept = [event async for event in events]
    expected = list(planner.fresh().plan(PLAN))
    assert [call async for call in planner.stream(kept)] == expected
    with pytest.raises(DagexecError, match="ended before the reply did"):
        [call async for call in planner.fresh().stream(kept[:-1])]
    failed = [*kept[:5], {"type": "error", "message": "overloaded"}]
    with pytest.raises(DagexecError, match="overloaded"):
        [call async for call in planner.fresh().stream(failed)]
    with pytest.raises(DagexecError, match="pieces of text"):
        [call async for call in planner.fresh().stream([7])]


# --------------------------------------------------------------------------------- conversations

REPLIES = [
    '1. look("abc")\n2. put("<${1}>")\n3. look(unclosed"\n4. join()<END_OF_PLAN>',
    '{"thought": "more", "action": "replan"}',
    '5. look("y $1")\n6. join()',
    "Thought: now I know\nAction: Finish(42 (forty-two))",
]


@pytest.mark.anyio
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("api", ["openai", "anthropic"])
async def test_solve_leads_it_over_any_client(api, stream):
    """Plan, results, replan, answer; no tools in the requests; each is one the API takes."""
    box = script()
    model = ScriptedModel(REPLIES, speed=100)
    answer = await solve(
        "How many?",
        planner=LLMCompilerPlanner(box.tools),
        client=getattr(model, api)(),
        model="m",
        executor=Executor(box.tools),
        stream=stream,
        system="Be brief.",
    )
    assert answer == "42 (forty-two)"
    assert (answer.status, answer.turns, model.left) == ("done", 4, 0)
    assert [list(report) for report in answer.reports] == [["1", "2", "3"], ["5"]]
    assert [span.args["query"] for span in box.log] == ["abc", "<x>", "y x"]
    for request in model.requests:
        assert not request.problems
        assert "tools" not in request.body
    body = model.bodies[0]
    system = body["system"] if api == "anthropic" else body["messages"][0]["content"]
    assert system.startswith("Be brief.\n\nSolve the user's task")
    roles = [message["role"] for message in answer.messages]
    assert roles == ["user", "assistant"] * 4


@pytest.mark.anyio
async def test_a_conversation_is_kept_as_json_and_goes_on():
    """With the model's numbers, whatever gaps they have, and the values."""
    box = script()
    planner = LLMCompilerPlanner(box.tools)
    executor = Executor(box.tools)
    first = ScriptedModel(['3. look("a")\n3. look("b")\n7. put("c")', "enough"]).openai()
    answer = await solve("?", planner=planner, client=first, model="m", executor=executor)
    kept = Dialogue.from_json(answer.conversation.to_json(), LLMCompilerPlanner(box.tools))
    second = ScriptedModel(['7. look("again")\n8. look("$3 and $7")', "done"]).anthropic()
    answer = await solve(
        "more", planner=kept.planner, client=second, model="m", executor=executor, conversation=kept
    )
    assert [outcome.status for outcome in answer.reports[-1].values()] == ["failed", "done"]
    assert box.log[-1].args == {"query": "x and y"}


@pytest.mark.anyio
async def test_a_deadline_leaves_a_conversation_that_can_go_on():
    """The text so far, and answers to all its calls."""
    box = script()
    slow = box.tool("slow", seconds=100, effect="read", parameters=QUERY)
    model = ScriptedModel(['1. look("a")\n2. slow("b")\n3. join()', "done"], speed=100)
    answer = await solve(
        "?",
        planner=LLMCompilerPlanner(box.tools),
        client=model.openai(),
        model="m",
        executor=Executor(box.tools, timeouts=Timeouts(workflow=5)),
        stream=True,
    )
    assert answer.status == "timed_out"
    assert answer.messages[-1]["role"] == "user"
    assert "[call 2: slow, timed out]" in answer.messages[-1]["content"]
    assert not [span for span in box.running if span.tool == slow.name]


@pytest.mark.anyio
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("stride", [3, pytest.param(1, marks=pytest.mark.slow)])
async def test_cancelling_it_leaves_nothing_running_and_a_conversation_that_can_go_on(
    stream, stride
):
    """At every tenth of a second: each call that was written has its answer."""
    for tenth in range(1, 40, stride):
        box = script()
        planner = LLMCompilerPlanner(box.tools)
        talk = Dialogue(planner)
        client = ScriptedModel(REPLIES, speed=40).anthropic()
        with anyio.move_on_after(tenth / 10):
            await solve(
                "?",
                planner=planner,
                client=client,
                model="m",
                executor=Executor(box.tools),
                conversation=talk,
                stream=stream,
            )
        assert not box.running
        for said, answers in zip(talk.messages, [*talk.messages[1:], None], strict=True):
            if said["role"] == "assistant" and '1. look("abc")\n' in said["content"]:
                assert "[call 1: look" in answers["content"]
        going_on = ScriptedModel(["done"]).anthropic()
        answer = await solve(
            "And now?",
            planner=planner,
            client=going_on,
            model="m",
            executor=Executor(box.tools),
            conversation=talk,
        )
        assert answer == "done"


def test_placeholders_can_be_let_through():
    """One option, for every planner."""
    for make in (LLMCompilerPlanner, ChatPlanner):
        assert make(TOOLS, placeholders=False)
    plan = LLMCompilerPlanner(TOOLS, placeholders=False).plan('1. send("TBD from previous step")')
    assert isinstance(plan, Plan)
    assert plan["1"].problem is None
