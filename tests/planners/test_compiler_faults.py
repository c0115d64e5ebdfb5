"""Each fault of the original LLMCompiler is a test here; the numbers are those of its analysis.

The analysis ran SqueezeAILab/LLMCompiler a00c9d3, its last commit. Where it hung, lost a call or
passed a wrong value, dagexec gives every call its outcome and every reference its value.
"""

from __future__ import annotations

import anyio
import pytest

from dagexec import DagexecError, Executor, Ref, Template, Timeouts, tool
from dagexec.testing import ToolBox
from planners.llmcompiler import LLMCompilerPlanner

pytestmark = pytest.mark.anyio


@tool(effect="pure")
async def echo(text: object = None, *, more: object = None) -> object:
    """Return what it is given."""
    return text if more is None else [text, more]


@tool(effect="read")
async def fail() -> None:
    """Raise."""
    raise RuntimeError("no luck")


@tool(effect="read")
def sync() -> str:
    """Return without being awaited."""
    return "sync"


@tool(effect="read")
async def hang() -> None:
    """Never return."""
    await anyio.sleep_forever()


@tool(effect="read")
async def dollars() -> str:
    """Return what looks like a reference."""
    return "price is $1 only, ${1} too"


TOOLS = [echo, fail, sync, hang, dollars]


def planned(text):
    """Return the plan of a text."""
    return LLMCompilerPlanner(TOOLS).plan(text)


async def ran(text, *, streamed=False, **options):
    """Run a plan's text, whole or in pieces of three characters."""
    planner = LLMCompilerPlanner(TOOLS)
    executor = Executor(TOOLS, timeouts=Timeouts(call=5), **options)
    pieces = [text[at : at + 3] for at in range(0, len(text), 3)]
    return await executor.run(planner.stream(pieces) if streamed else planner.plan(text))


def statuses(report):
    """Return the statuses by id."""
    return {name: outcome.status for name, outcome in report.items()}


@pytest.fixture(params=[False, True], ids=["schedule", "aschedule"])
def streamed(request):
    """Return whether the plan is streamed, as the original has two schedulers."""
    return request.param


async def test_1_a_tool_that_raises_costs_its_dependants(streamed):
    """The original hangs for ever."""
    report = await ran("1. fail()\n2. echo($1)\n3. echo(7)\n4. join()", streamed=streamed)
    assert statuses(report) == {"1": "failed", "2": "skipped", "3": "done"}


@pytest.mark.real_time
async def test_2_a_synchronous_tool_and_wrong_arguments():
    """The original hangs: it awaits what cannot be awaited, and loses a TypeError."""
    report = await ran("1. sync()\n2. echo(1, 2, 3)\n3. sync(5)\n4. echo($1)\n5. join()")
    assert statuses(report) == {"1": "done", "2": "failed", "3": "failed", "4": "done"}
    assert report["4"].value == "sync"


async def test_3_a_tool_that_hangs_has_a_deadline(streamed):
    """The original has no timeout anywhere."""
    report = await ran("1. hang()\n2. echo($1)\n3. echo(7)", streamed=streamed)
    assert statuses(report) == {"1": "timed_out", "2": "skipped", "3": "done"}


async def test_4_gaps_and_late_beginnings(streamed):
    """A plan that starts at 4 and has gaps is a KeyError in the original."""
    text = '4. echo("a")\n7. echo("unfinished)\n9. echo($4)\n12. join()'
    report = await ran(text, streamed=streamed)
    assert statuses(report) == {"4": "done", "7": "failed", "9": "done"}
    assert report["9"].value == "a"


async def test_5_and_6_cycles_and_unknown_calls(streamed):
    """JSON's form can make both; each costs its own calls."""
    text = '1. echo({"$ref": "2"})\n2. echo({"$ref": "1"})\n3. echo({"$ref": "9"})\n4. echo(1)'
    report = await ran(text, streamed=streamed)
    assert statuses(report) == {"1": "failed", "2": "failed", "3": "failed", "4": "done"}


async def test_6_a_call_that_arrives_later_is_waited_for(streamed):
    """The original raises KeyError although the stream would bring it."""
    report = await ran('1. echo({"$ref": "2"})\n2. echo("late")', streamed=streamed)
    assert report["1"].value == "late"


async def test_7_cancelling_leaves_nothing_running():
    """The original's child goes on, and its effect happens."""
    box = ToolBox()
    slow = box.tool("slow", seconds=10)
    plan = LLMCompilerPlanner([slow]).plan("1. slow()\n2. slow()\n3. join()")
    with anyio.move_on_after(1) as scope:
        await Executor([slow]).run(plan)
    assert scope.cancelled_caught
    assert not box.running
    assert [span.how for span in box.log] == ["cancelled", "cancelled"]


async def test_8_a_planner_that_breaks_ends_the_run():
    """The original waits for ever for the end that never comes."""

    async def broken():
        yield '1. echo("kept")\n2. ech'
        await anyio.sleep(1)
        raise ConnectionError("gone")

    planner = LLMCompilerPlanner(TOOLS)
    with pytest.raises(DagexecError, match="gone") as caught:
        await Executor(TOOLS).run(planner.stream(broken()))
    assert caught.value.report.outputs == {"1": "kept"}


async def test_9_and_10_calls_start_while_the_model_is_silent():
    """A dependant starts when it can, not when the next line comes; nothing is polled."""
    box = ToolBox()
    fast = box.tool("fast", seconds=0.01, returns="x", effect="read")

    async def slow_model():
        yield '1. fast()\n2. fast(a="$1")\n'
        await anyio.sleep(1)
        yield "3. join()"

    await Executor([fast]).run(LLMCompilerPlanner([fast]).stream(slow_model()))
    assert [round(span.started, 6) for span in box.log] == [0, 0.01]


async def test_11_none_is_a_value(streamed):
    """The original passes the text "$1"."""
    report = await ran('1. echo(null)\n2. echo($1)\n3. echo("<$1>")', streamed=streamed)
    assert report["2"].value is None
    assert report["3"].value == "<null>"


def test_12_13_14_numbers_and_money():
    """`$1` is no part of `$10` or `$100`, and `$1.50` is money."""
    lines = [f"{number}. echo({number})" for number in range(1, 11)]
    last = '11. echo("$10 $1 $100 pay $1.50, $1,000 or $2. $11 $0 $01 $$1 $1st")'
    call = planned("\n".join([*lines, last]))["11"]
    parts = [Ref("10"), " ", Ref("1"), " $100 pay $1.50, $1,000 or ", Ref("2")]
    parts += [". $11 $0 $01 $1 ", Ref("1"), "st"]
    assert call.args["text"] == Template.from_parts(parts)
    assert planned('1. echo(1)\n2. echo("$1.50")\n3. echo($1.50)')["2"].args == {"text": "$1.50"}


async def test_15_what_a_tool_returned_is_never_read(streamed):
    """The original puts a result into a result that happens to say "$1"."""
    text = '1. echo("secret")\n2. dollars()\n3. echo("$2")\n4. echo("$1: $2")'
    report = await ran(text, streamed=streamed)
    assert report["3"].value == "price is $1 only, ${1} too"
    assert report["4"].value == "secret: price is $1 only, ${1} too"


async def test_16_17_18_references_inside_of_values_keep_their_type(streamed):
    """In dicts too; a number stays a number."""
    text = '1. echo([1, {"a": 2.5}])\n2. echo({"q": "$1", "r": ["$1", {"s": $1}]})'
    value = [1, {"a": 2.5}]
    assert (await ran(text, streamed=streamed))["2"].value == {
        "q": value,
        "r": [value, {"s": value}],
    }


async def test_19_a_list_is_one_argument(streamed):
    """The original spreads it over three."""
    assert (await ran("1. echo([1, 2, 3])", streamed=streamed))["1"].value == [1, 2, 3]
    assert (await ran('1. echo({"a": 1})', streamed=streamed))["1"].value == {"a": 1}


async def test_20_paths(streamed):
    """`${1[0].name}` leads into a value; a path without braces is told."""
    text = '1. echo([{"name": "x"}])\n2. echo(${1[0].name})\n3. echo("<${1[0]["name"]}>")\n'
    text += '4. echo("$1[0]")\n5. echo($1[0])\n6. echo($1.name)\n7. echo("${1.a[}")'
    report = await ran(text, streamed=streamed)
    assert report["2"].value == "x"
    assert report["4"].value == '[{"name":"x"}][0]'
    for bad in ("5", "6"):
        assert "${1.name}" in str(report[bad].error)
    assert "cannot be read" in str(report["7"].error)


def test_20_a_quoted_key_in_a_text():
    """Inside of quotes the key's own quotes are escaped, or others."""
    plan = planned('1. echo(1)\n2. echo(\'<${1["a b"]}>\')\n3. echo("<${1[\\"a}b\\"]}>")')
    assert plan["2"].refs == (Ref("1", ("a b",)),)
    assert plan["3"].refs == (Ref("1", ("a}b",)),)


def test_21_forward_and_own_numbers_are_text():
    """As the rule says; `{"$ref": "3"}` is how to refer to what stands below."""
    plan = planned('1. echo("$1 $2 $0")\n2. echo($3)\n3. echo(1)')
    assert [call.args for call in plan.calls][:2] == [{"text": "$1 $2 $0"}, {"text": "$3"}]
    assert plan.edges == ()


async def test_22_a_number_used_twice_is_an_error_of_the_second(streamed):
    """The original runs the last, or both, and mixes up their dependants."""
    report = await ran('1. echo("a")\n1. echo("b")\n2. echo($1)', streamed=streamed)
    assert list(statuses(report).values()) == ["done", "failed", "done"]
    assert report["2"].value == "a"
    assert "already that of call 1" in str(next(iter(report.exceptions.exceptions)))


def test_23_and_24_calls_behind_join_are_not_run_and_told():
    """A plan without `join()` is one, too."""
    planner = LLMCompilerPlanner(TOOLS)
    plan = planner.plan("1. echo(1)\n2. join()\n3. fail()\n4. echo(2)")
    assert [call.id for call in plan] == ["1"]
    (message,) = planner.results({})
    assert "stand behind join(): 3, 4" in message["content"]
    assert len(planned("1. echo(1)\n2. echo(2)")) == 2
    assert len(planned("1. echo(1)\n2. join()<END_OF_PLAN>\nObservation: x\n3. echo(2)")) == 1


async def test_25_an_unknown_tool_costs_its_call(streamed):
    """The original loses the whole plan, or the call without a word."""
    report = await ran("1. ecko(1)\n2. echo(2)\n3. echo($1)", streamed=streamed)
    assert statuses(report) == {"1": "failed", "2": "done", "3": "skipped"}
    assert "Did you mean 'echo'?" in str(report["1"].error)


# ------------------------------------------------------------------------------ the stream's parser


async def test_spaces_at_the_edges_of_chunks_are_kept():
    """The original turns ` Cup` into `Cup` when a chunk begins with it."""
    pieces = ['1. echo("World', ' Cup")\n2. join()']
    report = await Executor(TOOLS).run(LLMCompilerPlanner(TOOLS).stream(pieces))
    assert report["1"].value == "World Cup"


async def test_many_lines_in_a_chunk_are_all_read():
    """The original reads two of them."""
    text = "1. echo(1)\n2. echo(2)\n3. echo(3)\n4. echo(4)\n5. join()"
    report = await Executor(TOOLS).run(LLMCompilerPlanner(TOOLS).stream([text]))
    assert list(report.outputs.values()) == [1, 2, 3, 4]


def test_indented_lines_are_calls_and_words_are_none():
    """In whole texts and in streams alike."""
    plan = planned("Thought: then I call 2. echo(5), I think\n  1. echo(1)\n\t2. echo(2)")
    assert [call.args for call in plan] == [{"text": 1}, {"text": 2}]


EXAMPLE = """\
1. search("Mount Everest elevation")
2. math("elevation in meters", ["$1"]
3. search("K2 elevation")
4. math("elevation in meters", ["$3"]
5. search("Denali elevation")
6. math("elevation in meters", ["$5"]
7. math("sum", ["$2", "$4", "$6"])
8. join()<END_OF_PLAN>
"""


async def test_the_originals_own_malformed_example_costs_three_calls():
    """A model that copies an example whose brackets are not closed kills the original's run."""
    box = ToolBox()
    tools = [box.tool("search", returns=1, parameters=QUERY), box.tool("math", parameters=MATH)]
    planner = LLMCompilerPlanner(tools)
    report = await Executor(tools).run(planner.plan(EXAMPLE))
    assert list(statuses(report).values()) == [
        *("done", "failed", "done", "failed", "done", "failed", "skipped")
    ]
    (message,) = planner.results(report)
    assert message["content"].count("the closing ')' is missing") == 3


QUERY = {"type": "object", "properties": {"query": {"type": "string"}}}
MATH = {"type": "object", "properties": {"problem": {"type": "string"}, "context": {}}}


# ---------------------------------------------------------------------------- joiner and replans


def test_the_joiner_reads_the_whole_answer():
    """The original cuts at the first bracket and line, and takes words for a replan."""
    planner = LLMCompilerPlanner(TOOLS)
    for answer in ("First for Women (magazine)", "Replan the city", "two\nlines", "f(x) = (x)"):
        planner.plan(f"Thought: done\nAction: Finish({answer})")
        assert planner.decision.action == "finish"
        assert planner.decision.answer == answer


async def test_replans_go_on_with_the_numbers_and_can_use_all_results():
    """The original begins anew each time, and its old results are lost."""
    planner, executor = LLMCompilerPlanner(TOOLS), Executor(TOOLS)
    first = planner.plan('1. echo({"a": [7]})\n2. join()')
    (message,) = planner.results(await executor.run(first))
    assert "begin at 2" in message["content"]
    second = planner.plan(
        '{"action": "replan"}\n2. echo(${1.a[0]})\n3. echo("$1 and $2")\n4. join()'
    )
    report = await executor.run(second)
    assert list(report.outputs.values()) == [7, '{"a":[7]} and 7']
    planner.results(report)
    third = planner.plan("1. echo(1)\n4. echo([$1, $3])\n5. join()")
    assert "from 4 on" in third.calls[0].problem
    assert (await executor.run(third))["4"].value == [{"a": [7]}, '{"a":[7]} and 7']
