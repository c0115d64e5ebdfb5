"""Processes that share a key keep its limits together, through a store on a real server.

The figures are those of tests/benchmarks/machines.py; a busy machine takes longer.
"""

from __future__ import annotations

import pytest

from tests.limits.machines import Load, measure

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.slow,
    pytest.mark.real_time,
    pytest.mark.integration,
    pytest.mark.timeout(180),
]


@pytest.fixture
def anyio_backend():
    """Return what the provider runs on; it is not what is tried here."""
    return "asyncio"


@pytest.mark.parametrize("store", ["redis", "postgres"])
async def test_four_processes_are_as_one(store, request):
    """1,600 requests, at most 20 refused, none waits for nothing."""
    url = request.getfixturevalue(f"{store}_url")
    figures = await measure(Load(), store=store, url=url)
    assert figures.served == 1600
    assert figures.refused <= 20
    assert figures.ratio <= 1.5
