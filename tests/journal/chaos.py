"""Kill runs at random moments, restart them until they end, and look at what ran.

    python chaos.py ROUNDS SEED FOLDER

Children are forked from one process that has imported everything, so that a round takes tenths of
a second. What a tool does to the world is one line appended to a file.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import time
import traceback
from pathlib import Path
from random import Random

import anyio

from dagexec import (
    Approve,
    Call,
    CallContext,
    DagexecError,
    Done,
    Executor,
    Plan,
    Ref,
    Report,
    tool,
)
from dagexec.journal import Record, SqliteJournal, Types
from dagexec.journal._store import Store

CALLS = 60
EFFECTS = ("pure", "read", "idempotent", "write")
REFUSED = 3


class World:
    """A file with one line for each start and each end of a tool."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def note(self, what: str, name: str) -> None:
        # One write to a file opened for appending is whole, and outlives the process.
        descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.write(descriptor, f"{what} {name}\n".encode())
        os.close(descriptor)

    def lines(self) -> list[str]:
        return self.path.read_text().split("\n")[:-1] if self.path.exists() else []


def make_plan(random: Random) -> Plan:
    calls = []
    for index in range(CALLS):
        sources = random.sample(range(index), min(index, random.choice((0, 0, 1, 1, 2, 3))))
        args = {
            "n": index,
            "parts": [Ref(f"c{source}") for source in sources],
            "seconds": random.choice((0.0, 0.0, 0.001, 0.004)),
        }
        calls.append(Call(f"c{index}", random.choice(EFFECTS), args))
    return Plan(calls)


def expected(plan: Plan) -> dict[str, int]:
    values: dict[str, int] = {}
    for call in plan:
        values[call.id] = call.args["n"] + sum(values[ref.call] for ref in call.refs) % 1009
    return values


def make_tools(world: World, *, reconciles: bool) -> list[object]:
    def reconcile(context: CallContext, arguments: dict[str, object]) -> object:
        if f"end {context.id}" in world.lines():
            return Done(arguments["n"] + sum(arguments["parts"]) % 1009)
        return Approve()

    def make(effect: str) -> object:
        @tool(name=effect, effect=effect, reconcile=reconcile if reconciles else None)
        async def work(n: int, parts: list[int], seconds: float, context: CallContext) -> int:
            """Leave two lines in the world, with some time between."""
            world.note("start", context.id)
            await anyio.sleep(seconds)
            world.note("end", context.id)
            return n + sum(parts) % 1009

        return work

    return [make(effect) for effect in EFFECTS]


def child(
    path: Path, world: World, plan: Plan, backend: str, answers: dict, *, reconciles: bool
) -> None:
    """Run or resume the plan, and leave the report beside the journal."""

    async def drive() -> Report:
        journal = SqliteJournal(path, large=40)
        executor = Executor(make_tools(world, reconciles=reconciles), journal=journal)
        if answers:
            return await executor.resume("run", answers)
        return await executor.run(plan, run_id="run")

    report = anyio.run(drive, backend=backend)
    written = path.with_suffix(".written")
    written.write_text(report.to_json())
    written.rename(path.with_suffix(".report"))  # whole, or not there


def fork(work, seconds: float | None) -> int | None:
    """Run `work` in a child, killed after a while; return its exit code, None if it was killed."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            work()
            code = 0
        except DagexecError as error:
            sys.stderr.write(f"refused: {error}\n")
            code = REFUSED
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(code)
    until = time.monotonic() + (60 if seconds is None else seconds)
    while time.monotonic() < until:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.0005)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    assert seconds is not None, "a run that nobody kills has to end"
    return None


def recorded(path: Path) -> list[Record]:
    """Return the records, read as another process would."""
    try:
        store = Store(path, Types(), 40)
    except DagexecError:
        return []
    try:
        return store.read("run")
    except DagexecError:
        return []
    finally:
        store.close()


def doubts(path: Path, world: World, plan: Plan) -> dict[str, object]:
    """Answer for the calls in doubt, as a person would who can look at the world."""
    report = Report.from_json(path.with_suffix(".report").read_text())
    values, ended = expected(plan), world.lines()
    return {
        name: Done(values[name]) if f"end {name}" in ended else Approve()
        for name, outcome in report.items()
        if outcome.status == "in_doubt"
    }


class Round:
    """One plan, killed and restarted until it ends."""

    def __init__(self, folder: Path, random: Random) -> None:
        self.folder = folder
        self.random = random
        self.plan = make_plan(random)
        self.values = expected(self.plan)
        self.reconciles = random.random() < 0.5
        self.backend = random.choice(("asyncio", "trio"))
        self.path = folder / "runs.db"
        self.world = World(folder / "world")
        self.done_at: dict[str, int] = {}
        self.kills = 0

    def run(self) -> int:
        while True:
            # Longer each time: also on a machine with no time for this, a round comes to its end.
            seconds = self.random.uniform(0.0, 0.06 * 1.6**self.kills)
            killed = self.once(seconds)
            if killed and self.random.random() < 0.4:
                self.damage()  # first: to look at it tidies the write-ahead log away
            self.look()
            if not killed and self.over():
                return self.kills

    def once(self, seconds: float | None) -> bool:
        answers = {}
        report = self.path.with_suffix(".report")
        if report.exists():
            answers = doubts(self.path, self.world, self.plan)
            report.unlink()
        args = (self.path, self.world, self.plan, self.backend, answers)
        code = fork(lambda: child(*args, reconciles=self.reconciles), seconds)
        assert code in (None, 0), f"a run ended with {code}"
        self.kills += code is None
        return code is None

    def over(self) -> bool:
        report = Report.from_json(self.path.with_suffix(".report").read_text())
        assert list(report) == list(self.values)
        if any(outcome.status == "in_doubt" for outcome in report.values()):
            assert not self.reconciles
            return False
        assert report.outputs == self.values, report
        return True

    def look(self) -> None:
        """No write twice, and nothing again that the journal had as done."""
        lines = self.world.lines()
        for name, position in self.done_at.items():
            assert f"start {name}" not in lines[position:], f"{name} was done and ran again"
        for call in self.plan:
            if call.tool == "write":
                assert lines.count(f"end {call.id}") <= 1, f"{call.id} took effect twice"
        for record in recorded(self.path):
            if record.kind == "settled" and record.body["status"] == "done":
                self.done_at.setdefault(record.call or "", len(lines))

    def damage(self) -> None:
        """Damage a copy: the run on it is refused, or right."""
        copy = self.folder / "copy"
        shutil.rmtree(copy, ignore_errors=True)
        copy.mkdir()
        for file in self.folder.iterdir():
            if file.is_file() and not file.name.endswith("-shm"):
                shutil.copy2(file, copy / file.name)
        values = self.folder / "runs.db-values"
        if values.exists():
            shutil.copytree(values, copy / values.name)
        targets = [copy / "runs.db", copy / "runs.db-wal"]
        files = [file for file in targets if file.exists() and file.stat().st_size]
        if not files:
            return
        target = self.random.choice(files)
        body = bytearray(target.read_bytes())
        place = self.random.randrange(len(body))
        if self.random.random() < 0.5:
            body = body[:place]
            how = f"cut at {place}"
        else:
            body[place] ^= 1 << self.random.randrange(8)
            how = f"flipped at {place}"
        target.write_bytes(body)
        (copy / "runs.report").unlink(missing_ok=True)
        other = Round.__new__(Round)
        other.__dict__.update(self.__dict__, folder=copy, path=copy / "runs.db")
        other.world = World(copy / "world")
        what = f"{target.name} {how} of {len(body)}"
        other.go_on_or_refuse(what)

    def go_on_or_refuse(self, what: str) -> None:
        for _ in range(4):
            answers = {}
            report = self.path.with_suffix(".report")
            if report.exists():
                answers = doubts(self.path, self.world, self.plan)
                report.unlink()
            args = (self.path, self.world, self.plan, self.backend, answers)
            code = fork(lambda: child(*args, reconciles=self.reconciles), None)  # noqa: B023
            assert code in (0, REFUSED), f"{what}: ended with {code}"
            lines = self.world.lines()
            for call in self.plan:
                if call.tool == "write":
                    assert lines.count(f"end {call.id}") <= 1, f"{what}: {call.id} ran twice"
            if code == REFUSED:
                return
            if self.over():
                return
        msg = f"{what}: the run does not come to an end"
        raise AssertionError(msg)


def main() -> None:
    rounds, seed, folder = int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])
    kills = 0
    for number in range(rounds):
        place = folder / str(number)
        place.mkdir(parents=True)
        try:
            kills += Round(place, Random(f"{seed}.{number}")).run()
        except BaseException:
            sys.stderr.write(f"round {number} of seed {seed}, in {place}\n")
            raise
        shutil.rmtree(place)
    print(json.dumps({"rounds": rounds, "kills": kills}))


if __name__ == "__main__":
    main()
