"""What the tests on a Temporal share: a dev server of their own, for the whole session."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.engines.temporal.server import require, served

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.engines.temporal.bucket import Bucket


@pytest.fixture(scope="session")
def needed() -> None:
    """Skip a test that needs a server where there is none; no CI needs to have one."""
    require()


@pytest.fixture(scope="session")
def values() -> Iterator[Bucket]:
    """Start a server that speaks S3; return a bucket of it."""
    pytest.importorskip("obstore", reason="the extra s3 is not installed")
    pytest.importorskip("moto", reason="moto is not installed")
    from tests.engines.temporal.bucket import bucket

    with bucket() as made:
        yield made


@pytest.fixture(scope="session")
def address(needed: None) -> Iterator[str]:
    """Start a dev server; return its address."""
    with served() as made:
        yield made.address


@pytest.fixture(scope="session")
def short_lived(needed: None) -> Iterator[str]:
    """Return the address of a server whose runs move to a fresh history early."""
    with served("limit.historyCount.suggestContinueAsNew=30") as made:
        yield made.address
