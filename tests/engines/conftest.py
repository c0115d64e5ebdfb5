"""What the tests of engines share: a PostgreSQL of their own, for the whole session."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest

from tests.engines.cluster import binaries, cluster
from tests.engines.processes import Worker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture(scope="session")
def server() -> Iterator[str]:
    """Start a throwaway cluster; return its URL, without a database."""
    pytest.importorskip("dbos", reason="the extra dbos is not installed")
    if binaries() is None:
        pytest.skip("PostgreSQL is not installed: no initdb on the PATH or in /usr/lib/postgresql")
    with cluster() as made:
        yield made.url


@pytest.fixture
def url(server: str) -> str:
    """Return the database that the tests share; each has an engine with a name of its own."""
    return f"{server}/engines"


@pytest.fixture
def name() -> str:
    """Return the name of an engine that shares nothing with any other test's."""
    return f"t{uuid4().hex[:12]}"


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, Any]]:
    """Return asyncio on a real clock: DBOS knows no other."""
    return "asyncio", {}


@pytest.fixture
def start(mark: str, url: str, name: str, tmp_path: Path) -> Iterator[Callable[[], Worker]]:
    """Return what starts a worker; all have ended after the test."""
    workers: list[Worker] = []
    command = [sys.executable, "-m", "tests.engines.worker", mark, url, name, str(tmp_path)]

    def started() -> Worker:
        workers.append(Worker(command, tmp_path / "errors"))
        return workers[-1]

    yield started
    for worker in workers:
        worker.end()
