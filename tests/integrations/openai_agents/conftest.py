"""What the tests of the adapter for the OpenAI Agents SDK share: a scripted model, tools."""

from __future__ import annotations

import asyncio
import json

import pytest

pytest.importorskip("agents.tool_context", reason="needs the extra openai-agents")

from agents import Agent, ModelResponse, Usage, function_tool, set_tracing_disabled
from agents.models.interface import Model
from openai.types.responses import (
    Response,
    ResponseCompletedEvent,
    ResponseFunctionToolCall,
    ResponseOutputMessage,
    ResponseOutputText,
)

from dagexec.testing import virtual_time


def pytest_collection_modifyitems(items):
    """Mark what is here."""
    for item in items:
        if "integrations/openai_agents" in item.path.as_posix():
            item.add_marker(pytest.mark.integration)


@pytest.fixture
def anyio_backend(request):
    """The SDK needs asyncio."""
    if request.node.get_closest_marker("real_time"):
        return "asyncio"
    return virtual_time("asyncio")


@pytest.fixture(autouse=True)
def untraced():
    """Nothing is sent."""
    set_tracing_disabled(disabled=True)


class Script(Model):
    """A model that writes these replies, each a list of calls `(tool, args)` or a text."""

    def __init__(self, *replies):
        self.replies = list(replies)
        self.seen = []
        self.ids = 0

    def answer(self, instructions, items, tools):
        """Return the output of the next reply."""
        self.seen.append((instructions, [dict(item) for item in items], tools))
        reply = self.replies.pop(0) if self.replies else "done"
        if isinstance(reply, str):
            text = ResponseOutputText(text=reply, type="output_text", annotations=[])
            return [
                ResponseOutputMessage(
                    id="m", type="message", role="assistant", status="completed", content=[text]
                )
            ]
        return [self.call(*each) for each in reply]

    def call(self, tool, args=None):
        """Return a call with an id of its own."""
        self.ids += 1
        return ResponseFunctionToolCall(
            type="function_call",
            name=tool,
            arguments=args if isinstance(args, str) else json.dumps(args or {}),
            call_id=f"id{self.ids}",
        )

    async def get_response(self, system_instructions, input, model_settings, tools, *rest, **more):  # noqa: A002
        """Answer."""
        output = self.answer(system_instructions, input, tools)
        return ModelResponse(output=output, usage=Usage(requests=1), response_id=None)

    async def stream_response(
        self,
        system_instructions,
        input,  # noqa: A002
        model_settings,
        tools,
        *rest,
        **more,
    ):
        """Answer in one event."""
        output = self.answer(system_instructions, input, tools)
        response = Response(
            id="r",
            created_at=0,
            model="script",
            object="response",
            output=output,
            parallel_tool_calls=True,
            tool_choice="auto",
            tools=[],
        )
        yield ResponseCompletedEvent(
            type="response.completed", response=response, sequence_number=0
        )


@pytest.fixture
def script():
    """Return the class of scripted models."""
    return Script


LOG = []


@function_tool
async def search(query: str, seconds: float = 1.0) -> dict[str, list[str]]:
    """Search for something."""
    await asyncio.sleep(seconds)
    return {"items": [query, "b"]}


@function_tool
async def count(items: list[str]) -> int:
    """Count items."""
    return len(items)


@function_tool(failure_error_function=lambda context, error: f"sorry: {error}")
async def fail() -> None:
    """Fail."""
    raise ValueError("boom")


@function_tool
async def save(path: str, text: str, seconds: float = 1.0) -> str:
    """Write a file."""
    await asyncio.sleep(seconds)
    LOG.append(text)
    return text


@function_tool(needs_approval=True)
async def drop(what: str = "all") -> str:
    """Drop all."""
    return f"dropped {what}"


@pytest.fixture
def made():
    """Return an agent with a few tools; what `save` writes is in its `log`."""
    LOG.clear()

    def make(model, *tools, **options):
        agent = Agent(
            name="A", model=model, tools=[search, count, fail, save, drop, *tools], **options
        )
        agent.log = LOG
        return agent

    return make
