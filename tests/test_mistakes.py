"""A hundred typical mistakes: each message names the cause and the way to mend it.

The list is the test. A row is the code as people write it and what its message must name.
"""

from __future__ import annotations

import ast
import asyncio
import datetime as dt
import gc
import json
import logging
import math
import warnings
from pathlib import Path

import pytest

import dagexec
import dagexec.journal
import dagexec.limits
import planners
from dagexec import *  # noqa: F403 - the rows are code of users
from dagexec import Call, Executor, Plan, Ref, Timeouts, tool
from planners.anthropic import MessagesPlanner
from planners.openai import ChatPlanner, ResponsesPlanner

pytestmark = pytest.mark.anyio


@tool(effect="pure")
async def price(title: str) -> float:
    """Return the price of a book."""
    if title == "none":
        raise LookupError("no such book")
    return 7.25


@tool
async def pay(amount: int = 1) -> int:
    """Pay."""
    return amount


@tool(approval=True)
async def order(title: str = "Dune") -> str:
    """Order, if a person agrees."""
    return title


def plain(title: str) -> str:
    """Return the title."""
    return title


REPLY = {
    "id": "r",
    "choices": [
        {
            "index": 0,
            "finish_reason": "tool_calls",
            "message": {
                "role": "assistant",
                "content": None,
                "tool_calls": [
                    {
                        "id": "c1",
                        "type": "function",
                        "function": {"name": "price", "arguments": '{"title": "Dune"}'},
                    }
                ],
            },
        }
    ],
}
MESSAGE = {
    "type": "message",
    "role": "assistant",
    "content": [{"type": "tool_use", "id": "t", "name": "price", "input": {"title": "Dune"}}],
    "stop_reason": "tool_use",
}
TOOLS = [price, pay, order]
OPENAI_TOOL = {"type": "function", "function": {"name": "price", "parameters": {}}}
A = Call("a", "price", {"title": "Dune"})
NONE = Call("a", "price", {"title": "none"})
AFTER_NONE = Call("b", "price", {"title": Ref("a")})


async def run(*calls, **options):
    """Run calls with the tools of this file."""
    return await Executor(TOOLS, **options).run(Plan(calls))


async def waiting():
    """Return an executor whose journal has a run `r` that waits for an answer to `a`."""
    executor = Executor(TOOLS, journal=dagexec.journal.MemoryJournal())
    await executor.run(Plan([Call("a", "order")]), run_id="r")
    return executor


def planned():
    """Return a planner that has read a reply."""
    planner = ChatPlanner(TOOLS)
    planner.plan(REPLY)
    return planner


async def coroutine():
    """Stand for a request that nobody awaited."""


class AsyncStream:
    """Named as the stream of an SDK."""


NAMES = {**vars(dagexec), **vars(dagexec.journal), **vars(dagexec.limits), **globals()}
SOLVE = "await planners.solve('q', planner=ChatPlanner(TOOLS), client=object(), model='m', {})"

MISTAKES = [
    # --- settings of an executor
    ("Executor(TOOLS, timeouts={'call': 3})", "Timeouts(call=3)"),
    ("Executor(TOOLS, timeouts='30')", "seconds for each call", "Timeouts(call=30)"),
    ("Executor(TOOLS, timeouts=True)", "Timeouts(call=30)"),
    ("Executor(TOOLS, timeouts=-1)", "call=-1", "positive number of seconds"),
    ("Timeouts(call='30')", "call='30'", "positive number of seconds", "timedelta"),
    ("Timeouts(turn=0)", "turn=0", "None for no limit"),
    ("Timeouts(call=math.inf)", "call=inf", "None for no limit"),
    ("Timeouts(workflow=dt.timedelta(0))", "workflow=0.0", "positive"),
    ("Executor(TOOLS, concurrency='4')", "concurrency", "number of calls", "'4'"),
    ("Executor(TOOLS, concurrency=-1)", "0 to debug or None for no limit"),
    ("Executor(TOOLS, on_failure='abort')", '"skip" or "stop"', "'abort'"),
    ("Executor(TOOLS, in_doubt='yes')", '"ask", "rerun" or a function'),
    ("Executor(TOOLS, journal='runs.db')", "SqliteJournal(path)", "dagexec.journal"),
    ("Executor(TOOLS, observers=print)", "as a list", "observers=[print]"),
    ("Executor(TOOLS, observers=[3])", "function of an event", "begin(run_id, tools)"),
    ("Executor(TOOLS, observers=None or 3)", "as a list of functions"),
    ("Executor(TOOLS, start_timeout='1')", "start_timeout='1'", "number of seconds"),
    ("Executor(TOOLS, capacities={'gpu': 0})", "'gpu': 0", "whole number from 1 on"),
    ("Executor(TOOLS, max_items=0)", "max_items", "from 1 on"),
    # --- tools
    ("Executor(price)", "as a list", "write [price]"),
    ("Executor(plain)", "as a list", "write [plain]"),
    ("Executor({'price': price})", "not as dict", "[*tools.values()]"),
    ("Executor(None)", "not as NoneType", "write []"),
    ("Executor('price')", "not their names"),
    ("Executor(Executor(TOOLS))", "not as Executor", "[*executor.tools.values()]"),
    ("ChatPlanner(Executor(TOOLS))", "not as Executor", "[*executor.tools.values()]"),
    ("Executor(ChatPlanner(TOOLS))", "not as ChatPlanner", "the same list"),
    ("Executor([json])", "the module json", "json.dumps"),
    ("Executor(json)", "the module json", "json.dumps"),
    ("Executor(['price'])", 'not of "price"', "the function itself"),
    ("Executor([None])", "forgotten its return"),
    ("Executor([TOOLS])", "[*these, *those]"),
    ("Executor([OPENAI_TOOL])", "no code to run", "Tool.from_schema('price'"),
    ("ChatPlanner([OPENAI_TOOL])", "Tool.from_schema('price'"),
    ("Executor([{'name': 'price', 'input_schema': {}}])", "Tool.from_schema('price'"),
    ("Executor([coroutine()])", "a coroutine", "give coroutine, without calling it"),
    ("Executor([await price('Dune')])", "not of 7.25", "not its name or what it returned"),
    ("Executor([lambda x: x])", "<lambda>", "tool(name=...)"),
    ("Executor([price, price])", "two tools are called 'price'", "tool(name=)"),
    ("tool(plain, effect='readonly')", "effect='readonly'", "pure, read, idempotent, write"),
    ("tool(plain, effect=None)", "pure, read, idempotent, write"),
    ("tool(plain, efect='read')", "no option 'efect'", "effect"),
    ("tool('price')", 'not of "price"', "the function itself"),
    ("tool(plain, timeout='3s')", "timeout='3s'", "such as 30 or a timedelta"),
    ("tool(plain, timeout=0)", "timeout=0", "None takes the executor's"),
    ("tool(plain, uses='gpu')", "uses='gpu'", "{'gpu': 1}"),
    ("Executor([tool(plain, uses={'gpu': 1})])", "capacities={'gpu': 1}"),
    ("Executor([tool(plain, retry=3)])", "retry=3", "Retry(attempts=3)"),
    ("Executor([tool(plain, limits='key')])", "no limiter 'key'", "Limiter('key'"),
    ("tool(plain, secret='token')", "secret='token'", "its parameters are title"),
    ("tool(plain, writes='file:{path}')", "path"),
    ("tool(plain, approval='yes')", "approval='yes'", "True or False nor a function"),
    # --- calls
    ("Call(1, 'price')", "its id must be a non-empty string", "not 1"),
    ("Call('', 'price')", "its id must be a non-empty string"),
    ("Call('a', 'price', 'Dune')", "a name for each argument", '{"title": "Dune"}'),
    ("Call('a', 'price', ['Dune'])", "a name for each argument", '{"title": "Dune"}'),
    ("Call('price', {'title': 'Dune'})", "the name of its tool", 'Call("a", "price", {'),
    ("Call('a', None)", "the name of its tool", 'Call("a", "price", {'),
    ("Call('b', 'price', {'title': A})", "'title' is a call", "Ref('a')"),
    ("Call('b', 'price', after='a')", "after=('a',)"),
    ("Call('b', 'price', after=(1,))", "ids of calls, which are strings"),
    ("price.call('a', 'Dune', 3)", "price takes title", "2 positional arguments"),
    # --- plans
    ("Plan([{'id': 'a', 'tool': 'price'}])", "holds a dict", "Plan.from_dict", "planner.plan"),
    ("await Executor(TOOLS).run([{'id': 'a'}])", "Plan.from_dict", "planner.plan"),
    ("await Executor(TOOLS).run(A)", "not a Call", "[call]"),
    ("Plan(A)", "not a Call", "[call]"),
    ("Plan('{}')", "Plan.from_json(text)"),
    ("Plan({'calls': []})", "Plan.from_dict(body)"),
    ("await Executor(TOOLS).run(REPLY)", "planner.plan(response)"),
    ("await Executor(TOOLS).run('plan.json')", "Plan.from_json(text)"),
    ("await Executor(TOOLS).run(None)", "not None", "planner.plan(response)"),
    ("await Executor(TOOLS).run(await run(A))", "not a Report", "report.plan"),
    ("Plan(['a'])", "holds a str", "Call(id, tool, args)"),
    ("Plan.from_json('plan.json')", "not JSON", "the name of a file", "give its text"),
    ("Plan([A])['b']", "no call 'b'", "There are: a"),
    ("Plan([A, A])", "another call has the same id"),
    ("await run(Call('a', 'prize'))", "no tool 'prize'", "did you mean 'price'"),
    ("await run(Call('a', 'price', {'titel': 1}))", "titel", "did you mean title"),
    ("await run(Call('a', 'price'))", "title: missing", "Expected: title (string, required)"),
    ("await run(Call('a', 'price', {'title': 3}))", "title", "valid string", "(got 3)"),
    # --- references
    ("Plan([A, Call('b', 'price', {'title': Ref('a.value')})])", "Ref('a', ('value',))"),
    ("Plan([A, Call('b', 'price', {'title': Ref('a[0].x')})])", "Ref('a', (0, 'x'))"),
    ("Plan([A, Call('b', 'price', {'title': Ref('$a')})])", "did you mean 'a'"),
    ("Plan([Call('a', 'price', {'title': Ref('a')})])", "refers to itself", "another call"),
    ("Ref(1)", "a non-empty string", "write Ref('1')"),
    ("Ref(A)", "a non-empty string", "write Ref('a')"),
    ("Ref('a', 'items')", "tuple", "Ref('a', ('items',))"),
    ("f\"the price is {Ref('a')}\"", "formatted text", "Template"),
    ("'the price is {}'.format(Ref('a'))", "formatted text", "Template"),
    ("'the price is ' + Ref('a')", "Template"),
    ("Ref('a') + 1", "not there before the run", "by a tool"),
    ("[item for item in Ref('a')]", "not there before the run", "Each(Ref('a'))"),
    ("'x' in Ref('a')", "Each(Ref('a'))"),
    ("Template('{} and {}', Ref('a'))", "2 placeholders for 1 references"),
    ("Template('{a}', Ref('a'))", "not a plain {}"),
    ("Each('a')", "Each(Ref("),
    # --- running
    ("Executor(TOOLS).run_sync(Plan([A]))", "await executor.run(plan)"),
    ("await Executor(TOOLS).start(Plan([A]))", "async with executor.start", "executor.run(plan)"),
    ("aiter(Executor(TOOLS).start(Plan([A])))", "async with executor.start(plan) as run"),
    ("await ask('really?')", "works inside a tool"),
    ("current_call()", "works inside a tool"),
    # --- reports
    ("(await run(NONE)).outputs['a']", "'a' of tool 'price' is failed", "LookupError", "report["),
    ("(await run(NONE, AFTER_NONE)).outputs['b']", "is skipped", "needs 'a'", "report['b']"),
    ("(await run(A))['b']", "no call 'b'"),
    ("(await run(A)).results", "report.outputs"),
    ("(await run(A)).a", "report['a']"),
    ("(await run(A))['a'].output", ".value", ".result()"),
    ("(await run(NONE, AFTER_NONE))['b'].result()", "call 'b'", "skipped", "needs 'a'"),
    ("(await run(A)).compare({})", "the report of another run", "Report.from_json"),
    ("Report.from_dict({'a': 1})", "no 'version'", "report.to_dict()"),
    ("Report.from_json('x')", "report.to_json()"),
    # --- journals and answers
    ("await (await waiting()).resume('r', Approve())", "{call_id: Approve()}"),
    ("await (await waiting()).resume('r', [Approve()])", "{call_id: Approve()}"),
    ("await (await waiting()).resume('r', {'a': True})", "Approve(), Deny(reason)", "bool"),
    ("await (await waiting()).resume('r', {'a': 'yes'})", "Approve(), Deny(reason)", "str"),
    ("await (await waiting()).resume('r', {'b': Approve()})", "'b'"),
    ("await (await waiting()).resume('x')", "knows no run 'x'", "'r'"),
    ("await (await waiting()).resume(Report(Plan(), {}))", "report.run_id"),
    ("await Executor(TOOLS).resume('r')", "no journal", "Executor(journal=)"),
    # --- planners
    ("planned().results(Plan())", "takes the report", "await executor.run(plan)"),
    ("planned().results(None)", "takes the report", "await executor.run(plan)"),
    ("planned().results({'1': 3})", "Report.from_dict"),
    ("planned().results(await run(A))", "other calls", "the plan that it made"),
    ("planned().results(await run(Call('1', 'pay')))", "foreign report", "'pay'"),
    ("ChatPlanner(TOOLS).plan('hello')", "cannot read a str", "LLMCompilerPlanner"),
    ("ChatPlanner(TOOLS).plan(None)", "cannot read a NoneType", "no return"),
    ("ChatPlanner(TOOLS).plan(coroutine())", "await it first"),
    ("ChatPlanner(TOOLS).plan(AsyncStream())", "planner.stream"),
    ("ChatPlanner(TOOLS).plan(MESSAGE)", "MessagesPlanner"),
    ("MessagesPlanner(TOOLS).plan(REPLY)", "ChatPlanner"),
    ("ResponsesPlanner(TOOLS).plan(REPLY)", "ChatPlanner"),
    ("ChatPlanner(TOOLS).stream(REPLY)", "a whole reply to plan()"),
    (SOLVE.format("executor=Executor(TOOLS), tools=[price]"), "give price to the planner"),
    (SOLVE.format("executor=Executor(TOOLS), messages=[]"), "makes messages itself"),
    (SOLVE.format("executor=TOOLS"), "Executor(tools)"),
    (SOLVE.format("executor=Executor([price])"), "no tool pay, order", "the same tools"),
    (SOLVE.format("executor=Executor(TOOLS), max_turns=0"), "at least 1"),
    (SOLVE.replace("ChatPlanner(TOOLS)", "ChatPlanner").format("executor=1"), "ChatPlanner(tools)"),
    (SOLVE.format("executor=Executor(TOOLS)"), "openai.AsyncOpenAI"),
    # --- limits
    ("Rate('500/min')", "Rate(500, per=60)"),
    ("Limiter('m1', rates=500)", '{"requests": Rate(500)}'),
    ("Limiter('m2', rates={'requests': '500'})", "such as Rate(500)"),
]


def evaluated(code):
    """Return what an expression gives; an awaitable where there is an `await` in it."""
    flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
    return eval(compile(code, "<mistake>", "eval", flags), dict(NAMES))


def test_there_are_a_hundred():
    """At least; and none is there twice."""
    codes = [code for code, *_ in MISTAKES]
    assert len(codes) >= 100
    assert len(set(codes)) == len(codes)


@pytest.mark.parametrize(("code", "words"), [(row[0], row[1:]) for row in MISTAKES])
async def test_the_message_names_the_cause_and_the_way_to_mend_it(code, words):
    """An error of dagexec's own, or an AttributeError as Python has it."""
    with pytest.raises((dagexec.DagexecError, AttributeError)) as caught:
        found = evaluated(code)
        if asyncio.iscoroutine(found):
            await found
    text = str(caught.value)
    missing = [word for word in words if word not in text]
    assert not missing, text
    assert "object at 0x" not in text


@pytest.mark.parametrize(
    ("code", "same"),
    [
        ("Executor(TOOLS, timeouts=30).timeouts", "Timeouts(call=30)"),
        ("Executor(TOOLS, timeouts=dt.timedelta(minutes=2)).timeouts", "Timeouts(call=120)"),
        ("Executor(TOOLS).within(5).timeouts", "Timeouts(call=5)"),
        ("Timeouts(30)", "Timeouts(call=30)"),
        ("Timeouts(turn=dt.timedelta(minutes=2))", "Timeouts(turn=120.0)"),
        ("tool(plain, timeout=dt.timedelta(seconds=3)).timeout", "3.0"),
        ("Executor(TOOLS, start_timeout=dt.timedelta(seconds=3)).start_timeout", "3.0"),
        ("Call('a', price, {'title': 'Dune'})", "A"),
        ("Call('a', plain).tool", "'plain'"),
        ("Call('b', 'price', {}, after=(A,)).after", "('a',)"),
        ("Call('b', 'price', {}, after=[Ref('a')]).needs", "('a',)"),
        ("Ref('a')['items'][0]", "Ref('a', ('items', 0))"),
        ("Ref('a').items[0]", "Ref('a', ('items', 0))"),
        ("Ref('a', default=3).items", "Ref('a', ('items',), default=3)"),
        ("Ref('a').orders[...].id", "Ref('a', ('orders', ..., 'id'))"),
        ("price.call('a', title='Dune')", "A"),
        ("price.call('a', 'Dune')", "A"),
        ("A.value", "Ref('a')"),
    ],
)
def test_what_is_meant_is_taken(code, same):
    """Where there is one thing that it can mean."""
    assert evaluated(code) == evaluated(same)


@pytest.mark.parametrize("name", ["missing/runs.db", "."])
@pytest.mark.real_time
async def test_a_journal_that_cannot_be_opened_says_why(tmp_path, name):
    """SQLite itself says only that it could not."""
    journal = dagexec.journal.SqliteJournal(tmp_path / name)
    words = "folder .* does not exist; make it first" if "missing" in name else "it is a folder"
    with pytest.raises(dagexec.JournalError, match=words):
        await Executor(TOOLS, journal=journal).run(Plan([A]))


async def test_a_run_that_nobody_enters_warns():
    """Its calls never ran."""
    started = [Executor(TOOLS).start(Plan([A]), run_id="r")]
    with pytest.warns(ResourceWarning, match="run r was never entered.*async with"):
        started.clear()
    gc.collect()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        async with Executor(TOOLS).start(Plan([A])):
            pass
        gc.collect()


async def test_a_value_without_a_json_form_is_told_of(caplog):
    """Once for its type: the model gets no more than its repr."""

    class Opaque:
        pass

    @tool
    async def opaque() -> object:
        """Return what JSON does not know."""
        return Opaque()

    planner = ChatPlanner([opaque])
    for _ in range(2):
        reply = json.loads(json.dumps(REPLY).replace('"price"', '"opaque"').replace("title", "x"))
        reply["choices"][0]["message"]["tool_calls"][0]["function"]["arguments"] = "{}"
        with caplog.at_level(logging.WARNING, "dagexec"):
            planner.results(await Executor([opaque]).run(planner.plan(reply)))
    told = [record for record in caplog.records if "no JSON form" in record.message]
    assert len(told) <= 1  # none if an earlier test's class had the same name
    assert all("Opaque" in record.message for record in told)


def test_a_reference_has_no_protocols():
    """Whoever looks for one finds none, and copies and pickles are references."""
    import copy
    import pickle

    ref = Ref("a", ("x",))
    assert not hasattr(ref, "_repr_html_")
    assert not hasattr(ref, "__array__")
    assert copy.deepcopy(ref) == pickle.loads(pickle.dumps(ref)) == ref
    assert Ref("a")["call"].path == ("call",)


UNUSED = (MESSAGE, Path, Timeouts, ResponsesPlanner, MessagesPlanner, planners, math, dt)


@pytest.mark.integration
def test_a_node_takes_seconds_too_and_refuses_what_it_cannot_read_at_once():
    """As an executor does: at the mistake, not at the first message."""
    langgraph = pytest.importorskip("dagexec.integrations.langgraph", exc_type=ImportError)
    langgraph.DagToolNode(TOOLS, timeouts=30)
    langgraph.DagToolNode(TOOLS, timeouts=dt.timedelta(seconds=30))
    for wrong in ("30", 0, {"call": 3}):
        with pytest.raises(dagexec.DagexecError, match="Timeouts"):
            langgraph.DagToolNode(TOOLS, timeouts=wrong)
