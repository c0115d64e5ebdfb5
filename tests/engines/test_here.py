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
from dagexec.engines.dbos import _here
from dagexec.engines.dbos._here import Held, Here

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from dagexec.engines.dbos._here import Own
    from dagexec.engines.dbos._queued import Queued
    from dagexec.engines.dbos._site import Site

pytestmark = pytest.mark.anyio


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

    def give_away(self, calls: Sequence[Held], _queued: Queued) -> None:
        now = asyncio.get_running_loop().time()
        self.given.append((now, [each.name for each in calls]))


@tool(effect="read")
async def known() -> None:
    """Be known."""


@pytest.fixture
def places(monkeypatch: pytest.MonkeyPatch) -> Places:
    made = Places()
    monkeypatch.setattr(_here, "active", lambda: made)
    return made


def here_of(places: float) -> Here:
    site = cast("Site", SimpleNamespace(closing=False))
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
    """All that found no place, once; what runs goes on running here."""
    began = asyncio.get_running_loop().time()
    here, own, other = here_of(20), Round(5.0), Round(None)
    hold(here, own, *names(50))
    hold(here, other, "other")
    await asyncio.sleep(1)
    ((when, given),) = own.given
    assert given == names(50)[20:]
    assert 0.05 <= when - began <= 0.2
    assert [each for _, each in other.given] == [["other"]]
    assert len(places.taken) == 20


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
