"""Arguments under the names of other libraries: the error names what is meant."""

from __future__ import annotations

import inspect
import pickle

import pytest

from dagexec import *  # noqa: F403 - the rows are code of users
from dagexec import Call, DagexecError, Executor, Plan, Timeouts, tool
from dagexec.journal import *  # noqa: F403
from dagexec.limits import *  # noqa: F403
from planners.anthropic import MessagesPlanner
from planners.llmcompiler import LLMCompilerPlanner
from planners.openai import ChatPlanner, ResponsesPlanner


@tool(effect="pure")
async def price(title: str) -> float:
    """Return the price of a book."""
    return 7.25


NAMES = {
    **globals(),
    "C": ChatPlanner,
    "R": ResponsesPlanner,
    "M": MessagesPlanner,
    "L": LLMCompilerPlanner,
}

ROWS = [
    ("Executor([price], max_workers=4)", "it is called 'concurrency'"),
    ("Executor([price], timeout=3)", "it is called 'timeouts'"),
    ("Executor([price], retries=3)", "@tool(retry=Retry(3))"),
    ("Executor([price], rate_limit=3)", "@tool(limits="),
    ("Executor([price], checkpointer=None)", "it is called 'journal'"),
    ("Executor([price], callbacks=[])", "it is called 'observers'"),
    ("Executor([price], fail_fast=True)", "it is called 'on_failure'"),
    ("Executor([price], model='gpt')", "planners.solve("),
    ("Executor([price], concurency=3)", "did you mean 'concurrency'?"),
    ("Executor(functions=[price])", "it is called 'tools'"),
    ("Executor([price], 4)", "by name it takes timeouts, concurrency"),
    ("tool(retries=3)(price)", "it is called 'retry'"),
    ("tool(readonly=True)(price)", "it is called 'effect'"),
    ("tool(frobnicate=True)(price)", "it takes name, description, effect"),
    ("Plan(nodes=[])", "it is called 'calls'"),
    ("Plan([], edges=[])", "a Ref to another call"),
    ("Plan(Call('a', 'price'), Call('b', 'price'))", "give them as one list"),
    ("Call('a', name='price')", "it is called 'tool'"),
    ("Call('price', name='a', tool='price')", "it is called 'id'"),
    ("Call('a', 'price', arguments={})", "it is called 'args'"),
    ("Call('a', 'price', depends_on=['b'])", "it is called 'after'"),
    ("Call('a', 'price', title='Dune')", "args={'title': …}"),
    ("Template('{}', a=1)", "it takes text"),
    ("Timeouts(total=3)", "it is called 'workflow'"),
    ("Timeouts(3, 4)", "by name it takes layer, turn, workflow"),
    ("Retry(max_attempts=3)", "it is called 'attempts'"),
    ("Retry(backoff=3)", "it is called 'base'"),
    ("Rate(requests=3)", "it is called 'limit'"),
    ("Rate(3, per_second=1)", "it is called 'per'"),
    ("Breaker(threshold=3)", "it is called 'failures'"),
    ("Limiter('x', rpm=3)", "it is called 'rates'"),
    ("Limiter('x', concurrency=3)", "it is called 'in_flight'"),
    ("SqliteJournal(filename='x')", "it is called 'path'"),
    ("Deny(message='no')", "it is called 'reason'"),
    ("Edit(arguments={})", "it is called 'args'"),
    ("Edit(title='Emma')", "args={'title': …}"),
    *[(f"{name}([price], model='x')", "planners.solve(") for name in "CRML"],
    *[(f"{name}([price], max_chars=3)", "it is called 'limit'") for name in "CRML"],
]


@pytest.mark.parametrize(("code", "text"), ROWS)
def test_the_right_name_is_named(code, text):
    """Whatever the class; and it is the TypeError that Python would raise."""
    with pytest.raises(DagexecError) as caught:
        eval(code, NAMES)
    assert text in str(caught.value)
    assert "__init__" not in str(caught.value)
    assert isinstance(caught.value, TypeError) or code.startswith("tool(")


METHODS = [
    ("run(plan, timeout=3)", "Executor.run() has no argument 'timeout': timeouts are"),
    ("run(plan, id='x')", "it is called 'run_id' here"),
    ("run(graph=plan)", "it is called 'plan' here"),
    ("run(plan, plan)", "takes one argument without a name: plan, and 2 were given"),
    ("run_sync(plan, journal=3)", "a journal is an Executor's"),
    ("start(plan, concurrency=3)", "the concurrency is an Executor's"),
    ("resume('x', approvals={})", "it is called 'answers' here"),
    ("check(plan, model='x')", "planners.solve("),
]


@pytest.mark.anyio
@pytest.mark.parametrize(("code", "text"), METHODS)
async def test_the_right_name_of_a_methods_argument_is_named(code, text):
    """Those that everybody calls."""
    plan = Plan([Call("a", "price", {"title": "Dune"})])
    with pytest.raises(TypeError) as caught:
        result = eval(f"Executor([price]).{code}", {**NAMES, "plan": plan})
        await result
    assert text in str(caught.value)
    assert isinstance(caught.value, DagexecError)


def test_signatures_are_those_of_the_classes():
    """For `help()` and editors, and Python's own error where no name is wrong."""
    assert "concurrency" in inspect.signature(Executor).parameters
    assert list(inspect.signature(Executor.run).parameters) == ["self", "plan", "run_id"]
    assert inspect.iscoroutinefunction(Executor([price]).run)
    assert list(inspect.signature(Call).parameters)[:4] == ["id", "tool", "args", "after"]
    assert list(inspect.signature(Timeouts).parameters) == ["call", "layer", "turn", "workflow"]
    with pytest.raises(TypeError, match="missing 1 required positional argument: 'tool'"):
        Call("a")  # type: ignore[call-arg]


def test_an_error_from_inside_is_left_alone():
    """Only arguments that Python refuses are looked at."""

    class Odd:
        def __iter__(self):
            raise TypeError("no argument 'x'")

    with pytest.raises(TypeError, match="no argument 'x'") as caught:
        Executor(Odd())
    assert not isinstance(caught.value, DagexecError)


def test_what_is_made_is_as_before():
    """Copies, pickles and equality."""
    plan = Plan([Call("a", "price", {"title": "Dune"})])
    assert pickle.loads(pickle.dumps(plan.calls)) == plan.calls
    assert Timeouts(3) == Timeouts(call=3)
