"""A program takes as long as the longest path of its data flow, and no longer."""

from __future__ import annotations

import pytest

from tests.programs.flows import MOST, ratios

pytestmark = pytest.mark.anyio


async def test_programs_take_as_long_as_their_longest_path() -> None:
    assert max(await ratios(range(50))) <= MOST


@pytest.mark.slow
async def test_three_hundred_of_them() -> None:
    assert max(await ratios(range(1_000, 1_300))) <= MOST
