"""Generated programs whose process is killed at a boundary of a call: run by `test_killed`.

    python killed_anywhere.py FOLDER FIRST COUNT BACKEND

Each process of a program is a fork of this one, so that nobody waits for an interpreter to start.
It writes down, before and after each of its tools' steps, what happened, and is killed by SIGKILL
at its k-th such step. Another fork resumes the run and is killed at its second step or not at
all, a third one ends it.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import sys
import traceback
from pathlib import Path
from typing import Any

import anyio

from dagexec import Approve, Done, Executor, current_call, tool
from dagexec.journal import SqliteJournal
from dagexec.lowlevel import Conclude, Settled
from dagexec.programs import Program, ToolError
from tests.programs.generated import Account, World, Writer, by_python

NEVER = 1_000_000


class Diary:
    """What happened, over all processes of one program; ends this one at its k-th step."""

    def __init__(self, folder: Path, kill_at: int) -> None:
        self.path = folder / "diary"
        self.left = kill_at
        self.lines = (
            [json.loads(line) for line in self.path.read_text().splitlines()]
            if self.path.exists()
            else []
        )
        self.file = os.open(self.path, os.O_CREAT | os.O_APPEND | os.O_WRONLY)

    def note(self, kind: str, call: str, *facts: Any) -> None:
        """Write a line, for good."""
        self.lines.append([kind, call, *facts])
        os.write(self.file, (json.dumps([kind, call, *facts]) + "\n").encode())

    def step(self) -> None:
        """Come to a place at which the process may end."""
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def world(self) -> World:
        """Return the world as the writes so far left it."""
        world = World()
        for kind, _, *facts in self.lines:
            if kind == "wrote":
                world.write(*facts)
        return world


def tools_of(diary: Diary) -> list[Any]:
    """Return the tools of generated programs, which write the diary."""

    async def looked(kind: str, x: Any) -> Any:
        name = current_call().id
        diary.note("began", name)
        diary.step()
        await anyio.sleep(0)
        value = getattr(diary.world(), kind)(x)
        diary.step()
        return value

    @tool(effect="read")
    async def read(x: Any) -> Any:
        return await looked("read", x)

    @tool(effect="pure")
    async def pure(x: Any) -> Any:
        return await looked("pure", x)

    def reconcile(call: Any, _arguments: Any) -> Any:
        for kind, name, *facts in diary.lines:
            if kind == "wrote" and name == call.id:
                return Done(facts[0] + 1)
        return Approve()

    @tool(effect="write", reconcile=reconcile)
    async def write(x: Any, y: Any = 0) -> Any:
        name = current_call().id
        diary.note("began", name)
        diary.step()
        await anyio.sleep(0)
        value = World().write(x, y)
        diary.note("wrote", name, x, y)
        diary.step()
        return value

    return [read, pure, write]


def executor_of(folder: Path, diary: Diary) -> Executor:
    """Return an executor with the tools of generated programs, which writes the diary."""

    def hear(item: Any) -> None:
        if isinstance(item, Settled | Conclude) and item.outcome.status in ("done", "failed"):
            known = any(kind == "ended" and name == item.call for kind, name, *_ in diary.lines)
            if not known:
                diary.note("ended", item.call)
                diary.step()

    return Executor(
        tools_of(diary), journal=SqliteJournal(folder / "journal.sqlite"), observers=[hear]
    )


def account_of(report: Any, diary: Diary) -> Account:
    """Return what a program did, over all of its processes."""
    world, cause, told = diary.world(), None, None
    if report.error is not None:
        cause = report.error.__cause__
        assert cause is not None, report.error
        told = (type(cause).__name__, str(cause), report.error.line)
    result = repr(report.result) if report.error is None else None
    return Account(result, report.printed, told, world.writes, world.cells)


def child(folder: Path, source: str, kill_at: int, backend: str) -> bool:
    """Run a program in a fork of this process; return whether it was killed on the way."""
    pid = os.fork()
    if pid:
        _, status = os.waitpid(pid, 0)
        if os.WIFSIGNALED(status):
            assert os.WTERMSIG(status) == signal.SIGKILL, status
            return True
        assert os.WEXITSTATUS(status) == 0, "a fork failed, see above"
        return False
    code = 1
    try:
        diary = Diary(folder, kill_at)

        async def run() -> None:
            report = await executor_of(folder, diary).run(Program(source), run_id="r")
            (folder / "account").write_text(repr(account_of(report, diary)))

        anyio.run(run, backend=backend)
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


class Strict(World):
    """The world as Python's tools see it: what fails is a ToolError, as in a program."""

    def read(self, x: Any) -> Any:
        return self._tool("read", x)

    def pure(self, x: Any) -> Any:
        return self._tool("pure", x)

    def write(self, x: Any, y: Any = 0) -> Any:
        return self._tool("write", x, y)

    def _tool(self, name: str, *args: Any) -> Any:
        try:
            return getattr(World, name)(self, *args)
        except Exception as error:
            raise ToolError(f"{type(error).__name__}: {error}") from None


def faults(diary: Diary) -> list[str]:
    """Return what was done twice."""
    ended: set[str] = set()
    wrote: set[str] = set()
    found: list[str] = []
    for kind, name, *_ in diary.lines:
        if kind == "ended":
            ended.add(name)
        elif kind == "began" and name in ended:
            found.append(f"call {name} was done, and ran again")
        elif kind == "wrote":
            if name in wrote:
                found.append(f"call {name} wrote twice")
            wrote.add(name)
    return found


def check(folder: Path, seed: int, backend: str) -> int:
    """Kill a program at each of its steps, one after the other; return how many there were."""
    source = Writer(random.Random(seed)).program()
    expected = repr(by_python(source, Strict()))
    chance = random.Random(seed)
    steps = 0
    while True:
        place = folder / f"{seed}-{steps}"
        place.mkdir()
        killed = child(place, source, steps + 1, backend)
        if killed and child(place, source, chance.choice([2, 3, NEVER]), backend):
            child(place, source, NEVER, backend)
        diary = Diary(place, NEVER)
        os.close(diary.file)
        got = (place / "account").read_text()
        assert got == expected, f"{seed}, step {steps}:\n{source}\n{got}\n{expected}"
        assert not faults(diary), f"{seed}, step {steps}: {faults(diary)}\n{source}"
        shutil.rmtree(place)
        if not killed:
            return steps
        steps += 1


def warm_up(folder: Path, backend: str) -> None:
    """Import here, once, what each fork would have to."""
    folder.mkdir()
    diary = Diary(folder, NEVER)

    async def run() -> None:
        source = "x = read(1)['n']\nwrite(x, pure(2))\n{}['k']"
        report = await executor_of(folder, diary).run(Program(source), run_id="r")
        account_of(report, diary)

    anyio.run(run, backend=backend)
    os.close(diary.file)


def main(folder: Path, first: int, count: int, backend: str) -> None:
    warm_up(folder / "warm", backend)
    steps = sum(check(folder, seed, backend) for seed in range(first, first + count))
    print(f"{count} programs were killed at {steps} places")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4])
