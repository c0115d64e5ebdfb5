"""The trace of who asked for a run, for the tools that it leads to, in whichever process they run.

It travels with the round as W3C writes it, without baggage, which may hold anything. OpenTelemetry
is looked at only where the program has loaded it.
"""

from __future__ import annotations

import sys
from collections.abc import Coroutine, Mapping
from typing import Any, Final

_FAILED: Final = ("failed", "timed_out")


def carried() -> dict[str, str]:
    """Return the trace of here, as it travels; {} where there is none."""
    carrier: dict[str, str] = {}
    if "opentelemetry.trace" in sys.modules:
        _written().inject(carrier)
    return carrier


async def below(
    body: Mapping[str, Any], attempt: Coroutine[Any, Any, dict[str, Any]]
) -> dict[str, Any]:
    """Run an attempt at a call in a span of its own, below the one of who asked for the run."""
    api: Any = sys.modules.get("opentelemetry.trace")
    if api is None or not body.get("trace"):
        return await attempt
    attributes = {
        "gen_ai.operation.name": "execute_tool",
        "gen_ai.tool.name": body["tool"],
        "dagexec.run.id": body["run"],
        "dagexec.call.id": body["call"],
    }
    with api.get_tracer("dagexec").start_as_current_span(
        f"execute_tool {body['tool']}",
        context=_written().extract(body["trace"]),
        attributes=attributes,
    ) as span:
        result = await attempt
        if result["outcome"]["status"] in _FAILED:
            span.set_status(api.StatusCode.ERROR)
        return result


def _written() -> Any:
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    return TraceContextTextMapPropagator()
