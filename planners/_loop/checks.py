"""What is given to `solve`, checked before anything is asked."""

from __future__ import annotations

from typing import Any, Final, cast

from dagexec import DagexecError, Executor
from dagexec.lowlevel import checked_id, kind_of
from planners._core.planner import Planner

_RESERVED: Final = frozenset({"model", "messages", "input", "stream", "system", "instructions"})


def check(
    planner: Planner, executor: Executor, max_turns: int, run_id: str, options: dict[str, Any]
) -> None:
    """Raise DagexecError for what cannot be, with the way to mend it."""
    wanted = (("planner", planner, Planner, "a"), ("executor", executor, Executor, "an"))
    for name, given, kind, article in wanted:
        if not isinstance(given, kind):
            what = _instead(given)
            raise DagexecError(f"solve({name}=) takes {article} {kind.__name__}, not {what}")
    number: object = max_turns
    if not isinstance(number, int) or isinstance(number, bool) or number < 1:
        raise DagexecError(f"max_turns is a number of replies, at least 1, not {max_turns!r}")
    checked_id(run_id or "")
    if wrong := sorted(_RESERVED.intersection(options)):
        raise DagexecError(f"solve() makes {', '.join(wrong)} itself; see its arguments")
    _check_tools(options)
    tools = planner.equipped(executor).tools
    missing = [name for name in planner.names if name not in tools]
    if missing:
        raise DagexecError(
            f"the executor has no tool {', '.join(missing)}, which the planner offers to the"
            " model: make both from the same tools"
        )


def _instead(given: object) -> str:
    """Return what was given in the place of a planner or an executor, and how to mend it."""
    if isinstance(given, type):
        return f"the class {given.__name__}: make one, {given.__name__}(tools)"
    kind = "None" if given is None else kind_of(given)
    if hasattr(given, "resume") and hasattr(given, "work"):
        return (
            f"{kind}: with an engine write the loop out, planner.plan(reply), await"
            " engine.run(plan, run_id=...), planner.results(report)"
        )
    return f"{kind}: write Executor(tools)" if isinstance(given, list | tuple) else kind


def _check_tools(options: dict[str, Any]) -> None:
    given: list[Any] = [*options.get("tools", ())]
    for each in given:
        if callable(cast("object", each)):
            called = getattr(each, "name", None) or getattr(each, "__name__", "tool")
            raise DagexecError(
                f"solve(tools=) takes definitions of tools that the provider runs itself; give"
                f" {called} to the planner and to the executor, both made from the same list"
            )
