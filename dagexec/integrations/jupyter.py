"""Runs in JupyterLab and other notebooks: what happens by itself, and how to steer it.

By itself, in any kernel: `executor.start` in a cell shows one picture that follows the run, drawn
at most five times a second; `Run`, `Report`, `Plan` and their pictures show themselves; and while
a run is active, the kernel's event loop is woken ten times a second, so that the stop button ends
it at once. What an interrupted cell has done can be read in the next one, from the run it started
or from `last_run()`.

Nothing here needs more than IPython, which every Python kernel brings.
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
