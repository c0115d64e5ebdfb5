"""Generated programs on an engine whose process is killed: run by `test_programs_killed`.

    python -m tests.engines.programs_killed URL NAME FOLDER SEED HOW

URL is that of a database, for DBOS, or the address of a Temporal.

Each process of a program is a fork of this one, so that nobody waits for an interpreter to start.
It writes down, before and after each of its tools' steps, what happened. With HOW "steps" the first
one is killed by SIGKILL at one of these steps, with "times" at any time; the second one at its
second step, or not at all; the last one ends the program. Each one opens an engine, and asks for
the run, which goes on in it.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import traceback
from pathlib import Path
from random import Random
from typing import Any
from urllib.parse import unquote

from dagexec import Timeouts
from dagexec.programs import Program
from tests.programs.generated import Writer, by_python
from tests.programs.killed_anywhere import NEVER, Diary, Strict, account_of, faults, tools_of

# Seconds until a killed process counts as dead on Temporal, which does not notice by itself.
LEASE = 2.0


def note_recorded(url: str, name: str, run_id: str, diary: Diary) -> None:
    """Write down which calls have ended by what the database says."""
    import psycopg

    with psycopg.connect(url) as connection:
        rows = connection.execute(
            "select workflow_uuid from dbos.workflow_status"
            " where status = 'SUCCESS' and workflow_uuid like %s",
            (f"dagexec:{name}|{run_id}|%",),
        ).fetchall()
    for (row,) in rows:
        parts = [unquote(part) for part in row.split("|")]
        if len(parts) > 3 and parts[3]:
            diary.note("ended", parts[3])


async def note_history(address: str, name: str, run_id: str, diary: Diary) -> None:
    """Write down which calls have ended by what the history of a run says."""
    from temporalio.client import Client
    from temporalio.service import RPCError

    client = await Client.connect(address)
    names: dict[int, str] = {}
    try:
        history = await client.get_workflow_handle(f"dagexec:{name}:{run_id}").fetch_history()
    except RPCError:
        return  # it has not begun
    for event in history.events:
        if event.HasField("activity_task_scheduled_event_attributes"):
            own = event.activity_task_scheduled_event_attributes.activity_id
            names[event.event_id] = own.rpartition("#")[0]
        if event.HasField("activity_task_completed_event_attributes"):
            ended = event.activity_task_completed_event_attributes.scheduled_event_id
            diary.note("ended", names[ended])


def engine_at(url: str, name: str, tools: list[Any]) -> Any:
    """Return an engine of the kind that the place is of."""
    settings: dict[str, Any] = {"name": name, "timeouts": Timeouts(call=30, workflow=None)}
    if "://" in url:
        from dagexec.engines.dbos import DbosEngine

        return DbosEngine(tools, database_url=url, polling=0.05, **settings)
    from dagexec.engines.temporal import TemporalEngine

    return TemporalEngine(tools, address=url, lease=LEASE, beat=LEASE / 5, **settings)


async def run_here(url: str, name: str, run_id: str, source: str, diary: Diary) -> str:
    """Run a program to its end in this process; return what it did."""
    if "://" not in url:
        await note_history(url, name, run_id, diary)
    engine = engine_at(url, name, tools_of(diary))
    async with engine, asyncio.timeout(50):
        return repr(account_of(await engine.run(Program(source), run_id=run_id), diary))


def child(
    url: str, name: str, folder: Path, source: str, *, kill_at: int = NEVER, after: float = 0
) -> bool:
    """Run a program in a fork of this process; return whether it was killed on the way."""
    pid = os.fork()
    if pid:
        _, status = os.waitpid(pid, 0)
        if os.WIFSIGNALED(status):
            assert os.WTERMSIG(status) in (signal.SIGKILL, signal.SIGALRM), status
            return True
        assert os.WEXITSTATUS(status) == 0, "a fork failed, see above"
        return False
    code = 1
    try:
        diary = Diary(folder, kill_at)
        if "://" in url:
            note_recorded(url, name, folder.name, diary)
        # Its default ends the process as SIGKILL does, without a word.
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.setitimer(signal.ITIMER_REAL, after)
        account = asyncio.run(run_here(url, name, folder.name, source, diary))
        (folder / "account").write_text(account)
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def check(url: str, name: str, folder: Path, seed: int, kills: dict[str, Any]) -> bool:
    """Kill the processes of a program; return whether the first one was."""
    source = Writer(Random(seed)).program()
    chance = Random(repr(kills))
    folder.mkdir()
    killed = child(url, name, folder, source, **kills)
    if killed and child(url, name, folder, source, kill_at=chance.choice([2, 3, NEVER])):
        child(url, name, folder, source)
    diary = Diary(folder, NEVER)
    os.close(diary.file)
    got, expected = (folder / "account").read_text(), repr(by_python(source, Strict()))
    assert got == expected, f"{seed}, {kills}:\n{source}\n{got}\n{expected}"
    assert not faults(diary), f"{seed}, {kills}: {faults(diary)}\n{source}"
    return killed


def main(url: str, name: str, folder: Path, seed: int, how: list[str]) -> None:
    count = 0
    if how[0] == "all":
        while check(url, name, folder / f"s{seed}x{count}", seed, {"kill_at": count + 1}):
            count += 1
    for each in how:
        if each == "all":
            continue
        kind, number = each[0], float(each[1:])
        kills = {"kill_at": int(number)} if kind == "s" else {"after": number}
        count += check(url, name, folder / f"{seed}{kind}{each[1:]}", seed, kills)
    print(f"killed at {count} places")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]), int(sys.argv[4]), sys.argv[5:])
