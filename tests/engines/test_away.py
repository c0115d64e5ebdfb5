"""An engine on DBOS that is closed while its database is away: the process ends."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from dagexec import Call, Ref, current_call, tool
from dagexec.limits import Limiter

# Where integration is required, a missing library is an error and no reason to skip.
if os.environ.get("DAGEXEC_REQUIRE_INTEGRATION") != "1":
    pytest.importorskip("dbos", reason="the extra dbos is not installed")
from dagexec.engines.dbos import _inside
from tests.engines.cluster import Cluster, binaries, cluster
from tests.engines.processes import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator

# A process with calls under way, here and by a queue, which ends at its next line, or at SIGINT.
PROGRAM = """
import asyncio, sys
from dagexec import Call, DagexecError, tool
from dagexec.engines.dbos import DbosEngine
from dagexec.limits import Limiter

@tool
async def nap():
    await asyncio.sleep(3)

@tool(limits=[Limiter("mail", in_flight=2)])
async def send():
    await asyncio.sleep(3)

made = DbosEngine([nap, send], database_url=sys.argv[1], name="away", concurrency=4, polling=0.05)

async def main():
    async with made as engine:
        plan = [Call(f"c{n}", ("nap", "send")[n % 2]) for n in range(40)]
        waiting = asyncio.create_task(engine.run(plan))
        await asyncio.sleep(1)
        print("ready", flush=True)
        if sys.argv[2] == "works":
            await engine.work()
        await asyncio.to_thread(sys.stdin.readline)
    try:
        await waiting
    except DagexecError as error:
        print(error)

try:
    asyncio.run(main())
except KeyboardInterrupt:
    print("interrupted")
"""


@pytest.fixture
def away() -> Iterator[Cluster]:
    """Return a server of the test's own, which it stops."""
    if binaries() is None:
        pytest.skip("PostgreSQL is not installed: no initdb on the PATH or in /usr/lib/postgresql")
    with cluster() as made:
        yield made


@pytest.mark.integration
@pytest.mark.real_time
@pytest.mark.timeout(120)
@pytest.mark.parametrize("kind", ["asks", "works"])
def test_a_process_ends_without_its_database(away, kind):
    """Within seconds: no thread of DBOS's tries for ever."""
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, f"{away.url}/away", kind],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        text=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        away.stop()
        time.sleep(10)  # so that some try for the fourth time, and pause for long
        if kind == "works":
            process.send_signal(signal.SIGINT)
        out, _ = process.communicate("\n" if kind == "asks" else None, timeout=60)
    finally:
        process.kill()
        process.communicate()
    assert process.returncode == 0
    assert out.startswith("the engine was closed while" if kind == "asks" else "interrupted")


@pytest.mark.integration
@pytest.mark.real_time
@pytest.mark.timeout(120)
@pytest.mark.anyio
async def test_a_database_that_takes_nothing_for_a_while(away):
    """As in a failover, or when its disk is full: runs wait for it, and no write happens twice."""
    import psycopg

    from dagexec.engines.dbos import DbosEngine

    url, began = f"{away.url}/away", Counter[str]()

    @tool
    async def send(value: object = None) -> None:
        began[current_call().id] += 1
        await asyncio.sleep(0.2)

    @tool(limits=[Limiter("mail", in_flight=2)])
    async def mail() -> None:
        began[current_call().id] += 1
        await asyncio.sleep(0.2)

    async def set_read_only(value: str) -> None:
        async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
            query = f"alter system set default_transaction_read_only = {value}"
            await connection.execute(query.encode())
            await connection.execute("select pg_reload_conf()")

    plan = [Call("s0", "send")]
    plan += [Call(f"s{n}", "send", {"value": Ref(f"s{n - 1}")}) for n in range(1, 10)]
    plan += [Call(f"m{n}", "mail") for n in range(10)]
    async with DbosEngine([send, mail], database_url=url, name="away", polling=0.05) as engine:
        waiting = asyncio.create_task(engine.run(plan, run_id="r"))
        async with asyncio.timeout(20):
            while not began["s1"]:
                await asyncio.sleep(0.01)
        await set_read_only("on")
        await asyncio.sleep(0.2)
        later = asyncio.create_task(engine.run([Call("s", "send")], run_id="later"))
        await asyncio.sleep(2)
        await set_read_only("off")
        async with asyncio.timeout(60):
            assert (await waiting).ok
            assert (await later).ok
    assert {*began.values()} == {1}


class TestTries:
    """The pauses of DBOS's threads between two tries."""

    def test_pauses_end_with_the_engine(self, monkeypatch):
        """Those that have begun, and those that begin later; each try is the last one then."""
        monkeypatch.setattr(_inside, "_PAUSE", 60)
        tables = SimpleNamespace(_retry_connection_errors=True)
        monkeypatch.setattr(_inside, "_instance", lambda: SimpleNamespace(_sys_db_field=tables))
        tries = _inside.Tries()
        thread = threading.Thread(target=tries.sleep, args=(60,))
        thread.start()
        tries.end()
        thread.join(timeout=30)
        assert not thread.is_alive()
        assert not tables._retry_connection_errors
        began = time.monotonic()
        tries.sleep(60)
        assert time.monotonic() - began < 30

    def test_they_are_short(self, monkeypatch):
        """What waits for the database goes on soon after it is back."""
        monkeypatch.setattr(_inside, "_PAUSE", 0.01)
        began = time.monotonic()
        _inside.Tries().sleep(60)
        assert time.monotonic() - began < 30

    def test_the_clock_is_given_back(self):
        """And it is the whole clock while it is lent."""
        from dbos import _sys_db

        tries = _inside.Tries()
        tries.attach()
        assert _sys_db.time is tries
        assert abs(_sys_db.time.time() - time.time()) < 5
        tries.detach()
        assert _sys_db.time is time

    def test_a_dbos_without_it(self, monkeypatch, caplog):
        """It is said, once."""
        from dbos import _sys_db

        monkeypatch.setattr(_inside, "_said", {})
        monkeypatch.delattr(_sys_db, "time")
        for _ in range(2):
            tries = _inside.Tries()
            tries.attach()
            tries.detach()
        (said,) = [each.getMessage() for each in caplog.records]
        assert "no way to end its tries" in said
