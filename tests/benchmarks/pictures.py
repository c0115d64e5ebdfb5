"""Measure what looking on costs: `python -m tests.benchmarks.pictures`.

Processor time, the least of many, and sizes; goals beside them.
"""

from __future__ import annotations

import json
import sys
import time
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import anyio

from dagexec import Executor
from dagexec._pictures.notebook import View
from dagexec.testing import run_virtual
from tests.benchmarks.figures import Figure

SAMPLES = Path(__file__).parents[1] / "pictures" / "samples.py"


def samples():
    """Return the module of the sample runs."""
    spec = spec_from_file_location("pictures_samples", SAMPLES)
    module = module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def least(function, repeats=20):
    """Return the least processor time of a call, in milliseconds, and its last result."""
    times, result = [], None
    for _ in range(repeats):
        began = time.process_time()
        result = function()
        times.append(time.process_time() - began)
    return min(times) * 1e3, result


class Page:
    """Takes the pictures of a live run as a kernel does: as JSON."""

    drawn = 0

    def update(self, bundle, *, raw):
        """Send one."""
        self.drawn += raw
        json.dumps(bundle)


async def followed(made):
    """Return the share of a run of 500 calls that its live picture takes, and how often it drew."""
    tools, calls = made.many()
    page = Page()
    async with Executor(tools).start(calls) as run:
        run._view = View(run, lambda *_, **__: page)
    return run._view.spent / run.report.elapsed, page.drawn


def figures():
    """Yield what drawing costs."""
    made = samples()
    for name, report in (
        ("12 calls", run_virtual(made.twelve)),
        ("500 calls", run_virtual(made.five_hundred)),
    ):
        for what, draw in (
            ("graph", lambda report=report: report.diagram.to_svg()),
            ("timeline", lambda report=report: report.timeline.to_svg()),
            ("both", report.to_svg),
            ("page", report.to_html),
        ):
            took, text = least(draw)
            goal = None if what == "page" else 20  # more than a picture: all that is known
            yield Figure(f"pictures: {name}, {what}", took, "ms", goal)
            yield Figure(f"pictures: {name}, {what}", len(text) / 1000, "kB", 300)
    share, _ = anyio.run(followed, made)
    yield Figure("pictures: 500 calls followed live, share of the run", share, "", 0.02)


if __name__ == "__main__":
    print("\n".join(map(str, figures())))
