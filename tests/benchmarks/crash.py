"""What a crash does to three payments: `python -m tests.benchmarks.crash`, or `make crash`.

A model asks for three payments in one message, so they run side by side. Its worker is killed
(kill -9) while the first is under way and the others are done, and a new one is started. Printed is
how often each payment was begun, whether the answer tells anybody of the one that was under way,
and after how many seconds there was an answer. All settings are those of each library's own guide;
a library that is not installed is left out, with the reason.
"""

from __future__ import annotations

import asyncio
import importlib
import os
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any

from tests.engines.cluster import binaries, cluster
from tests.engines.temporal.server import binary, served

ROOT = Path(__file__).parent.parent.parent
# Seconds that the first payment takes, and the others.
LONG, SHORT = 3.0, 0.1
# Seconds after which a library has lost the run.
PATIENCE = 90.0
PAYMENTS = ("rent", "power", "water")
QUEUE = "crash"


@dataclass(frozen=True)
class Found:
    """What became of the payments."""

    begun: dict[str, int]
    answer: str
    seconds: float

    def row(self, name: str) -> str:
        """Return a line of the table."""
        counts = "".join(f"{self.begun.get(each, 0):>7}" for each in PAYMENTS)
        told = any(word in self.answer for word in ("in_doubt", "unknown", "may have"))
        return f"{name:38}{counts}   {'yes' if told else 'NO':5}{self.seconds:>6.1f} s"


async def pay(what: str) -> str:
    """Pay, which takes a while; each beginning leaves a line."""
    with (Path(os.environ["CRASH"]) / "log").open("a") as log:
        log.write(what + "\n")
    await asyncio.sleep(LONG if what == PAYMENTS[0] else SHORT)
    with (Path(os.environ["CRASH"]) / "log").open("a") as log:
        log.write(f"{what} is paid\n")
    return f"{what} is paid"


# ------------------------------------------------------------------------------------------ dagexec


def _calls() -> Any:
    from dagexec import Call

    return [Call(what, "pay", {"what": what}) for what in PAYMENTS]


def _dagexec(kind: str, where: str, *, calls: bool) -> Any:
    from dagexec import Timeouts

    settings: dict[str, Any] = {"name": "crash", "timeouts": Timeouts(), "calls": calls}
    if kind == "dagexec, DBOS":
        from dagexec.engines.dbos import DbosEngine

        return DbosEngine([pay], database_url=where, **settings)
    from dagexec.engines.temporal import TemporalEngine

    return TemporalEngine([pay], address=where, **settings)


async def work_dagexec(kind: str, where: str) -> None:
    """Be a worker."""
    async with _dagexec(kind, where, calls=True):
        print("ready", flush=True)
        await asyncio.Event().wait()


async def ask_dagexec(kind: str, where: str) -> str:
    """Ask for the payments; return the outcomes."""
    async with _dagexec(kind, where, calls=False) as engine:
        report = await engine.run(_calls())
        return str({name: outcome.status for name, outcome in report.items()})


# ----------------------------------------------------------------------- agents on Temporal itself


async def _serve(client: Any, **settings: Any) -> None:
    from temporalio.worker import Worker

    async with Worker(client, task_queue=QUEUE, **settings):
        print("ready", flush=True)
        await asyncio.Event().wait()


async def _ask(client: Any, flow: Any) -> str:
    return str(await client.execute_workflow(flow, "Pay them.", id="crash", task_queue=QUEUE))


def _openai() -> tuple[Any, Any]:
    from tests.benchmarks import crash_openai

    return crash_openai.plugin(), crash_openai


async def work_openai(_: str, where: str) -> None:
    """Be a worker for an agent of the OpenAI Agents SDK, whose tool is an activity."""
    from temporalio.client import Client

    plugin, module = _openai()
    client = await Client.connect(where, plugins=[plugin])
    await _serve(client, workflows=[module.Flow], activities=[module.pay])


async def ask_openai(_: str, where: str) -> str:
    """Ask the agent."""
    from temporalio.client import Client

    plugin, module = _openai()
    return await _ask(await Client.connect(where, plugins=[plugin]), module.Flow.run)


async def work_pydantic(_: str, where: str) -> None:
    """Be a worker for an agent of Pydantic AI."""
    from pydantic_ai.durable_exec.temporal import AgentPlugin, PydanticAIPlugin
    from temporalio.client import Client

    from tests.benchmarks import crash_pydantic as module

    client = await Client.connect(where, plugins=[PydanticAIPlugin()])
    await _serve(client, workflows=[module.Flow], plugins=[AgentPlugin(module.AGENT)])


async def ask_pydantic(_: str, where: str) -> str:
    """Ask the agent."""
    from pydantic_ai.durable_exec.temporal import PydanticAIPlugin
    from temporalio.client import Client

    from tests.benchmarks import crash_pydantic as module

    client = await Client.connect(where, plugins=[PydanticAIPlugin()])
    return await _ask(client, module.Flow.run)


async def work_langgraph(_: str, where: str) -> None:
    """Be a worker for a graph of LangGraph, whose tools are one node, an activity."""
    from temporalio.client import Client

    from tests.benchmarks import crash_langgraph as module

    client = await Client.connect(where)
    await _serve(client, workflows=[module.Flow], plugins=[module.PLUGIN])


async def ask_langgraph(_: str, where: str) -> str:
    """Ask the graph."""
    from temporalio.client import Client

    from tests.benchmarks import crash_langgraph as module

    return await _ask(await Client.connect(where), module.Flow.run)


# ---------------------------------------------------------------------------------- the comparison


@dataclass(frozen=True)
class System:
    """What can run the payments."""

    needs: str
    server: str
    work: Callable[[str, str], Awaitable[None]]
    ask: Callable[[str, str], Awaitable[str]]


SYSTEMS = {
    "dagexec, Temporal": System("temporalio", "temporal", work_dagexec, ask_dagexec),
    "dagexec, DBOS": System("dbos", "postgres", work_dagexec, ask_dagexec),
    "OpenAI Agents, activity_as_tool": System(
        "temporalio.openai_agents", "temporal", work_openai, ask_openai
    ),
    "Pydantic AI, TemporalAgent": System(
        "pydantic_ai.durable_exec.temporal", "temporal", work_pydantic, ask_pydantic
    ),
    "LangGraph's plugin, a node of tools": System(
        "temporalio.langgraph", "temporal", work_langgraph, ask_langgraph
    ),
}


def begin(name: str, where: str, folder: Path) -> subprocess.Popen[str]:
    """Start a worker, and wait until it works."""
    with (folder / "errors").open("a") as errors:
        worker = subprocess.Popen(
            [sys.executable, "-m", "tests.benchmarks.crash", name, where],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT), "CRASH": str(folder)},
            text=True,
            stdout=subprocess.PIPE,
            stderr=errors,
        )
    assert worker.stdout is not None
    assert worker.stdout.readline() == "ready\n", (folder / "errors").read_text()[-2000:]
    return worker


async def measure(name: str, system: System, where: str, folder: Path) -> Found:
    """Run the payments, and kill their worker in the middle."""
    log = folder / "log"

    def lines() -> list[str]:
        return log.read_text().splitlines() if log.exists() else []

    worker = await asyncio.to_thread(begin, name, where, folder)
    asking = asyncio.create_task(system.ask(name, where))  # type: ignore[arg-type]
    began = monotonic()
    while not {PAYMENTS[0], *(f"{each} is paid" for each in PAYMENTS[1:])} <= {*lines()}:
        assert monotonic() < began + PATIENCE, (folder / "errors").read_text()[-2000:]
        await asyncio.sleep(0.02)
    await asyncio.sleep(0.5)  # what is done is recorded
    worker.send_signal(signal.SIGKILL)
    worker.communicate()
    killed = monotonic()
    worker = await asyncio.to_thread(begin, name, where, folder)
    try:
        async with asyncio.timeout(PATIENCE):
            answer = await asking
    except TimeoutError:
        answer = "no answer"
    seconds = monotonic() - killed
    worker.send_signal(signal.SIGKILL)
    worker.communicate()
    begun = Counter(line for line in lines() if line in PAYMENTS)
    return Found(dict(begun), answer, seconds)


def why_not(system: System) -> str | None:
    """Return why a system cannot be measured here."""
    try:
        importlib.import_module(system.needs)
    except ImportError as error:
        return str(error).partition("\n")[0]
    if system.server == "temporal" and not binary():
        return "there is no program temporal"
    return None if system.server == "temporal" or binaries() else "PostgreSQL is not installed"


def main() -> None:
    """Measure all, or those whose names hold the argument; with two arguments, be a worker."""
    if len(sys.argv) > 2:
        asyncio.run(SYSTEMS[sys.argv[1]].work(*sys.argv[1:3]))  # type: ignore[arg-type]
    print(f"{'times that each was begun':38}" + "".join(f"{each:>7}" for each in PAYMENTS), end="")
    print("   told  answered after")
    for name, system in SYSTEMS.items():
        if sys.argv[1:] and sys.argv[1] not in name:
            continue
        reason = why_not(system)
        if reason is not None:
            print(f"{name:38} not here: {reason}", flush=True)
            continue
        with ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            if system.server == "temporal":
                where = stack.enter_context(served()).address
            else:
                where = f"{stack.enter_context(cluster()).url}/crash"
            found = asyncio.run(measure(name, system, where, folder))
            print(found.row(name), flush=True)
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
