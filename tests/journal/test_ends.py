"""How a journal's runs, thread and file end: cancelled claims, dead loops, dead threads, forks."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import sys
import threading
import time
from contextlib import suppress
from functools import partial

import anyio
import pytest

from dagexec import (
    Call,
    DagexecError,
    Done,
    Executor,
    JournalError,
    Timeouts,
    current_call,
    tool,
)
from dagexec._concurrency.threads import run_in_thread
from dagexec.journal import MemoryJournal, SqliteJournal, Types
from dagexec.journal._store import Store
from tests.forking import in_fork, said, start

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.real_time,
    pytest.mark.timeout(240),
    pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning"),
]
# Seconds that nothing here takes, on the slowest machine.
LONG = 40


@tool(effect="read")
async def one() -> int:
    """Return 1."""
    return 1


begun: list[str] = []
freed: list[bool] = []


@tool(effect="write")
async def nap(seconds: float) -> int:
    """Sleep."""
    begun.append(current_call().run_id)
    await anyio.sleep(seconds)
    return 1


@tool(effect="write")
async def stay() -> None:
    """Stay until the test says so."""
    begun.append(current_call().run_id)
    while not freed:
        await anyio.sleep(0.005)


@pytest.fixture(autouse=True)
def nothing_has_begun():
    """Forget the calls of other tests."""
    begun.clear()
    freed.clear()


async def under_way(name):
    """Wait until a run has begun a call that stays or sleeps, as its records say then."""
    with anyio.fail_after(LONG):
        while name not in begun:
            await anyio.sleep(0.005)


@tool(effect="write", approval=True)
async def asks() -> int:
    """Wait for a person."""
    return 1


ONE = [Call("a", "one")]
NAP = [Call("a", "nap", {"seconds": LONG})]


def held(path, seconds):
    """Hold the file's lock for a while, as any other process that writes may."""
    other = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")

    def let_go():
        other.execute("COMMIT")
        other.close()

    threading.Timer(seconds, let_go).start()


# ------------------------------------------------------------------------------- cancelled claims


@pytest.mark.parametrize("again", [0.0, 1.0])
def test_a_claim_that_asyncio_cancels_leaves_nothing_behind(folder, again):
    """The file is locked meanwhile; the claim goes through later, and is undone."""
    journal = SqliteJournal(folder / "runs.db")
    executor = Executor([one], journal=journal)

    async def main():
        await executor.run(ONE, run_id="zero")
        held(journal.path, 0.6)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(executor.run(ONE, run_id="r"), 0.2)
        await asyncio.sleep(again)
        if again:
            infos = {info.id: info.state for info in await journal.runs()}
            assert infos.get("r", "stale") == "stale"
        assert (await executor.run(ONE, run_id="r")).ok

    asyncio.run(main())
    journal.close()


def test_a_claim_that_is_done_but_was_not_heard_of_is_undone(folder):
    """It is cancelled in the moment between; what waited for a person still does."""
    journal = SqliteJournal(folder / "runs.db")
    executor = Executor([asks], journal=journal)

    async def main():
        await executor.run([Call("a", "asks")], run_id="r")
        task = asyncio.create_task(executor.resume("r"))
        for _ in range(3):
            await asyncio.sleep(0)
        time.sleep(0.3)  # the thread is done, and the loop has not heard of it
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert [info.state for info in await journal.runs()] == ["waiting"]

    asyncio.run(main())
    journal.close()


async def test_a_claim_that_a_scope_cancels(folder):
    """It is shielded, so that it ends first; nothing was started, and nothing is held."""
    journal = SqliteJournal(folder / "runs.db")
    executor = Executor([one], journal=journal)
    await executor.run(ONE, run_id="zero")
    held(journal.path, 0.4)
    with anyio.move_on_after(0.1):
        await executor.run(ONE, run_id="r")
    assert (await executor.run(ONE, run_id="r")).ok
    journal.close()


def test_a_run_that_asyncio_cancels_again_and_again_can_go_on(folder, monkeypatch):
    """At whatever moment, while it waits for the disk and while it gives the run up, too."""
    append = Store.append

    def slow(self, owned, rows):
        time.sleep(0.01)
        append(self, owned, rows)

    monkeypatch.setattr(Store, "append", slow)

    @tool(effect="write")
    async def stubborn():
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(LONG)
        return 1

    calls = [
        Call("a", "one"),
        Call("b", "nap", {"seconds": 0}, after=("a",)),
        Call("c", "stubborn"),
    ]
    journal = SqliteJournal(folder / "runs.db")
    executor = Executor([one, nap, stubborn], journal=journal, in_doubt=lambda *_: Done("known"))

    async def cut_off(name, turns, again):
        task = asyncio.create_task(executor.run(calls, run_id=name))
        for turn in range(turns):
            await asyncio.sleep(0.004 if turn % 2 else 0)
        task.cancel()
        for _ in range(again):
            await asyncio.sleep(0)
            task.cancel()
        await asyncio.wait([task])
        assert asyncio.all_tasks() == {asyncio.current_task()}

    async def main():
        for again in (1, 6):
            for turns in range(0, 16, 3):
                name = f"{turns}.{again}"
                await cut_off(name, turns, again)
                async with executor.start(calls, run_id=name) as run:  # nobody holds it
                    async for _ in run:
                        if {"a", "b"} <= run.report.keys():
                            run.cancel()
                assert run.report["b"].ok, (name, run.report)
        assert {info.state for info in await journal.runs()} == {"done"}
        (slots,) = executor._slots.values()
        assert slots.free == executor.concurrency

    asyncio.run(main())
    journal.close()


# -------------------------------------------------------------------------------------- dead loops


def abandoned(executor, *, close):
    """Begin a run in a loop that stops in the middle of it, and return that loop."""
    loop = asyncio.new_event_loop()
    task = loop.create_task(executor.run([*NAP, Call("b", "one")], run_id="r"))
    while not begun:
        loop.run_until_complete(asyncio.sleep(0.01))
    if close:
        loop.close()
    return loop, task


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
@pytest.mark.filterwarnings("ignore")  # of a task that nobody ended
def test_a_run_whose_loop_was_closed_can_be_taken_up(folder, kind):
    """At once: nobody will ever drive it."""
    journal = MemoryJournal() if kind == "memory" else SqliteJournal(folder / "runs.db")
    executor = Executor([nap, one], journal=journal)
    kept = abandoned(executor, close=True)
    report = anyio.run(executor.resume, "r")
    assert (report["a"].status, report["b"].status) == ("in_doubt", "done")
    if kind == "sqlite":
        journal.close()
    del kept


@pytest.mark.filterwarnings("ignore")
def test_a_run_whose_loop_stands_still_can_be_taken_over_when_its_lease_is_over(
    folder, monkeypatch
):
    """It was forgotten without being closed, say; the lease is not renewed meanwhile."""
    from dagexec.journal import _base, _store, _writer

    for module in (_base, _store, _writer):
        monkeypatch.setattr(module, "LEASE", 0.8)
    executor = Executor([nap, one], journal=SqliteJournal(folder / "runs.db"))
    loop, _task = abandoned(executor, close=False)
    time.sleep(1.5)
    other = SqliteJournal(folder / "runs.db")
    report = anyio.run(Executor([nap, one], journal=other).resume, "r")
    assert (report["a"].status, report["b"].status) == ("in_doubt", "done")
    other.close()
    loop.close()


def test_a_loop_that_stands_still_keeps_its_run(folder):
    """As in a notebook between two cells: it may go on, and then it does."""
    journal = SqliteJournal(folder / "runs.db")
    executor = Executor([nap], journal=journal)
    loop = asyncio.new_event_loop()
    task = loop.create_task(executor.run([Call("a", "nap", {"seconds": 0.5})], run_id="r"))
    loop.run_until_complete(asyncio.sleep(0.3))
    with pytest.raises(DagexecError, match="being driven"):
        anyio.run(executor.resume, "r")
    assert loop.run_until_complete(task).ok
    loop.close()
    journal.close()


# --------------------------------------------------------------------------------------- its close


async def test_close_names_the_runs_that_are_open(folder):
    """It neither waits for them nor cuts them off; it works when they have ended."""
    journal = SqliteJournal(folder / "runs.db")
    executor = Executor([nap, stay], journal=journal)
    with pytest.raises(JournalError, match=r"runs 'r' have not ended"):
        async with executor.start(NAP, run_id="r"):
            await under_way("r")
            journal.close()
    async with executor.start([Call("a", "stay")], run_id="s") as run:
        await under_way("s")
        with pytest.raises(JournalError, match=r"'s'"), journal:
            pass
        freed.append(True)
    assert run.report.ok
    journal.close()
    journal.close()
    assert (await executor.resume("s")).ok  # it opens again
    journal.close()


def test_close_takes_no_longer_than_what_is_left_to_do(folder, monkeypatch):
    """It may be called in an event loop: it does not wait until the thread would end by itself."""
    from dagexec.journal import _writer

    monkeypatch.setattr(_writer, "_IDLE", LONG)
    journal = SqliteJournal(folder / "runs.db")
    anyio.run(partial(Executor([one], journal=journal).run, ONE, run_id="r"))
    begun = time.monotonic()
    journal.close()
    assert time.monotonic() - begun < LONG / 2


def test_close_does_not_stop_the_event_loop_until_the_file_is_free(folder, monkeypatch):
    """Another process holds it while a run is cancelled and its journal closed, say."""
    from dagexec.journal import _sqlite

    monkeypatch.setattr(_sqlite, "_PATIENCE", 0.1)
    journal = SqliteJournal(folder / "runs.db")
    executor = Executor([nap, one], journal=journal)

    async def main():
        task = asyncio.create_task(executor.run([*NAP, Call("b", "one")], run_id="r"))
        while not begun:
            await asyncio.sleep(0.01)
        other = sqlite3.connect(journal.path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        task.cancel()
        for _ in range(3):
            await asyncio.sleep(0.01)
            with pytest.raises(JournalError, match="still being written"):
                journal.close()
        with pytest.raises(ZeroDivisionError), journal:
            raise ZeroDivisionError
        other.execute("COMMIT")
        other.close()
        await asyncio.wait([task])
        assert task.cancelled()

    asyncio.run(main())  # would wait for ever for a `close` that waits for the file
    journal.close()
    report = anyio.run(executor.resume, "r")
    assert (report["a"].status, report["b"].status) == ("in_doubt", "done")
    journal.close()


async def test_leaving_the_block_with_an_error_passes_that_on(folder, caplog):
    """An open run is then only a line in the log."""
    executor = None
    async with anyio.create_task_group() as group:
        with pytest.raises(ZeroDivisionError), SqliteJournal(folder / "runs.db") as journal:
            executor = Executor([stay], journal=journal)
            group.start_soon(lambda: executor.run([Call("a", "stay")], run_id="r"))
            await under_way("r")
            raise ZeroDivisionError
        freed.append(True)
    assert "have not ended" in caplog.text
    journal.close()


def test_many_open_and_close_at_once(folder):
    """A close beside claims neither hangs nor loses one."""
    journal = SqliteJournal(folder / "runs.db")
    executor = Executor([one], journal=journal)
    done = []

    def work(number):
        for turn in range(15):
            report = anyio.run(partial(executor.run, ONE, run_id=f"{number}.{turn}"))
            done.append(report.ok)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(3)]
    for each in threads:
        each.start()
    while any(each.is_alive() for each in threads):
        try:
            journal.close()
        except JournalError:
            time.sleep(0.001)
    assert done == [True] * 45


# ------------------------------------------------------------------------------------ dead threads


class Mine:
    """A type of one's own."""


@tool(effect="write")
async def mine() -> Mine:
    """Return one."""
    return Mine()


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
async def test_a_type_that_exits_when_it_is_written_fails_its_call(folder, kind):
    """Neither the run nor the thread ends with it."""
    types = Types()
    types.register(Mine, "mine", lambda _: sys.exit("no"), lambda _: Mine())
    journal = (
        MemoryJournal(types=types)
        if kind == "memory"
        else SqliteJournal(folder / "runs.db", types=types)
    )
    executor = Executor([mine, one], journal=journal)
    with anyio.fail_after(LONG):
        report = await executor.run([Call("m", "mine"), Call("a", "one")], run_id="r")
    assert report["m"].status == "failed"
    assert report["m"].maybe
    assert "SystemExit" in str(report["m"].error)
    assert report["a"].ok
    assert (await executor.resume("r"))["m"].status == "failed"


@pytest.mark.parametrize("method", ["append", "encode", "renew", "release"])
async def test_a_thread_that_dies_says_why_and_another_takes_over(folder, monkeypatch, method):
    """Whatever kills it: calls fail with the reason, later runs get a new thread."""
    from dagexec.journal import _base, _writer

    journal = SqliteJournal(folder / "runs.db")
    executor = Executor([one, nap], journal=journal, timeouts=Timeouts(workflow=LONG / 2))
    await executor.run(ONE, run_id="zero")
    calls = [Call("n", "nap", {"seconds": 1.5}), Call("a", "one", after=("n",))]
    with monkeypatch.context() as patch, anyio.fail_after(LONG):
        for module in (_base, _writer):
            patch.setattr(module, "LEASE", 0.3)
        async with executor.start(calls, run_id="r") as run:
            await under_way("r")

            def dies(*_args, **_options):
                raise SystemExit(method)

            patch.setattr(Store, method, dies)
        report = run.report
    if method in ("append", "renew"):
        assert report["a"].status == "failed" or report["n"].status == "failed"
        texts = [str(each.error) for each in report.values() if each.error is not None]
        assert any("has died" in text or "SystemExit" in text for text in texts), texts
    assert (await executor.run(ONE, run_id="next")).ok
    journal.close()


# ------------------------------------------------------------------------------------------- forks


@pytest.mark.skipif(not hasattr(os, "fork"), reason="nothing forks here")
class TestForks:
    """The child has a thread, a connection and an identity of its own; the parent keeps its own."""

    @pytest.mark.parametrize("kind", ["memory", "sqlite"])
    def test_a_journal_used_before_works_in_the_child(self, folder, kind):
        """At once, while the parent's file is still open."""
        journal = MemoryJournal() if kind == "memory" else SqliteJournal(folder / "runs.db")
        executor = Executor([one], journal=journal, timeouts=Timeouts(workflow=LONG))
        assert executor.run_sync(ONE, run_id="parent").ok
        text = in_fork(lambda: executor.run_sync(ONE, run_id="child").ok)
        assert text == "True"
        assert executor.run_sync(ONE, run_id="parent again").ok
        ids = [info.id for info in anyio.run(journal.runs)]
        assert ids == ["parent", *(["child"] if kind == "sqlite" else []), "parent again"]

    async def test_the_parents_open_run_stays_the_parents(self, folder, anyio_backend_name):
        """The child may neither take it up nor let its lease go; both write to the file."""
        journal = SqliteJournal(folder / "runs.db")
        executor = Executor([one, nap, stay], journal=journal)

        def child():
            def go():
                return anyio.run(
                    lambda: executor.run(ONE, run_id=f"child {os.getpid()}"),
                    backend=anyio_backend_name,
                )

            oks = [go().ok for _ in range(3)]
            try:
                anyio.run(lambda: executor.resume("parent"), backend=anyio_backend_name)
            except DagexecError as error:
                return oks, f"driven by process {os.getppid()}" in str(error)
            return "taken over"

        calls = [Call(f"n{n}", "nap", {"seconds": 0.05 * n}) for n in range(20)]
        calls.append(Call("stay", "stay"))
        async with executor.start(calls, run_id="parent") as run:
            await under_way("parent")
            texts = [
                await run_in_thread(lambda: in_fork(child)),
                await run_in_thread(lambda: in_fork(child)),
            ]
            freed.append(True)
        assert texts == [str(([True] * 3, True))] * 2
        assert run.report.ok
        states = [info.state for info in await journal.runs()]
        assert sorted(states) == ["done"] * 3
        assert len(await journal.read("parent")) == len(calls) * 2 + 2
        journal.close()
        check = sqlite3.connect(journal.path)
        assert check.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        check.close()

    async def test_forks_in_the_middle_of_everything(self, folder, anyio_backend_name):
        """Runs in several threads, children that write, all in one file: nothing is lost."""
        journal = SqliteJournal(folder / "runs.db")
        executor = Executor([one, nap], journal=journal)
        stop = threading.Event()
        made = []

        def drive(number):
            for turn in range(1000):
                if stop.is_set():
                    return
                name = f"{number}.{turn}"
                calls = [Call(str(n), "nap", {"seconds": 0.001}) for n in range(3)]
                report = anyio.run(
                    partial(executor.run, calls, run_id=name), backend=anyio_backend_name
                )
                made.append((name, report.ok))

        def child():
            name = f"child {os.getpid()}"
            return anyio.run(lambda: executor.run(ONE, run_id=name)).ok

        threads = [threading.Thread(target=drive, args=(n,)) for n in range(3)]
        for each in threads:
            each.start()
        try:
            for _ in range(8):
                pairs = [await run_in_thread(lambda: start(child)) for _ in range(2)]
                for pair in pairs:
                    assert await run_in_thread(lambda pair=pair: said(*pair)) == "True"
        finally:
            stop.set()
            for each in threads:
                await run_in_thread(each.join)
        assert all(ok for _, ok in made)
        infos = {info.id: info.state for info in await journal.runs()}
        assert all(infos[name] == "done" for name, _ in made)
        assert sum(name.startswith("child") for name in infos) == 16
        for name, _ in made[:20]:
            assert len(await journal.read(name)) == 8
        journal.close()

    async def test_a_session_of_the_parent_refuses_in_the_child(self, folder):
        """It says whose the run is; it neither hangs nor writes."""
        from dagexec.journal._base import Record

        journal = SqliteJournal(folder / "runs.db")
        session = await journal.claim("r", Record("plan", None, {"calls": []}))

        def child():
            async def go():
                try:
                    await session.release("done")
                except JournalError as error:
                    return str(error)

            return anyio.run(go)

        assert "forked from" in await run_in_thread(lambda: in_fork(child))
        assert [info.state for info in await journal.runs()] == ["running"]
        await session.release("open")
        journal.close()
