"""kill -9 at the calls of programs on Temporal, and of those who decide them."""

from __future__ import annotations

import pytest

from tests.engines.test_programs_killed import kill_anywhere

pytestmark = [pytest.mark.real_time, pytest.mark.anyio]


@pytest.mark.timeout(120)
async def test_killed_at_its_calls_a_program_does_what_python_does(address, name, tmp_path):
    """Before a tool begins, and behind its effect; a second process is killed as well."""
    await kill_anywhere(address, name, tmp_path, 1, "s12")


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("seed", [3, 11])
async def test_killed_at_some_of_its_calls(address, name, tmp_path, seed):
    """At steps of its tools."""
    await kill_anywhere(address, name, tmp_path, seed, *(f"s{each}" for each in range(1, 30, 4)))


@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_killed_at_any_time(address, name, tmp_path):
    """Also between its calls, while it is decided."""
    times = [f"t{0.3 + 0.1 * each:.1f}" for each in range(8)]
    await kill_anywhere(address, name, tmp_path, 5, *times)
