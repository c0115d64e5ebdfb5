"""The file of a journal: what it refuses, what it survives, what it says."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from random import Random

import anyio
import pytest

from dagexec import Call, DagexecError, Executor, JournalError, Plan, Ref, RunOwned, tool
from dagexec.journal import Record, SqliteJournal
from dagexec.journal import _base as base
from dagexec.journal import _store as store

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.real_time,
    pytest.mark.timeout(240),  # for machines that are slow
]


@tool
async def echo(value: object = None, size: int = 0) -> object:
    """Return the value, or so many characters."""
    return "x" * size if size else value


@tool(effect="read")
async def look(value: object = None, size: int = 0) -> object:
    """Return the value, or so many characters."""
    return "x" * size if size else value


def chain(count: int = 5, tool_name: str = "echo") -> Plan:
    calls = [Call("c0", tool_name, {"value": 0})]
    for n in range(1, count):
        calls.append(Call(f"c{n}", tool_name, {"value": [Ref(f"c{n - 1}")]}))
    return Plan(calls)


async def begin(path, plan=None, **options):
    with SqliteJournal(path, **options) as journal:
        await Executor([echo, look], journal=journal).run(plan or chain(), run_id="run")


async def refused(path, text):
    with SqliteJournal(path) as journal, pytest.raises(JournalError, match=text):
        await Executor([echo, look], journal=journal).run(chain(), run_id="run")


async def test_its_settings_are_those_of_the_promise(folder):
    """Write-ahead log; each commit synced; a version; everything in one file when it is closed."""
    await begin(folder / "runs.db")
    assert not (folder / "runs.db-wal").exists()
    connection = sqlite3.connect(folder / "runs.db")
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert connection.execute("PRAGMA user_version").fetchone() == (store.SCHEMA_VERSION,)
    connection.close()
    opened = store.Store(folder / "runs.db", SqliteJournal("x").types, 10)
    assert opened._db.execute("PRAGMA synchronous").fetchone() == (2,)
    opened.close()


async def test_what_is_no_journal_is_refused_by_name(folder):
    """A newer schema, another program's database, no database, no folder, memory."""
    await begin(folder / "newer.db")
    connection = sqlite3.connect(folder / "newer.db")
    connection.execute("PRAGMA user_version=7")
    connection.close()
    await refused(folder / "newer.db", "schema version 7, of a newer dagexec")
    connection = sqlite3.connect(folder / "other.db")
    connection.execute("CREATE TABLE mine (x)")
    connection.close()
    await refused(folder / "other.db", "no journal of dagexec")
    (folder / "text.db").write_text("hello, this is some text" * 100)
    await refused(folder / "text.db", "not a database")
    await refused(folder / "nowhere" / "x.db", "cannot open the journal")
    with pytest.raises(JournalError, match="MemoryJournal"):
        SqliteJournal(":memory:")
    assert (folder / "text.db").read_text().startswith("hello")


async def test_a_lost_end_is_noticed(folder):
    """The log cut anywhere, emptied, gone, or the file emptied: never a silent step back."""
    path = folder / "runs.db"
    journal = SqliteJournal(path)
    await Executor([echo], journal=journal).run(chain(), run_id="run")
    saved = {file.name: file.read_bytes() for file in folder.iterdir()}
    journal.close()
    log = saved["runs.db-wal"]
    random = Random(3)
    for cut in [0, 10, 32, *(random.randrange(len(log)) for _ in range(10))]:
        for name, body in saved.items():
            (folder / name).write_bytes(log[:cut] if name.endswith("-wal") else body)
        (folder / "runs.db-shm").unlink(missing_ok=True)
        with (
            SqliteJournal(path) as other,
            pytest.raises(JournalError, match=r"lost its end|damage"),
        ):
            await Executor([echo], journal=other).run(chain(), run_id="run")
    for file in folder.iterdir():
        file.unlink()
    (folder / "runs.db-mark").write_bytes(saved["runs.db-mark"])
    await refused(path, "lost its end.*delete")


async def test_every_bit_of_a_record_counts(folder):
    """Changed with sqlite3 itself, so that the pages are whole: it is noticed all the same."""
    path = folder / "runs.db"
    changes = (
        "UPDATE records SET body = replace(body, '[0]', '[1]') WHERE seq = 7",
        "UPDATE records SET kind = 'void' WHERE seq = 3",
        "UPDATE records SET call = 'c4' WHERE call = 'c3'",
        "DELETE FROM records WHERE seq = 5",
        "DELETE FROM records WHERE seq = (SELECT max(seq) FROM records)",
        "UPDATE records SET seq = seq + 1 WHERE seq = (SELECT max(seq) FROM records)",
        "UPDATE records SET body = 'nonsense' WHERE seq = 4",
        "UPDATE runs SET id = 'run', last = last - 1",
        "UPDATE records SET run = 9",
        "UPDATE meta SET value = '12'",
        "DROP TABLE meta",
        "DROP TABLE records",
        "ALTER TABLE records RENAME COLUMN body TO text",
    )
    for change in changes:
        await begin(path)
        connection = sqlite3.connect(path)
        connection.execute(change)
        connection.commit()
        connection.close()
        await refused(path, "damaged|lost its end|no such")
        for file in folder.iterdir():
            file.unlink()


async def test_large_values_lie_beside_the_file(folder):
    """They come back; a damaged or a missing one is refused by name; forgetting takes them away."""
    path = folder / "runs.db"
    plan = Plan([Call("a", "echo", {"size": 5000}), Call("b", "echo", {"value": Ref("a")})])
    await begin(path, plan, large=1000)
    files = [file for file in (folder / "runs.db-values").rglob("*") if file.is_file()]
    assert len(files) == 2
    assert path.stat().st_size < 100_000
    with SqliteJournal(path) as journal:
        report = await Executor([echo], journal=journal).run(plan, run_id="run")
        assert report["b"].value == "x" * 5000
    body = files[0].read_bytes()
    files[0].write_bytes(body[:-1] + b"!")
    with SqliteJournal(path) as journal:
        with pytest.raises(JournalError, match="is not what was written"):
            await Executor([echo], journal=journal).resume("run")
        files[0].unlink()
        with pytest.raises(JournalError, match="large value cannot be read"):
            await Executor([echo], journal=journal).resume("run")
        await journal.forget("run")
        assert await journal.runs() == []
    assert not any(file.is_file() for file in (folder / "runs.db-values").rglob("*"))


@pytest.mark.parametrize("name", ["echo", "look"])
async def test_a_full_disk_fails_the_call_that_cannot_be_recorded(folder, name):
    """It says so; the others go on; with room again the run does too."""
    path = folder / "runs.db"
    plan = Plan(
        [
            Call("small", name, {"value": 1}),
            Call("large", name, {"size": 200_000}),
            Call("next", name, {"value": Ref("small")}),
            Call("after", name, {"value": Ref("large")}),
        ]
    )
    with SqliteJournal(path) as journal:
        await journal.runs()
        database = journal._thread._store._db
        pages = database.execute("PRAGMA page_count").fetchone()[0]
        database.execute(f"PRAGMA max_page_count={pages + 12}")
        report = await Executor([echo, look], journal=journal).run(plan, run_id="run")
        statuses = {key: each.status for key, each in report.items()}
        assert statuses == {"small": "done", "large": "failed", "next": "done", "after": "skipped"}
        assert "could not be recorded" in str(report["large"].error)
        assert "full" in str(report["large"].error)
        assert report["large"].maybe == (name == "echo")
        database.execute("PRAGMA max_page_count=1000000")
        again = await Executor([echo, look], journal=journal).resume("run")
        assert again["large"].status == "failed"


async def test_a_full_disk_before_the_run_is_an_error_of_the_run(folder):
    """Nothing has run then."""
    ran = []

    @tool
    async def mark() -> None:
        ran.append(1)

    with SqliteJournal(folder / "runs.db") as journal:
        await journal.runs()
        database = journal._thread._store._db
        pages = database.execute("PRAGMA page_count").fetchone()[0]
        database.execute(f"PRAGMA max_page_count={pages}")
        many = Plan([Call(f"c{n}", "mark") for n in range(500)])
        with pytest.raises(JournalError, match="full"):
            await Executor([mark], journal=journal).run(many, run_id="run")
    assert ran == []


async def test_a_disk_that_fills_up_while_a_write_waits_keeps_it_from_starting(folder):
    """No write starts whose intent is not on the disk."""
    ran = []

    @tool
    async def mark(n: int, before: object = None) -> str:
        ran.append(n)
        return "y"

    calls = [Call("c0", "mark", {"n": 0})]
    calls += [
        Call(f"c{n}", "mark", {"n": n, "before": Ref(f"c{n - 1}", default=0)})
        for n in range(1, 400)
    ]
    with SqliteJournal(folder / "runs.db") as journal:
        session = await journal.claim("first", Record("note"))
        await session.release("done")
        database = journal._thread._store._db
        pages = database.execute("PRAGMA page_count").fetchone()[0]
        database.execute(f"PRAGMA max_page_count={pages + 20}")
        report = await Executor([mark], journal=journal).run(Plan(calls), run_id="run")
    failed = [name for name, each in report.items() if each.status == "failed"]
    assert failed
    assert all("recorded" in str(report[name].error) for name in failed)
    not_started = [name for name in failed if "not started" in str(report[name].error)]
    assert not_started
    assert not {int(name[1:]) for name in not_started} & set(ran)


class Odd:
    """A type that no journal knows."""


async def test_a_value_without_a_place_fails_its_call_and_says_what_to_do(folder):
    """The others go on."""

    @tool
    async def odd() -> object:
        return Odd()

    plan = Plan([Call("a", "odd"), Call("b", "echo", {"value": 1})])
    with SqliteJournal(folder / "runs.db") as journal:
        executor = Executor([odd, echo], journal=journal)
        report = await executor.run(plan, run_id="run")
        assert report["b"].value == 1
        assert "register" in str(report["a"].error)
        assert report["a"].maybe
        assert (await executor.resume("run"))["a"].status == "failed"


async def test_the_loop_does_not_wait_for_the_disk(folder, monkeypatch):
    """A commit that takes long holds the calls that need it, and nothing else."""
    append = store.Store.append
    ticks, seen = [], []

    def slow(self, owned, records):
        """Take as long as the loop needs to turn a few times; if it waits, for ever."""
        before, end = len(ticks), time.monotonic() + 20
        while len(ticks) < before + 5 and time.monotonic() < end:
            time.sleep(0.005)
        seen.append(len(ticks) - before)
        append(self, owned, records)

    monkeypatch.setattr(store.Store, "append", slow)

    async def tick():
        while True:
            await anyio.sleep(0.005)
            ticks.append(1)

    with SqliteJournal(folder / "runs.db") as journal:
        async with anyio.create_task_group() as group:
            group.start_soon(tick)
            await Executor([echo], journal=journal).run(chain(2), run_id="run")
            group.cancel_scope.cancel()
    assert len(seen) >= 2
    assert min(seen) >= 5


async def test_what_many_calls_record_at_once_is_one_commit(folder):
    """A hundred calls side by side: a few commits, not two hundred."""
    plan = Plan([Call(f"c{n}", "echo", {"value": n}) for n in range(100)])
    with SqliteJournal(folder / "runs.db") as journal:
        await Executor([echo], journal=journal, concurrency=100).run(plan, run_id="run")
        assert journal._thread._store._commits() < 50


async def test_the_thread_ends_when_nobody_needs_it(folder):
    """And comes back when somebody does."""
    journal = SqliteJournal(folder / "runs.db")
    executor = Executor([echo], journal=journal)
    await executor.run(chain(), run_id="one")
    assert "dagexec journal" in [thread.name for thread in threading.enumerate()]
    with anyio.fail_after(50):
        while "dagexec journal" in [thread.name for thread in threading.enumerate()]:
            await anyio.sleep(0.05)
    assert not (folder / "runs.db-wal").exists()
    assert (await executor.run(chain(), run_id="one")).ok
    assert (await executor.run(chain(), run_id="two")).ok
    journal.close()


OWNER = """
import anyio, sys, time
from dagexec import *
from dagexec.journal import SqliteJournal

@tool(effect="read")
async def hang() -> int:
    print("here", flush=True)
    await anyio.sleep_forever()

async def main():
    executor = Executor([hang], journal=SqliteJournal(sys.argv[1]))
    await executor.run(Plan([Call("h", "hang")]), run_id="run")

anyio.run(main)
"""


@tool(effect="read")
async def hang() -> int:
    """Return here what hangs there."""
    return 1


async def test_a_dead_owner_is_replaced_at_once_and_a_living_one_is_not(folder, monkeypatch):
    """By its process on this machine; elsewhere by the lease."""
    path = folder / "runs.db"
    command = [sys.executable, "-c", OWNER, str(path)]
    process = subprocess.Popen(command, text=True, stdout=subprocess.PIPE)
    try:
        assert await anyio.to_thread.run_sync(process.stdout.readline) == "here\n"
        with SqliteJournal(path) as journal:
            executor = Executor([hang], journal=journal)
            with pytest.raises(RunOwned, match=f"driven by process {process.pid}"):
                await executor.resume("run")
            # A read does not wait until its start is recorded; this test does.
            while "started" not in [each.kind for each in await journal.read("run")]:
                await anyio.sleep(0.01)
            process.kill()  # and not waited for: a process that waits to be reaped is dead
            with anyio.fail_after(50):
                while True:
                    try:
                        report = await executor.resume("run")
                        break
                    except RunOwned:
                        await anyio.sleep(0.01)
            assert report["h"].attempts == 2
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


async def test_whoever_was_not_heard_of_loses_the_run_and_stops(folder, monkeypatch):
    """A process that was suspended longer than its lease can write nothing more."""
    path = folder / "runs.db"
    begun, taken = anyio.Event(), anyio.Event()
    ran = []

    @tool
    async def slow(n: int) -> int:
        ran.append(n)
        if n == 1:
            begun.set()
            await taken.wait()
        return n

    plan = Plan([Call("a", "slow", {"n": 1}), Call("b", "slow", {"n": 2}, after=("a",))])
    with SqliteJournal(path) as first, SqliteJournal(path) as second:
        failures = []

        async def drive():
            try:
                await Executor([slow], journal=first).run(plan, run_id="run")
            except RunOwned as error:
                failures.append(str(error))

        async with anyio.create_task_group() as group:
            group.start_soon(drive)
            await begun.wait()
            connection = sqlite3.connect(path)
            connection.execute("UPDATE runs SET lease = 1")  # as if it had been silent
            connection.commit()
            connection.close()
            report = await Executor([slow], journal=second).resume("run")
            taken.set()
        assert report["a"].status == "in_doubt"
        assert report["b"].status == "pending"
        assert "taken over" in failures[0]
        assert ran == [1]


async def test_the_lease_is_renewed_while_a_call_runs_long(folder, monkeypatch):
    """Otherwise a long call would be taken over, and run twice."""
    from dagexec.journal import _writer

    for module in (base, store, _writer):
        monkeypatch.setattr(module, "LEASE", 0.3)

    end = anyio.Event()

    @tool
    async def slow() -> int:
        await end.wait()
        return 1

    path = folder / "runs.db"
    with SqliteJournal(path) as first, SqliteJournal(path) as second:
        async with anyio.create_task_group() as group:
            executor = Executor([slow], journal=first)
            group.start_soon(lambda: executor.run(Plan([Call("a", "slow")]), run_id="run"))
            await anyio.sleep(0.9)
            # On a slow machine one may be renewed late; without that it would be stale for good.
            with anyio.fail_after(40):
                while (await second.runs())[0].state != "running":
                    await anyio.sleep(0.02)
            end.set()
        assert (await Executor([slow], journal=second).resume("run")).ok


def test_a_new_file_can_be_opened_by_many_at_once(folder):
    """SQLite refuses all but one of those that switch a file to its write-ahead log at once."""
    together = threading.Barrier(8)

    def open_all():
        for number in range(25):
            together.wait(50)
            with SqliteJournal(folder / f"{number}.db") as journal:
                anyio.run(journal.runs)

    with ThreadPoolExecutor(8) as pool:
        for each in [pool.submit(open_all) for _ in range(8)]:
            each.result()


async def test_several_processes_share_a_file(folder):
    """Four writers at once; nothing is lost."""
    path = folder / "runs.db"
    code = (
        "import anyio, sys\n"
        "from dagexec import *\n"
        "from dagexec.journal import SqliteJournal\n"
        "@tool\n"
        "async def t(n: int) -> int: return n\n"
        "async def main():\n"
        "    executor = Executor([t], journal=SqliteJournal(sys.argv[1]))\n"
        "    for k in range(5):\n"
        "        plan = Plan([Call(f'c{n}', 't', {'n': n}) for n in range(20)])\n"
        "        assert (await executor.run(plan, run_id=f'{sys.argv[2]}.{k}')).ok\n"
        "anyio.run(main)\n"
    )
    processes = [
        subprocess.Popen([sys.executable, "-c", code, str(path), str(number)])
        for number in range(4)
    ]
    assert [process.wait(200) for process in processes] == [0] * 4
    with SqliteJournal(path) as journal:
        assert len(await journal.runs()) == 20
        for info in await journal.runs():
            assert info.state == "done"
            assert (
                len([each for each in await journal.read(info.id) if each.kind == "settled"]) == 20
            )


async def test_run_sync_works_with_a_journal(folder):
    """In a thread of its own here, since a loop runs in this one."""

    def work():
        with SqliteJournal(folder / "runs.db") as journal:
            executor = Executor([echo], journal=journal)
            executor.run_sync(chain(), run_id="run")
            return executor.run_sync(chain(), run_id="run").ok

    assert await anyio.to_thread.run_sync(work)


def test_nothing_of_it_is_loaded_before_it_is_used():
    """`import dagexec` does not even load sqlite3."""
    code = (
        "import dagexec, sys; names = list(sys.modules);"
        " assert not [n for n in names if 'sqlite' in n or 'dagexec.journal' in n]"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


async def test_errors_are_of_the_one_tree(folder):
    """Whoever catches DagexecError has them all."""
    assert issubclass(JournalError, DagexecError)
    assert issubclass(RunOwned, JournalError)
    (folder / "runs.db").mkdir()
    await refused(folder / "runs.db", "cannot be opened|cannot open")
