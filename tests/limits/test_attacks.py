"""What happens to stores and those who use them: no hang, no capacity lost for good, no burst.

A store that is gone is in test_outages.py.
"""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
import sys
import threading
import time
from functools import partial
from itertools import count
from pathlib import Path

import anyio
import pytest

from dagexec.limits import (
    AdmissionTimeout,
    Ask,
    Limiter,
    MemoryStore,
    PostgresStore,
    Rate,
    RedisStore,
)
from dagexec.limits._store import Levels
from tests.limits.servers import redis_server
from tests.limits.wrapped import Wrapped

pytestmark = pytest.mark.anyio
on_servers = [pytest.mark.real_time, pytest.mark.integration]
keys = count()
# A second. So little comes back by itself that levels can be compared exactly.
SLOW = 1e-9


class Far(Wrapped):
    """A store whose answers take half a second, each way."""

    def __init__(self, inner=None, seconds=0.5):
        super().__init__(inner)
        self.seconds = seconds
        self.at_a_time = self.most = 0

    async def _do(self, what, *given):
        self.at_a_time += 1
        self.most = max(self.most, self.at_a_time)
        try:
            await anyio.sleep(self.seconds)
            value = await super()._do(what, *given)
            await anyio.sleep(self.seconds)
        finally:
            self.at_a_time -= 1
        return value


def limiter(store, limit=60, **options):
    return Limiter("k", rates={"tokens": Rate(limit)}, store=store, margin=0, **options)


async def go(limiter, amount, **options):
    """Do one call; return when it went."""
    async with limiter.acquire({"tokens": amount}, **options):
        return anyio.current_time()


async def left(store, key="k", cap=60.0):
    """Return the level that a store has."""
    return cap - await store.book(key, {"tokens": Ask(0.0, cap, 1.0, cap)})


async def test_a_deadline_holds_behind_one_who_waits_for_the_store():
    """The one before it waits for a minute; it fails at its own deadline, not after that."""
    store = MemoryStore()
    mine = limiter(store)
    await go(limiter(store), 60)
    begun = anyio.current_time()
    async with anyio.create_task_group() as group:
        group.start_soon(go, mine, 50)
        await anyio.sleep(0.1)
        with pytest.raises(AdmissionTimeout):
            await go(mine, 1, deadline=anyio.current_time() + 2)
        assert anyio.current_time() - begun == pytest.approx(2.1)
    assert anyio.current_time() - begun == pytest.approx(50, abs=0.5)
    assert mine.in_flight == mine.waiting == 0


async def test_an_answer_after_the_deadline_admits_nobody():
    """And what it has booked is given back."""
    store = Far()
    mine = limiter(store)
    with pytest.raises(AdmissionTimeout):
        await go(mine, 30, deadline=anyio.current_time() + 0.2)
    assert await left(store.inner) == 60
    assert mine.in_flight == mine.waiting == 0


async def test_one_who_gives_up_lets_the_others_go():
    """What it has booked and waited for is the store's again at once, not at its next call."""
    store = MemoryStore()
    mine, other = limiter(store), limiter(store)
    await go(other, 60)
    with anyio.move_on_after(1):
        await go(mine, 60)
    begun = anyio.current_time()
    assert await go(other, 10) - begun == pytest.approx(9, abs=0.1)


async def test_many_who_end_at_once_tell_a_slow_store_together():
    """Not each through a connection of its own; nothing of it is lost."""
    store = Far()
    mine = limiter(store, 1000)

    async def one(seconds):
        async with mine.acquire({"tokens": 10}) as permit:
            await anyio.sleep(seconds)
            permit.settle(tokens=5)

    async with anyio.create_task_group() as group:
        for number in range(20):
            group.start_soon(one, 30 + number / 100)
    assert store.most <= 2
    assert mine.ledger.owed == {}
    assert await left(store.inner, cap=1000.0) >= 900


async def test_a_slow_store_is_used_by_one_after_the_other():
    """A second for each: slow, not stuck, and none over the limit."""
    store = Far()
    mine = limiter(store)
    begun = anyio.current_time()
    times = []

    async def one():
        times.append(await go(mine, 10) - begun)

    async with anyio.create_task_group() as group:
        for _ in range(9):
            group.start_soon(one)
    assert times[:6] == pytest.approx([1, 2, 3, 4, 5, 6], abs=0.01)
    assert 30 - 2 <= times[-1] <= 40


@pytest.mark.parametrize("limits", [(100, 50), (50, 100)])
async def test_where_limiters_of_a_key_differ_the_smaller_counts(limits):
    """While both are used; one that is left alone has its own limit again."""
    store = MemoryStore()
    times = []
    begun = anyio.current_time()

    async def client(limit):
        mine = limiter(store, limit)
        while True:
            await go(mine, 1)
            times.append(anyio.current_time() - begun)

    with anyio.move_on_after(600):
        async with anyio.create_task_group() as group:
            for limit in limits:
                group.start_soon(client, limit)
    assert 500 <= len(times) <= 600 + 100
    assert sum(300 <= at < 600 for at in times) <= 300
    alone = limiter(store, 100)
    begun = anyio.current_time()
    for _ in range(150):
        await go(alone, 1)
    assert anyio.current_time() - begun <= 150 * 0.6 + 2


def test_levels_take_the_smaller_limit():
    """Of the booking before and this one, for the time between."""
    levels = Levels()
    assert levels.book({"a": Ask(100, 100, 2, 100)}, 0) == 0
    assert levels.book({"a": Ask(0, 30, 1, 50)}, 10) == 20
    assert levels.book({"a": Ask(0, 100, 2, 100)}, 100) == 0  # the smaller bucket is full
    assert levels.book({"a": Ask(0, 100, 2, 100)}, 100) == 25


# ---------------------------------------------------------------------------------- real servers


class Server:
    """One kind of server: a store on it, and a way to do what an administrator does."""

    def __init__(self, kind, url):
        self.kind, self.url = kind, url
        self.key = f"attack-{os.getpid()}-{next(keys)}"
        self.made = []

    def store(self, **options):
        """Return a store."""
        self.made.append(
            (RedisStore if self.kind == "redis" else PostgresStore)(self.url, **options)
        )
        return self.made[-1]

    def forget(self):
        """Lose all that is known of the key."""
        if self.kind == "redis":
            import redis

            with redis.Redis.from_url(self.url) as client:
                client.delete(f"dagexec:limits:{self.key}")
            return
        import psycopg

        with psycopg.connect(self.url) as connection:
            connection.execute("delete from dagexec_limits where key = %s", [self.key])

    def fall_back(self, seconds):
        """Know of the key what was so long ago, when it was full."""
        if self.kind == "redis":
            import redis

            with redis.Redis.from_url(self.url) as client:
                at = time.time() - seconds
                client.hset(
                    f"dagexec:limits:{self.key}", mapping={"left tokens": 100, "at tokens": at}
                )
            return
        import psycopg

        with psycopg.connect(self.url) as connection:
            connection.execute(
                "update dagexec_limits set levels = jsonb_set(jsonb_set(levels, '{tokens,left}',"
                " '100'), '{tokens,at}', to_jsonb(%s::float8)) where key = %s",
                [time.time() - seconds, self.key],
            )

    def stall(self, seconds, begun):
        """Answer nobody who books this key, for so long since `begun` is set; call in a thread."""
        if self.kind == "redis":
            import redis

            with redis.Redis.from_url(self.url) as client:
                client.client_pause(round(seconds * 1000))
            begun.set()
            time.sleep(seconds)
            return
        import psycopg

        with psycopg.connect(self.url) as connection:
            connection.execute("select 1 from dagexec_limits where key = %s for update", [self.key])
            begun.set()
            time.sleep(seconds)

    def close(self):
        """Close the stores."""
        for each in self.made:
            each.close()


@pytest.fixture(params=["redis", "postgres"])
def server(request):
    """Return each kind of server in turn."""
    made = Server(request.param, request.getfixturevalue(f"{request.param}_url"))
    yield made
    made.close()


def ask(held, *, room=None, rate=SLOW, cap=100.0):
    """Return what a call takes."""
    return {"tokens": Ask(held, held if room is None else room, rate, cap)}


def marked(function):
    """Mark a test that needs servers."""
    for mark in on_servers:
        function = mark(function)
    return function


@marked
async def test_a_booking_that_is_cancelled_under_way_is_undone(server):
    """The caller is free at once; what the server did all the same does not stay booked."""
    store = server.store()
    await store.book(server.key, ask(40))
    answers, begun = [], threading.Event()

    async def stall():
        await anyio.to_thread.run_sync(server.stall, 1.5, begun)
        answers.append("again")

    async with anyio.create_task_group() as group:
        group.start_soon(stall)
        assert await anyio.to_thread.run_sync(begun.wait, 40)
        with anyio.move_on_after(0.05):
            await store.book(server.key, ask(60))
        assert not answers
    with anyio.fail_after(30):
        while await server.store().book(server.key, ask(0, room=100)) * SLOW > 40.5:
            await anyio.sleep(0.05)


@marked
async def test_a_server_that_has_forgotten_is_not_full(server):
    """For those who have booked before; who comes anew cannot know."""
    store = server.store()
    await store.book(server.key, ask(100, rate=2))
    server.forget()
    assert 0 < await store.book(server.key, ask(10, rate=2)) <= 5
    server.forget()
    assert await server.store().book(server.key, ask(10, rate=2)) == 0


@marked
async def test_a_server_that_fell_back_is_not_full(server):
    """It was replaced by one that is a minute behind, or started with what it had saved."""
    store = server.store()
    await store.book(server.key, ask(100, rate=2))
    server.fall_back(60)
    assert 0 < await store.book(server.key, ask(10, rate=2)) <= 5


@marked
async def test_limiters_that_differ_on_a_server(server):
    """As `Levels` do it: the smaller limit counts, and so does the smaller bucket."""
    store = server.store()
    await store.book(server.key, ask(100, rate=2))
    assert await store.book(server.key, ask(0, room=100, rate=1, cap=50)) == pytest.approx(50, 0.1)
    assert await store.book(server.key, ask(0, room=100, rate=2)) == pytest.approx(50, 0.1)
    assert await store.book(server.key, ask(0, room=100, rate=2)) == pytest.approx(50, 0.1)


@marked
async def test_who_is_killed_holds_nobody_up(server):
    """It waited for tokens and was under way with others: those come back at the rate."""
    code = (
        "import anyio, sys\n"
        "from dagexec.limits import *\n"
        "async def main():\n"
        "    store = {'redis': RedisStore, 'postgres': PostgresStore}[sys.argv[1]](sys.argv[2])\n"
        "    rates = {'tokens': Rate(100, per=1)}\n"
        "    mine = Limiter(sys.argv[3], rates=rates, store=store, margin=0)\n"
        "    async with mine.acquire({'tokens': 100}):\n"
        "        print('held', flush=True)\n"
        "        async with mine.acquire({'tokens': 50}):\n"
        "            print('held', flush=True)\n"
        "            await anyio.sleep(60)\n"
        "anyio.run(main)\n"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", code, server.kind, server.url, server.key],
        cwd=Path(__file__).parents[2],
        stdout=subprocess.PIPE,
    )
    try:
        await anyio.to_thread.run_sync(child.stdout.readline)
    finally:
        child.kill()
        child.wait()
        child.stdout.close()
    rates = {"tokens": Rate(100, per=1)}
    mine = Limiter(server.key, rates=rates, store=server.store(), margin=0)
    with anyio.fail_after(20):
        await go(mine, 100)


@marked
async def test_a_full_pool_of_redis_is_waited_for(redis_url):
    """The client's own: a connection comes free within the timeout."""
    import redis

    client = redis.Redis.from_url(redis_url, max_connections=1)
    store = RedisStore(client)
    key = f"attack-{os.getpid()}-{next(keys)}"
    taken = client.connection_pool.get_connection()
    async with anyio.create_task_group() as group:

        async def give_back():
            await anyio.sleep(0.3)
            client.connection_pool.release(taken)

        group.start_soon(give_back)
        assert await store.book(key, ask(1)) == 0
    client.close()


@marked
async def test_a_full_postgres_is_waited_for(postgres_url):
    """It has a connection to spare within the timeout."""
    import psycopg

    role = f"few{os.getpid()}_{next(keys)}"
    key = f"attack-{os.getpid()}-{next(keys)}"
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(f"create role {role} login connection limit 1")
        connection.execute(PostgresStore.DDL)
        connection.execute(f"grant all on dagexec_limits to {role}")
    url = postgres_url.replace("tests@", f"{role}@")
    taken = psycopg.connect(url)
    store = PostgresStore(url, timeout=5)
    async with anyio.create_task_group() as group:

        async def give_back():
            await anyio.sleep(0.3)
            taken.close()

        group.start_soon(give_back)
        assert await store.book(key, ask(1)) == 0
    store.close()


@marked
async def test_a_redis_that_loads_its_data_is_waited_for(redis_url):
    """It says so, and has done nothing yet; one that never ends is an error."""
    import redis

    class Loading:
        """A client whose server loads."""

        def __init__(self, times):
            self.left = times

        def register_script(self, code):
            return self.run

        def run(self, keys, args):
            self.left -= 1
            if self.left >= 0:
                raise redis.BusyLoadingError("LOADING Redis is loading the dataset in memory")
            return b"0"

    assert await RedisStore(Loading(3), timeout=20).book("k", ask(1)) == 0
    with pytest.raises((redis.BusyLoadingError, TimeoutError)):  # whichever is first
        await RedisStore(Loading(10**9), timeout=0.3).book("k", ask(1))


@marked
async def test_a_redis_that_is_no_master_any_more_is_left(caplog):
    """The address has another server by now: the connections to the old one are given up."""
    redis = pytest.importorskip("redis")
    if shutil.which("redis-server") is None and shutil.which("valkey-server") is None:
        pytest.skip("neither redis-server nor valkey-server is installed")
    with redis_server() as old, redis_server() as new:
        store = RedisStore(old.url)
        mine = Limiter("k", rates={"tokens": Rate(100)}, store=store, peers=2)
        await go(mine, 1)
        with redis.Redis.from_url(old.url) as client:
            client.replicaof("127.0.0.1", 1)
        new._socket.replace(old._socket)
        with pytest.raises(redis.ReadOnlyError):
            await store.book("k", ask(1))
        assert await store.book("k", ask(1)) >= 0
        store.close()
    assert not [each for each in caplog.records if each.levelno > logging.WARNING]


@marked
def test_what_is_undone_after_the_loop_has_ended_hurts_nobody(server):
    """The thread is alone then."""
    store = server.store()
    anyio.run(store.book, server.key, ask(40))

    begun = threading.Event()

    async def main():
        async with anyio.create_task_group() as group:
            stall = partial(anyio.to_thread.run_sync, abandon_on_cancel=True)
            group.start_soon(stall, server.stall, 1.0, begun)
            assert await anyio.to_thread.run_sync(begun.wait, 40)
            with anyio.move_on_after(0.05):
                await store.book(server.key, ask(60))
            group.cancel_scope.cancel()

    anyio.run(main)
    for _ in range(400):
        wait = anyio.run(server.store().book, server.key, ask(0, room=100))
        if wait * SLOW < 40.5:
            return
        time.sleep(0.05)
    pytest.fail("it stays booked")
