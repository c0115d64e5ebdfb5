"""What happens when a limiter's store is gone: it is said, it is bounded, and it ends."""

from __future__ import annotations

import logging
import shutil

import anyio
import pytest

from dagexec import Call, DagexecError, Executor, Timeouts, tool
from dagexec.limits import Limiter, MemoryStore, PostgresStore, Rate, RedisStore, StoreLost
from tests.engines.cluster import binaries, cluster
from tests.limits.servers import redis_server
from tests.limits.wrapped import Wrapped

pytestmark = pytest.mark.anyio


class Shaky(Wrapped):
    """A store that can be taken away, before or after it has done what it was asked."""

    def __init__(self):
        super().__init__()
        self.down = False
        self.late = False
        self.asked = []

    async def _do(self, what, *given):
        self.asked.append((what, anyio.current_time()))
        if self.down and not self.late:
            raise ConnectionError("refused")
        value = await super()._do(what, *given)
        if self.down:
            raise TimeoutError("no answer")
        return value


def limiter(store, **options):
    return Limiter("k", rates={"tokens": Rate(60)}, store=store, margin=0, **options)


async def go(limiter, amount=10.0, used=None):
    """Do one call; return how long it waited."""
    begun = anyio.current_time()
    async with limiter.acquire({"tokens": amount}) as permit:
        waited = anyio.current_time() - begun
        if used is not None:
            permit.settle(tokens=used)
    return waited


async def test_without_peers_no_call_goes(caplog):
    """At once, by name, with the way out; it is logged once, and tried again after a pause."""
    store = Shaky()
    mine = limiter(store)
    store.down = True
    for _ in range(5):
        with pytest.raises(StoreLost, match=r"refused.*peers=") as caught:
            await go(mine)
        assert isinstance(caught.value, ConnectionError)
        assert isinstance(caught.value.__cause__, ConnectionError)
    assert len([what for what, _ in store.asked if what == "book"]) == 1
    assert len([each for each in caplog.records if each.levelno == logging.WARNING]) == 1
    assert mine.in_flight == mine.waiting == 0
    store.down = False
    await anyio.sleep(0.6)
    assert await go(mine) == 0
    assert len(caplog.records) == 2
    store.down = True
    with pytest.raises(StoreLost):
        await go(mine)
    assert len(caplog.records) == 3


async def test_with_peers_each_goes_on_with_its_part(caplog):
    """From nothing, at its part of the rate; not one call fails."""
    store = Shaky()
    mine = limiter(store, peers=4)
    assert await go(mine) == 0
    store.down = True
    waits = [await go(mine) for _ in range(5)]
    assert waits == [pytest.approx(10 / 0.25)] * 5
    (record,) = caplog.records
    assert "'k' failed, so this process goes on alone, with its part" in record.message
    times = [at for what, at in store.asked if what != "add"]
    assert len(times) <= 8


async def test_with_peers_auto_each_learns_its_part_meanwhile():
    """From half of the rate; when the store is back, that is forgotten."""
    store = Shaky()
    mine = limiter(store, peers="auto")
    assert await go(mine, 1.0) == 0
    store.down = True
    assert await go(mine) == pytest.approx(10 / 0.5, rel=0.1)
    async with mine.acquire({"tokens": 1}) as permit:
        permit.rejected(0.0)
    # It was alone for twenty seconds, in which its part grew.
    assert 2.5 <= mine.ledger.buckets["tokens"].peers <= 4
    store.down = False
    await anyio.sleep(9)
    await go(mine, 1.0)
    assert mine.outage.error is None
    assert mine.ledger.buckets["tokens"].peers == 1
    assert mine.ledger.crowd is None


async def test_those_in_line_when_the_store_goes_keep_their_order():
    """They were admitted for the store: none of them goes for nothing."""
    store = Shaky()
    mine = limiter(store, peers=2)
    starts = []

    async def one(number):
        async with mine.acquire({"tokens": 10}):
            starts.append((number, anyio.current_time() - begun))

    store.down = True
    begun = anyio.current_time()
    async with anyio.create_task_group() as group:
        for number in range(4):
            group.start_soon(one, number)
            await anyio.lowlevel.checkpoint()
    assert [number for number, _ in starts] == sorted(number for number, _ in starts)
    assert [at for _, at in starts] == pytest.approx([20, 40, 60, 80], abs=0.01)


async def test_calls_that_need_nothing_go_all_the_same():
    """A cost of nothing waits for nothing, with or without the store."""
    store = Shaky()
    mine = limiter(store, peers=2, in_flight=1)
    store.down = True
    for _ in range(3):
        assert await go(mine, 0.0) == pytest.approx(0, abs=1e-6)


async def test_the_store_hears_of_what_was_used_without_it():
    """Also where it has lost all that it knew: it is not full when it comes back."""
    store = Shaky()
    mine = limiter(store, peers=2)
    store.down = True
    for _ in range(3):
        await go(mine, 25.0)
    store.down, store.inner = False, MemoryStore()
    await anyio.sleep(10)
    # Its part is 30, of which 5 have come since. It tells of the other 25, and books 5.
    assert await go(mine, 5.0) == 0
    assert mine.outage.error is None
    assert await go(limiter(store), 60.0) == pytest.approx(30, abs=0.5)


@pytest.mark.parametrize("late", [False, True])
async def test_what_a_failure_leaves_open_never_fills_a_bucket(late):
    """Whether or not it was booked or given back: the level is too low, never too high."""
    store = Shaky()
    store.late = late
    mine, other = limiter(store), limiter(store)
    await go(other, 60.0)
    store.down = True
    for _ in range(20):
        with pytest.raises(StoreLost):
            await go(mine, 3.0)
        await anyio.sleep(0)
    store.down = False
    await anyio.sleep(1)
    assert await go(other, 60.0) >= 58.9


async def test_a_settlement_that_fails_is_no_second_refund():
    """A refund whose answer was lost is not told again; a charge is."""
    store = Shaky()
    store.late = True
    mine = limiter(store)
    async with mine.acquire({"tokens": 60}) as permit:
        permit.settle(tokens=90)
        store.down = True
    assert mine.ledger.owed == {"tokens": -30.0}
    store.down = False
    await anyio.sleep(1)
    assert await go(mine, 60.0) >= 60


async def test_a_run_goes_on_without_its_store():
    """Through an executor: all calls are done, and none is lost."""
    store = Shaky()
    mine = limiter(store, peers=2)
    done = []

    @tool(effect="read", limits=[mine], cost={"tokens": 6})
    async def ask(n: int) -> int:
        done.append(n)
        if len(done) == 3:
            store.down = True
        if len(done) == 9:
            store.down = False
        return n

    calls = [Call(str(n), "ask", {"n": n}) for n in range(20)]
    report = await Executor([ask], timeouts=Timeouts(workflow=None)).run(calls)
    assert report.ok
    assert mine.in_flight == mine.waiting == 0
    assert mine.outage.error is None


@pytest.mark.real_time
@pytest.mark.integration
@pytest.mark.parametrize("how", ["killed", "frozen"])
async def test_a_redis_that_goes_and_comes_back(how):
    """One that answers nothing is waited for once, for its timeout."""
    pytest.importorskip("redis")
    if shutil.which("redis-server") is None and shutil.which("valkey-server") is None:
        pytest.skip("neither redis-server nor valkey-server is installed")
    with redis_server() as server:
        store = RedisStore(server.url, timeout=0.3)
        await _through(store, *_ways(server, how))


@pytest.mark.real_time
@pytest.mark.integration
async def test_a_postgres_that_goes_and_comes_back():
    """The same with connections that a server closed."""
    pytest.importorskip("psycopg")
    if binaries() is None:
        pytest.skip("PostgreSQL is not installed: no initdb on the PATH or in /usr/lib/postgresql")
    with cluster() as server:
        store = PostgresStore(f"{server.url}/postgres", timeout=5)
        await _through(store, server.stop, server.start)


def _ways(server, how):
    return (server.stop, server.start) if how == "killed" else (server.pause, server.go_on)


async def _through(store, stop, start):
    rates = {"tokens": Rate(1000, per=1)}
    one = Limiter("one", rates=rates, store=store, peers=2)
    closed = Limiter("closed", rates=rates, store=store)
    await go(one)
    await go(closed)
    stop()
    begun = anyio.current_time()
    for _ in range(20):
        await go(one)
        with pytest.raises(StoreLost):
            await go(closed)
    assert anyio.current_time() - begun < 9  # to wait for each would take 12
    start()
    with anyio.fail_after(40):
        while one.outage.error or closed.outage.error:
            await anyio.sleep(0.05)
            for each in (one, closed):
                try:
                    await go(each)
                except DagexecError:
                    assert each is closed
    await go(one)
    store.close()
