"""What the tests of the LangGraph node share: both ways of running it, tools and graphs."""

from __future__ import annotations

import asyncio
import functools
import threading
import time

import pytest

pytest.importorskip("langgraph.prebuilt", reason="needs the extra langgraph")

from langchain_core.messages import AIMessage
from langchain_core.tools import StructuredTool
from langgraph.graph import END, START, MessagesState, StateGraph


def pytest_collection_modifyitems(items):
    """Mark what is here: threads and LangGraph itself need a real clock, slow machines time."""
    for item in items:
        if "integrations/langgraph" in item.path.as_posix():
            item.add_marker(pytest.mark.integration)
            item.add_marker(pytest.mark.real_time)
            if item.get_closest_marker("timeout") is None:
                item.add_marker(pytest.mark.timeout(240))


class Way:
    """One way of running a node: `invoke` or `ainvoke`, with tools that wait or that block."""

    def __init__(self, name):
        self.method, self.kind = name.split("-")
        self.asynchronous = self.method == "ainvoke"
        self.orphans = []

    def run(self, runnable, given, config=None, **options):
        """Run to the end; keep what the event loop still holds then."""
        if not self.asynchronous:
            return runnable.invoke(given, config, **options)

        async def run():
            before = asyncio.all_tasks()
            try:
                return await runnable.ainvoke(given, config, **options)
            finally:
                self.orphans = [task for task in asyncio.all_tasks() - before if not task.done()]

        return asyncio.run(run())

    def tool(self, function=None, *, seconds=0.0):
        """Make a tool that takes its time; `seconds` may be a function of the arguments."""
        if function is None:
            return functools.partial(self.tool, seconds=seconds)

        def duration(kwargs):
            return seconds(**kwargs) if callable(seconds) else seconds

        def blocking(*args, **kwargs):
            time.sleep(duration(kwargs))
            return function(*args, **kwargs)

        async def waiting(*args, **kwargs):
            await asyncio.sleep(duration(kwargs))
            return function(*args, **kwargs)

        made = functools.wraps(function)(waiting if self.kind == "waits" else blocking)
        given = {"coroutine": made} if self.kind == "waits" else {"func": made}
        return StructuredTool.from_function(
            **given, name=function.__name__, description=function.__name__
        )


@pytest.fixture(scope="session")
def way_of():
    """Return the function that makes a way of running a node."""
    return Way


@pytest.fixture(params=["ainvoke-waits", "ainvoke-blocks", "invoke-blocks", "invoke-waits"])
def way(request):
    """Return each way of running a node."""
    return Way(request.param)


@pytest.fixture(params=["ainvoke-waits", "invoke-waits"])
def method(request, way_of):
    """Return both ways of running a node with async tools."""
    return way_of(request.param)


def message_of(*calls):
    """Return a model's message; a call is (name, args) or (name, args, id)."""
    made = [
        {"name": call[0], "args": call[1], "id": (*call, f"c{n}")[2], "type": "tool_call"}
        for n, call in enumerate(calls, 1)
    ]
    return AIMessage("", tool_calls=made)


@pytest.fixture(scope="session")
def message():
    """Return the function that makes a model's message."""
    return message_of


@pytest.fixture(scope="session")
def state():
    """Return the function that makes the state with a model's message."""
    return lambda *calls: {"messages": [message_of(*calls)]}


@pytest.fixture(scope="session")
def graph():
    """Return the function that makes a graph of one node."""

    def make(node, *, checkpointer=None, **options):
        builder = StateGraph(MessagesState)
        builder.add_node("tools", node, **options)
        builder.add_edge(START, "tools")
        builder.add_edge("tools", END)
        return builder.compile(checkpointer=checkpointer)

    return make


@pytest.fixture
def thread():
    """Return the config of a new conversation."""
    return {"configurable": {"thread_id": "1"}}


@pytest.fixture
def release():
    """Return an event on which a hung tool waits; it is set when the test is over."""
    event = threading.Event()
    yield event
    event.set()


def contents_of(result):
    """Return the contents of the answers in a result."""
    return [message.content for message in result["messages"] if not isinstance(message, AIMessage)]


@pytest.fixture(scope="session")
def contents():
    """Return the function that reads a result's answers."""
    return contents_of
