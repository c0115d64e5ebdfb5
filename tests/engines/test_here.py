"""Which calls run in the process that decides their round, and which go into the queue."""

from __future__ import annotations

import asyncio
import os
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

from dagexec import tool

# Where integration is required, a missing library is an error and no reason to skip.
if os.environ.get("DAGEXEC_REQUIRE_INTEGRATION") != "1":
    pytest.importorskip("dbos", reason="the extra dbos is not installed")
from dagexec import Executor
from dagexec.engines._front import FIELDS
from dagexec.engines.dbos import _here
from dagexec.engines.dbos._here import Held, Here, Own
from dagexec.journal import Types
from dagexec.testing import virtual_time
from tests.engines.test_one import assignment

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from dagexec.engines.dbos._ends import Waiter
    from dagexec.engines.dbos._queued import Queued
    from dagexec.engines.dbos._site import Site

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, Any]]:
    """In virtual time: neither DBOS nor a database is there."""
    return virtual_time("asyncio")


class Places:
    """What DBOS counts the running calls of a queue by."""

    def __init__(self) -> None:
        self.taken: dict[str, None] = {}

    def count_for_queue(self, queue: str) -> int:
        assert queue == "q"
        return len(self.taken)

    def add(self, name: str, queue: str) -> Any:
        assert queue == "q"
        self.taken[name] = None
        return SimpleNamespace(release=lambda: self.taken.pop(name))


class Round:
    """Calls of a round, each of which takes so many seconds, or never ends."""

    def __init__(self, seconds: float | None) -> None:
        self.seconds = seconds
        self.here: Here | None = None
        self.began: list[str] = []
        self.given: list[tuple[float, list[str]]] = []

    def start(self, held: Held, release: Callable[[], None]) -> None:
        self.began.append(held.name)

        def end() -> None:
            release()
            assert self.here is not None
            self.here.freed()

        if self.seconds is not None:
            asyncio.get_running_loop().call_later(self.seconds, end)

    def give_away(self, calls: Sequence[Held], _queued: Queued) -> asyncio.Task[None]:
        now = asyncio.get_running_loop().time()
        names = [each.name for each in calls]
        self.given.append((now, names))
        assert self.here is not None
        return asyncio.create_task(cast("Others", self.here.site.database).put(names))


class Others:
    """The queue, and workers with so many idle places who take from it and never end anything."""

    def __init__(self, idle: int) -> None:
        self.idle = idle
        # Whether each was begun.
        self.calls: dict[str, bool] = {}
        self.rung = 0
        self.expected = 0

    async def put(self, names: Sequence[str]) -> None:
        await asyncio.sleep(0.01)
        for name in names:
            self.calls[name] = self.idle > 0
            self.idle -= self.calls[name]

    async def begun(self, names: Sequence[str]) -> dict[str, bool]:
        return {each: self.calls[each] for each in names if each in self.calls}

    def ring(self, queue: str) -> None:
        assert queue == "q"
        self.rung += 1

    def expect_more(self) -> None:
        self.expected += 1


@tool(effect="read")
async def known() -> None:
    """Be known."""


@pytest.fixture
def places(monkeypatch: pytest.MonkeyPatch) -> Places:
    made = Places()
    monkeypatch.setattr(_here, "active", lambda: made)
    return made


def here_of(places: float, idle: int = 0) -> Here:
    others = Others(idle)
    made = SimpleNamespace(
        closing=False, database=others, bell=others, start=asyncio.create_task, leave=list
    )
    site = cast("Site", made)
    return Here(site, Executor([known]), cast("Queued", None), "q", places)


def hold(here: Here, own: Round, *names: str) -> None:
    own.here = here
    for name in names:
        here.hold(Held(cast("Own", own), name, ""))


def names(count: int) -> list[str]:
    return [f"c{each}" for each in range(count)]


async def test_quick_calls_wait_for_a_place(places):
    """A queue would take longer: none goes there, and all come in their order."""
    here, own = here_of(20), Round(0.05)
    hold(here, own, *names(400))
    await asyncio.sleep(0.02)
    assert own.began == names(20)
    await asyncio.sleep(1.2)
    assert own.began == names(400)
    assert own.given == []
    assert places.taken == {}


async def test_slow_calls_go_into_the_queue_soon(places):
    """As many as there are places; where nobody takes them the others wait for a place here."""
    began = asyncio.get_running_loop().time()
    here, own, other = here_of(20), Round(0.5), Round(None)
    hold(here, own, *names(70))
    hold(here, other, "other")
    await asyncio.sleep(0.45)
    ((when, given),) = own.given
    assert given == names(70)[20:40]
    assert 0.05 <= when - began <= 0.2
    await asyncio.sleep(0.45)
    assert own.began == names(20) + names(70)[40:60]
    await asyncio.sleep(0.2)
    assert own.began == names(20) + names(70)[40:]
    assert other.began == ["other"]
    assert len(own.given) == 1
    assert here.site.bell.expected == 1


async def test_idle_workers_get_all_that_they_can_take(places):
    """However many there are, in a few looks; then the queue holds twice as much again."""
    began = asyncio.get_running_loop().time()
    here, own = here_of(10, idle=200), Round(None)
    hold(here, own, *names(2000))
    await asyncio.sleep(3)
    given = sum(len(each) for _, each in own.given)
    assert given == 10 + 3 * 200
    first = [when for when, _ in own.given]
    assert len(first) <= 6
    assert first[-1] - began <= 0.6
    assert [each for _, some in own.given for each in some] == names(2000)[10 : 10 + given]


async def test_what_nobody_takes_gets_a_place_here(places):
    """Each of those that are in the queue for a second, though others are held."""
    here, own = here_of(5), Round(0.5)
    hold(here, own, *names(200))
    await asyncio.sleep(1.4)
    others = cast("Others", here.site.database)
    assert (others.rung, len(own.began)) == (0, 15)
    await asyncio.sleep(0.13)
    assert (others.rung, len(own.began)) == (5, 15)
    assert places.taken == {}
    await asyncio.sleep(0.15)
    assert len(places.taken) == 5  # nobody took any: they are not idle for long


async def test_a_look_that_fails(places, monkeypatch):
    """The next one does what it should have done."""
    here, own = here_of(5, idle=100), Round(None)
    others = cast("Others", here.site.database)
    hold(here, own, *names(50))
    await asyncio.sleep(0.12)
    with monkeypatch.context() as patch:
        patch.setattr(others, "begun", None)
        await asyncio.sleep(0.5)
    assert len(own.given) == 1
    await asyncio.sleep(0.5)
    assert len(own.given) > 1


async def test_calls_that_become_slow(places):
    """What was quick before earns the rest a second, and no more."""
    here, own = here_of(10), Round(0.001)
    hold(here, own, *names(2000))
    await asyncio.sleep(0.3)
    assert len(own.began) == 2000
    slow = Round(None)
    began = asyncio.get_running_loop().time()
    hold(here, slow, *[f"s{each}" for each in range(12)])
    await asyncio.sleep(3)
    ((when, given),) = slow.given
    assert given == ["s10", "s11"]
    assert when - began <= 1.1
    assert len(places.taken) == 10


async def test_a_call_that_is_not_wanted_any_more(places):
    """It leaves its place in the line; one that runs cannot."""
    here, own = here_of(1), Round(None)
    hold(here, own, "a", "b", "c")
    assert [here.release(each) for each in "abb"] == [False, True, False]
    await asyncio.sleep(0.5)
    assert own.began == ["a"]
    assert [each for _, each in own.given] == [["c"]]
    assert [*places.taken] == ["a"]


@tool
async def write() -> str:
    return "written"


class TestTheCallsOfARound:
    """Those that run as a part of it."""

    @pytest.fixture
    def own(self) -> Own:
        bell = SimpleNamespace(begin=lambda **_: None, end=lambda: None)
        ends = SimpleNamespace(begin=lambda _: None, end=lambda *_: None, tell=lambda *_: None)
        made = SimpleNamespace(
            types=Types(),
            database=SimpleNamespace(now=lambda: 105.0),
            start=asyncio.create_task,
            leave=lambda _: None,
            closing=False,
            bell=bell,
            ends=ends,
        )
        here = Here(cast("Site", made), Executor([write]), cast("Queued", None), "q", 5)
        return Own(here, cast("Waiter", SimpleNamespace(wake=lambda: None)))

    @staticmethod
    def text() -> str:
        work = assignment("write", {})
        return Types().dumps({name: getattr(work, name) for name in FIELDS})

    async def test_a_write_begins_when_that_is_recorded(self, own, places):
        """Its mark is told first, and its value with the news that it has ended."""
        async with own:
            own.take("c", self.text())
            await asyncio.sleep(1)
            assert own.busy
            news = own.told({"ended": [], "now": 1.0})
            ((name, _),) = news["begun"]
            assert name == "c"
            assert [*places.taken] == ["c"]
            own.recorded()
            await asyncio.sleep(1)
            assert places.taken == {}
            assert own.busy
            news = own.told({"ended": ["c"], "now": 2.0})
            assert '"written"' in news["texts"]["c"]
            assert own.busy
            own.recorded()
            assert not own.busy

    async def test_what_begins_while_all_is_told_to_stop(self, own, places):
        """It is told, too."""
        async with own:
            own.take("c", self.text())
            own.stop("a")
            await asyncio.sleep(1)
            texts = own.told({"ended": ["c"], "now": 1.0})["texts"]
            own.recorded()
        assert '"cancelled"' in texts["c"]
        assert places.taken == {}

    async def test_a_write_of_a_round_that_is_cut_off(self, own, places):
        """It never begins: the round goes on elsewhere."""
        with pytest.raises(RuntimeError, match="cut off"):
            async with own:
                own.take("c", self.text())
                await asyncio.sleep(1)
                own.told({"ended": [], "now": 1.0})
                raise RuntimeError("cut off")
        await asyncio.sleep(1)
        assert own._texts == {}
        assert places.taken == {}

    async def test_records_of_many_values(self, own, monkeypatch):
        """Each has so much in it, and at least one value."""
        monkeypatch.setattr(_here, "_RECORD", 100)
        for name, size in (("a", 60), ("b", 60), ("c", 30), ("d", 500), ("e", 10)):
            own.settle(name, {"value": "x" * size})
        names = ["a", "other", "b", "c", "d", "e"]
        records: list[list[str]] = []
        while names:
            told = own.told({"ended": names, "now": 1.0})["ended"]
            records.append(told)
            names = names[len(told) :]
        assert records == [["a", "other"], ["b"], ["c"], ["d"], ["e"]]


async def test_without_a_limit_nothing_waits(places):
    """And nothing is counted."""
    here, own = here_of(float("inf")), Round(None)
    hold(here, own, *names(500))
    assert own.began == names(500)
    assert places.taken == {}


async def test_what_cannot_run_here(places, monkeypatch):
    """Calls of other queues and of tools that are not here, where others work, on another DBOS."""
    here = here_of(2)
    assert here.takes("q", "known")
    assert not here.takes("q:mail", "known")
    assert not here.takes("q", "unknown")
    assert not here_of(0).takes("q", "known")
    monkeypatch.setattr(_here, "active", lambda: None)
    assert not here.takes("q", "known")
    assert places.taken == {}


async def test_a_process_that_closes_begins_nothing(places):
    """A place that becomes free stays free."""
    here, own = here_of(1), Round(None)
    hold(here, own, "a", "b")
    cast("Any", here.site).closing = True
    places.taken.clear()
    here.freed()
    assert own.began == ["a"]
