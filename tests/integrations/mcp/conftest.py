"""What the tests of MCP servers share."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest


@pytest.fixture
def bad(mark):
    """Return the command of the server that behaves badly, in these modes from its start."""
    server = Path(__file__).with_name("bad_server.py")
    return lambda *modes: [sys.executable, str(server), mark, *modes]
