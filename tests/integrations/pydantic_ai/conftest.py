"""What the tests of the capability for Pydantic AI share: a scripted model, in virtual time."""

from __future__ import annotations

import asyncio

import pytest

pytest.importorskip("pydantic_ai.capabilities", reason="needs the extra pydantic-ai")

from pydantic_ai import Agent
from pydantic_ai.messages import ModelResponse, TextPart, ToolCallPart
from pydantic_ai.models.function import FunctionModel

from dagexec.testing import virtual_time


def pytest_collection_modifyitems(items):
    """Mark what is here."""
    for item in items:
        if "integrations/pydantic_ai" in item.path.as_posix():
            item.add_marker(pytest.mark.integration)


@pytest.fixture
def anyio_backend(request):
    """Pydantic AI needs asyncio."""
    if request.node.get_closest_marker("real_time"):
        return "asyncio"
    return virtual_time("asyncio")


class Script(FunctionModel):
    """A model that writes these replies, each a list of calls `(tool, args)` or a text."""

    def __init__(self, *replies):
        self.replies = list(replies)
        self.seen = []
        self.ids = 0
        super().__init__(self.answer, stream_function=self.stream)

    async def answer(self, messages, info):
        """Return the next reply."""
        self.seen.append((messages, info))
        reply = self.replies.pop(0) if self.replies else "done"
        if isinstance(reply, str):
            return ModelResponse(parts=[TextPart(reply)])
        return ModelResponse(parts=[self.call(*each) for each in reply])

    def call(self, tool, args=None, id_=None):
        """Return a call with an id of its own."""
        self.ids += 1
        return ToolCallPart(tool, args or {}, tool_call_id=id_ or f"id{self.ids}")

    async def stream(self, messages, info):
        """Stream the next reply."""
        from pydantic_ai.models.function import DeltaToolCall

        for n, part in enumerate((await self.answer(messages, info)).parts):
            if isinstance(part, TextPart):
                yield part.content
            else:
                args = part.args_as_json_str()
                yield {n: DeltaToolCall(part.tool_name, args, tool_call_id=part.tool_call_id)}


@pytest.fixture
def script():
    """Return the class of scripted models."""
    return Script


@pytest.fixture
def made(request):
    """Return an agent with a few tools: `made(model, capability, ...)`."""

    def make(model, *capabilities, **options):
        agent = Agent(model, capabilities=capabilities, **options)
        agent.log = log = []

        @agent.tool_plain
        async def search(query: str, seconds: float = 1.0) -> dict[str, list[str]]:
            """Search for something."""
            await asyncio.sleep(seconds)
            return {"items": [query, "b"]}

        @agent.tool_plain
        async def count(items: list[str]) -> int:
            """Count items."""
            return len(items)

        @agent.tool_plain
        async def fail() -> None:
            """Fail."""
            raise ValueError("boom")

        @agent.tool_plain
        async def save(path: str, text: str, seconds: float = 1.0) -> str:
            """Write a file."""
            await asyncio.sleep(seconds)
            log.append(text)
            return text

        return agent

    return make
