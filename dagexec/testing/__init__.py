"""Support for tests of what runs on dagexec: virtual time, scripted tools, a scripted model.

`virtual_time` and `run_virtual` make an hour of timeouts pass at once, on asyncio and on trio,
and turn a deadlock into an error. `ToolBox` makes tools that sleep, fail, hang or resist
cancellation, and logs who ran when. `ScriptedModel` answers real `openai` and `anthropic` clients
from a list of replies, and refuses what the real API would refuse (`check_conversation`).

With anyio's pytest plugin, put this into `conftest.py`, and mark async tests `pytest.mark.anyio`:

    @pytest.fixture(params=["asyncio", "trio"])
    def anyio_backend(request):
        return virtual_time(request.param)

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
