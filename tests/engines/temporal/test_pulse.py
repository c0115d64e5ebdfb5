"""The thread that beats in the place of a blocked event loop, without a server."""

from __future__ import annotations

import asyncio
import os
import threading
import time

import pytest

# Where integration is required, a missing library is an error and no reason to skip.
if os.environ.get("DAGEXEC_REQUIRE_INTEGRATION") != "1":
    pytest.importorskip("temporalio", reason="the extra temporal is not installed")
from dagexec.engines.temporal._pulse import Pulse

pytestmark = pytest.mark.real_time


def test_it_beats_while_the_loop_is_blocked_and_not_for_ever(caplog):
    """In an event loop of its own, for four leases; a beat that raises keeps no other from it."""
    beats: list[tuple[float, bool]] = []

    def beat() -> None:
        asyncio.get_running_loop().create_task(noted())

    async def noted() -> None:
        here = threading.current_thread() is threading.main_thread()
        beats.append((time.monotonic() - begun, here))

    def broken() -> None:
        raise RuntimeError("no beat")

    async def main() -> None:
        pulse.start(beats=True)
        with pulse.kept_alive(broken), pulse.kept_alive(beat):
            await asyncio.sleep(0.3)
            assert (beats, pulse.blocked) == ([], 0)
            nonlocal begun
            begun = time.monotonic()
            time.sleep(1.5)
            seen = len(beats)
            assert 1.4 < pulse.blocked < 2
            await asyncio.sleep(0.3)
            assert len(beats) == seen
            assert 1.4 < pulse.blocked < 2
        pulse.close()

    begun = 0.0
    pulse = Pulse(0.2)
    asyncio.run(main())
    assert len(beats) > 5
    assert not any(here for _, here in beats)
    assert max(at for at, _ in beats) < 1.2
    assert caplog.text.count("the event loop has been blocked for") == 1
    assert "no beat" in caplog.text


def test_it_can_be_told_to_watch_only():
    """Heartbeats that go through a codec stay in the event loop."""

    async def main() -> None:
        pulse.start(beats=False)
        with pulse.kept_alive(lambda: beats.append(1)):
            await asyncio.sleep(0.1)
            time.sleep(0.5)
        assert pulse.blocked > 0.4
        pulse.close()

    beats: list[int] = []
    pulse = Pulse(0.2)
    asyncio.run(main())
    assert beats == []
