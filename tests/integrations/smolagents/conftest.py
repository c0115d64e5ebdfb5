"""What the tests of agents of smolagents share: a scripted model, tools, an agent."""

from __future__ import annotations

import asyncio
import threading
import time
from importlib.util import find_spec

import pytest

if find_spec("smolagents") is not None:
    import smolagents
    from smolagents import ChatMessage, LogLevel, Model, ToolCallingAgent
    from smolagents.models import ChatMessageToolCall, ChatMessageToolCallFunction

    from dagexec.integrations.smolagents import _loop, dag_agent
else:
    collect_ignore_glob = ["test_*.py"]
    Model = object


class Script(Model):
    """A model that writes these replies, each a list of calls `(tool, args)` or a final answer."""

    def __init__(self, replies):
        """Keep them."""
        super().__init__()
        self.replies = list(replies)
        self.seen = []
        self.tools = []
        self.count = 0

    def generate(self, messages, tools_to_call_from=None, **options):
        """Answer."""
        self.seen.append(str([message.content for message in messages]))
        self.tools.append({each.name: each.inputs for each in tools_to_call_from or ()})
        reply = self.replies.pop(0) if self.replies else "done"
        if isinstance(reply, str):
            reply = [("final_answer", {"answer": reply})]
        uses = []
        for name, *rest in reply:
            self.count += 1
            args = rest[0] if rest else {}
            id_ = rest[1] if len(rest) > 1 else f"use{self.count}"
            function = ChatMessageToolCallFunction(arguments=args, name=name)
            uses.append(ChatMessageToolCall(function=function, id=id_, type="function"))
        return ChatMessage(role="assistant", content="", tool_calls=uses)


@pytest.fixture
def script():
    """Return how scripted models are made."""
    return lambda *replies: Script(replies)


LOG = []
END = threading.Event()


def search(query: str, seconds: float = 0.0) -> dict:
    """Search for something.

    Args:
        query: what
        seconds: how long it takes
    """
    END.wait(seconds)
    return {"items": [query, "b"]}


def count(items: list) -> int:
    """Count items.

    Args:
        items: what to count
    """
    return len(items)


def fail() -> str:
    """Fail."""
    raise LookupError("boom")


def save(path: str, text: str, seconds: float = 0.0) -> str:
    """Write a file.

    Args:
        path: its name
        text: what is in it
        seconds: how long it takes
    """
    time.sleep(seconds)
    LOG.append(text)
    return text


@pytest.fixture
def talk():
    """Return `talk(model, tools=(), bare=False, agent={}, **settings)`: an agent with tools."""
    LOG.clear()
    END.clear()

    def make(model, *, tools=(), bare=False, agent=None, own=(), **settings):
        known = [smolagents.tool(each) for each in (search, count, fail, save)]
        made = ToolCallingAgent(
            [*known, *tools], model, verbosity_level=LogLevel.OFF, **(agent or {})
        )
        return made if bare else dag_agent(made, tools=own, **settings)

    yield make
    END.set()


@pytest.fixture
def log():
    """Return what was written."""
    return LOG


@pytest.fixture
def left_over():
    """Return what says which tasks still run in the loops of agents."""

    def look():
        threads = [home._thread for home in list(_loop._HOMES) if home._thread is not None]
        # A loop that ends has tasks of its own, so that is asked last.
        return [
            task
            for each in threads
            if each._loop is not None
            for task in asyncio.all_tasks(each._loop)
            if task is not each._main and not each._over
        ]

    return look
