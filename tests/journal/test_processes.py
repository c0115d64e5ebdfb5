"""Crashes and other processes: chaos, and answers from elsewhere."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from random import Random

import anyio
import pytest

from dagexec import Call, Executor, Plan, Ref
from dagexec.journal import SqliteJournal
from tests.journal.answering import make_tools

pytestmark = pytest.mark.real_time
HERE = Path(__file__).parent
ROOT = HERE.parent.parent


def chaos(folder: Path, rounds: int, seed: int) -> subprocess.Popen[str]:
    """Start rounds of chaos."""
    command = [sys.executable, str(HERE / "chaos.py"), str(rounds), str(seed), str(folder)]
    return subprocess.Popen(
        command, cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def result(process: subprocess.Popen[str], timeout: float) -> dict[str, int]:
    out, err = process.communicate(timeout=timeout)
    assert process.returncode == 0, err[-3000:]
    return json.loads(out)


@pytest.mark.timeout(240)
def test_a_killed_run_goes_on_and_no_write_runs_twice(folder):
    """A few rounds; all of them below."""
    told = result(chaos(folder, 4, 11), 220)
    assert told["rounds"] == 4
    assert told["kills"] >= 1


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_two_hundred_rounds_of_chaos(folder):
    """Sixty calls of all effects, killed at random moments, their files damaged; 200 times."""
    halves = [chaos(folder / str(seed), 100, seed) for seed in (21, 22)]
    told = [result(half, 1400) for half in halves]
    assert sum(each["rounds"] for each in told) == 200
    assert sum(each["kills"] for each in told) > 200


def draw(random: Random) -> tuple[Plan, dict[str, tuple[str, object]], dict[str, object]]:
    """Return ten calls of which three wait, an answer for each, and the values in the end."""
    names = [f"c{index}" for index in range(10)]
    waiting = random.sample(names[:8], 3)
    calls, answers, values = [], {}, {}
    for index, name in enumerate(names):
        n = random.randrange(101, 200)
        if name not in waiting:
            sources = random.sample(names[:index], min(index, random.randrange(3)))
            parts = [Ref(source) for source in sources]
            calls.append(Call(name, "work", {"n": n, "parts": parts}))
            values[name] = (n, sources)
            continue
        kind = random.choice(("pay", "order", "asking"))
        calls.append(Call(name, kind, {"n": n}))
        other = random.randrange(200, 300)
        if kind == "asking":
            answers[name] = ("value", other)
            values[name] = (other, [])
        elif random.random() < 0.5:
            answers[name] = ("approve", None)
            values[name] = (n, [])
        else:
            answers[name] = ("edit", {"n": other})
            values[name] = (other, [])
    return Plan(calls), answers, values


async def trials(count: int, seed: int, folder: Path) -> None:
    random = Random(seed)
    path, world = folder / "runs.db", folder / "world"
    command = [sys.executable, str(HERE / "answering.py"), str(path), str(world)]
    expected: list[list[object]] = []
    other = subprocess.Popen(
        command, cwd=ROOT, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        with SqliteJournal(path) as journal:
            executor = Executor(make_tools(world), journal=journal)
            for number in range(count):
                plan, answers, values = draw(random)
                run_id = f"run {number}"
                report = await executor.run(plan, run_id=run_id)
                asked = [name for name, each in report.items() if each.question is not None]
                assert sorted(asked) == sorted(answers)
                order = random.sample(asked, 3)
                cut = random.randrange(1, 4)
                groups = [order] if cut == 3 else [order[:cut], *([name] for name in order[cut:])]
                for group in groups:
                    line = json.dumps([run_id, {name: answers[name] for name in group}])
                    other.stdin.write(line + "\n")
                    other.stdin.flush()
                    told = json.loads(await anyio.to_thread.run_sync(other.stdout.readline))
                    assert all(told[name] == "done" for name in group)
                final = await executor.run(plan, run_id=run_id)
                assert final.ok, final
                for name, (n, sources) in values.items():
                    value = final[name].value
                    assert value[:2] == [name, n], "an answer reached another call"
                    if value[2:]:
                        assert value[2] == [final[source].value for source in sources]
                expected += [[run_id, name, n] for name, (n, _) in values.items()]
    finally:
        other.stdin.close()
        other.stdout.close()
        other.wait(30)
    happened = [json.loads(line) for line in world.read_text().splitlines()]
    assert sorted(happened) == sorted(expected), "a call ran twice, or not at all"


@pytest.mark.anyio
@pytest.mark.timeout(120)
async def test_answers_from_another_process_reach_their_calls(folder):
    """A few trials; all of them below."""
    await trials(20, 5, folder)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_five_hundred_trials_of_answers(folder):
    """Three waiting calls among ten, answered in any order by another process."""
    anyio.run(trials, 500, 6, folder)
