"""Every async test on asyncio and on trio, in virtual time unless it is marked `real_time`."""

from __future__ import annotations

import gc
import os
import signal
import time
from importlib.util import find_spec
from inspect import iscoroutinefunction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import dagexec._runtime.state
from dagexec._concurrency.steps import SLOW
from dagexec._runtime import invoker, waits, worker
from dagexec.testing import fail_on_deadlock, virtual_time
from tests.replaying import Recording, contradictions

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

MARKERS = (
    "slow: takes more than a second",
    "integration: needs another program or library; see DAGEXEC_REQUIRE_INTEGRATION",
    "real_time: needs a real clock, because of threads, processes or sockets",
    "costs: measures what something costs; nothing is covered meanwhile",
    "no_cover: pytest-cov leaves it out",
)
# openai leaves a chat stream at "[DONE]" with generators open, its own and its transport's; trio
# says so.
SDK_ON_TRIO = r"ignore:Async generator '(openai|httpx2|httpcore2)\.:ResourceWarning"
NO_TRIO = pytest.mark.skipif(find_spec("trio") is None, reason="trio is not installed")
# What tells steps that block their event loop, by the real clock; and from how many seconds on in
# tests that do not have one.
MEASURE_STEPS: tuple[Any, ...] = (invoker, waits, worker)
PATIENT = 60.0
# In CI nothing may be left out, and nothing left to chance. The environments of `.ci/versions.py`
# lack what integration tests need: there the second holds, not the first.
REQUIRED = os.environ.get("DAGEXEC_REQUIRE_INTEGRATION") == "1"
SAME_EXAMPLES = REQUIRED or os.environ.get("DAGEXEC_SAME_EXAMPLES") == "1"


def pytest_configure(config: pytest.Config) -> None:
    """Register the markers that the configuration does not name, and what is not our warning."""
    known = {line.partition(":")[0].partition("(")[0] for line in config.getini("markers")}
    for line in MARKERS:
        if line.partition(":")[0] not in known:
            config.addinivalue_line("markers", line)
    config.addinivalue_line("filterwarnings", SDK_ON_TRIO)
    if find_spec("hypothesis") is not None:
        # Before any test is read: `@settings` takes over what holds at that moment.
        count = 100 if config.option.markexpr == "" else 40
        choose_examples(int(os.environ.get("DAGEXEC_EXAMPLES", count)))
    # What a shell starts in its background ignores the interrupt key, and so does all that is
    # started here, as long as nobody takes that back.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    dagexec._runtime.state.Scheduler = Recording
    call_steps_slow(PATIENT)  # before the fixtures of a session, which run plans, too


def call_steps_slow(seconds: float) -> None:
    """Set how long a step may take before it counts as one that blocked its event loop."""
    for module in MEASURE_STEPS:
        module.SLOW = seconds


def choose_examples(count: int) -> None:
    """Set how many examples Hypothesis tries; how long one takes tells only of the machine."""
    from hypothesis import HealthCheck, settings

    settings.register_profile(
        "dagexec",
        max_examples=count,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow],
        derandomize=SAME_EXAMPLES,
        print_blob=True,
    )
    settings.load_profile("dagexec")


@pytest.fixture(autouse=True)
def every_run_can_be_replayed() -> Iterator[None]:
    """Tell a fresh scheduler what that of each run was told: it says the same."""
    yield
    for found in contradictions():
        pytest.fail(found)


@pytest.fixture(autouse=True)
def steps_are_slow_in_real_time(request: pytest.FixtureRequest) -> Iterator[None]:
    """In virtual time what takes long is the machine, and no report and no log says so."""
    if request.node.get_closest_marker("real_time"):
        call_steps_slow(SLOW)
    yield
    call_steps_slow(PATIENT)


@pytest.fixture
def no_step_is_slow(steps_are_slow_in_real_time: None) -> None:
    """In real time, too: for tests that compare what is printed."""
    call_steps_slow(PATIENT)


@pytest.fixture(autouse=True)
def garbage_is_collected_where_its_warnings_are_expected(
    request: pytest.FixtureRequest,
) -> Iterator[None]:
    """Else they come up in another test, which has no filter for them."""
    yield
    filters = [mark.args[0] for mark in request.node.iter_markers("filterwarnings")]
    if any("Unraisable" in each for each in filters):
        gc.collect()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Give what needs a real clock a second try in CI, where two lanes share the machine.

    What was late once is listed at the end (RERUN). In virtual time nothing is late. And let what
    measures costs measure them without coverage, which makes computing up to ten times slower.

    A test that has more than a minute has what the run gives to all where that is more, as in CI.
    """
    twice = SAME_EXAMPLES and config.pluginmanager.hasplugin("rerunfailures")
    given = config.getoption("timeout", None) or float(os.environ.get("PYTEST_TIMEOUT") or 0)
    for item in items:
        limit = item.get_closest_marker("timeout")
        if limit is not None and 60 < limit.args[0] < given:
            item.add_marker(pytest.mark.timeout(given), append=False)
        if item.get_closest_marker("costs"):
            item.add_marker(pytest.mark.no_cover)
        if twice and any(map(item.get_closest_marker, ("real_time", "integration", "costs"))):
            item.add_marker(pytest.mark.flaky(reruns=1))


@pytest.fixture(params=["asyncio", pytest.param("trio", marks=NO_TRIO)])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    """Return the backend's name and options; a fresh virtual clock for each test."""
    if request.node.get_closest_marker("real_time"):
        return request.param, {}
    return virtual_time(request.param)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Generator[None, object, object]:
    """Let a deadlock fail an async test on trio, as the loop itself does on asyncio."""
    test = pyfuncitem.obj
    guard_hypothesis(test)
    if not iscoroutinefunction(test):
        return (yield)
    pyfuncitem.obj = fail_on_deadlock(test)
    try:
        return (yield)
    finally:
        pyfuncitem.obj = test


def guard_hypothesis(test: Any) -> None:
    """Guard the function inside a Hypothesis test, once; anyio's plugin wraps it the same way."""
    handle = getattr(test, "hypothesis", None)
    if handle is None:
        return
    inner = getattr(handle.inner_test, "_anyio_original_func", handle.inner_test)
    if iscoroutinefunction(inner) and not hasattr(inner, "_dagexec_guarded"):
        guarded = fail_on_deadlock(inner)
        guarded._dagexec_guarded = True  # type: ignore[attr-defined]
        handle.inner_test = guarded


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Turn the skip of an integration test into a failure where integration is required."""
    report = yield
    skipped = report.skipped and not hasattr(report, "wasxfail")
    if REQUIRED and skipped and item.get_closest_marker("integration"):
        reason = call.excinfo.value if call.excinfo else "no reason given"
        report.outcome = "failed"
        report.longrepr = f"DAGEXEC_REQUIRE_INTEGRATION=1 forbids to skip this test: {reason}"
    return report


@pytest.fixture
def mark() -> Generator[str]:
    """Return a text for command lines; no process that has it may be left after the test."""
    text = f"mark-{os.getpid()}-{time.monotonic_ns()}"
    yield text
    # One that was just killed may take a moment, on a slow machine a long one. Those under test
    # sleep for minutes: what ends by itself within this time was not left.
    deadline = time.monotonic() + 30
    while _marked(text) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert _marked(text) == []


def _marked(text: str) -> list[int]:
    """Return the ids of processes, zombies left out, with a text in their command line (Linux)."""
    found: list[int] = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            line = (entry / "cmdline").read_bytes()  # of a zombie it is empty
        except OSError:
            continue
        if text.encode() in line and int(entry.name) != os.getpid():
            found.append(int(entry.name))
    return found
