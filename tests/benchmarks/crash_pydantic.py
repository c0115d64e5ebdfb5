"""An agent of Pydantic AI on Temporal, as its guide has it, for `crash`."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from pydantic_ai import Agent, ModelResponse, TextPart, ToolCallPart, ToolReturnPart
    from pydantic_ai.durable_exec.temporal import TemporalAgent
    from pydantic_ai.models.function import FunctionModel

    from tests.benchmarks.crash import PAYMENTS, pay


def scripted(messages: list[Any], _: Any) -> ModelResponse:
    """Ask for all payments, and then say what was answered."""
    answers = [
        part.content
        for message in messages
        for part in message.parts
        if isinstance(part, ToolReturnPart)
    ]
    if answers:
        return ModelResponse([TextPart(str(answers))])
    return ModelResponse([ToolCallPart("pay", {"what": what}, what) for what in PAYMENTS])


AGENT = TemporalAgent(
    Agent(FunctionModel(scripted), name="payer", tools=[pay]),
    activity_config={"start_to_close_timeout": timedelta(seconds=8)},
)


@workflow.defn
class Flow:
    """The agent's workflow."""

    @workflow.run
    async def run(self, prompt: str) -> str:
        """Run the agent."""
        return (await AGENT.run(prompt)).output
