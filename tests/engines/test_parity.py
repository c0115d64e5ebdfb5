"""The same plan gives the same report, in one process and on DBOS."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING, Any

import pytest

from dagexec import Call, Timeouts
from tests.engines.parity import LATE, PLANS, STOPPED, answers_alike, drawn, reports_alike
from tests.engines.tools_for_engines import TOOLS

if TYPE_CHECKING:
    from dagexec.engines.dbos import DbosEngine

pytestmark = [pytest.mark.integration, pytest.mark.real_time, pytest.mark.anyio]


def engine_at(url: str, name: str, **settings: Any) -> DbosEngine:
    from dagexec.engines.dbos import DbosEngine

    return DbosEngine(TOOLS, database_url=url, name=name, **settings)


async def both(url: str, name: str, plans: dict[str, list[Call]], **settings: Any) -> None:
    await reports_alike(engine_at(url, name, **settings), plans, **settings)


async def test_every_kind_of_plan(url, name):
    """Values, failures, timeouts, sharing, retries, questions, conflicts."""
    await both(url, name, PLANS)


async def test_a_failure_that_stops_the_run(url, name):
    """What has not begun is cancelled, and so is what runs."""
    await both(url, name, {"later": STOPPED}, on_failure="stop")


@pytest.mark.parametrize(
    "timeouts",
    [
        Timeouts(workflow=1.5),
        pytest.param(Timeouts(turn=1.5), marks=pytest.mark.slow),
        pytest.param(Timeouts(layer=1.5), marks=pytest.mark.slow),
        pytest.param(Timeouts(layer=3.0, workflow=1.5), marks=pytest.mark.slow),
        pytest.param(Timeouts(call=None, layer=1.5, workflow=None), marks=pytest.mark.slow),
    ],
    ids=str,
)
async def test_deadlines(url, name, timeouts):
    """The deadlines of a layer and of a run catch the same calls, with the same texts."""
    await both(url, name, {"late": LATE}, timeouts=timeouts)


async def test_with_barriers(url, name):
    """Layers that wait for each other are the same layers."""
    await both(url, name, PLANS, barrier=True)


@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.slow)])
async def test_random_plans(url, name, seed):
    """Plans of all shapes: references, defaults, orders, failures, questions, conflicts."""
    random = Random(seed)
    await both(url, name, {f"plan {each}": drawn(random) for each in range(30)})


async def test_answers_lead_to_the_same(url, name):
    """Approvals, edits, refusals and replies, in several rounds."""
    await answers_alike(engine_at(url, name))
