"""Any plan, durations and concurrency give the same outputs as running one call at a time."""

from __future__ import annotations

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dagexec import Call, Executor, Plan, Ref, Template, Timeouts, tool
from dagexec.testing import run_virtual


@st.composite
def plans(draw):
    """Draw calls that refer to earlier ones, with durations and failures."""
    calls = []
    for n in range(draw(st.integers(1, 9))):
        earlier = [call.id for call in calls]
        chosen = draw(st.lists(st.sampled_from(earlier), max_size=3)) if earlier else []
        args = {
            "inputs": [Ref(name, default=draw(st.sampled_from([-1]))) for name in chosen[:1]]
            + [Ref(name) for name in chosen[1:]],
            "text": Template("{}", Ref(chosen[-1])) if len(chosen) > 1 else "",
            "seconds": draw(st.sampled_from([0, 0, 0.5, 1, 2, 3.25])),
            "fails": draw(st.integers(0, 9)) == 0,
            "key": n,
        }
        after = tuple(draw(st.lists(st.sampled_from(earlier), max_size=1))) if earlier else ()
        calls.append(Call(str(n), "work", args, after=after))
    return Plan(calls)


def summary(report):
    """Return what must not depend on time."""
    return {
        name: (each.status, each.value, each.because if each.status == "skipped" else None)
        for name, each in report.items()
    }


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@settings(max_examples=settings().max_examples * 6 // 5)
@given(
    plan=plans(),
    concurrency=st.sampled_from([1, 2, 3, 20, None]),
    barrier=st.booleans(),
    layer=st.sampled_from([None, 1e6]),
    stream=st.booleans(),
)
def test_the_outputs_are_those_of_a_sequential_run(
    *, backend, plan, concurrency, barrier, layer, stream
):
    """Statuses and values of all calls are the same; calls start only after what they need."""
    running = peak = 0

    @tool
    async def work(
        inputs: list[object], text: str, seconds: float, key: int, *, fails: bool
    ) -> object:
        """Sleep, then fail or return something made of the inputs."""
        nonlocal running, peak
        running += 1
        peak = max(peak, running)
        await anyio.sleep(seconds)
        running -= 1
        if fails:
            raise ValueError(key)
        return [key, text, *inputs]

    timeouts = Timeouts(call=None, workflow=None, layer=layer)

    async def source():
        for call in plan.calls:
            yield call

    async def run(slots):
        executor = Executor([work], concurrency=slots, barrier=barrier, timeouts=timeouts)
        return await executor.run(source() if stream else plan)

    expected = run_virtual(run, 0, backend=backend)
    peak = 0
    report = run_virtual(run, concurrency, backend=backend)
    assert list(report) == [call.id for call in plan.calls]
    assert report.outputs == expected.outputs
    assert {n: o.status for n, o in report.items()} == {n: o.status for n, o in expected.items()}
    assert peak <= (concurrency or 99)
    for call in plan.calls:
        if report[call.id].started is not None:
            for name in (*call.needs, *call.waits):
                ended = report[name].ended
                assert ended is None or ended <= report[call.id].started + 1e-9
