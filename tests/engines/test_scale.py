"""The simulation of many workers: it repeats, and says what was measured where that is known."""

from __future__ import annotations

import pytest

from tests.benchmarks import scale_dbos
from tests.benchmarks.scale import PLAN, Costs, Load, simulate

# A tenth of the speed, so that little has to be simulated.
COSTS = Costs(decide=0.0001, write=0.02)


def small(workers: int, shards: int) -> Load:
    return Load(workers, shards, 0.5, concurrency=3, settle=25, during=15)


def test_the_same_load_comes_to_the_same():
    """All of it is in virtual time, from one seed."""
    assert simulate(small(2, 2), COSTS) == simulate(small(2, 2), COSTS)


def test_workers_count_until_a_shard_is_full():
    """On one shard three times the workers get nothing more done, on many they do."""
    few, many = (simulate(small(each, 1), COSTS) for each in (4, 12))
    assert few.shard > 0.9
    assert many.calls < 1.25 * few.calls
    assert many.limit == "shards"
    spread, wide = (simulate(small(each, 64), COSTS) for each in (4, 12))
    assert wide.calls == pytest.approx(3 * spread.calls, rel=0.2)
    assert wide.limit == "slots of the workers"


def test_one_shard_carries_what_its_writes_allow():
    """Two for a call, two for a workflow task, of which a plan of twelve has at least four."""
    full = simulate(small(8, 1), COSTS)
    most = 1 / COSTS.write / (2 + 2 * 4 / len(PLAN))
    assert 0.4 * most < full.calls < most


def test_a_link_takes_two_reads_of_the_queue():
    """A tenth of a second, as measured on a server with its defaults and without eager calls."""
    idle = simulate(Load(8, 64, 0.0, concurrency=1, settle=2, during=6), Costs(decide=0.0001))
    links = 5  # in a row, one of them eight wide
    assert 0.05 < idle.took / (links + 0.5) < 0.15


SLOW = scale_dbos.Costs(decide=0.0001, database=0.02, recorded=0.02)


def on_dbos(workers: int, cores: int) -> scale_dbos.Load:
    return scale_dbos.Load(workers, cores, 0.5, concurrency=3, settle=15, during=10)


def test_workers_of_dbos_count_until_postgresql_is_full():
    """The same load comes to the same; with more processors more workers count again."""
    assert scale_dbos.simulate(on_dbos(4, 1), SLOW) == scale_dbos.simulate(on_dbos(4, 1), SLOW)
    few, many = (scale_dbos.simulate(on_dbos(each, 1), SLOW) for each in (8, 24))
    assert many.calls < 1.25 * few.calls
    assert many.limit == "PostgreSQL's processors"
    few, many = (scale_dbos.simulate(on_dbos(each, 16), SLOW) for each in (8, 24))
    assert many.calls == pytest.approx(3 * few.calls, rel=0.2)
    assert many.limit == "slots of the workers"


def test_postgresql_carries_what_its_processors_allow():
    """A call, and what is recorded for each of at least five turns of a plan of twelve."""
    full = scale_dbos.simulate(on_dbos(24, 1), SLOW)
    most = 1 / (SLOW.database + SLOW.recorded * 5 / len(PLAN))
    assert 0.4 * most < full.calls < most


def test_idle_workers_of_dbos_take_their_part():
    """Polling of a thousand workers keeps eleven processors busy."""
    load = scale_dbos.Load(1000, 16, 60.0, concurrency=1, settle=0.1, during=0.1)
    assert scale_dbos.simulate(load, SLOW).polled == pytest.approx(11 / 16)
