"""The local activity that interprets programs, in the process that decides their runs.

It is a worker's half of `_program`: there are the tools, the types of values and the store. An
interpreter that has spoken waits for the next news of its run, under a name that nobody knew
before: what a process said that was not kept, because it died or was too slow, is never gone on
with. Anybody else begins at the first line and hears all of the log again.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import OrderedDict, deque
from collections.abc import Mapping
from typing import Any, Final, final
from uuid import uuid4

from temporalio import activity
from temporalio.exceptions import ApplicationError, ApplicationErrorCategory

from dagexec import Call, DagexecError
from dagexec.engines._front import Front
from dagexec.engines._program import RunProgram
from dagexec.engines._report import caught_up
from dagexec.engines.temporal._launches import too_large_text
from dagexec.engines.temporal._values import Values
from dagexec.engines.temporal._wire import DECIDE, PAYLOAD, REPLY, Packed, dump, pack, unpack
from dagexec.lowlevel import Conclude, Reopened, Settled, outcome_of
from dagexec.programs import end_body, identifier

# Seconds that a program computes until the run looks at its deadlines, and who else speaks.
SLICE: Final = 0.5
_LACKS: Final = (
    "this process cannot go on with the program, as it has no tool {}: another one has to; open"
    " the engine with all tools where decides=True"
)
_LITERAL: Final = "$literal"


@final
class Interpreter:
    """The programs that this process decides."""

    def __init__(self, front: Front, values: Values, kept: int) -> None:
        """Keep at most so many programs that wait."""
        self._front = front
        self._values = values
        self._kept = kept
        self._waiting: OrderedDict[str, RunProgram] = OrderedDict()

    @activity.defn(name=DECIDE)
    async def decide(self, spec: Any, question: Any) -> Any:
        """Tell a program what has happened; return what it does then."""
        try:
            reply = await self._reply(spec, json.loads(unpack(question)))
        except DagexecError as error:
            raise ApplicationError(
                str(error),
                type="dagexec.program",
                non_retryable=True,  # another try would come to the same
                category=ApplicationErrorCategory.BENIGN,  # else the library logs it, too
            ) from error
        return pack(dump(reply))

    async def _reply(self, spec: Packed, body: Mapping[str, Any]) -> Mapping[str, Any]:
        if "token" in body:
            program = self._waiting.pop(body["token"], None)
            if program is None:
                return _again(body["left"])
            for kind, call, outcome in await self._values.read(body["news"]):
                if kind == "last":
                    program.advance()
                else:
                    program.hear(_item(kind, call, outcome))
            if body.get("ends"):
                return {"end": await self._end(program.end(stands=False), PAYLOAD)}
            return await self._decided(program)
        whole = await self._values.read({"spec": json.loads(unpack(spec)), **body})
        lacking = _lacking(whole["spec"], self._front.tools)
        if lacking:
            reply = _again(whole["result"].get("left", 0))
            return {"lacks": _LACKS.format(", ".join(lacking)), "reply": reply}
        drive = await caught_up(self._front.drive(whole["spec"], whole["result"]))
        if body.get("ends"):
            return {"end": await self._end(drive.program_end(), PAYLOAD)}
        assert isinstance(drive.program, RunProgram)  # noqa: S101 - for the checkers
        return await self._decided(drive.program)

    async def _decided(self, program: RunProgram) -> dict[str, Any]:
        """Go on with a program until it waits, for half a second, and as far as a reply holds."""
        until = time.monotonic() + SLICE
        made, calls, steps, size = deque(program.rest()), list[Any](), 0, 0
        while True:
            while made:
                written = await self._written(made[0])
                size += len(pack(dump(written)))
                if calls and size > REPLY:
                    break
                calls.append(written)
                made.popleft()
            if made or not program.due or (steps and time.monotonic() >= until):
                break
            made += program.advance()
            steps += 1
            await asyncio.sleep(0)
        program.hold(made)
        reply: dict[str, Any] = {"token": uuid4().hex, "steps": steps, "calls": calls}
        reply |= {"left": len(made), "more": program.due, "over": program.over and not made}
        if not reply["over"]:
            self._keep(reply["token"], program)
        elif (end := await self._end(program.end(stands=False), PAYLOAD - size)) is not None:
            reply["end"] = end
        return reply

    def _keep(self, token: str, program: RunProgram) -> None:
        self._waiting[token] = program
        while len(self._waiting) > self._kept:
            self._waiting.popitem(last=False)

    async def _written(self, call: Call) -> dict[str, Any]:
        """Return a call as the workflow holds it; large arguments go to the store."""
        body = call.to_dict()
        text = self._values.types.dumps(body)
        written: dict[str, Any] = json.loads(text)
        if self._values.is_large(text):
            args = {name: await self._argument(value) for name, value in body["args"].items()}
            written["args"] = args
        return written

    async def _argument(self, value: Any) -> Any:
        if isinstance(value, dict) and _LITERAL in value:
            return {_LITERAL: await self._values.written(value[_LITERAL])}
        return await self._values.written(value)

    async def _end(self, end: Any, most: int) -> Any:
        """Return what a program came to as the workflow holds it; None for what is too large."""
        written = await self._values.written(end_body(end, self._values.types.dumps))
        return written if len(pack(dump(written))) <= most else None


def _again(left: int) -> dict[str, Any]:
    """Return what says that the next question is to have all of the log."""
    reply: dict[str, Any] = {"token": None, "steps": 0, "calls": [], "left": left}
    return reply | {"more": False, "over": False}


def misfit(values: Values, call: Call) -> str | None:
    """Return why a call of a program cannot travel, None if it can."""
    if values.in_store:
        return None
    text = values.types.dumps(call.to_dict())
    if len(text) <= PAYLOAD or len(packed := pack(text)) <= PAYLOAD:
        return None
    return too_large_text(len(packed))


def _item(kind: str, call: str, outcome: Any) -> object:
    if kind == "reopened":
        return Reopened(call)
    return (Settled if kind == "settled" else Conclude)(call, outcome_of(outcome))


def _lacking(spec: Mapping[str, Any], tools: Mapping[str, object]) -> list[str]:
    """Return the tools that a program names, and that are not there."""
    program = spec["program"]
    texts = [program["source"], *program.get("definitions", {}).values()]
    missing = [name for name in spec["effects"] if name not in tools]
    return [name for name in missing if any(identifier(name) in text for text in texts)]
