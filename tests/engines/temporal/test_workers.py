"""Workers in processes of their own, some of which are killed, and the server too."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections import Counter
from random import Random
from typing import TYPE_CHECKING, Any

import pytest

from dagexec import Approve, Timeouts
from tests.engines.processes import ROUNDS, Worker, begun, lines, wait_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = [
    pytest.mark.real_time,
    pytest.mark.anyio,
    pytest.mark.slow,
    pytest.mark.timeout(120),
]


@pytest.fixture
def workers(mark: str) -> Iterator[list[Worker]]:
    """Return the workers of a test; all end before anybody looks for their mark."""
    made: list[Worker] = []
    yield made
    for worker in made:
        worker.end()


@pytest.fixture
def start(
    workers: list[Worker], mark: str, address: str, name: str, tmp_path: Path
) -> Callable[..., Worker]:
    """Return what starts a worker."""

    def started(at: str = address, **settings: Any) -> Worker:
        command = [sys.executable, "-m", "tests.engines.temporal.worker", mark, at, name]
        command += [str(tmp_path), json.dumps(settings)]
        workers.append(Worker(command, tmp_path / "errors"))
        return workers[-1]

    return started


def asking(address: str, name: str, folder: Path, **settings: Any) -> Any:
    """Return an engine of this process, which decides and runs no calls."""
    from dagexec.engines.temporal import TemporalEngine
    from tests.engines import worker
    from tests.engines.temporal.worker import LEASE

    worker.FOLDER = folder
    given = {"timeouts": worker.TIMEOUTS, "calls": False, "lease": LEASE, "beat": 0.5, **settings}
    given["capacities"] = {"room": 1}
    return TemporalEngine([*worker.TOOLS, worker.alone], address=address, name=name, **given)


async def test_the_calls_of_a_killed_worker_go_on_elsewhere(start, tmp_path):
    """Reads and idempotent calls run again, writes are in doubt, what is done is left alone."""
    driver, other = start(), start()
    for worker in (driver, other):
        await asyncio.to_thread(worker.wait_until_ready)
    driver.tell(run="r", plan="mixed")
    long = [f"{tool}{each}" for each, tool in enumerate(["look", "put", "send", "send"] * 2)]
    seen = lambda: {line.call for line in lines(tmp_path)} >= {*long}  # noqa: E731
    await asyncio.to_thread(wait_for, seen)
    began = {line.call: line.process for line in lines(tmp_path) if line.call in long}
    killed = [call for call in long if began[call] == other.pid]
    assert killed
    other.kill()
    report = await asyncio.to_thread(driver.answer)
    starts = begun(tmp_path)
    for call, body in report.items():
        if call in killed and call.startswith("send"):
            assert (body["status"], starts[call]) == ("in_doubt", 1)
        elif call.startswith("after") and report[long[int(call[-1])]]["status"] == "in_doubt":
            assert body["status"] == "pending"
        else:
            assert (body["status"], starts[call]) == ("done", 2 if call in killed else 1)
    for call in killed:
        assert len({line.key for line in lines(tmp_path) if line.call == call}) == 1


@pytest.mark.parametrize("how", ["kill", "end"])
async def test_what_becomes_of_writes_in_flight(start, address, name, tmp_path, how):
    """Killed or closed: the tool's hook is asked, and then a person, where it does not know."""
    from tests.engines.worker import long

    engine = asking(address, name, tmp_path)
    async with engine:
        first = await asyncio.to_thread(start().wait_until_ready)
        waiting = asyncio.create_task(engine.run(long(), run_id="r"))
        await asyncio.to_thread(wait_for, lambda: len(begun(tmp_path)) == 3)
        second = await asyncio.to_thread(start().wait_until_ready)
        if how == "end":
            first.process.send_signal(signal.SIGTERM)
        else:
            first.kill()
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


# Cancelled before the lease of a killed worker is over, or behind it; or caught by a deadline.
@pytest.mark.parametrize("way", ["kill", "kill, 4.5", "kill, late", "end"])
async def test_writes_whose_worker_was_the_last(start, address, name, tmp_path, way):
    """A run that ends before anybody else takes them says of each that it may have happened."""
    from tests.engines.worker import TIMEOUTS, long

    how, _, pause = way.partition(", ")
    timeouts = Timeouts(call=None, workflow=8) if pause == "late" else TIMEOUTS
    engine = asking(address, name, tmp_path, timeouts=timeouts)
    async with engine, asyncio.timeout(60):
        worker = await asyncio.to_thread(start().wait_until_ready)
        waiting = asyncio.create_task(engine.run(long(), run_id="r"))
        await asyncio.to_thread(wait_for, lambda: len(begun(tmp_path)) == 3)
        if how == "end":
            worker.process.send_signal(signal.SIGTERM)
            await asyncio.to_thread(worker.process.wait, 20)
        else:
            worker.kill()
        if pause != "late":
            await asyncio.sleep(float(pause or 0))
            await engine.cancel("r")
        report = await waiting
    status = "timed_out" if pause == "late" else "cancelled"
    assert {outcome.status for outcome in report.values()} == {status}
    assert [name for name in "kspnm" if report[name].maybe] == ["k", "s"]


async def test_a_write_that_waited_in_a_worker(start, address, name, tmp_path):
    """Only what had begun is in doubt: a write that waited for a resource runs elsewhere."""
    from dagexec import Call

    plan = [Call(each, "alone", {"value": each, "seconds": 1000.0}) for each in "ab"]
    engine = asking(address, name, tmp_path)
    async with engine:
        first = await asyncio.to_thread(start().wait_until_ready)
        waiting = asyncio.create_task(engine.run(plan, run_id="r"))
        await asyncio.to_thread(wait_for, lambda: len(begun(tmp_path)) == 1)
        (began,) = begun(tmp_path)
        await asyncio.sleep(1)
        first.kill()
        await asyncio.to_thread(start().wait_until_ready)
        await asyncio.to_thread(wait_for, lambda: len(begun(tmp_path)) == 2)
        report = await known_of(engine, began)
        assert report[began].status == "in_doubt"
        report = await engine.cancel("r")
        assert await waiting
    assert {*begun(tmp_path).values()} == {1}
    assert report[began].maybe


async def known_of(engine: Any, call: str) -> Any:
    while call not in (report := await engine.report("r")):
        await asyncio.sleep(0.1)
    return report


async def test_all_of_them_are_killed(start, address, name, tmp_path):
    """Who decides, and who runs calls, at once: others that come later go on with the run."""
    from tests.engines.worker import chains

    engine = asking(address, name, tmp_path, decides=False)
    async with engine:
        killed = [start(), start()]
        for worker in killed:
            await asyncio.to_thread(worker.wait_until_ready)
        waiting = asyncio.create_task(engine.run(chains(), run_id="r"))
        await asyncio.to_thread(wait_for, lambda: len(begun(tmp_path)) == 3)
        for worker in killed:
            worker.kill()
        assert not waiting.done()
        await asyncio.to_thread(start().wait_until_ready)
        async with asyncio.timeout(60):
            report = await waiting
    assert report["z"].value == "z(['d(a())', 'e(b())'])"
    assert begun(tmp_path)["b"] == 1
    again = sum(count - 1 for count in begun(tmp_path).values())
    assert 1 <= again <= 3


async def test_an_engine_that_is_closed_with_time_to_end(start, tmp_path):
    """With `grace`, what runs ends where it runs, and nothing is in doubt."""
    worker = await asyncio.to_thread(start(grace=20.0).wait_until_ready)
    worker.tell(run="r", plan="chains")
    await asyncio.to_thread(wait_for, lambda: len(begun(tmp_path)) == 2)
    worker.process.send_signal(signal.SIGTERM)
    await asyncio.to_thread(worker.process.wait, 20)
    ended = Counter(line.call for line in lines(tmp_path) if line.what == "end")
    assert ended.keys() >= {"a", "b"}
    second = await asyncio.to_thread(start().wait_until_ready)
    second.tell(run="r", plan="chains")
    report = await asyncio.to_thread(second.answer)
    assert report["z"]["value"] == "z(['d(a())', 'e(b())'])"
    assert {*begun(tmp_path).values()} == {1}


async def test_a_worker_that_hangs(start, address, name, tmp_path):
    """It loses its lease; what it says when it wakes up is not heard, and no write runs twice."""
    from tests.engines.worker import long

    engine = asking(address, name, tmp_path)
    async with engine:
        first = await asyncio.to_thread(start().wait_until_ready)
        waiting = asyncio.create_task(engine.run(long(), run_id="r"))
        await asyncio.to_thread(wait_for, lambda: len(begun(tmp_path)) == 3)
        await asyncio.to_thread(start().wait_until_ready)
        first.process.send_signal(signal.SIGSTOP)
        await asyncio.to_thread(wait_for, lambda: begun(tmp_path)["p"] == 2)
        report = await waiting
        assert report["s"].status == "in_doubt"
        assert report.outputs == {"k": "found 1", "p": "p()", "n": "n(found 1)"}
        first.process.send_signal(signal.SIGCONT)
        await asyncio.sleep(3)
        assert begun(tmp_path) == {"k": 1, "s": 1, "p": 2, "n": 1}
        assert (await engine.run(long(), run_id="r")).to_dict() == report.to_dict()
        report = await engine.resume("r", {"s": Approve()})
        assert report.ok


async def test_calls_that_wait_in_a_worker_that_hangs(start, address, name, tmp_path):
    """The server hands it calls, which others run after the lease: it begins none of them late."""
    from dagexec import Call

    engine = asking(address, name, tmp_path)
    async with engine:
        first = await asyncio.to_thread(start().wait_until_ready)
        assert (await engine.run([Call("a", "look")], run_id="before")).ok
        first.process.send_signal(signal.SIGSTOP)
        plan = [Call(f"{tool}{each}", tool) for tool in ("look", "put", "send") for each in "ab"]
        waiting = asyncio.create_task(engine.run(plan, run_id="r"))
        await asyncio.sleep(0.5)  # for the server to hand them out
        second = await asyncio.to_thread(start().wait_until_ready)
        async with asyncio.timeout(60):
            assert (await waiting).ok
        first.process.send_signal(signal.SIGCONT)
        await asyncio.sleep(2)
        began = [line.process for line in lines(tmp_path, "r") if line.what == "begin"]
        assert began == [second.pid] * len(plan)
        assert "is not this worker's any more" in (tmp_path / "errors").read_text()


async def test_a_run_that_is_cancelled_from_elsewhere(start, address, name, tmp_path):
    """What runs in a worker stops within a beat, and what waits never begins."""
    from tests.engines.worker import long

    engine = asking(address, name, tmp_path)
    async with engine:
        worker = await asyncio.to_thread(start().wait_until_ready)
        waiting = asyncio.create_task(engine.run(long(), run_id="r"))
        await asyncio.to_thread(wait_for, lambda: len(begun(tmp_path)) == 3)
        worker.tell(cancel="r")
        report = await waiting
        assert await asyncio.to_thread(worker.answer)
    assert {outcome.status for outcome in report.values()} == {"cancelled"}
    assert [name for name in "kspnm" if report[name].maybe] == ["k", "s"]
    assert begun(tmp_path) == {"k": 1, "s": 1, "p": 1}
    assert not any(line.what == "end" for line in lines(tmp_path))


async def kill_and_look(
    start: Callable[..., Worker], engine: Any, folder: Path, rounds: int, server: Any = None
) -> Counter[str]:
    """Kill a worker, or the server, each time another and at another moment; two chains run."""
    from tests.engines.worker import chains

    random, seen = Random(rounds), Counter[str]()
    at = {} if server is None else {"at": server.address}
    workers = [start(**at), start(**at)]
    async with engine:
        for number in range(rounds):
            run = f"run{number}"
            for worker in workers:
                await asyncio.to_thread(ready, worker)
            workers[0].tell(run=run, plan="chains")
            await asyncio.to_thread(wait_for, lambda run=run: bool(lines(folder, run)))
            await asyncio.sleep(random.uniform(0, 0.7))
            victims: set[int] = set()
            if server is not None and number % 2:
                await asyncio.to_thread(server.kill)
                await asyncio.to_thread(server.start)
                seen["server"] += 1
            if server is None or number % 3:
                victim = random.choice(workers)
                victim.kill()
                victims.add(victim.pid)
                seen["decider" if victim is workers[0] else "other"] += 1
                workers.remove(victim)
                workers.append(start(**at))
            async with asyncio.timeout(90):
                report = await engine.run(chains(), run_id=run)
            assert report.outputs == {
                "a": "a()",
                "b": "b()",
                "d": "d(a())",
                "e": "e(b())",
                "z": "z(['d(a())', 'e(b())'])",
            }
            mine = lines(folder, run)
            # Between the end of a tool and the record of it lies a moment; who dies in it leaves
            # a call that runs again. Nobody else's does.
            for call, count in Counter(each.call for each in mine if each.what == "end").items():
                who = {line.process for line in mine if line.call == call}
                assert count == 1 or victims & who or server is not None
            seen["ran again"] += sum(count - 1 for count in begun(folder, run).values())
    return seen


def ready(worker: Worker) -> None:
    if not getattr(worker, "is_ready", False):
        worker.wait_until_ready()
        worker.is_ready = True  # type: ignore[attr-defined]


@pytest.mark.timeout(600)
@pytest.mark.parametrize("rounds", [ROUNDS])
async def test_chains_are_never_swapped(start, address, name, tmp_path, rounds):
    """Deciders and others are killed; no value is another's, no run is lost."""
    engine = asking(address, name, tmp_path)
    seen = await kill_and_look(start, engine, tmp_path, rounds)
    assert seen["decider"] + seen["other"] == rounds
    print(dict(seen))


@pytest.mark.timeout(600)
@pytest.mark.usefixtures("needed")
@pytest.mark.parametrize("rounds", [ROUNDS])
async def test_a_server_that_is_killed(start, name, tmp_path, rounds):
    """With its data in a file it goes on: workers wait for it, and nothing is lost or swapped."""
    from tests.engines.temporal.server import served

    with served(file=True) as own:
        engine = asking(own.address, name, tmp_path)
        seen = await kill_and_look(start, engine, tmp_path, rounds, own)
        assert seen["server"] == rounds // 2
        assert seen["decider"] + seen["other"] == sum(each % 3 != 0 for each in range(rounds))


@pytest.mark.timeout(300)
@pytest.mark.usefixtures("needed")
async def test_no_write_runs_twice(start, name, tmp_path):
    """Workers and server are killed while writes run: each was begun at most once, or answered."""
    from tests.engines.temporal.server import served
    from tests.engines.worker import mixed

    random = Random(7)
    with served(file=True) as own:
        engine = asking(own.address, name, tmp_path)
        workers = [start(own.address), start(own.address)]
        async with engine:
            for number in range(3):
                run = f"run{number}"
                for worker in workers:
                    await asyncio.to_thread(ready, worker)
                waiting = asyncio.create_task(engine.run(mixed(), run_id=run))
                await asyncio.to_thread(wait_for, lambda run=run: len(begun(tmp_path, run)) > 6)
                await asyncio.sleep(random.uniform(0, 1))
                if number != 1:
                    workers.pop(0).kill()
                    workers.append(start(own.address))
                if number != 0:
                    await asyncio.to_thread(own.kill)
                    await asyncio.to_thread(own.start)
                async with asyncio.timeout(90):
                    report = await waiting
                counts = begun(tmp_path, run)
                for call, outcome in report.items():
                    if call.startswith(("quick", "send")):
                        assert counts[call] <= 1, (call, counts)
                        assert outcome.status in ("done", "in_doubt", "pending"), (call, outcome)
                    if outcome.status == "done" and call.startswith("after"):
                        place = int(call[-1])
                        inner = f"quick{place % 6}({place % 6})"
                        assert outcome.value == f"{call}({mixed()[6 + place].id}({inner}))"
