"""A worker of the tests, a process of its own.

    python -m tests.engines.worker MARK URL NAME FOLDER [POLLING]

It opens an engine, says `ready`, and then does what it is told on its standard input, a line of
JSON each: `{"run": ID, "plan": PLAN}`, `{"run": ID, "program": SOURCE}`,
`{"resume": ID, "answers": {...}}` or `{"cancel": ID}`.
What comes of it goes to the standard output as a line of JSON. It works until its input ends.

What a tool does to the world is a line in FOLDER/log.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
from pathlib import Path
from typing import Any

from dagexec import Approve, Call, CallContext, Deny, Done, Ref, Report, Timeouts, Tool, ask, tool
from dagexec.programs import Program

# Seconds, longer than any test: a call that takes so long ends only when its worker does.
HELD = 1000.0
FOLDER = Path(sys.argv[4] if len(sys.argv) > 4 else ".")


def note(context: CallContext, what: str) -> None:
    """Append a line: run, call, what, process, attempt, key. A short append is one write."""
    words = context.run_id, context.id, what, os.getpid(), context.attempt, context.idempotency_key
    file = os.open(FOLDER / "log", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(file, (" ".join(map(str, words)) + "\n").encode())
    os.close(file)


def noted(context: CallContext, what: str) -> bool:
    """Whether this is in the log."""
    log = FOLDER / "log"
    lines = log.read_text().splitlines() if log.exists() else []
    return any(line.startswith(f"{context.run_id} {context.id} {what} ") for line in lines)


async def work(context: CallContext, value: Any, seconds: float) -> str:
    # Not by the attempt: the start of what may run again is recorded behind it, and can be lost.
    again = noted(context, "begin")
    note(context, "begin")
    if seconds < HELD or not again:
        await asyncio.sleep(seconds)
    note(context, "end")
    return f"{context.id}({value})"


@tool(effect="read")
async def look(context: CallContext, value: Any = "", seconds: float = 0) -> str:
    return await work(context, value, seconds)


@tool(effect="read", reads=("shelf",))
async def peek(context: CallContext, value: Any = "", seconds: float = 0) -> str:
    return await work(context, value, seconds)


@tool(effect="idempotent")
async def put(context: CallContext, value: Any = "", seconds: float = 0) -> str:
    return await work(context, value, seconds)


@tool
async def send(context: CallContext, value: Any = "", seconds: float = 0) -> str:
    return await work(context, value, seconds)


async def find_out(context: CallContext, args: dict[str, Any]) -> Done:
    note(context, "found")
    return Done(f"found {args['value']}")


@tool(reconcile=find_out)
async def known(context: CallContext, value: Any = "", seconds: float = 0) -> str:
    return await work(context, value, seconds)


@tool(uses={"room": 1})
async def alone(context: CallContext, value: Any = "", seconds: float = 0) -> str:
    return await work(context, value, seconds)


@tool(approval=True)
async def pay(context: CallContext, value: Any = "", seconds: float = 0) -> str:
    return await work(context, value, seconds)


@tool
async def wonder(context: CallContext, what: str) -> str:
    reply = await ask(what)
    note(context, "asked")
    return f"{context.id}({reply})"


TOOLS: list[Tool] = [look, peek, put, send, known, pay, wonder]


def mixed() -> list[Call]:
    """Return quick calls, then long ones, more than one worker takes, then what needs them."""
    quick = [Call(f"quick{each}", "send", {"value": each}) for each in range(6)]
    tools = ["look", "put", "send", "send"] * 2
    long = [
        Call(f"{name}{each}", name, {"value": Ref(f"quick{each % 6}"), "seconds": 3})
        for each, name in enumerate(tools)
    ]
    after = [
        Call(f"after{each}", "look", {"value": Ref(call.id)}) for each, call in enumerate(long)
    ]
    return [*quick, *long, *after]


def chains() -> list[Call]:
    """Return two chains of the same tool with unequal speed, and what joins them."""
    return [
        Call("a", "look", {"seconds": 0.4}),
        Call("b", "look", {"seconds": 0.05}),
        Call("d", "look", {"value": Ref("a"), "seconds": 0.05}),
        Call("e", "look", {"value": Ref("b"), "seconds": 0.3}),
        Call("z", "put", {"value": [Ref("d"), Ref("e")]}),
    ]


def payments() -> list[Call]:
    """Return two chains with writes in them, and what joins them."""
    return [
        Call("a", "look", {"seconds": 0.1}),
        Call("p", "put", {"seconds": 0.2}),
        Call("s", "send", {"value": Ref("a"), "seconds": 0.3}),
        Call("t", "send", {"value": Ref("p"), "seconds": 0.1}),
        Call("b", "look", {"value": Ref("s"), "seconds": 0.05}),
        Call("q", "put", {"value": Ref("t"), "seconds": 0.3}),
        Call("w", "send", {"value": Ref("b"), "seconds": 0.1}),
        Call("z", "look", {"value": [Ref("w"), Ref("q")]}),
    ]


def questions() -> list[Call]:
    """Return three calls that wait among ten."""
    free = [Call(f"free{each}", "send", {"value": each}) for each in range(5)]
    return [
        *free,
        Call("pay1", "pay", {"value": Ref("free0")}),
        Call("pay2", "pay", {"value": Ref("free1")}),
        Call("what", "wonder", {"what": "which?"}),
        Call("then", "look", {"value": Ref("what")}),
        Call("last", "look", {"value": [Ref("pay1"), Ref("pay2")]}),
    ]


def long() -> list[Call]:
    """Return calls of three effects that end when they are begun again, and what needs them."""
    return [
        Call("k", "known", {"value": 1, "seconds": HELD}),
        Call("s", "send", {"seconds": HELD}),
        Call("p", "put", {"seconds": HELD}),
        Call("n", "look", {"value": Ref("k")}),
        Call("m", "look", {"value": Ref("s")}),
    ]


PLANS = {
    "payments": payments,
    "long": long,
    "mixed": mixed,
    "chains": chains,
    "questions": questions,
}
ANSWERS = {"approve": Approve(), "deny": Deny("no")}


def told(report: Report) -> dict[str, Any]:
    """Return what a report says, for the other process."""
    return {
        name: {
            "status": outcome.status,
            "value": outcome.value,
            "attempts": outcome.attempts,
            "question": outcome.question,
            "because": outcome.because,
        }
        for name, outcome in report.items()
    }


def came_to(report: Report) -> dict[str, Any]:
    """Return what the report of a program says, for the other process."""
    end = report.program
    assert end is not None
    return {
        "result": end.result,
        "printed": end.printed,
        "error": None if end.error is None else str(end.error),
        "lines": dict(end.lines),
        "calls": told(report),
    }


async def obey(engine: Any, line: str) -> None:
    order = json.loads(line)
    try:
        if "program" in order:
            report = await engine.run(Program(order["program"]), run_id=order["run"])
        elif "run" in order:
            report = await engine.run(PLANS[order["plan"]](), run_id=order["run"])
        elif "cancel" in order:
            report = await engine.cancel(order["cancel"])
        else:
            answers = {name: ANSWERS.get(each, each) for name, each in order["answers"].items()}
            report = await engine.resume(order["resume"], answers)
        answer: Any = told(report) if report.program is None else came_to(report)
    except Exception as error:
        answer = {"error": f"{type(error).__name__}: {error}"}
    print(json.dumps(answer), flush=True)


# No deadline ends what the tests want to end.
TIMEOUTS = Timeouts(call=None, workflow=None)


async def main(url: str, name: str, polling: float) -> None:
    from dagexec.engines.dbos import DbosEngine

    engine = DbosEngine(
        TOOLS, database_url=url, name=name, timeouts=TIMEOUTS, concurrency=4, polling=polling
    )
    async with engine:
        await listen(engine)


async def listen(engine: Any) -> None:
    """Do what is said until there is no more."""
    async with asyncio.TaskGroup() as group:
        print("ready", flush=True)
        while line := await asyncio.to_thread(sys.stdin.readline):
            group.create_task(obey(engine, line))


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING)
    asyncio.run(main(*sys.argv[2:4], float([*sys.argv, "0.05"][5])))
