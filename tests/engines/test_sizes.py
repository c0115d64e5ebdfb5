"""Values that no row of the database can hold: their calls, or their runs, end and say so."""

from __future__ import annotations

import os

import pytest

from dagexec import Call, DagexecError, current_call, tool
from dagexec.limits import Limiter

# Where integration is required, a missing library is an error and no reason to skip.
if os.environ.get("DAGEXEC_REQUIRE_INTEGRATION") != "1":
    pytest.importorskip("dbos", reason="the extra dbos is not installed")
from dagexec.engines.dbos import _sizes
from tests.engines.test_places import engine_at
from tests.engines.test_stranded import come_to

pytestmark = [
    pytest.mark.integration,
    pytest.mark.real_time,
    pytest.mark.timeout(150),
    pytest.mark.anyio,
]


class TestSizes:
    """What PostgreSQL ends a connection for, and DBOS would send again and again."""

    @pytest.mark.parametrize("limits", [(), (Limiter("wide", in_flight=2),)], ids=["here", "queue"])
    async def test_a_value_that_no_row_can_hold(self, url, name, monkeypatch, limits):
        """Its call has failed, and has run once; the others go on."""
        monkeypatch.setattr(_sizes, "LARGEST", 100_000)
        began: list[str] = []

        @tool(limits=limits)
        async def wide(size: int) -> str:
            began.append(current_call().id)
            return '"' * size  # twice as long where it is written

        plan = [Call("a", "wide", {"size": 60_000}), Call("b", "wide", {"size": 9})]
        async with engine_at(url, name, [wide]) as engine:
            report = await come_to(engine.run(plan, run_id="r"))
        assert report["b"].ok
        assert report["a"].status == "failed"
        assert report["a"].maybe
        assert "what the tool returned is too large for the database" in str(report["a"].error)
        assert sorted(began) == ["a", "b"]

    async def test_values_that_are_too_large_together(self, url, name, monkeypatch):
        """The run breaks off, and says what it is."""
        monkeypatch.setattr(_sizes, "LARGEST", 100_000)

        @tool(effect="read")
        async def wide(value: object = None) -> str:
            return "x" * 60_000

        plan = [Call("a", "wide"), Call("b", "wide", after=("a",))]
        async with engine_at(url, name, [wide]) as engine:
            with pytest.raises(DagexecError, match="what all calls of the run returned is too"):
                await come_to(engine.run(plan, run_id="r"))
            given = [Call("a", "wide", {"value": "x" * 200_000})]
            with pytest.raises(DagexecError, match="the plan is too large for the database"):
                await come_to(engine.run(given, run_id="s"))
