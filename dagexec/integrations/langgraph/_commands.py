"""Commands for the graph above: all of a message's go up as one, with the other calls' answers.

A node that sends a command up ends at once, with its graph: LangGraph takes the first such command
and drops the others, and every answer beside it.
"""

# LangGraph's generic types come without their parameters, and its hooks are private by name.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportUnknownParameterType=false
# pyright: reportPrivateUsage=false, reportMissingTypeStubs=false

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any, Final, cast

from langchain_core.runnables import RunnableConfig
from langgraph.types import Command, Send

_log: Final = logging.getLogger("dagexec")
# The channel of a graph whose state is no mapping.
_ROOT: Final = "__root__"


def is_for_graph(config: RunnableConfig, graph: str | None) -> bool:
    """Whether a command that left a nested graph is for the graph that runs with this config.

    LangGraph names a graph by its place; numbers in it are those of one run.
    """
    place = str((config.get("configurable") or {}).get("checkpoint_ns", ""))
    names = "|".join(part.partition(":")[0] for part in place.split("|"))
    return bool(graph) and graph in (place, names)


def flat(outputs: Iterable[Any]) -> list[Any]:
    """Return answers one by one; a tool may have given a list of them."""
    found: list[Any] = []
    for output in outputs:
        found.extend(output if isinstance(output, list) else (output,))
    return found


def goes_up(output: Any) -> bool:
    """Whether an answer is a command for the graph above."""
    return isinstance(output, Command) and output.graph == Command.PARENT


def merged_up(outputs: Sequence[Any], kind: Any, messages_key: str) -> Command[Any] | None:
    """Return one command for the graph above that says all that the outputs say.

    None if no output is such a command. Two calls that write different values to a key that holds
    one value are LangGraph's InvalidUpdateError.
    """
    if not any(map(goes_up, outputs)):
        return None
    if len(outputs) == 1:
        return cast("Command[Any]", outputs[0])
    key = _ROOT if kind == "list" else messages_key
    update: list[tuple[str, Any]] = []
    goto: list[Any] = []
    graph: Any = Command.PARENT
    for output in outputs:
        if not isinstance(output, Command):
            update.append((key, [output]))
            continue
        update.extend(output._update_as_tuples())  # noqa: SLF001
        if goes_up(output):
            goto.extend(_targets(output))
        elif output.goto:
            _log.warning(
                "a call's Command(goto=%r) is not followed: another call of its message sends a"
                " command to the graph above, which ends this graph",
                output.goto,
            )
    return Command(graph=graph, update=_once(update) or None, goto=goto)


def with_updates(combined: list[Any], outputs: Sequence[Any]) -> list[Any]:
    """Give the command that LangGraph makes of several the updates that it has left out."""
    merged = [
        output
        for output in outputs
        if goes_up(output)
        and isinstance(output.goto, list)
        and all(isinstance(each, Send) for each in output.goto)
    ]
    update = [item for output in merged for item in output._update_as_tuples()]  # noqa: SLF001
    if not update:
        return combined
    if len(merged) == 1:
        return [*combined[:-1], merged[0]]
    return [*combined[:-1], replace(combined[-1], update=_once(update))]


def _targets(command: Command[Any]) -> Sequence[Any]:
    goto: Any = command.goto
    return [goto] if isinstance(goto, Send | str) else cast("Sequence[Any]", goto)


def _once(update: list[tuple[str, Any]]) -> list[tuple[str, Any]]:
    """Leave out what sets a key to the text or truth value that another call has set it to.

    Handing over to one agent twice is no conflict. Numbers and lists may be summed up.
    """
    kept: list[tuple[str, Any]] = []
    for key, value in update:
        single = value is None or isinstance(value, str | bool)
        if not (single and any(key == one and _same(value, other) for one, other in kept)):
            kept.append((key, value))
    return kept


def _same(one: Any, other: Any) -> bool:
    return type(one) is type(other) and bool(one == other)
