"""What the tests of the plugin for Google ADK share: a scripted model, tools, a runner."""

from __future__ import annotations

import asyncio
from importlib.util import find_spec

import pytest

from dagexec.testing import virtual_time


def _installed():
    try:
        return find_spec("google.adk") is not None
    except ModuleNotFoundError:
        return False


# `make adk` runs these, in an environment of their own.
if _installed():
    from google.adk.agents import LlmAgent
    from google.adk.models import BaseLlm, LlmResponse
    from google.adk.runners import InMemoryRunner
    from google.adk.tools import FunctionTool
    from google.genai import types
else:
    collect_ignore_glob = ["test_*.py"]
    BaseLlm = object


@pytest.fixture
def anyio_backend(request):
    """The ADK needs asyncio."""
    if request.node.get_closest_marker("real_time"):
        return "asyncio"
    return virtual_time("asyncio")


class Script(BaseLlm):
    """A model that writes these replies, each a list of calls `(tool, args)` or a text."""

    model: str = "script"
    replies: list = []  # noqa: RUF012 - pydantic copies it
    seen: list = []  # noqa: RUF012

    async def generate_content_async(self, llm_request, stream=False):
        """Answer."""
        del stream
        self.seen.append(llm_request.model_copy(deep=False))
        reply = self.replies.pop(0) if self.replies else "done"
        if isinstance(reply, str):
            parts = [types.Part(text=reply)]
        else:
            calls = [types.FunctionCall(name=name, args=dict(*args)) for name, *args in reply]
            parts = [types.Part(function_call=call) for call in calls]
        yield LlmResponse(content=types.Content(role="model", parts=parts))


@pytest.fixture
def script():
    """Return how scripted models are made."""
    return lambda *replies: Script(replies=list(replies), seen=[])


LOG = []


async def search(query: str, seconds: float = 1.0) -> dict:
    """Search for something."""
    await asyncio.sleep(seconds)
    return {"items": [query, "b"]}


async def count(items: list[str]) -> int:
    """Count items."""
    return len(items)


async def fail() -> None:
    """Fail."""
    raise ValueError("boom")


async def save(path: str, text: str, seconds: float = 1.0) -> str:
    """Write a file."""
    await asyncio.sleep(seconds)
    LOG.append(text)
    return text


async def drop(what: int) -> str:
    """Drop all."""
    return f"dropped {what}"


class Talk:
    """A session with an agent."""

    def __init__(self, agent, plugins):
        """Make its runner."""
        self.runner = InMemoryRunner(agent, plugins=list(plugins))
        self.session = None
        self.log = LOG
        self.asked = None

    async def say(self, *parts):
        """Send a message; return the answers of tools as (name, response)."""
        service = self.runner.session_service
        if self.session is None:
            name = self.runner.app_name
            self.session = await service.create_session(app_name=name, user_id="u")
        message = types.Content(role="user", parts=list(parts) or [types.Part(text="go")])
        found = []
        async for event in self.runner.run_async(
            user_id="u", session_id=self.session.id, new_message=message
        ):
            for call in event.get_function_calls():
                if call.name == "adk_request_confirmation":
                    self.asked = call
            found += [(each.name, each.response) for each in event.get_function_responses()]
        return found

    async def confirm(self, *, yes):
        """Answer what was asked."""
        response = {"confirmed": yes}
        answer = types.FunctionResponse(id=self.asked.id, name=self.asked.name, response=response)
        return await self.say(types.Part(function_response=answer))


@pytest.fixture
def talk():
    """Return `talk(model, plugin, ..., tools=())`: a session with an agent with a few tools."""
    LOG.clear()

    def make(model, *plugins, tools=(), **options):
        confirmed = FunctionTool(drop, require_confirmation=True)
        known = [search, count, fail, save, confirmed, *tools]
        return Talk(LlmAgent(name="a", model=model, tools=known, **options), plugins)

    return make
