"""kill -9 at the calls of programs on Temporal, and of those who decide them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.engines.temporal.test_workers import asking, start, workers
from tests.engines.test_programs_killed import (
    approve_elsewhere,
    kill_anywhere,
    test_a_program_goes_on_when_one_of_its_workers_is_killed,
    test_a_write_in_doubt_waits_for_an_answer,
)

if TYPE_CHECKING:
    from pathlib import Path

# What is imported is run here, with workers on Temporal.
__all__ = [
    "start",
    "test_a_program_goes_on_when_one_of_its_workers_is_killed",
    "test_a_write_in_doubt_waits_for_an_answer",
    "workers",
]

pytestmark = [pytest.mark.real_time, pytest.mark.anyio]


@pytest.fixture
def asks(address: str, name: str, tmp_path: Path) -> Any:
    """Return an engine of this process, which decides and runs no calls."""
    return asking(address, name, tmp_path)


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


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_an_approval_days_later_in_another_process(start, tmp_path):
    """What does not depend on it is done before; the text of the program is not given again."""
    approve_elsewhere(start, tmp_path)
