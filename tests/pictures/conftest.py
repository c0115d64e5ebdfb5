"""What the tests of the pictures share: test folders are no packages, so helpers load here."""

from __future__ import annotations

import importlib.util
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from dagexec.testing import run_virtual

_spec = importlib.util.spec_from_file_location(
    "pictures_tests_samples", Path(__file__).with_name("samples.py")
)
_samples = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_samples)


@pytest.fixture(scope="session")
def samples():
    """Return the module of the sample runs."""
    return _samples


@pytest.fixture(scope="session")
def twelve():
    """Return the report of a small run with a bit of everything."""
    return run_virtual(_samples.twelve)


@pytest.fixture(scope="session")
def many():
    """Return the report of a run of 500 calls."""
    return run_virtual(_samples.five_hundred)


class Chromium:
    """A real browser, Debian's chromium, driven by playwright in a thread of its own.

    Playwright's plain interface keeps an event loop running in the thread that uses it, and no
    other test could run one there.
    """

    def __init__(self, program):
        """Start it; the thread is the only one that may talk to it."""
        self.thread = ThreadPoolExecutor(1)
        self.call(self._open, program)

    def _open(self, program):
        from playwright.sync_api import sync_playwright

        self.playwright = sync_playwright().start()
        # CI runs as root in a container, where chromium's own sandbox cannot start.
        self.browser = self.playwright.chromium.launch(
            executable_path=program, args=["--no-sandbox"]
        )

    def call(self, function, *args, **options):
        """Call a function in the browser's thread."""
        return self.thread.submit(function, *args, **options).result(timeout=200)

    def close(self):
        """End it."""
        self.call(self.browser.close)
        self.call(self.playwright.stop)
        self.thread.shutdown()


@pytest.fixture(scope="session")
def chromium():
    """Return a browser, or skip where there is none."""
    pytest.importorskip("playwright.sync_api", exc_type=ImportError)
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    if program is None:
        pytest.skip("chromium is not installed: apt-get install chromium")
    browser = Chromium(program)
    yield browser
    browser.close()


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem):
    """Run the tests that look at pages in the browser's thread."""
    if "open_page" not in pyfuncitem.fixturenames:
        return None
    names = pyfuncitem._fixtureinfo.argnames
    arguments = {name: pyfuncitem.funcargs[name] for name in names}
    pyfuncitem.funcargs["chromium"].call(pyfuncitem.obj, **arguments)
    return True
