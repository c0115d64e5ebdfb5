"""An answer to several interrupts that does not say which of them it is for.

LangGraph refuses it before any node runs, without the ids and without what an answer may be. So the
error is made complete where it is raised: in the loop of a graph, whoever has compiled it. Only
programs that make a node of dagexec's have this, and graphs without one raise the same error in
more words.
"""

# LangGraph's loop is private.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportPrivateUsage=false, reportMissingTypeStubs=false

from __future__ import annotations

import functools
from collections.abc import Iterable
from typing import Any, Final

from dagexec import DagexecError
from dagexec.integrations.langgraph._people import ANSWERS, is_approval

_SEVERAL: Final = "multiple pending interrupts"
_INTERRUPT: Final = "__interrupt__"


class UnclearAnswer(DagexecError, RuntimeError):
    """Says how to answer each interrupt; LangGraph itself raises a RuntimeError."""


@functools.cache
def explain_unclear_answers() -> None:
    """Let LangGraph's error say how to answer, from now on; one that works otherwise is left."""
    try:
        from langgraph.pregel._loop import PregelLoop
    except ImportError:
        return
    first: Any = getattr(PregelLoop, "_first", None)
    if first is None:
        return

    @functools.wraps(first)
    def explained(self: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            return first(self, *args, **kwargs)
        except RuntimeError as error:
            if type(error) is not RuntimeError or _SEVERAL not in str(error):
                raise
            raise UnclearAnswer(_how(_open_interrupts(self))) from error

    setattr(PregelLoop, "_first", explained)  # noqa: B010 - typed as it was


def _open_interrupts(loop: Any) -> list[Any]:
    """Return the interrupts that wait for an answer, in their order."""
    pending: Any = getattr(loop, "_pending_interrupts", None)
    ids = None if pending is None else pending()
    found: dict[str, Any] = {}
    for _, channel, written in loop.checkpoint_pending_writes:
        if channel == _INTERRUPT:
            found.update((each.id, each) for each in written)
    return [each for id_, each in found.items() if ids is None or id_ in ids]


def _how(interrupts: Iterable[Any]) -> str:
    lines = [f"  {each.id!r}: {_expected(each)}" for each in interrupts]
    return (
        f"{len(lines)} interrupts wait for an answer, and this one does not say which it is for."
        " Answer by their ids, all of them or some, with"
        " Command(resume={interrupt id: answer, ...}):\n" + "\n".join(lines)
    )


def _expected(interrupt: Any) -> str:
    value = interrupt.value
    if is_approval(value):
        return f"the call of {value['name']!r}; {ANSWERS}"
    if isinstance(value, dict) and "action_requests" in value:
        return 'a review; {"decisions": [...]}, one decision for each of its action_requests'
    return f"a value, for {value!r:.200}"
