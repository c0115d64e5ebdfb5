"""Virtual time on both backends."""

from __future__ import annotations

import subprocess
import sys
import time

import anyio
import pytest

from dagexec.testing import START, Backend, DeadlockError, run_virtual, virtual_time

BACKENDS: tuple[Backend, ...] = ("asyncio", "trio")
both = pytest.mark.parametrize("backend", BACKENDS)


async def forever() -> None:
    """Wait for what never comes."""
    await anyio.Event().wait()


@pytest.mark.anyio
async def test_hours_pass_at_once() -> None:
    """An hour of sleep takes next to nothing of the real clock."""
    real, start = time.perf_counter(), anyio.current_time()
    await anyio.sleep(3600)
    assert anyio.current_time() - start == pytest.approx(3600, abs=1e-9)
    assert time.perf_counter() - real < 30


@pytest.mark.anyio
async def test_sleeps_interleave_in_the_order_of_their_deadlines() -> None:
    """Sleeps in different tasks end in the order of their deadlines and at the exact second."""
    ended: list[tuple[float, float]] = []
    start = anyio.current_time()

    async def sleep(seconds: float) -> None:
        await anyio.sleep(seconds)
        ended.append((seconds, anyio.current_time() - start))

    async with anyio.create_task_group() as group:
        for seconds in (0.3, 0.1, 86400 * 3, 0.2):
            group.start_soon(sleep, seconds)
    assert [seconds for seconds, _ in ended] == [0.1, 0.2, 0.3, 86400 * 3]
    assert all(at == pytest.approx(seconds, abs=1e-9) for seconds, at in ended)


@pytest.mark.anyio
async def test_each_test_has_a_fresh_clock() -> None:
    """The fixture's clock starts where every virtual clock starts."""
    assert anyio.current_time() == pytest.approx(START, abs=1e-9)


@pytest.mark.anyio
async def test_timeouts_expire_in_virtual_time() -> None:
    """A deadline ends a wait that nothing else would end."""
    start = anyio.current_time()
    with anyio.move_on_after(1234.5) as scope:
        await forever()
    assert scope.cancelled_caught
    assert anyio.current_time() - start == pytest.approx(1234.5, abs=1e-9)


@pytest.mark.anyio
async def test_a_wait_for_all_tasks_to_block_is_no_deadlock() -> None:
    """`wait_all_tasks_blocked` returns although nothing else can happen."""
    async with anyio.create_task_group() as group:
        group.start_soon(forever)
        await anyio.wait_all_tasks_blocked()
        group.cancel_scope.cancel()


@both
def test_run_virtual_returns_the_value(backend: Backend) -> None:
    """The function's arguments and value pass through."""

    async def add(a: int, b: int) -> int:
        await anyio.sleep(3600)
        return a + b

    real = time.perf_counter()
    assert run_virtual(add, 1, 2, backend=backend) == 3
    assert time.perf_counter() - real < 30


@both
def test_an_error_passes_through(backend: Backend) -> None:
    """What the function raises is raised."""

    async def fail() -> None:
        await anyio.sleep(1)
        raise KeyError("x")

    with pytest.raises(KeyError):
        run_virtual(fail, backend=backend)


@both
def test_a_deadlock_fails_at_once_and_names_the_tasks(backend: Backend) -> None:
    """Every task that waits is named with the place at which it does."""

    async def main() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(forever, name="first")
            group.start_soon(forever, name="second")

    real = time.perf_counter()
    with pytest.raises(DeadlockError) as caught:
        run_virtual(main, backend=backend)
    assert time.perf_counter() - real < 30
    text = str(caught.value)
    assert "first" in text
    assert "second" in text
    assert "in forever" in text
    assert "in main" in text


@both
def test_a_deadlock_behind_a_shield_fails_too(backend: Backend) -> None:
    """A clean-up that waits for ever cannot hide from the end of the test."""

    async def main() -> None:
        with anyio.CancelScope(shield=True):
            async with anyio.create_task_group() as group:
                group.start_soon(forever)

    with pytest.raises((DeadlockError, ExceptionGroup)) as caught:
        run_virtual(main, backend=backend)
    assert "deadlock in virtual time" in repr(caught.value)


def test_an_unknown_backend_is_refused() -> None:
    """The error names the two that exist."""
    with pytest.raises(ValueError, match='"asyncio" or "trio"'):
        virtual_time("curio")  # type: ignore[arg-type]


def test_a_missing_trio_names_the_extra() -> None:
    """Without trio the error is one line that says what to install."""
    program = (
        "import sys; sys.modules['trio'] = None; sys.modules['trio.testing'] = None\n"
        "from dagexec.testing import virtual_time\n"
        "try: virtual_time('trio')\n"
        "except ImportError as error: print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout == "trio is not installed: pip install 'dagexec[trio]'\n"


@pytest.mark.anyio
@pytest.mark.real_time
async def test_real_time_has_threads() -> None:
    """A test that is marked `real_time` runs on a real clock."""
    assert await anyio.to_thread.run_sync(lambda: 7) == 7
    start = time.perf_counter()
    await anyio.sleep(0.02)
    assert time.perf_counter() - start >= 0.015
