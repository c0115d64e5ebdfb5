"""What every store promises, on real servers: one contract for memory, Redis and PostgreSQL."""

from __future__ import annotations

import math
import os
import sys
from functools import partial
from itertools import count

import anyio
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dagexec import DagexecError, MissingExtra
from dagexec.limits import Ask, Limiter, MemoryStore, PostgresStore, Rate, RedisStore
from dagexec.limits._store import STEP, Level, Levels, refilled

SERVERS = [pytest.param(name, marks=pytest.mark.integration) for name in ("redis", "postgres")]
# A second. So little comes back by itself that levels can be compared exactly.
SLOW = 1e-9
keys = count()
amounts = st.sampled_from([0, 0.5, 1, 3, 25, 1e-7, 123456.789])
names = st.sampled_from(["tokens", "requests", "é\x00 %s {} \ud800", "n" * 3000])


def ask(held, *, room=None, rate=SLOW, cap=100.0):
    """Return what a call takes."""
    return Ask(held, held if room is None else room, rate, cap)


@pytest.fixture
def make(request):
    """Return what makes stores of one kind; those of servers see the same levels."""
    kind = request.param
    if kind == "memory":
        yield MemoryStore
        return
    url = request.getfixturevalue(f"{kind}_url")
    made = []

    def store(**options):
        made.append((RedisStore if kind == "redis" else PostgresStore)(url, **options))
        return made[-1]

    yield store
    for each in made:
        each.close()


@pytest.fixture
def key():
    """Return a key that no other test uses."""
    return f"key-{os.getpid()}-{next(keys)}"


every_kind = pytest.mark.parametrize("make", ["memory", *SERVERS], indirect=True)
every_server = pytest.mark.parametrize("make", SERVERS, indirect=True)
pytestmark = [pytest.mark.anyio, pytest.mark.real_time]


@every_kind
async def test_a_booking_always_succeeds_and_says_how_long_to_wait(make, key):
    """Unknown is full; what is not there comes at the rate, in the order of the bookings."""
    store = make()
    assert await store.book(key, {"tokens": ask(60, rate=0.1)}) == 0
    assert await store.book(key, {"tokens": ask(60, rate=0.1)}) == pytest.approx(200, abs=50)
    assert await store.book(key, {"tokens": ask(60, rate=0.1)}) == pytest.approx(800, abs=60)
    assert await store.book(f"{key}-other", {"tokens": ask(60, rate=0.1)}) == 0


@every_kind
async def test_all_amounts_are_charged_at_once_and_the_longest_wait_counts(make, key):
    """Also of a dimension that is new, and for none at all."""
    store = make()
    await store.book(key, {"a": ask(100), "b": ask(100, cap=200)})
    wait = await store.book(key, {"a": ask(10), "b": ask(50, cap=200), "c": ask(1)})
    assert wait * SLOW == pytest.approx(10)
    wait = await store.book(key, {"b": ask(60, cap=200)})
    assert wait * SLOW == pytest.approx(10)
    assert await store.book(key, {}) == 0


@every_kind
async def test_more_than_the_bucket_goes_when_it_is_full(make, key):
    """And leaves a debt."""
    store = make()
    assert await store.book(key, {"a": ask(250)}) == 0
    assert await store.book(key, {"a": ask(1)}) * SLOW == pytest.approx(151)


@every_kind
async def test_what_comes_back_and_what_is_charged_later(make, key):
    """No level gets above its bucket, and what is unknown stays so."""
    store = make()
    await store.add(key, {"a": -50.0})
    assert await store.book(key, {"a": ask(100)}) == 0
    await store.add(key, {"a": 1e9, "other": -5.0})
    await store.add(key, {"a": -30.0})
    assert await store.book(key, {"a": ask(0, room=100)}) * SLOW == pytest.approx(30)
    assert await store.book(key, {"other": ask(0, room=100)}) == 0


@every_kind
async def test_a_late_charge_is_not_forgotten(make, key):
    """What was refilled before it was told of does not swallow it."""
    store = make()
    await store.book(key, {"a": ask(1, rate=10)})
    await anyio.sleep(0.15)  # it is full again
    await store.add(key, {"a": -60.0})
    assert 3 < await store.book(key, {"a": ask(0, room=100, rate=10)}) <= 6


@every_kind
async def test_the_gate_is_shared_and_only_closes_for_longer(make, key):
    """By its own clock; a booking counts it."""
    store, other = make(), make()
    if isinstance(store, MemoryStore):
        other = store
    assert await store.gate(key) == 0
    assert await store.gate(key, 50) == pytest.approx(50, abs=1)
    assert 20 < await other.gate(key, 10) <= 50
    assert 20 < await other.book(key, {"a": ask(1)}) <= 50
    assert await other.gate(key, 300) == pytest.approx(300, abs=1)
    assert await other.gate(f"{key}-other") == 0


@every_kind
async def test_levels_refill_at_the_rate(make, key):
    """In real time, up to the bucket."""
    store, now = make(), anyio.current_time
    times = [now()]
    await store.book(key, {"a": ask(100, rate=10)})
    times.append(now())
    await anyio.sleep(0.2)
    times.append(now())
    wait = await store.book(key, {"a": ask(0, room=100, rate=10)})
    times.append(now())
    # However long the two bookings took; the server's clock is read within each.
    least, most = times[2] - times[1], times[3] - times[0]
    assert 10 - most - 0.02 <= wait <= 10 - least + 0.02


@every_server
async def test_bookings_of_many_at_once_are_all_counted(make, key):
    """Through several clients, none is lost and no two wait for the same."""
    stores = [make() for _ in range(4)]
    waits = []

    async def one(store):
        for _ in range(25):
            waits.append(await store.book(key, {"a": ask(1, cap=1.0), "b": ask(1, cap=100.0)}))

    async with anyio.create_task_group() as group:
        for store in stores:
            group.start_soon(one, store)
    assert sorted(round(wait * SLOW) for wait in waits) == list(range(100))


@every_server
@settings(
    max_examples=15,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(data=st.data())
def test_the_same_arithmetic_as_levels(make, data):
    """Whatever is booked, given back and charged, under whatever names."""
    key = f"key-{os.getpid()}-{next(keys)}"
    steps = st.one_of(
        st.tuples(st.just("book"), st.dictionaries(names, st.tuples(amounts, amounts), max_size=3)),
        st.tuples(st.just("add"), st.dictionaries(names, st.sampled_from([-7.5, 0, 2, 1e6]))),
    )
    script = data.draw(st.lists(steps, min_size=1, max_size=12))

    async def main():
        store, model = make(), Levels()
        for what, given_ in script:
            if what == "add":
                await store.add(key, given_)
                model.add(given_, 0.0)
                continue
            asks = {name: ask(held, room=held + more) for name, (held, more) in given_.items()}
            wait = await store.book(key, asks)
            assert wait * SLOW == pytest.approx(model.book(asks, 0.0) * SLOW, rel=1e-9, abs=1e-6)

    anyio.run(main)


@every_server
async def test_several_limiters_share_one_key(make, key):
    """As with a store in memory: together they keep to the rate, and what is unused comes back."""
    starts, begun = [], anyio.current_time()

    async def client():
        rates = {"tokens": Rate(240, per=1, burst=60, settle="actual")}
        limiter = Limiter(key, rates=rates, store=make(), margin=0)
        for _ in range(4):
            async with limiter.acquire({"tokens": 20}) as permit:
                starts.append(anyio.current_time())
                permit.settle(tokens=10)

    async with anyio.create_task_group() as group:
        for _ in range(4):
            group.start_soon(client)
    # 160 are used, of which 60 are there at the start and 240 come each second.
    assert 0.3 <= max(starts) - begun <= 20


@every_server
async def test_a_refusal_of_one_holds_all_back(make, key):
    """The gate is the store's."""
    one, other = (
        Limiter(key, rates={"requests": Rate(1000, per=1)}, store=make(), random=lambda: 0.0)
        for _ in range(2)
    )
    async with one.acquire() as permit:
        begun = anyio.current_time()
        permit.rejected(retry_after=1.0)
    async with other.acquire():
        assert anyio.current_time() - begun > 0.9


@every_server
async def test_a_caller_that_is_cancelled_leaves_nothing_behind(make, key):
    """Neither a place nor tokens, nor a thread that anyone waits for."""
    limiter = Limiter(key, rates={"tokens": Rate(100, per=1000)}, store=make(), margin=0)
    async with limiter.acquire({"tokens": 100}):
        pass
    with anyio.move_on_after(0.3) as scope:
        async with limiter.acquire({"tokens": 50}):
            pytest.fail("there are none")
    assert scope.cancelled_caught
    assert limiter.waiting == limiter.in_flight == 0
    async with limiter.turn:
        from dagexec.limits._sharing import flush

        await flush(limiter)
    wait = await make().book(key, {"tokens": ask(1, rate=0.1)})
    assert wait == pytest.approx(10, abs=2)


@every_server
def test_a_store_serves_one_loop_after_the_other(make, key):
    """On either backend; its connections are not the loop's."""
    store = make()
    for number, backend in enumerate(("asyncio", "trio", "asyncio")):
        wait = anyio.run(partial(store.book, key, {"a": ask(100)}), backend=backend)
        assert wait * SLOW == pytest.approx(100 * number)


@every_server
def test_a_forked_child_has_connections_of_its_own(make, key):
    """What it books is booked, and the parent's connections stay usable."""
    store = make()
    anyio.run(store.book, key, {"a": ask(1)})
    child = os.fork()
    if not child:
        code = 1
        try:
            anyio.run(store.book, key, {"a": ask(1)})
            code = 0
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    wait = anyio.run(partial(store.book, key, {"a": ask(0, room=100)}))
    assert wait * SLOW == pytest.approx(2)


@pytest.mark.integration
async def test_the_table_is_made_once_whoever_comes_first(postgres_url, key):
    """In a schema of one's choice, by eight at once."""
    import psycopg

    schema = f"s{abs(hash(key))}"
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(f"create schema {schema}")
    stores = [PostgresStore(postgres_url, table=f"{schema}.limits") for _ in range(8)]
    async with anyio.create_task_group() as group:
        for store in stores:
            group.start_soon(store.book, key, {"a": ask(1)})
    wait = await stores[0].book(key, {"a": ask(0, room=100)})
    assert wait * SLOW == pytest.approx(8)
    for store in stores:
        store.close()


@pytest.mark.integration
async def test_a_key_of_redis_goes_when_it_says_nothing(redis_url, key):
    """An hour after it is full again."""
    import redis

    store = RedisStore(redis.Redis.from_url(redis_url), prefix="mine:")
    await store.book(key, {"a": ask(100, rate=1)})
    with redis.Redis.from_url(redis_url) as client:
        assert client.ttl(f"mine:{key}") == pytest.approx(3700, abs=60)
        await store.gate(key, 1000)
        assert client.ttl(f"mine:{key}") == pytest.approx(4600, abs=60)
    store._client.close()


@pytest.mark.integration
def test_no_secret_is_shown():
    """Nor is anything connected."""
    pytest.importorskip("redis")
    pytest.importorskip("psycopg")
    assert "hunter2" not in repr(RedisStore("redis://:hunter2@localhost:1/0"))
    assert "hunter2" not in repr(PostgresStore("postgresql://me:hunter2@localhost:1/x"))


@pytest.mark.parametrize(
    ("library", "make"),
    [("redis", RedisStore), ("psycopg", lambda: PostgresStore("postgresql://localhost/x"))],
)
def test_a_missing_extra_is_one_line(library, make, monkeypatch):
    """It says what to install."""
    monkeypatch.setitem(sys.modules, library, None)
    extra = "redis" if library == "redis" else "postgres"
    with pytest.raises(MissingExtra, match=rf"pip install 'dagexec\[{extra}\]'"):
        make()


@pytest.mark.integration
def test_what_cannot_be_a_store_is_refused():
    """By name, with the way out."""
    pytest.importorskip("psycopg")
    pytest.importorskip("redis")
    import redis.asyncio

    for make, text in (
        (lambda: RedisStore("http://localhost"), "no URL of a Redis"),
        (lambda: RedisStore(redis.asyncio.Redis()), "that blocks"),
        (lambda: RedisStore(3), "that blocks"),
        (lambda: RedisStore(timeout=0), "timeout=0"),
        (lambda: PostgresStore("postgresql://", timeout=math.inf), "timeout=inf"),
        (lambda: PostgresStore("postgresql://", table="x; drop table y"), "table="),
    ):
        with pytest.raises(DagexecError, match=text):
            make()


@pytest.mark.parametrize(
    ("now", "left", "at"),
    [
        (0, 40, 0),
        (10, 50, 10),
        (100, 100, 100),
        (-STEP, 40, 0),  # two readers in another order
        (-STEP - 1, 40, -STEP - 1),  # the clock was set back
    ],
)
def test_a_clock_that_goes_back(now, left, at):
    """Refills nothing, and does not stop refilling until it is where it was."""
    assert refilled(Level(40, 0, 1, 100), now) == (left, at)


def test_a_gate_is_not_prolonged_by_a_clock_that_goes_back():
    """It is closed for what it was closed for."""
    levels = Levels()
    assert levels.gate(5, 1000) == 5
    assert levels.gate(0, 10) == 5
    assert levels.gate(0, 1004) == 1
