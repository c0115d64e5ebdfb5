"""What the tests of journals share."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from dagexec.journal import MemoryJournal, SqliteJournal

if TYPE_CHECKING:
    from collections.abc import Iterator

SHARED_MEMORY = Path("/dev/shm")


@pytest.fixture
def folder() -> Iterator[Path]:
    """Return a folder in memory, where there is one: what is tested here is not the disk."""
    parent = SHARED_MEMORY if SHARED_MEMORY.is_dir() else None
    place = Path(tempfile.mkdtemp(prefix="dagexec-", dir=parent))
    yield place
    shutil.rmtree(place, ignore_errors=True)


@pytest.fixture(params=["memory", "sqlite"])
def journal(request: pytest.FixtureRequest, folder: Path) -> Iterator[object]:
    """Return a journal of each kind."""
    if request.param == "memory":
        yield MemoryJournal()
        return
    with SqliteJournal(folder / "runs.db") as made:
        yield made
