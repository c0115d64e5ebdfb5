"""Systems that run programs of a model, as they are documented; imported where they are used.

Each runs the text of a program whose function `look` is a tool that waits, and returns the
program's value.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import redirect_stdout
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import anyio
from anyio import to_thread

from dagexec import Executor, Timeouts, tool
from dagexec.programs import Program

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

LIMIT = 1.0  # seconds for a call, where a system takes such a limit
PROGRAM = 2.0  # seconds for a program


class Lost(Exception):
    """Tells that the program came to no value."""


@dataclass(frozen=True)
class Runs:
    """Runs a program, whose source is given as this system's model would write it."""

    run: Callable[[str], Awaitable[object]]
    awaits: bool = True
    """Whether tools are async functions in its programs."""


async def look(label: int, seconds: float, after: int = 0) -> int:
    """Wait, and return what was given."""
    await anyio.sleep(seconds)
    return label + after * 0


def plain_look(label: int, seconds: float, after: int = 0) -> int:
    """Wait, and return what was given."""
    time.sleep(seconds)
    return label + after * 0


def dagexec() -> Runs:
    """Run each as it is; if it fails, its value is the list of those of the calls that are done."""
    executor = Executor(
        [tool(effect="read")(look)], timeouts=Timeouts(call=LIMIT), concurrency=None
    )

    async def run(source: str) -> object:
        report: Any = await executor.run(Program(source))
        return report.result if report.error is None else list(report.outputs.values())

    return Runs(run)


def pydantic_ai(*, speculate: bool) -> Runs:
    """Pydantic AI's CodeMode with a scripted model, whose only call is the program."""
    from pydantic_ai import Agent
    from pydantic_ai.messages import ModelResponse, TextPart, ToolCallPart
    from pydantic_ai.models.function import DeltaToolCall, FunctionModel
    from pydantic_ai_harness import CodeMode

    values: list[Any] = []

    async def run(source: str) -> object:
        given = json.dumps({"code": source})
        values.clear()

        def whole(messages: list[Any], _info: Any) -> ModelResponse:
            if len(messages) > 1:
                values.append(messages[-1].parts[0])
                return ModelResponse(parts=[TextPart("done")])
            return ModelResponse(parts=[ToolCallPart("run_code", given)])

        async def streamed(messages: list[Any], info: Any) -> AsyncIterator[Any]:
            for part in whole(messages, info).parts:
                if isinstance(part, TextPart):
                    yield part.content
                else:
                    yield {0: DeltaToolCall(name="run_code", json_args="", tool_call_id="1")}
                    for at in range(0, len(given), 16):
                        yield {0: DeltaToolCall(json_args=given[at : at + 16])}
                        await anyio.lowlevel.checkpoint()

        model = FunctionModel(whole, stream_function=streamed)
        await agent.run("go", model=model)
        if values[0].part_kind != "tool-return":
            raise Lost(str(values[0].content))
        return values[0].content

    mode: Any = CodeMode(speculate=["look"]) if speculate else CodeMode()
    agent: Any = Agent(capabilities=[mode], tool_timeout=LIMIT)
    agent.tool_plain(look)
    return Runs(run)


def spec_ptc() -> Runs:
    """Return spec-ptc, which is given the text line by line and then runs it."""
    if sys.version_info < (3, 12):
        msg = "needs Python 3.12 or newer"
        raise ImportError(msg)
    from spec_ptc import Speculator

    def work(source: str) -> object:
        spec: Any = Speculator()
        spec.tool(speculatable=True, pure=True, name="look")(plain_look)
        names: dict[str, Any] = dict(spec.hooks())
        with spec.turn(repl_locals=names) as turn:
            for line in ("```repl\n", *source.splitlines(keepends=True), "\n```\n"):
                turn.feed(line)
        with redirect_stdout(None):
            exec(source, names)
        return names["result"]

    return Runs(lambda source: to_thread.run_sync(work, source), awaits=False)


def smolagents() -> Runs:
    """Return the interpreter of smolagents' CodeAgent."""
    seconds: Any = PROGRAM  # it takes fractions, though it declares whole numbers
    from smolagents.local_python_executor import LocalPythonExecutor

    def work(source: str) -> object:
        interpreter = LocalPythonExecutor([], timeout_seconds=seconds)
        interpreter.send_tools({"look": plain_look})
        try:
            return interpreter(source).output
        except Exception as error:
            raise Lost(str(error)) from error

    return Runs(lambda source: to_thread.run_sync(work, source), awaits=False)


def ez_ptc() -> Runs:
    """Return ez-ptc's toolkit."""
    from ez_ptc import Toolkit, ez_tool

    toolkit = Toolkit([ez_tool(plain_look)])

    async def run(source: str) -> object:
        printing = sys.stdout, sys.stderr  # which it keeps for a program that it has given up
        text = source.replace("look(", "plain_look(")
        try:
            found = await toolkit.execute(text, timeout=PROGRAM)
        finally:
            sys.stdout, sys.stderr = printing
        if not found.success:
            raise Lost(found.error)
        return found.return_value

    return Runs(run, awaits=False)
