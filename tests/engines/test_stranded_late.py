"""What is given back by a process that is slow, or whose database is in use: never what runs."""

from __future__ import annotations

import asyncio
import os
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, cast

import pytest

# Where integration is required, a missing library is an error and no reason to skip.
if os.environ.get("DAGEXEC_REQUIRE_INTEGRATION") != "1":
    pytest.importorskip("dbos", reason="the extra dbos is not installed")
import psycopg

from dagexec.engines.dbos import _stranded
from dagexec.engines.dbos._rounds import result_of
from dagexec.engines.dbos._stranded import Stranded
from tests.engines.test_places import rows
from tests.engines.test_stranded import (
    Owned,
    World,
    cancel_round,
    chain,
    come_to,
    until,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from dagexec.engines.dbos._database import Database

pytestmark = pytest.mark.anyio
database = [pytest.mark.integration, pytest.mark.real_time, pytest.mark.timeout(150)]


@pytest.fixture
def world() -> World:
    return World()


@asynccontextmanager
async def transaction(url: str, statement: str, *values: object) -> AsyncIterator[None]:
    """Leave a transaction open that has done this, as somebody does who went for lunch."""
    async with await psycopg.AsyncConnection.connect(url) as connection:
        await connection.execute(statement.encode(), values)
        try:
            yield
        finally:
            await connection.rollback()


class TestOthersTransactions:
    """A row or a table of DBOS's that somebody has locked."""

    pytestmark = database

    async def test_one_that_cannot_be_given_back_yet(self, url, name, world):
        """Nobody else waits for that, and it is given back later."""
        async with world.engine(url, name) as engine:
            waiting = asyncio.create_task(engine.run(chain("send", "hold"), run_id="r"))
            await until(lambda: world.began["c1"])
            lock = "select 1 from dbos.workflow_status where workflow_uuid = %s for update"
            async with transaction(url, lock, f"dagexec:{name}|r|1"):
                cancel_round(engine, name)
                await asyncio.sleep(2)  # until it would be given back
                assert (await come_to(engine.run(chain("send"), run_id="other"))).ok
            report = await come_to(waiting)
        assert [each.status for each in report.values()] == ["done", "in_doubt"]
        assert world.began["c1"] == 1

    async def test_a_table_that_is_locked(self, url, name, world):
        """Looks wait for it. The lease does not: others would take over what runs here."""
        waits = "select 1 from pg_stat_activity where wait_event_type = 'Lock' and pid = %s"
        async with world.engine(url, name) as engine:
            assert engine._process is not None
            asked = engine._process.database

            async def waiting() -> bool:
                assert asked._asked is not None
                return bool(await rows(url, waits, asked._asked.info.backend_pid))

            def clock() -> float:
                return asked._offset  # of the server, by the last beat

            async with transaction(url, "lock dbos.workflow_status in access exclusive mode"):
                async with asyncio.timeout(40):
                    while not await waiting():
                        await asyncio.sleep(0.05)
                for _ in range(3):
                    before = clock()
                    await until(lambda before=before: clock() != before)
                assert await waiting()
            assert (await come_to(engine.run(chain("send"), run_id="r"))).ok


@pytest.mark.integration
@pytest.mark.real_time
async def test_one_that_was_overtaken_here_and_not_begun(url, name, world, monkeypatch):
    """Its older execution waits for the end of the newer one, of which there is none."""
    monkeypatch.setattr(_stranded, "_LATE", 2.0)
    taken = "update dbos.workflow_status set owner_xid = 'newer' where workflow_uuid = %s"
    async with world.engine(url, name) as engine:
        running = asyncio.create_task(engine.run(chain("send", "hold", "send"), run_id="r"))
        await until(lambda: world.began["c1"])
        await rows(url, taken, f"dagexec:{name}|r|1")
        world.held.set()
        report = await come_to(running)
    assert [each.status for each in report.values()] == ["done", "in_doubt", "pending"]
    assert world.began == {"c0": 1, "c1": 1}


class TestLooks:
    """How long one gets until it is given back, and what is kept of it."""

    @pytest.fixture
    def owned(self, monkeypatch: pytest.MonkeyPatch) -> Owned:
        monkeypatch.setattr(_stranded, "_SOON", 0.0)
        return Owned()

    def made(self, owned: Owned, runs: Callable[[], list[str]] = list) -> Stranded:
        return Stranded(cast("Database", owned), runs, lambda: "q")

    async def test_a_process_that_hung(self, owned, monkeypatch):
        """Nothing could begin meanwhile, so that this is no time for it."""
        monkeypatch.setattr(_stranded, "_LATE", 0.1)
        monkeypatch.setattr(_stranded, "_STEP", 0.03)
        stranded = self.made(owned)
        owned.rows = [("a", "1")]
        for _ in range(4):
            assert owned.given == []
            await stranded.look()
            await asyncio.sleep(0.15)
        await stranded.look()
        assert owned.given == [("a", "1", "q")]

    async def test_what_is_claimed_together_begins_one_by_one(self, owned, monkeypatch):
        """Each that begins gives the others as long as it had; of another claim it does not."""
        monkeypatch.setattr(_stranded, "_LATE", 0.05)
        runs: list[str] = []
        stranded = self.made(owned, lambda: runs)
        owned.rows = [(each, "1") for each in "abcdef"] + [("z", "2")]
        for each in "abcde":
            await stranded.look()
            await asyncio.sleep(0.1)
            runs.append(each)
        owned.rows = [(each, "1") for each in "abcdef"]
        assert {*owned.given} == {("z", "2", "q")}
        for _ in range(2):
            await stranded.look()
            await asyncio.sleep(0.1)
        assert ("f", "1", "q") in owned.given

    async def test_what_somebody_has_locked(self, owned, monkeypatch):
        """Stays for the next look, with all that is known of it."""
        monkeypatch.setattr(_stranded, "_LATE", 1000.0)
        stranded, given = self.made(owned), owned.give_back
        owned.rows = [("a", "1")]
        stranded.broke("a", None)

        async def locked(*_: Any) -> None:
            return None

        monkeypatch.setattr(owned, "give_back", locked)
        await stranded.look()
        monkeypatch.setattr(owned, "give_back", given)
        await stranded.look()
        assert owned.given == [("a", "1", "q")]

    async def test_what_cannot_be_given_back_is_logged_once(self, owned, caplog, monkeypatch):
        """Each look finds it again, twice a second for as long as it lasts."""
        monkeypatch.setattr(_stranded, "_LATE", 0.0)
        stranded, told = self.made(owned), list[str]()
        owned.rows, owned.error = [("a", "1"), ("b", "1")], psycopg.errors.DataError("no")
        stranded.broke("a", None)
        with stranded.telling("a", told.append):
            for _ in range(5):
                await stranded.look()
        assert len(told) == 5  # whoever waits by then
        assert len([each for each in caplog.records if "was interrupted" in each.msg]) == 2

    async def test_what_is_kept_is_bounded(self, owned, monkeypatch):
        """Most that are interrupted here go on elsewhere."""
        monkeypatch.setattr(_stranded, "_EVERY", 0.0)
        monkeypatch.setattr(_stranded, "_KNOWN", 10)
        stranded = self.made(owned)
        for number in range(50):
            owned.rows = [(str(number), "1")]
            stranded.broke(str(number), None)
            await stranded.look()
        owned.rows = []
        await stranded.look()
        kept = (stranded._times, stranded._broken, stranded._seen, stranded._claimed)
        assert [len(each) for each in kept] == [10, 0, 0, 0]


@pytest.mark.integration
@pytest.mark.real_time
async def test_one_that_was_begun_very_often(url, name, world):
    """The pause until it goes on has a limit."""
    often = "update dbos.workflow_status set recovery_attempts = %s where workflow_uuid = %s"
    async with world.engine(url, name) as engine:
        waiting = asyncio.create_task(engine.run(chain("hold"), run_id="r"))
        await until(lambda: world.began["c0"])
        own = f"dagexec:{name}|r|1"
        await rows(url, often, 10_000_000, own)
        assert engine._process is not None
        ((claim,),) = await rows(
            url, "select owner_xid from dbos.workflow_status where workflow_uuid = %s", own
        )
        pause = await engine._process.database.give_back(own, claim, "q")
        assert pause is not None
        assert 30 < pause <= 60
        waiting.cancel()


async def test_a_call_that_came_to_no_end():
    """Its text does not blame it for what the database refused."""
    result = result_of(None, "MAX_RECOVERY_ATTEMPTS_EXCEEDED")
    assert "begun 11 times" in str(result["outcome"])
    assert "its end could not be recorded" in str(result["outcome"])
