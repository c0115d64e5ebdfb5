"""The same plan gives the same report, in one process and on Temporal.

No run is kept in memory: each task of a workflow replays its whole history, so whatever is not
decided alike twice is an error of the server's.
"""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING, Any

import pytest

from dagexec import Call, Timeouts
from tests.engines.parity import LATE, PLANS, STOPPED, answers_alike, drawn, reports_alike
from tests.engines.tools_for_engines import TOOLS

if TYPE_CHECKING:
    from dagexec.engines.temporal import TemporalEngine

pytestmark = [pytest.mark.real_time, pytest.mark.anyio, pytest.mark.slow]


def engine_at(address: str, name: str, **settings: Any) -> TemporalEngine:
    """Return an engine that replays all the time."""
    from dagexec.engines.temporal import TemporalEngine

    return TemporalEngine(TOOLS, address=address, name=name, **{"cached": 0, **settings})


async def both(address: str, name: str, plans: dict[str, list[Call]], **settings: Any) -> None:
    own = {key: settings.pop(key) for key in ("store", "inline") if key in settings}
    await reports_alike(engine_at(address, name, **settings, **own), plans, **settings)


async def test_every_kind_of_plan(address, name):
    """Values, failures, timeouts, sharing, retries, questions, conflicts."""
    await both(address, name, PLANS)


async def test_every_value_in_a_store(address, name, tmp_path):
    """The same but for calls that share an execution, which compare where values are."""
    from dagexec.engines.temporal import FolderStore

    plans = {each: plan for each, plan in PLANS.items() if each != "identical pure calls"}
    await both(address, name, plans, store=FolderStore(tmp_path / "store"), inline=0)
    assert [*(tmp_path / "store").iterdir()]


async def test_a_failure_that_stops_the_run(address, name):
    """What has not begun is cancelled, and so is what runs."""
    await both(address, name, {"later": STOPPED}, on_failure="stop")


@pytest.mark.parametrize(
    "timeouts",
    [
        Timeouts(workflow=1.5),
        Timeouts(turn=1.5),
        Timeouts(layer=1.5),
        Timeouts(layer=3.0, workflow=1.5),
        Timeouts(call=None, layer=1.5, workflow=None),
    ],
    ids=str,
)
async def test_deadlines(address, name, timeouts):
    """The deadlines of a layer and of a run catch the same calls, with the same texts."""
    await both(address, name, {"late": LATE}, timeouts=timeouts)


async def test_with_barriers(address, name):
    """Layers that wait for each other are the same layers."""
    await both(address, name, PLANS, barrier=True)


@pytest.mark.parametrize("seed", [0, 1])
async def test_random_plans(address, name, seed):
    """Plans of all shapes: references, defaults, orders, failures, questions, conflicts."""
    random = Random(seed)
    await both(address, name, {f"plan {each}": drawn(random) for each in range(30)})


@pytest.mark.parametrize("stored", [False, True])
async def test_answers_lead_to_the_same(address, name, tmp_path, stored):
    """Approvals, edits, refusals and replies, in several rounds; with every value in a store."""
    from dagexec.engines.temporal import FolderStore

    own = {"store": FolderStore(tmp_path / "store"), "inline": 0} if stored else {}
    await answers_alike(engine_at(address, name, **own))
