"""dagexec's tools in the node: every option and every answer means what it means to `Executor`.

Each scenario is run by an `Executor` and by the node, under `invoke` and `ainvoke`; what became of
the calls, what was asked and what the tool has seen must be the same.
"""

from __future__ import annotations

import asyncio
import itertools
import threading
from typing import Any

import pytest
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.messages import ToolMessage
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.prebuilt import ToolNode
from langgraph.types import Command

from dagexec import (
    Approve,
    ArgumentError,
    Call,
    DagexecError,
    Deny,
    Done,
    Edit,
    Executor,
    Plan,
    Timeouts,
    ToolDefinitionError,
    ask,
    current_call,
    tool,
)
from dagexec._tools.options import ToolOptions
from dagexec.integrations.langgraph import DagToolNode, to_langchain
from dagexec.journal import MemoryJournal
from dagexec.limits import Limiter, Retry

NOTHING = object()
TIMEOUTS = Timeouts(call=20)


class Seen:
    """What tools have seen: their arguments, and how many of them ran at a time."""

    def __init__(self):
        self.calls = []
        self.now = self.peak = 0

    async def run(self, *values):
        """Take some time."""
        self.calls.append(values)
        self.now += 1
        self.peak = max(self.peak, self.now)
        await asyncio.sleep(0.03)
        self.now -= 1


class Scenario:
    """A tool and calls of it; `make` makes the tool, which tells `Seen` of its calls."""

    def __init__(self, make, *args, answer=NOTHING, name="work", **settings):
        self.make, self.args, self.answer = make, args or ({"x": 1},), answer
        self.name, self.settings = name, settings

    async def by_executor(self):
        """Return what an `Executor` makes of it: each step's outcomes, and what was seen."""
        seen = Seen()
        made = self.make(seen)
        executor = Executor([made], journal=MemoryJournal(), timeouts=TIMEOUTS, **self.settings)
        calls = [Call(f"c{n}", self.name, args) for n, args in enumerate(self.args, 1)]
        fitting = []
        for call in calls:  # what the node answers with an error, a plan is refused for
            problems = made.problems(call.args)
            fitting.append(
                Call(call.id, call.tool, problem=made.explain(problems)) if problems else call
            )
        report = await executor.run(fitting, run_id="r")
        steps = [[seen_outcome(report[call.id]) for call in calls]]
        if self.answer is not NOTHING:
            try:
                plan = Plan(fitting)  # its secrets are not in the journal
                report = await executor.resume("r", {"c1": self.answer}, plan=plan)
            except DagexecError as error:
                steps.append(type(error))
            else:
                steps.append([seen_outcome(report[call.id]) for call in calls])
        return steps, seen

    def by_node(self, way, state, graph, thread):
        """Return the same of the node."""
        seen = Seen()
        node = DagToolNode(
            [self.make(seen)], handle_tool_errors=True, timeouts=TIMEOUTS, **self.settings
        )
        made = graph(node, checkpointer=InMemorySaver())
        given = state(*((self.name, args) for args in self.args))
        result = way.run(made, given, thread)
        steps = [seen_result(result, len(self.args))]
        if self.answer is not NOTHING:
            asked = {each.id: self.answer for each in result["__interrupt__"]}
            try:
                result = way.run(made, Command(resume=asked), thread)
            except DagexecError as error:
                steps.append(type(error))
            else:
                steps.append(seen_result(result, len(self.args)))
        return steps, seen


def seen_outcome(outcome):
    """Return what is to be compared of an outcome."""
    if outcome.status == "pending":
        question = outcome.question
        approval = isinstance(question, dict) and "approve" in question
        return ("asks", question["args"] if approval else question)
    if outcome.status == "done":
        return ("done", str(outcome.value))
    return (outcome.status, str(outcome.error))


def seen_result(result, count):
    """Return the same of what the node gave; questions first, they are those of the only call."""
    asked = [each.value for each in result.get("__interrupt__", ())]
    if asked:
        approval = isinstance(asked[0], dict) and asked[0].get("type") == "approval"
        return [("asks", asked[0]["args"] if approval else asked[0])] * count
    answers = [each for each in result["messages"] if isinstance(each, ToolMessage)]
    kinds = {"success": "done", "error": "failed"}
    found = []
    for each in answers:
        kind = "timed_out" if "timed out" in each.content else kinds[each.status]
        found.append((kind, each.content))
    return found


def same(one, other):
    """Whether two steps are the same; the node says an error's text in a sentence of its own."""
    if isinstance(one, type) or isinstance(other, type):
        return one is other
    return len(one) == len(other) and all(
        kind == kind2 and (kind == "timed_out" or text == text2 or said(kind, text, text2))
        for (kind, text), (kind2, text2) in zip(one, other, strict=True)
    )


def said(kind, text, longer):
    return kind == "failed" and str(text) in str(longer)


def compare(scenario, way, state, graph, thread):
    """Fail where the node is not what an `Executor` is."""
    steps, seen = asyncio.run(scenario.by_executor())
    found, seen_by_node = scenario.by_node(way, state, graph, thread)
    assert len(found) == len(steps)
    for one, other in zip(steps, found, strict=True):
        assert same(one, other), (one, other)
    assert seen_by_node.calls == seen.calls
    assert seen_by_node.peak == seen.peak
    return steps, seen


@pytest.fixture
def compared(method, state, graph, thread):
    """Return the function that compares a scenario's two ways."""
    return lambda scenario: compare(scenario, method, state, graph, thread)


# ------------------------------------------------------------------------------------- the options


def plain(**options):
    """Return the function that makes a tool with these options.

    Of those that are functions some are made when there is something to tell what they are asked.
    """

    def make(seen):
        given = {key: item(seen) if key in seeing else item for key, item in options.items()}

        @tool(**given)
        async def work(x: int = 7, key: str = "k") -> str:
            """Work.

            Args:
                x: How much.
            """
            await seen.run(x, key)
            return f"{x} {key}"

        return work

    seeing = {name for name in ("approval", "cost", "retry") if callable(options.get(name))}
    return make


def flaky(**options):
    """Return the function that makes a tool that fails the first time."""

    def make(seen):
        @tool(**options)
        async def work(items: list[int]) -> str:
            seen.calls.append(tuple(items))
            items.append(len(seen.calls))  # its own: the next attempt must not see it
            if len(seen.calls) < 2:
                raise OSError("no network")
            return f"{current_call().attempt}"

        return work

    return make


def slow(seen):
    @tool(effect="read", timeout=0.05)
    async def work(x: int) -> str:
        seen.calls.append(x)
        await asyncio.sleep(30)
        return ""

    return work


def in_the_loop(seen):
    @tool(effect="read", runs="async")
    def work(x: int) -> str:
        seen.calls.append(asyncio.get_running_loop().is_running())
        return str(x)

    return work


def counted(seen):
    """Return a cost that tells what it was asked for."""
    return lambda args: (seen.calls.append(args), {"requests": 1})[1]


def retried(seen):
    """Return a retry that tells what it was asked for."""
    return Retry(3, base=0.001, on=lambda error: (seen.calls.append(type(error)), True)[1])


def above_ten(seen):
    """Return a predicate that tells what it was asked for."""
    return lambda args: (seen.calls.append(args), args["x"] > 10)[1]


def limiter(**options):
    return Limiter(f"key {next(_numbers)}", **options)


_numbers = itertools.count()

# By option, what a call with it does. A new option without a scenario fails `test_every_option`.
OPTIONS: dict[str, list[Any]] = {
    "name": [lambda: Scenario(plain(name="other"), name="other")],
    "description": [lambda: Scenario(plain(description="Something else."))],
    "effect": [
        lambda: Scenario(flaky(effect="write", retry=Retry(3, base=0.001)), {"items": [0]}),
        lambda: Scenario(plain(effect="read"), {"x": 1}, {"x": 2}),
    ],
    "timeout": [lambda: Scenario(slow)],
    "retry": [
        lambda: Scenario(flaky(effect="idempotent", retry=Retry(3, base=0.001)), {"items": [0]}),
        lambda: Scenario(plain(effect="read", retry=retried), {"x": "many"}),
    ],
    "limits": [
        lambda: Scenario(plain(effect="read", limits=limiter(in_flight=1)), {"x": 1}, {"x": 2})
    ],
    "cost": [
        lambda: Scenario(
            plain(effect="read", cost=counted, limits=limiter(rates={"requests": 1000})),
            {"x": "50"},
        )
    ],
    "reads": [
        lambda: Scenario(plain(effect="read", reads="file:{key}"), {"x": 1}, {"x": 2}),
    ],
    "writes": [
        # The first one's path is the default, which the second one names.
        lambda: Scenario(plain(writes="file:{key}"), {"x": 1}, {"x": 2, "key": "k"}),
        lambda: Scenario(plain(writes="file:{key}"), {"x": 1}, {"x": 2, "key": "other"}),
    ],
    "approval": [
        lambda: Scenario(plain(approval=True), {"x": 1}),
        lambda: Scenario(plain(approval=above_ten), {"x": 1}),
        lambda: Scenario(plain(approval=above_ten), {"x": "50"}, answer=Approve()),
        lambda: Scenario(plain(approval=above_ten), {"x": "many"}),
    ],
    # What it is for, a write that a crash interrupted, is LangGraph's to decide.
    "reconcile": [lambda: Scenario(plain(reconcile=lambda context, args: None))],
    "runs": [lambda: Scenario(in_the_loop)],
    "secret": [
        lambda: Scenario(plain(approval=True, secret="key"), {"x": 1, "key": "S3CRET"}),
        lambda: Scenario(
            plain(approval=True, secret="key"),
            {"x": 1, "key": "S3CRET"},
            answer=Edit({"x": 2, "key": "<secret>"}),
        ),
        lambda: Scenario(plain(secret="x"), {"x": "S3CRET"}),
    ],
    "uses": [
        lambda: Scenario(
            plain(effect="read", uses={"gpu": 1}),
            *({"x": n} for n in range(3)),
            capacities={"gpu": 1},
        )
    ],
    # What a planner shows of a result; here LangChain makes the text, and a reference needs it all.
    "limit": [lambda: Scenario(plain(limit=1), {"x": 12345})],
}
CASES = [(name, number) for name, found in OPTIONS.items() for number in range(len(found))]


@pytest.mark.parametrize(("option", "number"), CASES)
def test_every_option(option, number, compared):
    """It does in the node what it does in an `Executor`."""
    steps, _ = compared(OPTIONS[option][number]())
    assert "S3CRET" not in str(steps[0])


def test_there_is_a_scenario_for_every_option():
    """An option that is added later has to be thought of here."""
    assert list(OPTIONS) == list(ToolOptions.__annotations__)


def test_what_the_executor_runs_has_all_options():
    """They are the tool's own, but for those that the node must change."""
    options = {
        "effect": "idempotent",
        "timeout": 5.0,
        "retry": Retry(2),
        "limits": limiter(rates={"requests": 5}),
        "cost": {"requests": 1},
        "reads": "file:{key}",
        "writes": "row:{x}",
        "reconcile": print,
        "secret": "key",
        "uses": {"gpu": 1},
        "limit": 100,
    }
    made = plain(**options)(Seen())
    node = DagToolNode([made], capacities={"gpu": 1})
    run = node.driven("work", blocking=False).tool
    changed = {"description", "runs", "approval", "retry"}
    assert set(ToolOptions.__annotations__) - set(options) - {"name"} == changed - {"retry"}
    for name in set(ToolOptions.__annotations__) - changed:
        assert getattr(run, name) == getattr(made, name), name
    assert (run.retry.attempts, run.retry._keys) == (2, made.retry._keys)
    assert run.resources({"x": 1}) == made.resources({"x": 1})  # with the default


def test_options_of_the_node_change_those_of_a_tool():
    """Given by name they take the place of the tool's own, one by one, and in a copied node."""
    made = plain(effect="read", timeout=5)(Seen())
    node = DagToolNode([made], options={"work": {"timeout": 6}})
    copied = DagToolNode.from_tool_node(node, concurrency=3)
    for each in (node, copied):
        run = each.driven("work", blocking=False).tool
        assert (run.effect, run.timeout) == ("read", 6)
    with pytest.raises(ToolDefinitionError, match="runs= of 'int_of'"):
        DagToolNode([tool(int_of, runs="process")])


def int_of(x: int) -> int:
    """Give it back."""
    return x


def test_tools_that_were_made_langchains_keep_their_options():
    """Also in an agent, which takes no others."""
    made = to_langchain(plain(effect="read", approval=True, secret="key")(Seen()))
    for node in (DagToolNode([made]), DagToolNode.from_tool_node(ToolNode([made]))):
        found = node.driven("work", blocking=False)
        assert (found.tool.effect, found.tool.approval) == ("read", False)
        assert (found.judge.approval, found.judge.secret) == (True, ("key",))


# ------------------------------------------------------------------------------------- the answers

ANSWERS = {
    "approve": Approve(),
    "deny": Deny("too dear"),
    "edit": Edit({"x": 2}),
    "edit of what is not there": Edit({"y": 2}),
    "edit that does not fit": Edit({"x": "many"}),
    "done": Done("by hand"),
    "value": "yes",
}


def asking(seen):
    @tool(effect="read")
    async def work(x: int) -> str:
        seen.calls.append(x)
        answer = await ask({"how": x})
        return f"{x} {answer}"

    return work


@pytest.mark.parametrize("answer", ANSWERS)
@pytest.mark.parametrize("kind", ["approval", "question"])
def test_every_answer(kind, answer, compared):
    """To an approval and to a question of the tool's, also one that is not fit for it."""
    make = plain(approval=True) if kind == "approval" else asking
    steps, _ = compared(Scenario(make, answer=ANSWERS[answer]))
    assert len(steps) == 2


def test_an_answer_that_does_not_fit_can_be_given_again(method, state, graph, thread, contents):
    """By id and without one; nothing has run, and nothing is kept of it."""
    seen = Seen()
    made = graph(DagToolNode([plain(approval=True)(seen)]), checkpointer=InMemorySaver())
    (asked,) = method.run(made, state(("work", {"x": 1})), thread)["__interrupt__"]
    for resume in ({asked.id: "yes"}, "yes", {asked.id: Edit({"x": "many"})}):
        with pytest.raises(DagexecError):
            method.run(made, Command(resume=resume), thread)
    assert not seen.calls
    assert contents(method.run(made, Command(resume=Approve()), thread)) == ["1 k"]


DECISIONS = [
    (True, "1 k"),
    ({"type": "approve"}, "1 k"),
    (False, "Error: a person has denied this call"),
    ({"type": "deny", "reason": "no"}, "Error: a person has denied this call: no"),
    ({"type": "edit", "args": {"x": 3}}, "3 k"),
    ({"type": "done", "value": {"paid": 4}}, '{"paid": 4}'),
]


@pytest.mark.parametrize(("decision", "content"), DECISIONS, ids=str)
def test_decisions_as_json(decision, content, method, *, state, graph, thread, contents):
    """What comes over a network is read as the decision that it stands for."""
    node = DagToolNode([plain(approval=True)(Seen())])
    made = graph(node, checkpointer=InMemorySaver())
    (asked,) = method.run(made, state(("work", {"x": 1})), thread)["__interrupt__"]
    assert contents(method.run(made, Command(resume={asked.id: decision}), thread)) == [content]


def test_callbacks_see_the_end_of_a_tool_that_asks(method, state, graph, thread):
    """As they do of one that calls `interrupt()`."""
    seen = []

    class Handler(BaseCallbackHandler):
        def on_tool_start(self, *args, **kwargs):
            seen.append("start")

        def on_tool_error(self, error, **kwargs):
            seen.append(type(error).__name__)

        def on_tool_end(self, *args, **kwargs):
            seen.append("end")

    made = graph(DagToolNode([asking(Seen())]), checkpointer=InMemorySaver())
    config = {**thread, "callbacks": [Handler()]}
    assert method.run(made, state(("work", {"x": 1})), config)["__interrupt__"]
    method.run(made, Command(resume="so"), config)
    assert seen == ["start", "GraphInterrupt", "start", "end"]


def test_outside_of_a_graph_nobody_can_be_asked(method, state):
    """The error says so, and what to do."""
    node = DagToolNode([plain(approval=True)(Seen())])
    with pytest.raises(DagexecError, match="compile the graph with one"):
        method.run(node, state(("work", {"x": 1})))


def test_wrong_arguments_are_not_shown_to_a_person(method, state, graph, thread, contents):
    """Whatever a wrapper might make of them: what nobody has agreed to does not run."""

    def repairs(request, execute):
        call = {**request.tool_call, "args": {"x": 1}}
        return execute(request.override(tool_call=call))

    seen = Seen()
    made = plain(approval=True)(seen)
    node = DagToolNode([made], handle_tool_errors=True, wrap_tool_call=repairs)
    found = contents(method.run(node, state(("work", {"x": "many"}))))
    assert "Wrong arguments for work: x: " in found[0]
    assert not seen.calls
    with pytest.raises(ArgumentError):
        made.validate({"x": "many"})


# --------------------------------------------------------------------------------------- resources


def test_what_there_is_once_is_there_once_for_all_messages(state, contents):
    """A node's messages on one event loop share it; too little of it is an error at once."""
    seen = Seen()
    made = plain(effect="read", uses={"gpu": 1})(seen)
    with pytest.raises(DagexecError, match="uses 1 of 'gpu'"):
        DagToolNode([made])
    node = DagToolNode([made], capacities={"gpu": 1})

    async def run():
        given = state(("work", {"x": 1}), ("work", {"x": 2}))
        return await asyncio.gather(node.ainvoke(given), node.ainvoke(given))

    assert [contents(each) for each in asyncio.run(run())] == [["1 k", "2 k"]] * 2
    assert seen.peak == 1


def test_a_sync_tool_holds_it_under_invoke(state, contents):
    """Also in threads."""
    busy = threading.Lock()

    @tool(effect="read", uses={"gpu": 1})
    def work(x: int) -> str:
        assert busy.acquire(blocking=False)
        threading.Event().wait(0.01)
        busy.release()
        return str(x)

    node = DagToolNode([work], capacities={"gpu": 1})
    found = contents(node.invoke(state(*(("work", {"x": n}) for n in range(5)))))
    assert found == ["0", "1", "2", "3", "4"]
