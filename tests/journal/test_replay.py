"""What a journal holds tells the same as what was lived, whatever happened to the run."""

from __future__ import annotations

from collections import Counter
from random import Random

import anyio
import pytest

from dagexec import Approve, Call, Deny, Done, Edit, Executor, Ref, Timeouts, ask, tool
from dagexec.journal import MemoryJournal
from dagexec.journal._records import report_of
from dagexec.limits import Limiter, Retry

pytestmark = pytest.mark.anyio

EFFECTS = ("pure", "read", "idempotent", "write")
CONDUCTS = ("work", "work", "work", "slow", "fail", "flaky", "hang", "ask")


class LateJournal(MemoryJournal):
    """A journal that takes a moment for each record, as a disk does."""

    def __init__(self, group, seconds):
        super().__init__()
        self.group = group
        self.seconds = seconds

    async def claim(self, run_id, first=None):
        """Return a session whose records are durable later, in their order."""
        session = await super().claim(run_id, first)
        append, release, under_way = session.append, session.release, []

        async def write():
            while under_way:
                await anyio.sleep(self.seconds)
                entries = under_way[:]
                for record, done in entries:
                    append(record, done)
                del under_way[: len(entries)]

        def put(record, done):
            under_way.append((record, done))
            if len(under_way) == 1:
                self.group.start_soon(write)

        async def end(*args):
            while under_way:
                await anyio.sleep(self.seconds)
            await release(*args)

        session.append, session.release = put, end
        return session


class Trial:
    """Random tools, a random plan, and an executor with random settings."""

    def __init__(self, seed, group):
        self.random = Random(seed)
        self.begun = Counter()
        self.limiter = Limiter(f"replay {seed}", in_flight=2)
        pick = self.random.choice
        tools = [self.tool(f"{effect}{n}", effect) for effect in EFFECTS for n in range(2)]
        self.calls = []
        for n in range(self.random.randint(1, 12)):
            self.calls.append(self.call(n, pick(tools)))
        if self.random.random() < 0.3:
            self.random.shuffle(self.calls)
        self.streams = self.random.random() < 0.3
        self.journal = LateJournal(group, pick([0.001, 0.003]))
        self.executor = Executor(
            tools,
            journal=self.journal,
            capacities={"gpu": 2},
            concurrency=pick([0, 1, 2, 20, None]),
            on_failure=pick(["skip", "stop"]),
            barrier=self.random.random() < 0.3,
            timeouts=Timeouts(call=1, layer=pick([None, 0.08]), turn=pick([None, 0.3]), workflow=5),
        )

    def tool(self, name, effect):
        async def act(conduct: str, value: object, key: str) -> object:
            self.begun[key] += 1
            await anyio.sleep({"slow": 0.01, "hang": 30}.get(conduct, 0.001))
            if conduct == "ask":
                return await ask(f"what shall {key} be?")
            if conduct == "fail" or (conduct == "flaky" and self.begun[key] < 2):
                raise OSError("not this time")
            return value

        options = {"effect": effect, "name": name, "approval": self.random.random() < 0.2}
        if self.random.random() < 0.3:
            options["uses"] = {"gpu": self.random.choice([1, 2])}
        if self.random.random() < 0.3:
            options["limits"] = (self.limiter,)
        if self.random.random() < 0.4 and effect != "write":
            options["retry"] = Retry(2, base=0.001, timeout=self.random.choice([None, 0.03]))
        if self.random.random() < 0.3:
            options["timeout"] = 0.05
        return tool(act, **options)

    def call(self, n, named):
        before = [call.id for call in self.calls]
        value, after = n, ()
        if before and self.random.random() < 0.6:
            default = {"default": 0} if self.random.random() < 0.3 else {}
            value = Ref(self.random.choice(before), **default)
        if before and self.random.random() < 0.2:
            after = (self.random.choice(before),)
        args = {"conduct": self.random.choice(CONDUCTS), "value": value, "key": f"c{n}"}
        return Call(f"c{n}", named.name, args, after=after)

    async def stream(self):
        for call in self.calls:
            await anyio.sleep(self.random.choice([0, 0.002]))
            yield call

    async def run(self):
        """Run to the end, through crashes and answers; return the last report."""
        report = None
        while True:
            stop = self.random.choice([100, 100, 0.005, 0.02])
            answers = {} if report is None else self.answers(report)
            with anyio.move_on_after(stop):
                if report is None:
                    calls = self.stream() if self.streams else self.calls
                    report = await self.executor.run(calls, run_id="run")
                else:
                    report = None  # if this is cut off, run() goes on with it
                    report = await self.executor.resume("run", answers)
            if report is not None and not self.asked(report):
                return report

    @staticmethod
    def asked(report):
        waits = ("pending", "in_doubt")
        return [name for name, each in report.items() if each.status in waits and not each.because]

    def answers(self, report):
        asked = self.asked(report)
        some = self.random.sample(asked, self.random.randint(1, len(asked)))
        return {name: self.answer(report[name]) for name in some}

    def answer(self, outcome):
        if outcome.status == "in_doubt":
            return self.random.choice([Deny("it did not happen"), Done(5)])
        if outcome.started is not None:
            return "this"
        return self.random.choice([Approve(), Approve(), Deny("no"), Edit({"value": 1})])


@pytest.mark.parametrize("seeds", range(0, 200, 20))
async def test_a_journal_tells_what_was_lived(seeds):
    """Also when it was crashes, answers, stops and deadlines, of calls, layers and runs."""
    for seed in range(seeds, seeds + 20):
        async with anyio.create_task_group() as group:
            trial = Trial(seed, group)
            report = await trial.run()
        lived = {name: (each.status, each.scope, each.because) for name, each in report.items()}
        again = report_of("run", await trial.journal.read("run"))
        told = {name: (each.status, each.scope, each.because) for name, each in again.items()}
        assert told == lived, seed
        for call in trial.calls:
            asks = call.args["conduct"] == "ask"
            if call.tool.startswith("write") and not asks:
                assert trial.begun[call.id] <= 1, (seed, call)
