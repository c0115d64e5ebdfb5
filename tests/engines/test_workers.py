"""Workers in processes of their own, some of which are killed."""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from collections import Counter
from random import Random
from typing import TYPE_CHECKING, Any

import pytest

from dagexec import Approve, Timeouts
from tests.engines.processes import ROUNDS, Worker, begun, lines, wait_for

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = [pytest.mark.integration, pytest.mark.real_time, pytest.mark.anyio]


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_the_calls_of_a_killed_worker_go_on_elsewhere(start, tmp_path):
    """Reads and idempotent calls run again, writes are in doubt, what is done is left alone."""
    driver, other = start(), start()
    driver.wait_until_ready()
    other.wait_until_ready()
    driver.tell(run="r", plan="mixed")
    long = [f"{tool}{each}" for each, tool in enumerate(["look", "put", "send", "send"] * 2)]
    wait_for(lambda: {line.call for line in lines(tmp_path)} >= {*long})
    began = {line.call: line.process for line in lines(tmp_path) if line.call in long}
    killed = [call for call in long if began[call] == other.pid]
    assert len(killed) == 4
    other.kill()
    report = driver.answer()

    starts = Counter(line.call for line in lines(tmp_path) if line.what == "begin")
    for call, body in report.items():
        if call in killed and call.startswith("send"):
            assert body["status"] == "in_doubt"
            assert starts[call] == 1
        elif call.startswith("after") and report[long[int(call[-1])]]["status"] == "in_doubt":
            assert body["status"] == "pending"
        else:
            assert body["status"] == "done", call
            assert starts[call] == (2 if call in killed else 1)
    for call in killed:
        mine = [line for line in lines(tmp_path) if line.call == call and line.what == "begin"]
        assert len({line.key for line in mine}) == 1
        # The start of what may run again is recorded behind it, and was lost if it was the last.
        assert [line.attempt for line in mine] in ([1], [1, 2], [1, 1])
    doubtful = [call for call, body in report.items() if body["status"] == "in_doubt"]
    driver.tell(resume="r", answers=dict.fromkeys(doubtful, "approve"))
    assert {body["status"] for body in driver.answer().values()} == {"done"}
    again = Counter(line.call for line in lines(tmp_path) if line.what == "begin")
    assert again - starts == Counter(dict.fromkeys(doubtful, 1) | afterwards(doubtful))


def afterwards(calls: list[str]) -> dict[str, int]:
    return {f"after{call[-1]}": 1 for call in calls}


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_a_run_goes_on_when_its_driver_is_killed(start, tmp_path):
    """Another worker decides from there on, and nothing that is done runs again."""
    driver, other = start(), start()
    driver.wait_until_ready()
    other.wait_until_ready()
    driver.tell(run="r", plan="mixed")
    wait_for(lambda: len(begun(tmp_path)) >= 10)
    # Between the end of a tool and the record of it lies a moment, in which a write is in doubt.
    # What others were begun with is recorded.
    done = {f"quick{int(call[-1]) % 6}" for call in begun(tmp_path) if call[:-1] != "quick"}
    driver.kill()
    other.tell(run="r", plan="mixed")
    report = other.answer()
    starts = Counter(line.call for line in lines(tmp_path) if line.what == "begin")
    assert {starts[call] for call in done} == {1}
    statuses = {call: body["status"] for call, body in report.items()}
    assert len(done) >= 2
    assert {statuses[call] for call in done} == {"done"}
    assert set(statuses.values()) <= {"done", "in_doubt", "pending"}
    writes = [call for call in starts if call.startswith(("send", "quick"))]
    assert all(starts[call] == 1 for call in writes)
    assert statuses["look0"] == statuses["put1"] == "done"


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_questions_are_answered_by_other_processes(start, tmp_path):
    """One by one and in any order; nothing that is done runs again."""
    first = start().wait_until_ready()
    first.tell(run="r", plan="questions")
    report = first.answer()
    first.end()
    assert {call for call, body in report.items() if body["question"] is not None} == {
        "pay1",
        "pay2",
        "what",
    }
    assert report["last"]["because"] in ("pay1", "pay2")
    second = start().wait_until_ready()
    second.tell(resume="r", answers={"what": "this"})
    report = second.answer()
    assert report["then"]["value"] == "then(what(this))"
    assert report["pay1"]["status"] == "pending"
    second.tell(resume="r", answers={"nothing": "approve"})
    assert "no call 'nothing'" in second.answer()["error"]
    third = start().wait_until_ready()
    third.tell(resume="r", answers={"pay2": "approve", "pay1": "approve"})
    report = third.answer()
    assert {body["status"] for body in report.values()} == {"done"}
    assert report["last"]["value"] == "last(['pay1(free0(0))', 'pay2(free1(1))'])"
    starts = Counter(line.call for line in lines(tmp_path) if line.what in ("begin", "asked"))
    assert set(starts.values()) == {1}
    assert {line.process for line in lines(tmp_path)} <= {first.pid, second.pid, third.pid}
    assert len({line.process for line in lines(tmp_path)}) >= 2


def asking(url: str, name: str, folder: Path) -> Any:
    """Return an engine of this process, which decides and runs no calls."""
    from dagexec.engines.dbos import DbosEngine
    from tests.engines import worker

    worker.FOLDER = folder
    timeouts = Timeouts(call=None, workflow=None)
    return DbosEngine(
        worker.TOOLS, database_url=url, name=name, timeouts=timeouts, calls=False, polling=0.05
    )


@pytest.mark.slow
@pytest.mark.timeout(120)
@pytest.mark.parametrize("how", ["kill", "end"])
async def test_what_becomes_of_writes_in_flight(start, url, name, tmp_path, how):
    """Killed or closed: the tool's hook is asked, and then a person, where it does not know."""
    from tests.engines.worker import long

    engine = asking(url, name, tmp_path)
    async with engine:
        first = await asyncio.to_thread(start().wait_until_ready)
        waiting = asyncio.create_task(engine.run(long(), run_id="r"))
        await asyncio.to_thread(wait_for, lambda: len(begun(tmp_path)) == 3)
        second = await asyncio.to_thread(start().wait_until_ready)
        await asyncio.to_thread(getattr(first, how))
        report = await waiting
        assert report.outputs == {"k": "found 1", "p": "p()", "n": "n(found 1)"}
        assert (report["s"].status, report["s"].attempts) == ("in_doubt", 1)
        assert report["m"].because == "s"
        assert begun(tmp_path) == {"k": 1, "s": 1, "p": 2, "n": 1}
        found = [line for line in lines(tmp_path) if line.what == "found"]
        assert [line.process for line in found] == [second.pid]
        assert len({line.key for line in lines(tmp_path) if line.call == "k"}) == 1
        report = await engine.resume("r", {"s": Approve()})
        assert report.ok
        assert report["s"].attempts == 2
        assert begun(tmp_path) == {"k": 1, "s": 2, "p": 2, "n": 1, "m": 1}


@pytest.mark.slow
@pytest.mark.timeout(120)
async def test_what_a_driver_began_without_a_queue(start, url, name, tmp_path):
    """It goes on in a worker; a process that only asks, and decides now, runs none of it."""
    from tests.engines.worker import long

    async with asking(url, name, tmp_path) as engine:
        first = await asyncio.to_thread(start().wait_until_ready)
        first.tell(run="r", plan="long")
        await asyncio.to_thread(wait_for, lambda: len(begun(tmp_path)) == 3)
        await asyncio.to_thread(first.kill)
        waiting = asyncio.create_task(engine.run(long(), run_id="r"))
        second = await asyncio.to_thread(start().wait_until_ready)
        report = await waiting
    assert report["s"].status == "in_doubt"
    assert report.outputs == {"k": "found 1", "p": "p()", "n": "n(found 1)"}
    assert begun(tmp_path) == {"k": 1, "s": 1, "p": 2, "n": 1}
    assert {line.process for line in lines(tmp_path)} == {first.pid, second.pid}


@pytest.mark.timeout(120)
async def test_a_run_that_is_cancelled_from_elsewhere(start, url, name, tmp_path):
    """What runs in a worker stops within seconds, and what waits never begins."""
    from tests.engines.worker import long

    engine = asking(url, name, tmp_path)
    async with engine:
        worker = await asyncio.to_thread(start().wait_until_ready)
        waiting = asyncio.create_task(engine.run(long(), run_id="r"))
        await asyncio.to_thread(wait_for, lambda: len(begun(tmp_path)) == 3)
        worker.tell(cancel="r")
        report = await waiting
        assert await asyncio.to_thread(worker.answer)
    assert {outcome.status for outcome in report.values()} == {"cancelled"}
    assert {name: report[name].maybe for name in "kspnm"} == {
        **dict.fromkeys("ks", True),
        **dict.fromkeys("pnm", False),
    }
    assert begun(tmp_path) == {"k": 1, "s": 1, "p": 1}
    assert not any(line.what == "end" for line in lines(tmp_path))


@pytest.mark.slow
@pytest.mark.timeout(180)
async def test_a_worker_that_hangs(start, url, name, tmp_path):
    """It loses its lease; what it says when it wakes up is not heard, and no write runs twice."""
    from dagexec.engines.dbos._database import LEASE
    from tests.engines.worker import long

    engine = asking(url, name, tmp_path)
    async with engine:
        first = await asyncio.to_thread(start().wait_until_ready)
        waiting = asyncio.create_task(engine.run(long(), run_id="r"))
        await asyncio.to_thread(wait_for, lambda: len(begun(tmp_path)) == 3)
        second = await asyncio.to_thread(start().wait_until_ready)
        first.process.send_signal(signal.SIGSTOP)
        stopped = time.monotonic()
        await asyncio.to_thread(wait_for, lambda: begun(tmp_path)["p"] == 2, LEASE + 40)
        assert LEASE - 1 <= time.monotonic() - stopped <= LEASE + 25
        report = await waiting
        assert report["s"].status == "in_doubt"
        assert report.outputs == {"k": "found 1", "p": "p()", "n": "n(found 1)"}
        first.process.send_signal(signal.SIGCONT)
        await asyncio.sleep(3)
        assert begun(tmp_path) == {"k": 1, "s": 1, "p": 2, "n": 1}
        again = await engine.run(long(), run_id="r")
        assert again.to_dict() == report.to_dict()
        # It is a worker again.
        await asyncio.to_thread(second.kill)
        report = await engine.resume("r", {"s": Approve()})
        assert report.ok
        assert {
            line.process for line in lines(tmp_path) if line.attempt == 2 and line.call == "s"
        } == {first.pid}


@pytest.mark.slow
@pytest.mark.timeout(180)
@pytest.mark.usefixtures("server")
async def test_a_server_that_is_restarted(mark, name, tmp_path):
    """Workers wait for it and go on; nobody is taken to be dead, and nothing done runs again."""
    from tests.engines.cluster import cluster
    from tests.engines.worker import mixed

    with cluster() as own:
        url = f"{own.url}/own"
        engine = asking(url, name, tmp_path)
        errors = tmp_path / "errors"
        command = [sys.executable, "-m", "tests.engines.worker", mark, url, name, str(tmp_path)]
        async with engine:
            worker = await asyncio.to_thread(Worker(command, errors).wait_until_ready)
            try:
                waiting = asyncio.create_task(engine.run(mixed(), run_id="r"))
                await asyncio.to_thread(wait_for, lambda: len(begun(tmp_path)) == 10)
                await asyncio.to_thread(own.stop)
                await asyncio.sleep(1)
                await asyncio.to_thread(own.start)
                report = await waiting
                assert report.ok
                assert {*begun(tmp_path).values()} == {1}
            finally:
                await asyncio.to_thread(worker.end)


async def kill_and_look(
    start: Callable[[], Worker], url: str, name: str, folder: Path, rounds: int
) -> Counter[str]:
    """Kill a worker, each time another and at another moment, while two chains run."""
    from tests.engines.worker import chains

    random, seen = Random(rounds), Counter[str]()
    engine = asking(url, name, folder)
    workers = [start(), start()]
    async with engine:
        for number in range(rounds):
            run = f"run{number}"
            for worker in workers:
                await asyncio.to_thread(ready, worker)
            workers[0].tell(run=run, plan="chains")
            await asyncio.to_thread(wait_for, lambda run=run: bool(lines(folder, run)))
            await asyncio.sleep(random.uniform(0, 0.7))
            victim = random.choice(workers)
            victim.kill()
            seen["driver" if victim is workers[0] else "other"] += 1
            workers.remove(victim)
            workers.append(start())
            report = await engine.run(chains(), run_id=run)
            assert report.outputs == {
                "a": "a()",
                "b": "b()",
                "d": "d(a())",
                "e": "e(b())",
                "z": "z(['d(a())', 'e(b())'])",
            }
            mine = lines(folder, run)
            ended = Counter(line.call for line in mine if line.what == "end")
            # Between the end of a tool and the record of it lies a moment; who dies in it leaves
            # a call that runs again. Nobody else's does.
            for call, count in ended.items():
                assert count == 1 or victim.pid in {
                    line.process for line in mine if line.call == call
                }
            seen["ran again"] += sum(count - 1 for count in begun(folder, run).values())
            seen["processes"] = max(seen["processes"], len({line.process for line in mine}))
    return seen


def ready(worker: Worker) -> None:
    if not getattr(worker, "is_ready", False):
        worker.wait_until_ready()
        worker.is_ready = True  # type: ignore[attr-defined]


@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_chains_are_never_swapped(start, url, name, tmp_path):
    """Drivers and others are killed, calls are cut off and run again."""
    seen = await kill_and_look(start, url, name, tmp_path, ROUNDS)
    assert seen["driver"] >= ROUNDS // 4
    assert seen["other"] >= ROUNDS // 4
    assert seen["ran again"] >= ROUNDS // 4
    assert seen["processes"] >= 2
