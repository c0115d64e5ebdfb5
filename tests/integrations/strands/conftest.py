"""What the tests of the plugin for Strands share: a scripted model, tools, an agent."""

from __future__ import annotations

import asyncio
import copy
import json
from importlib.util import find_spec

import pytest

from dagexec.testing import virtual_time

# `make adk` runs these, in an environment of their own.
if find_spec("strands") is not None:
    import strands
    from strands.models import Model
else:
    collect_ignore_glob = ["test_*.py"]
    Model = object


@pytest.fixture
def anyio_backend():
    """Strands needs asyncio."""
    return virtual_time("asyncio")


class Script(Model):
    """A model that writes these replies, each a list of calls `(tool, args)` or a text."""

    def __init__(self, replies):
        """Keep them."""
        self.replies = list(replies)
        self.seen = []
        self.count = 0

    def update_config(self, **model_config):
        """Take no configuration."""

    def get_config(self):
        """Have none."""
        return {}

    async def structured_output(self, output_model, prompt, system_prompt=None, **kwargs):
        """Have none."""
        raise NotImplementedError
        yield

    async def stream(self, messages, tool_specs=None, system_prompt=None, **kwargs):
        """Answer."""
        self.seen.append(
            {
                "messages": copy.deepcopy(messages),
                "tools": {spec["name"]: spec for spec in tool_specs or ()},
                "system": system_prompt,
            }
        )
        reply = self.replies.pop(0) if self.replies else "done"
        yield {"messageStart": {"role": "assistant"}}
        if isinstance(reply, str):
            yield {"contentBlockStart": {"start": {}}}
            yield {"contentBlockDelta": {"delta": {"text": reply}}}
            yield {"contentBlockStop": {}}
            yield {"messageStop": {"stopReason": "end_turn"}}
            return
        for name, *rest in reply:
            self.count += 1
            id_ = rest[1] if len(rest) > 1 else f"use{self.count}"
            yield {"contentBlockStart": {"start": {"toolUse": {"name": name, "toolUseId": id_}}}}
            text = json.dumps(dict(*rest[:1]))
            yield {"contentBlockDelta": {"delta": {"toolUse": {"input": text}}}}
            yield {"contentBlockStop": {}}
        yield {"messageStop": {"stopReason": "tool_use"}}


@pytest.fixture
def script():
    """Return how scripted models are made."""
    return lambda *replies: Script(replies)


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
    raise LookupError("boom")


async def save(path: str, text: str, seconds: float = 1.0) -> str:
    """Write a file."""
    await asyncio.sleep(seconds)
    LOG.append(text)
    return text


async def drop(what: int, tool_context) -> str:
    """Drop all, if a person agrees."""
    answer = tool_context.interrupt("sure", reason={"what": what})
    LOG.append(f"dropped {what}")
    return f"{answer}: dropped {what}"


class Talk:
    """An agent with a few tools, and what it says."""

    def __init__(self, model, plugins, tools, **options):
        """Make the agent."""
        self.log = LOG
        self.agent = strands.Agent(
            model=model,
            tools=[*(strands.tool(each) for each in (search, count, fail, save)), *tools],
            plugins=list(plugins),
            callback_handler=None,
            **options,
        )
        self.result = None

    async def say(self, prompt="go"):
        """Send a message; return the results of tools by their ids, texts as they are."""
        before = len(self.agent.messages)
        self.result = await self.agent.invoke_async(prompt)
        found = {}
        for message in self.agent.messages[before:]:
            for block in message["content"]:
                if "toolResult" in block:
                    result = block["toolResult"]
                    text = "".join(part.get("text", "") for part in result["content"])
                    assert result["toolUseId"] not in found
                    found[result["toolUseId"]] = (result["status"], text)
        return found

    async def answer(self, response):
        """Answer every interrupt."""
        return await self.say(
            [
                {"interruptResponse": {"interruptId": each.id, "response": response}}
                for each in self.result.interrupts
            ]
        )


@pytest.fixture
def talk():
    """Return `talk(model, plugin, ..., tools=())`: an agent with a few tools."""
    LOG.clear()

    def make(model, *plugins, tools=(), **options):
        asks = strands.tool(context=True)(drop)
        return Talk(model, plugins, [asks, *tools], **options)

    return make
