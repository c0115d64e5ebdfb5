"""Tests of what runs on dagexec: virtual time, scripted tools, a scripted model.

A test of a timeout waits for it, or patches the clock of somebody else's library. In virtual time
an hour of timeouts passes at once, on asyncio and on trio, and a deadlock is an error. `ToolBox`
makes tools that sleep, fail, hang or resist cancellation, and logs who ran when.

```python
from dagexec import Call, Executor, Timeouts
from dagexec.testing import ToolBox, run_virtual


async def hangs():
    box = ToolBox()
    tools = [
        box.tool("fetch", hangs=True, timeout=3600),
        box.tool("read", seconds=2, returns="text"),
    ]
    report = await Executor(tools, timeouts=Timeouts(workflow=None)).run(
        [Call("f", "fetch"), Call("r", "read")]
    )
    assert report["f"].status == "timed_out" and report.elapsed == 3600
    assert not box.running


run_virtual(hangs)
```

`ScriptedModel` answers real `openai` and `anthropic` clients from a list of replies, whole and
streamed, and refuses what the real API would refuse (`check_conversation`); README's first example
uses it.

With anyio's pytest plugin, put this into `conftest.py`, and mark async tests `pytest.mark.anyio`:

```python
import pytest

from dagexec.testing import virtual_time


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request):
    return virtual_time(request.param)
```

Without it, `run_virtual(async_function, backend="trio")` is all that is needed.
"""

from __future__ import annotations

from ._check import check_conversation
from ._model import Request, ScriptedModel
from ._reply import API, CallScript, Reply, ReplyScript
from ._time import START, Backend, DeadlockError, fail_on_deadlock, run_virtual, virtual_time
from ._tools import Script, Span, ToolBox

__all__ = [
    "API",
    "START",
    "Backend",
    "CallScript",
    "DeadlockError",
    "Reply",
    "ReplyScript",
    "Request",
    "Script",
    "ScriptedModel",
    "Span",
    "ToolBox",
    "check_conversation",
    "fail_on_deadlock",
    "run_virtual",
    "virtual_time",
]
