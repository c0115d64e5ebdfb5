"""Programs as a workflow has them and as whoever decides interprets them, without a server.

What Temporal may do with both is done to them by chance: replies come late, are lost and asked for
again, elsewhere or in the same process, runs move to a fresh history, people answer at any time.
"""

from __future__ import annotations

import json
import os
from random import Random
from typing import Any

import pytest

from dagexec import Approve, DagexecError, Done, tool
from dagexec.journal import Types
from dagexec.lowlevel import answer_entry
from dagexec.programs import Program
from tests.engines.programs import FRONT, account_of, front_of, left, news
from tests.programs.generated import World, Writer, by_python
from tests.programs.killed_anywhere import Strict

# Where integration is required, a missing library is an error and no reason to skip.
if os.environ.get("DAGEXEC_REQUIRE_INTEGRATION") != "1":
    pytest.importorskip("temporalio", reason="the extra temporal is not installed")

# Programs that the slow test generates; more where more time is.
MANY = int(os.environ.get("DAGEXEC_FUZZ", "1000"))
pytestmark = pytest.mark.anyio


class Memory:
    """A store."""

    def __init__(self) -> None:
        self.kept: dict[str, bytes] = {}

    async def put(self, key: str, value: bytes) -> None:
        self.kept[key] = value

    async def get(self, key: str) -> bytes:
        return self.kept[key]


def travelled(value: Any) -> Any:
    return json.loads(json.dumps(value))


class Simulated:
    """One run of a program, and all that decide it."""

    def __init__(self, source: str, random: Random, front: Any = FRONT) -> None:
        from dagexec.engines.temporal._interpreter import Interpreter
        from dagexec.engines.temporal._values import Values
        from dagexec.engines.temporal._wire import dump, pack

        self.random = random
        inline = random.choice([0, 20, 16_000])
        self.values = Values(Types(), random.choice([Memory(), None]), inline)
        self.front = front
        spec = front.spec("r", [], front.program_of(Program(source)))
        self.spec = json.loads(self.values.types.dumps(spec))
        self.packed = pack(dump(self.spec))
        self.deciders = [Interpreter(front, self.values, random.choice([0, 1, 9])) for _ in "ab"]
        self.question: Any = None
        self.now = 100.0
        self.asked: set[str] = set()
        self.drive = self.begun(None)
        self.drive.begin(self.now, {})

    def begun(self, result: Any) -> Any:
        """Return a round of a run that has just been started, or has moved."""
        from dagexec.engines._drive import Drive
        from dagexec.engines.temporal._program import FarProgram
        from dagexec.engines.temporal._values import arguments, spread

        self.far = FarProgram(fresh=result is None or bool(result.get("open")))
        return Drive(self.spec, result, resolve=arguments, spreads=spread, program=self.far)

    async def decide(self) -> None:
        """Let somebody answer a question; sometimes somebody else has done so in vain."""
        for last in (False, False, True):
            if last or self.random.random() < 0.1:
                decider = self.random.choice(self.deciders)
                reply = travelled(await decider._reply(self.packed, self.question))
        self.question = None
        self.far.answered(reply)
        self.drive.take(self.now, [])

    def move(self) -> None:
        """Go on in a fresh history."""
        self.drive = self.begun(travelled(self.drive.result()))
        self.drive.begin(self.now, {})

    async def turn(self, world: World) -> None:
        """Let something happen."""
        from dagexec.engines.temporal._wire import dump

        drive, random = self.drive, self.random
        self.now += 1
        if self.question is None and self.far.is_to_be_asked and random.random() < 0.8:
            self.question = json.loads(dump(self.far.question(drive)))
        what = random.random()
        if what < 0.1 and not drive.out and self.question is None:
            self.move()
        elif what < 0.5 and self.question is not None:
            await self.decide()
        elif what < 0.6 and drive.waiting:
            drive.answered(self.now, self.answers(1))
        elif drive.out:
            for out in drive.out.values():
                if "args" in out.args:
                    out.args = await self.values.call_args(out.args)
            told = news(drive, world, random, self.asked)
            drive.take(self.now, [(name, await self.kept(body)) for name, body in told])

    async def kept(self, body: dict[str, Any]) -> dict[str, Any]:
        """Return what a worker left as the workflow holds it."""
        outcome = body["outcome"]
        if "value" in outcome:
            outcome = {**outcome, "value": await self.values.written(outcome["value"])}
        return travelled({**body, "outcome": outcome})

    def answers(self, most: int | None = None) -> dict[str, Any]:
        waiting = self.drive.waiting
        chosen = self.random.sample(waiting, most or self.random.randint(1, len(waiting)))
        outcomes = self.drive.machine.outcomes
        return {name: answer_entry(Approve(), outcomes[name]) for name in chosen}

    async def run(self, world: World) -> Any:
        """Return the report of the run, by somebody else."""
        from dagexec.engines._report import replayed, report_of

        while True:
            while not self.drive.ended:
                await self.turn(world)
            result = travelled(self.drive.result())
            if self.far.kept_end is not None:
                result["end"] = self.far.kept_end
            if not self.drive.waiting:
                break
            answers = self.answers()
            far = self.far
            self.drive = self.begun(travelled(self.drive.result()))
            if self.random.random() < 0.5:  # in the same history
                self.far = self.drive.program = far
            self.drive.begin(self.now, answers)
        spec, read = await self.values.read(self.spec), await self.values.read(result)
        return report_of("r", await replayed(self.front, spec, read))


async def does_what_python_does(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    from dagexec.engines.temporal import _interpreter

    random, world = Random(seed), World()
    source = Writer(Random(seed)).program()
    monkeypatch.setattr(_interpreter, "REPLY", random.choice([1, 200, 500_000]))
    monkeypatch.setattr(_interpreter, "SLICE", random.choice([0, 0.5]))
    report = await Simulated(source, random).run(world)
    assert account_of(report, world) == by_python(source, Strict()), f"{seed}: {source}"


@pytest.mark.parametrize("first", range(0, 12, 6))
async def test_generated_programs_do_what_python_does(first, monkeypatch):
    """Whatever becomes of what was decided."""
    for seed in range(first, first + 6):
        await does_what_python_does(seed, monkeypatch)


@pytest.mark.slow
@pytest.mark.timeout(60 + MANY // 2)
async def test_many_of_them(monkeypatch):
    """The same, of more."""
    for seed in range(1_000, 1_000 + MANY // 20):
        await does_what_python_does(seed, monkeypatch)


async def test_what_was_said_and_lost_is_not_gone_on_with():
    """A process that decided in vain begins anew, though it has the program in memory."""
    made = Simulated("a = read(1)\nb = read(a)\nwrite(b)\nb", Random(1))
    made.values._store = None
    decider = made.deciders[0]
    decider._kept = 100
    question = travelled(made.far.question(made.drive))
    lost = await decider._reply(made.packed, question)
    kept = await decider._reply(made.packed, question)
    assert lost["token"] != kept["token"]
    assert lost["calls"] == kept["calls"]
    made.far.answered(travelled(kept))
    made.drive.take(101.0, [])
    made.drive.take(102.0, [("1", left(Done(5)))])
    question = travelled(made.far.question(made.drive))
    assert question["token"] == kept["token"]
    await decider._reply(made.packed, question)  # which nobody hears
    again = await decider._reply(made.packed, question)
    assert again["token"] is None
    assert again["calls"] == []
    made.far.answered(travelled(again))
    made.drive.take(103.0, [])
    assert made.far.is_to_be_asked
    question = travelled(made.far.question(made.drive))
    assert "token" not in question
    reply = await decider._reply(made.packed, question)
    assert [each["args"] for each in reply["calls"]] == [{"x": 5}]


async def test_another_program_is_found_out():
    """Whoever would come to other calls than those that were decided says so."""
    made = Simulated("a = read(1)\nb = read(a)\nb", Random(3))
    made.values._store = None
    question = travelled(made.far.question(made.drive))
    made.far.answered(travelled(await made.deciders[0]._reply(made.packed, question)))
    made.drive.take(101.0, [])

    @tool(effect="read")
    async def read(other: Any) -> Any: ...

    from dagexec.engines.temporal._interpreter import Interpreter

    front = front_of([read, *[FRONT.tools[name] for name in ("pure", "write")]])
    made.drive.take(102.0, [("1", left(Done(5)))])
    made.far._token = None
    question = travelled(made.far.question(made.drive))
    with pytest.raises(DagexecError, match=r"read\(\) in line 1, where its record has call 1"):
        await Interpreter(front, made.values, 9)._reply(made.packed, question)
    lacks = Interpreter(front_of([FRONT.tools["write"]]), made.values, 9)
    reply = await lacks._reply(made.packed, question)
    assert "it has no tool read: another one has to" in reply["lacks"]
    assert reply["reply"]["token"] is None
