"""News between processes, and the bell that lets a worker look into a queue before it is time."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
import threading
import time
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

from dagexec import Call, Ref, Timeouts

# Where integration is required, a missing library is an error and no reason to skip.
if os.environ.get("DAGEXEC_REQUIRE_INTEGRATION") != "1":
    pytest.importorskip("dbos", reason="the extra dbos is not installed")
from dagexec.engines.dbos import DbosEngine, _inside
from dagexec.engines.dbos._bell import Bell
from dagexec.engines.dbos._news import News
from tests.engines.cluster import cluster
from tests.engines.processes import Worker
from tests.engines.tools_for_engines import get

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from dagexec.engines.dbos._database import Database

pytestmark = [pytest.mark.real_time, pytest.mark.anyio]


class Post:
    """A database that keeps what is sent."""

    def __init__(self, name: str = "me") -> None:
        self.executor_id = name
        self.sent: list[tuple[str, Any]] = []

    async def notify(self, channels: Sequence[str], messages: Sequence[str]) -> None:
        await asyncio.sleep(0)
        assert all(len(each.encode()) < 8000 for each in messages)
        self.sent += zip(channels, map(json.loads, messages), strict=True)


class Heard:
    """What was heard."""

    def __init__(self, post: Post) -> None:
        self.ended: list[str] = []
        self.work: list[str] = []
        self.news = News(
            cast("Database", post), self.ended.append, self.work.append, lambda: None, "shop"
        )


async def told(news: News) -> None:
    """Let it tell what there is to be told."""
    telling = asyncio.create_task(news.tell())
    await asyncio.sleep(0.01)
    telling.cancel()
    await asyncio.wait([telling])


class TestMessages:
    """What is told to whom."""

    async def test_what_comes_together_goes_together(self):
        """One message for each process; none to oneself."""
        post = Post()
        news = Heard(post).news
        for name in ("a", "b", "a"):
            news.tell_ended("other", name)
        news.tell_ended("third", "c")
        news.tell_ended("me", "d")
        await told(news)
        assert post.sent == [
            ("dagexec:other", ["me", ["a", "b"], []]),
            ("dagexec:third", ["me", ["c"], []]),
        ]

    async def test_no_message_is_longer_than_the_server_takes(self):
        """Many go in several; one that is too long for any is left to polling."""
        post = Post()
        news = Heard(post).news
        names = [f"{each:03}" + "é" * 40 for each in range(500)]
        for name in [*names[:250], "x" * 8000, *names[250:]]:
            news.tell_ended("other", name)
        await told(news)
        assert [name for _, (_, ended, _) in post.sent for name in ended] == names
        assert len(post.sent) > 1

    async def test_only_who_ended_calls_is_told_of_work(self):
        """Who was heard last is first, as many as there are calls for; long ago is never."""
        post = Post()
        news = Heard(post).news
        for name in ("a", "b", "c", "a"):
            news.hear(json.dumps([name, ["w"], []]))
        news.hear(json.dumps(["d", [], ["q"]]))
        news._workers["b"] = time.monotonic() - 100
        news.tell_work("q", 1, 2)
        await told(news)
        news.tell_work("q", 50, 2)
        await told(news)
        assert [channel for channel, _ in post.sent] == ["dagexec:a", "dagexec:a", "dagexec:c"]

    async def test_one_worker_after_the_other(self):
        """Rounds go to all that are known, in turn."""
        post = Post()
        news = Heard(post).news
        news.tell_one("q")
        await told(news)
        for name in ("a", "b"):
            news.hear(json.dumps([name, ["w"], []]))
        for _ in range(3):
            news.tell_one("q")
            await told(news)
        told_to = [channel.removeprefix("dagexec:") for channel, _ in post.sent]
        assert told_to == ["*shop", "a", "b", "a"]

    async def test_where_nobody_is_known_all_are_told(self):
        """All that work for the same engine; who tells it does not hear itself."""
        post = Post()
        heard = Heard(post)
        heard.news.tell_work("q", 5, 2)
        await told(heard.news)
        assert post.sent == [("dagexec:*shop", ["me", [], ["q"]])]
        heard.news.hear(json.dumps(post.sent[0][1]))
        assert heard.work == []

    async def test_workers_that_come_and_go(self):
        """Only so many are remembered, and those that were heard of last."""
        news = Heard(Post()).news
        for number in range(2000):
            news.hear(json.dumps([f"w{number}", ["w"], []]))
        assert [*news._workers] == [f"w{number}" for number in range(1000, 2000)]

    @pytest.mark.parametrize(
        "message", ["", "x", "1", "[]", "{}", '["a"]', "[1, 2, 3]", '["a", [[]], [{}]]', "null"]
    )
    async def test_what_cannot_be_read(self, message):
        """Anybody who may connect may send something: it is worth nothing."""
        heard = Heard(Post())
        with_real = heard.news
        with_real.hear(message)
        with_real.hear(json.dumps(["a", ["w"], ["q"]]))
        assert heard.ended[-1] == "w"
        assert heard.work[-1] == "q"


class TestTheBell:
    """Which pauses end, and when."""

    @staticmethod
    def thread(stop: threading.Event, name: str, looks: list[float]) -> threading.Thread:
        def look() -> None:
            while not stop.wait(timeout=60):
                looks.append(time.monotonic())

        made = threading.Thread(target=look, name=name, daemon=True)
        made.start()
        return made

    async def test_a_rung_thread_looks_and_others_go_on_pausing(self, monkeypatch):
        """Its event ends all of them, as before."""
        stop, looks, others = threading.Event(), [], []
        monkeypatch.setattr("dagexec.engines.dbos._bell.pauses", lambda: [stop])
        bell = Bell("q", 2)
        bell.attach()
        threads = [
            self.thread(stop, "queue-worker-q", looks),
            self.thread(stop, "queue-worker-r", others),
            self.thread(stop, "queue-manager", others),
        ]
        for count in (1, 2):
            bell.ring("q")
            for _ in range(500):
                if len(looks) == count:
                    break
                await asyncio.sleep(0.01)
            assert len(looks) == count
        assert others == []
        stop.set()
        for thread in threads:
            await asyncio.to_thread(thread.join, 5)
            assert not thread.is_alive()

    async def test_while_the_database_is_away(self, monkeypatch):
        """Looks are rare, and the next one comes as soon as it is back."""
        stop, looks = threading.Event(), []
        monkeypatch.setattr("dagexec.engines.dbos._bell.pauses", lambda: [stop])
        bell = Bell("q", 2)
        bell.attach()
        bell.rest(away=True)

        def look() -> None:
            while not stop.wait(timeout=0.01):
                looks.append(time.monotonic())

        thread = threading.Thread(target=look, name="queue-worker-q", daemon=True)
        thread.start()
        await asyncio.sleep(1)
        assert looks == []
        bell.rest(away=False)
        for _ in range(300):
            if len(looks) > 2:
                break
            await asyncio.sleep(0.01)
        stop.set()
        await asyncio.to_thread(thread.join, 5)
        assert len(looks) > 2
        assert not thread.is_alive()

    async def test_a_full_process_looks_when_half_of_its_places_are_free(self, monkeypatch):
        """Not for each call that ends, and not where there was no more than places."""
        bell, rung = Bell("q", 4), []
        monkeypatch.setattr(bell._threads, "wake", rung.append)
        for _ in range(4):
            bell.begin(many=False)
        bell.ring("q")
        assert rung == []
        bell.ring("other")
        assert rung == ["queue-worker-other"]
        bell.end()
        assert len(rung) == 1
        bell.end()
        assert rung[1:] == ["queue-worker-q"]
        bell.end()
        bell.end()
        assert len(rung) == 2
        bell.begin(many=True)
        bell.end()
        assert len(rung) == 3


class TestAnotherDbos:
    """A DBOS that keeps inside what the engine takes from there."""

    @pytest.mark.integration
    async def test_calls_go_by_queues(self, url, name, monkeypatch, caplog):
        """With the same results, and it is said once."""
        caplog.set_level(logging.WARNING, "dagexec")
        monkeypatch.setattr(_inside, "_instance", SimpleNamespace)
        monkeypatch.setattr(_inside, "_said", {})
        plan = [Call("a", "get", {"x": 1}), *(Call(f"b{n}", "get", {"x": Ref("a")}) for n in "12")]
        async with DbosEngine([get], database_url=url, name=name, polling=0.05) as engine:
            report = await engine.run(plan)
        assert report.outputs == {"a": 1, "b1": 1, "b2": 1}
        said = [each.getMessage() for each in caplog.records]
        missing = [each for each in said if each.startswith("this DBOS has no way to ")]
        assert len(missing) == 2
        assert all("calls go by queues, more slowly" in each for each in missing)


async def listening(url: str) -> list[int]:
    """Return the processes of the server that listen for an engine."""
    import psycopg

    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        cursor = await connection.execute(
            "select pid from pg_stat_activity where query like 'listen \"dagexec:%'"
            " and datname = current_database()"
        )
        return [pid for (pid,) in await cursor.fetchall()]


async def until(url: str, count: int) -> list[int]:
    """Wait until so many listen."""
    for _ in range(1500):
        found = await listening(url)
        if len(found) == count:
            return found
        await asyncio.sleep(0.02)
    raise AssertionError(found)


@pytest.mark.integration
async def test_an_engine_that_is_closed_does_not_listen(url, name):
    """Its connection is gone with it; lost while it is open, it is made again."""
    import psycopg

    before = len(await listening(url))
    async with DbosEngine([get], database_url=url, name=name) as engine:
        lost = await until(url, before + 1)
        async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
            await connection.execute(
                "select pg_terminate_backend(pid) from unnest(%s) pid", (lost,)
            )
        assert (await engine.run([Call("a", "get")])).ok
        assert not {*lost} & {*await until(url, before + 1)}
    await until(url, before)


@pytest.mark.integration
async def test_many_runs_at_once(url, name):
    """Each hears of its own calls, those that waited in the queue among them."""
    plan = [Call("a", "get", {"x": 1}), Call("b", "get", {"x": Ref("a")})]
    async with DbosEngine([get], database_url=url, name=name, concurrency=5) as engine:
        reports = await asyncio.gather(*(engine.run(plan) for _ in range(30)))
        assert all(report.outputs == {"a": 1, "b": 1} for report in reports)
        process = engine._process
        assert process is not None
        assert process.site.ends._waiters == {}
        assert process._bell._busy == 0


# Seconds: a chain that waited for looks into queues would take one for each link, and one more for
# each to be seen.
POLLING = 2.0


def chain(length: int) -> list[Call]:
    return [Call(f"c{n}", "look", {"value": Ref(f"c{n - 1}")} if n else {}) for n in range(length)]


def asking(url: str, name: str, polling: float = POLLING) -> DbosEngine:
    from tests.engines.worker import TOOLS

    timeouts = Timeouts(call=None, workflow=None)
    return DbosEngine(
        TOOLS, database_url=url, name=name, timeouts=timeouts, calls=False, polling=polling
    )


async def worker_of(url: str, name: str, folder: Path, polling: float = POLLING) -> Worker:
    command = [sys.executable, "-m", "tests.engines.worker", "dbos", url, name, str(folder)]
    made = Worker([*command, str(polling)], folder / "errors")
    return await asyncio.to_thread(made.wait_until_ready)


@pytest.mark.integration
@pytest.mark.slow
@pytest.mark.timeout(120)
async def test_a_chain_in_another_process_waits_for_no_look(url, name, tmp_path):
    """But for the first call: until it has ended nobody knows who works."""
    async with asking(url, name) as engine:
        worker = await worker_of(url, name, tmp_path)
        assert (await engine.run(chain(1))).ok
        began = time.monotonic()
        assert (await engine.run(chain(20))).ok
        took = time.monotonic() - began
        await asyncio.to_thread(worker.end)
    assert took < 20 * POLLING / 2


@pytest.mark.integration
@pytest.mark.slow
@pytest.mark.timeout(120)
async def test_news_that_are_lost(url, name, tmp_path, monkeypatch):
    """Polling finds what nobody was told of."""
    monkeypatch.setattr(News, "hear", lambda *_: None)
    async with asking(url, name, 0.05) as engine:
        worker = await worker_of(url, name, tmp_path, 0.05)
        report = await engine.run(chain(10))
        await asyncio.to_thread(worker.end)
    assert report.ok


@pytest.mark.integration
@pytest.mark.slow
@pytest.mark.timeout(180)
async def test_news_go_on_behind_a_server_that_was_restarted(name, tmp_path):
    """Both listen again, and a chain waits for no look then."""
    with cluster() as own:
        url = f"{own.url}/own"
        async with asking(url, name) as engine:
            worker = await worker_of(url, name, tmp_path)
            assert (await engine.run(chain(2))).ok
            waiting = asyncio.create_task(engine.run(chain(20)))
            await asyncio.sleep(0.2)
            await asyncio.to_thread(own.stop)
            await asyncio.sleep(0.5)
            await asyncio.to_thread(own.start)
            assert (await waiting).ok
            await until(url, 2)
            began = time.monotonic()
            assert (await engine.run(chain(20))).ok
            took = time.monotonic() - began
            await asyncio.to_thread(worker.end)
    assert took < 20 * POLLING / 2
