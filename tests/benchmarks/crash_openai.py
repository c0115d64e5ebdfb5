"""An agent of the OpenAI Agents SDK on Temporal, as its guide has it, for `crash`."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

from temporalio import activity, workflow

with workflow.unsafe.imports_passed_through():
    from agents import Agent, Model, ModelResponse, Runner, Usage
    from openai.types.responses import (
        ResponseFunctionToolCall,
        ResponseOutputMessage,
        ResponseOutputText,
    )
    from temporalio.openai_agents import ModelActivityParameters, OpenAIAgentsPlugin
    from temporalio.openai_agents import workflow as tools
    from temporalio.openai_agents.testing import TestModelProvider

    from tests.benchmarks import crash


class Scripted(Model):
    """A model that asks for all payments, and then says what it was answered."""

    async def get_response(self, *_: Any, **given: Any) -> ModelResponse:
        """Answer."""
        said = given["input"]
        answers = [
            each["output"]
            for each in (said if isinstance(said, list) else [])
            if each.get("type") == "function_call_output"
        ]
        output: list[Any] = [
            ResponseFunctionToolCall(
                arguments=json.dumps({"what": what}),
                call_id=what,
                name="pay",
                type="function_call",
            )
            for what in crash.PAYMENTS
        ]
        if answers:
            text = ResponseOutputText(text=str(answers), annotations=[], type="output_text")
            output = [
                ResponseOutputMessage(
                    id="m", content=[text], role="assistant", status="completed", type="message"
                )
            ]
        return ModelResponse(output=output, usage=Usage(), response_id=None)

    def stream_response(self, *_: Any, **__: Any) -> Any:
        """Not used."""
        raise NotImplementedError


def plugin() -> OpenAIAgentsPlugin:
    """Return the SDK's plugin."""
    return OpenAIAgentsPlugin(
        model_params=ModelActivityParameters(start_to_close_timeout=timedelta(seconds=8)),
        model_provider=TestModelProvider(Scripted()),
    )


@activity.defn
async def pay(what: str) -> str:
    """Pay."""
    return await crash.pay(what)


@workflow.defn
class Flow:
    """The agent's workflow."""

    @workflow.run
    async def run(self, prompt: str) -> str:
        """Run the agent."""
        tool = tools.activity_as_tool(pay, start_to_close_timeout=timedelta(seconds=8))
        agent = Agent(name="payer", tools=[tool])
        return str((await Runner.run(agent, input=prompt)).final_output)
