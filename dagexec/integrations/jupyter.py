"""Runs in JupyterLab and other notebooks: what is shown, and how to stop a run.

A cell that waits for a run usually shows nothing, and the stop button may leave tools running.
Here, in any kernel, `async with executor.start(plan) as run` shows one picture that follows the
run, drawn at most five times a second and using at most 2 % of the run time. `Run`, `Report`,
`Plan` and their pictures show themselves. While a run is active, the kernel's event loop is woken
ten times a second, so that the stop button ends the run at once: the tools' clean-up runs, and
the next cell reads the partial report, from the run it started or from `last_run()`.

Nothing here needs more than IPython, which every Python kernel brings. `notebooks/` is a course.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from typing import Any, cast

from dagexec import Plan, Report, Run
from dagexec._errors import MissingExtra
from dagexec._pictures.diagram import Diagram
from dagexec._pictures.notebook import heartbeat, last_run, show_live
from dagexec._pictures.timeline import Timeline

__all__ = ["heartbeat", "last_run", "show", "show_live"]

if find_spec("IPython") is None:
    msg = "dagexec.integrations.jupyter needs IPython: pip install 'dagexec[notebook]'"
    raise MissingExtra(msg)


def show(shown: Run | Report | Plan | Diagram | Timeline) -> None:
    """Show a run as it stands now, a report, a plan or a picture, as a cell's last line would."""
    from IPython import display as ipython

    display: Callable[..., Any] = cast("Any", ipython).display
    display(shown)
