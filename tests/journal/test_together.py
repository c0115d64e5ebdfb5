"""A journal beside everything else that has to do with when a call starts."""

from __future__ import annotations

import anyio
import pytest

from dagexec import Call, Executor, Timeouts, tool
from dagexec.journal import MemoryJournal
from dagexec.limits import Limiter, Retry

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("layer", [None, 30], ids=["", "layers"])
@pytest.mark.parametrize("concurrency", [0, 1, 20])
async def test_resources_limits_and_shared_calls_in_a_recorded_run(concurrency, layer):
    """What one call gives back the next one gets; the times are those without a journal."""

    @tool(uses={"gpu": 1})
    async def train(n: int) -> int:
        """Use the only GPU."""
        await anyio.sleep(1)
        return n

    @tool(effect="pure")
    async def square(n: int) -> int:
        """Return the square."""
        await anyio.sleep(1)
        return n * n

    limiter = Limiter("look", in_flight=1)

    @tool(effect="read", uses={"gpu": 1}, limits=(limiter,), retry=Retry(attempts=2))
    async def look(n: int) -> int:
        """Use the GPU, and a limit."""
        await anyio.sleep(1)
        return n

    calls = [
        *(Call(f"t{n}", "train", {"n": n}) for n in range(2)),
        *(Call(f"s{n}", "square", {"n": 2}) for n in range(3)),
        *(Call(f"l{n}", "look", {"n": n}, after=("t0",)) for n in range(2)),
    ]
    elapsed = []
    for journal in (None, MemoryJournal()):
        executor = Executor(
            [train, square, look],
            capacities={"gpu": 1},
            concurrency=concurrency,
            journal=journal,
            timeouts=Timeouts(layer=layer),
        )
        report = await executor.run(calls)
        assert report.ok, report
        assert [report[f"s{n}"].attempts for n in range(3)] == [1, 0, 0]
        elapsed.append(report.elapsed)
    assert elapsed[0] == elapsed[1]
