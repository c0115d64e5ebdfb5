"""The simulation, and servers for stores: test folders are no packages, so they are loaded here."""

from __future__ import annotations

import importlib.util
import shutil
import sys
from pathlib import Path

import pytest

from tests.engines.cluster import binaries, cluster
from tests.limits.servers import redis_server


@pytest.fixture(scope="session")
def simulation():
    """Return the simulated providers and clients."""
    name = "limits_tests_simulation"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(
            name, Path(__file__).with_name("simulation.py")
        )
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
    return sys.modules[name]


@pytest.fixture(scope="session")
def redis_url():
    """Return the URL of a Redis of the tests' own."""
    pytest.importorskip("redis", reason="the extra redis is not installed")
    if shutil.which("redis-server") is None and shutil.which("valkey-server") is None:
        pytest.skip("neither redis-server nor valkey-server is installed")
    with redis_server() as server:
        yield server.url


@pytest.fixture(scope="session")
def postgres_url():
    """Return the URL of a PostgreSQL of the tests' own."""
    pytest.importorskip("psycopg", reason="the extra postgres is not installed")
    if binaries() is None:
        pytest.skip("PostgreSQL is not installed: no initdb on the PATH or in /usr/lib/postgresql")
    with cluster() as made:
        yield f"{made.url}/postgres"
