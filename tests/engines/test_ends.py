"""Who hears that a workflow has ended: by this process, by news, and by looks at the database."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, Any, cast

import pytest

# Where integration is required, a missing library is an error and no reason to skip.
if os.environ.get("DAGEXEC_REQUIRE_INTEGRATION") != "1":
    pytest.importorskip("dbos", reason="the extra dbos is not installed")
from dagexec.engines.dbos._ends import Ends

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dagexec.engines.dbos._database import Database

pytestmark = pytest.mark.anyio


class Fake:
    """A database that knows what has ended, and what it was asked."""

    def __init__(self) -> None:
        self.over: set[str] = set()
        self.deleted: set[str] = set()
        self.asked: list[list[str]] = []

    async def ended(self, ids: Sequence[str]) -> dict[str, bool]:
        self.asked.append([*ids])
        await asyncio.sleep(0)
        return {each: each in self.over for each in ids if each not in self.deleted}

    def now(self) -> float:
        return asyncio.get_running_loop().time()


@pytest.fixture
def database() -> Fake:
    return Fake()


def ends_of(database: Fake, polling: float = 1000.0) -> Ends:
    return Ends(cast("Database", database), polling)


async def woken(waiting: asyncio.Task[Any]) -> Any:
    """Return what a wait came to, at once or not at all."""
    async with asyncio.timeout(30):
        return (await waiting)["ended"]


async def test_what_ends_here_is_told_with_its_result(database):
    """In the order of those that wait, and nobody asks the database."""
    ends = ends_of(database)
    with ends.waiter() as waiter:
        waiter.expect(["a", "b", "c"], new=True)
        ends.begin("c")
        ends.begin("a")
        waiter._next_look = float("inf")
        waiting = asyncio.create_task(waiter.wait())
        await asyncio.sleep(0)
        ends.end("c", "C")
        ends.end("a", "A")
        assert await woken(waiting) == ["a", "c"]
        assert [waiter.text_of(each) for each in "abc"] == ["A", None, "C"]
    assert database.asked == []


async def test_what_ends_between_two_waits_is_not_lost(database):
    """It is there when the next one begins, and gone when it is forgotten."""
    ends = ends_of(database)
    with ends.waiter() as waiter:
        waiter.expect(["a", "b"])
        ends.begin("a")
        ends.end("a", "A")
        assert (await waiter.wait())["ended"] == ["a"]
        waiter.forget(["a"])
        assert (await waiter.wait(database.now()))["ended"] == []


async def test_news_are_worth_a_look_and_no_more(database):
    """A waiter asks for that workflow; news that are wrong end nothing."""
    ends = ends_of(database)
    with ends.waiter() as waiter:
        waiter.expect(["a", "b"])
        waiting = asyncio.create_task(waiter.wait())
        await asyncio.sleep(0.01)
        ends.tell("b")
        ends.tell("unknown")
        await asyncio.sleep(0.01)
        assert not waiting.done()
        database.over = {"b"}
        ends.tell("b")
        assert await woken(waiting) == ["b"]
    assert database.asked == [["a", "b"], ["b"], ["b"]]


async def test_news_that_come_between_two_waits(database):
    """The next wait looks at once, long before it is time."""
    ends = ends_of(database)
    with ends.waiter() as waiter:
        waiter.expect(["a", "b"])
        assert (await waiter.wait(database.now()))["ended"] == []
        database.over = {"a"}
        ends.tell("a")
        assert (await waiter.wait(database.now() + 5))["ended"] == ["a"]


async def test_without_news_a_look_finds_it(database):
    """That is what polling is for."""
    ends = ends_of(database, polling=0.01)
    with ends.waiter() as waiter:
        waiter.expect(["a"])
        waiting = asyncio.create_task(waiter.wait())
        await asyncio.sleep(0.05)
        assert not waiting.done()
        database.over = {"a"}
        assert await woken(waiting) == ["a"]
        assert waiter.text_of("a") is None


async def test_what_has_ended_before_is_seen_at_once(database):
    """Unless it is said to be new, one that is expected may have ended."""
    ends = ends_of(database)
    database.over = {"b"}
    with ends.waiter() as waiter:
        waiter.expect(["a"])
        assert (await waiter.wait(database.now()))["ended"] == []
        waiter.expect(["b"])
        assert (await waiter.wait(database.now() + 5))["ended"] == ["b"]


async def test_what_runs_here_is_not_asked_for(database):
    """A run that failed, or was given to another worker, is worth a look when it ends."""
    ends = ends_of(database)
    with ends.waiter() as waiter:
        ends.begin("a")
        ends.begin("a")
        waiter.expect(["a", "b"])
        await waiter.wait(database.now())
        ends.end("a", None)
        await waiter.wait(database.now())
        database.over = {"a"}
        ends.end("a", None)
        assert (await waiter.wait(database.now() + 5))["ended"] == ["a"]
    assert database.asked == [["b"], ["a"], ["a"]]


async def test_all_are_looked_at_in_turn(database):
    """One look asks for some; whoever has ended is found within a few."""
    ends = ends_of(database, polling=0.001)
    names = [f"c{each}" for each in range(1200)]
    with ends.waiter() as waiter:
        waiter.expect(names)
        for last in (names[-1], names[0], names[700]):
            database.over = {last}
            async with asyncio.timeout(30):
                assert (await waiter.wait())["ended"] == [last]
            waiter.forget([last])
    assert max(map(len, database.asked)) <= 501


async def test_several_wait_for_the_same(database):
    """Each of them hears it, and those that wait for others are left alone."""
    ends = ends_of(database)
    with ends.waiter() as first, ends.waiter() as second, ends.waiter() as other:
        for waiter in (first, second):
            waiter.expect(["a"], new=True)
        other.expect(["b"], new=True)
        ends.begin("a")
        ends.end("a", "A")
        assert [(await each.wait())["ended"] for each in (first, second)] == [["a"], ["a"]]
        assert (await other.wait(database.now()))["ended"] == []
    assert ends._waiters == {}
    assert ends._running == {}


async def test_what_was_deleted_has_ended(database):
    """But not what nobody has begun yet."""
    ends = ends_of(database, polling=0.01)
    database.deleted = {"a", "b"}
    with ends.waiter() as waiter:
        waiter.expect(["a"])
        waiter.expect(["b"], there=True)
        async with asyncio.timeout(30):
            assert (await waiter.wait())["ended"] == ["b"]


async def test_a_waiter_that_is_woken(database):
    """Its wait ends, or the next one, and only that one."""
    ends = ends_of(database)
    with ends.waiter() as waiter:
        waiter.expect(["a"])
        waiter.wake()
        assert (await waiter.wait())["ended"] == []
        waiting = asyncio.create_task(waiter.wait())
        await asyncio.sleep(0.01)
        assert not waiting.done()
        waiter.wake()
        assert await woken(waiting) == []


async def test_the_end_of_the_time_wakes(database):
    """On the server's clock; nothing has ended then."""
    ends = ends_of(database)
    with ends.waiter() as waiter:
        waiter.expect(["a"])
        until = database.now() + 0.02
        news = await waiter.wait(until)
    assert news["ended"] == []
    assert news["now"] >= until
