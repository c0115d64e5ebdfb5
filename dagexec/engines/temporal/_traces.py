"""The span that an interceptor of the user's client has made of an activity, for the tool in it.

OpenTelemetry is looked at only where the program has loaded it.
"""

from __future__ import annotations

import sys
from contextvars import Context
from typing import Any


def hand_on(context: Context) -> None:
    """Let what is going to run in this context have its spans below the one of here."""
    api: Any = sys.modules.get("opentelemetry.context")
    if api is not None:
        context.run(api.attach, api.get_current())


def name_span(run: str, call: str, tool: str) -> None:
    """Say in the span of here which call it is: the library's says that it is an activity."""
    api: Any = sys.modules.get("opentelemetry.trace")
    if api is not None:
        named = {"dagexec.run.id": run, "dagexec.call.id": call, "gen_ai.tool.name": tool}
        api.get_current_span().set_attributes(named)
