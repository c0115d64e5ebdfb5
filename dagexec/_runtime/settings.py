"""The settings of an executor: what they may be, and what of them a run needs to know."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field, fields
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final, TypeAlias, final

from dagexec._core.names import kind_of
from dagexec._core.results import Setup
from dagexec._core.wrong_names import explained
from dagexec._errors import DagexecError
from dagexec._tools.tool import Tool

if TYPE_CHECKING:
    from dagexec.limits._tool_limits import ToolLimits


@explained
@final
@dataclass(frozen=True, slots=True)
class Timeouts:
    """How long things may take, in seconds or as a `timedelta`; None for no limit.

    `call`: one call, from the start of its tool. `layer`: a ready layer, from its start. `turn`:
    one reply of a model and its calls, which for a single run is the run. `workflow`: everything,
    all turns together. A tool's own `timeout` takes the place of `call`.
    """

    call: float | None = 30.0
    layer: float | None = field(default=None, kw_only=True)
    turn: float | None = field(default=None, kw_only=True)
    workflow: float | None = field(default=600.0, kw_only=True)

    if TYPE_CHECKING:

        def __init__(
            self,
            call: float | timedelta | None = 30.0,
            *,
            layer: float | timedelta | None = None,
            turn: float | timedelta | None = None,
            workflow: float | timedelta | None = 600.0,
        ) -> None: ...

    def __post_init__(self) -> None:
        """Refuse what is no duration; raise DagexecError that names the field."""
        for each in fields(self):
            value: object = getattr(self, each.name)
            if isinstance(value, timedelta):
                value = value.total_seconds()
                object.__setattr__(self, each.name, value)
            number = isinstance(value, int | float) and not isinstance(value, bool)
            if value is not None and not (number and 0 < value < math.inf):  # type: ignore[operator]
                msg = (
                    f"Timeouts({each.name}={value!r}): a timeout is a positive number of seconds"
                    " or a timedelta, or None for no limit"
                )
                raise DagexecError(msg)


# What is taken where timeouts are: a number of seconds, or a timedelta, is the call's.
SomeTimeouts: TypeAlias = Timeouts | float | timedelta


def timeouts_of(given: SomeTimeouts | None) -> Timeouts | None:
    """Return timeouts as such, None as it is; raise DagexecError for anything else."""
    if given is None or isinstance(given, Timeouts):
        return given
    value: object = given
    if isinstance(value, int | float | timedelta) and not isinstance(value, bool):
        return Timeouts(given)
    hint = (
        ", ".join(f"{key}={item!r}" for key, item in value.items())
        if isinstance(value, dict)
        else "call=30"
    )
    msg = f"timeouts={value!r:.80}: give seconds for each call, or Timeouts({hint})"
    raise DagexecError(msg)


# Given the ids of a run and a call, returns a block for one attempt of the call.
Reserve: TypeAlias = Callable[[str, str], AbstractAsyncContextManager[None]]

# Seconds that a worker process may take to start.
START_TIMEOUT: Final = 60.0


@final
@dataclass(frozen=True, slots=True)
class Settings:
    """The settings of an executor as its runners read them; timeouts are in seconds."""

    tools: Mapping[str, Tool[..., Any]]
    call_timeout: float | None
    layer_timeout: float | None
    run_timeout: float | None
    run_scope: str
    on_failure: str
    barrier: bool
    sequential: bool
    # Whether a tool is pure: its identical calls share one execution.
    shares: bool
    # How many items a call with `Each` may run for.
    max_items: int = 1000
    # What stands before the calls of tools with limits or retries; None where no tool has any.
    limits: Mapping[str, ToolLimits] | None = None
    # What is waited for before a call of a tool that runs in a process; None without such tools.
    reserves: Mapping[str, Reserve] | None = None
    # What of these the pictures of a run show; made once, because each report holds it.
    setup: Setup = field(init=False)
    # Identifies the executor; its copies with other timeouts share it.
    family: object = field(default_factory=object)

    def __post_init__(self) -> None:
        """Make what follows from the rest."""
        tools = self.tools
        setup = Setup(
            call=self.call_timeout,
            layer=self.layer_timeout,
            run=self.run_timeout,
            scope=self.run_scope,
            tools={name: each.timeout for name, each in tools.items() if each.timeout is not None},
            secret={name: tuple(each.secret) for name, each in tools.items() if each.secret},
        )
        object.__setattr__(self, "setup", setup)


def deadlines(timeouts: Timeouts) -> dict[str, Any]:
    """Return the deadlines of a run.

    Of the two round the whole run the nearer one counts, the outer one if they are the same.
    """
    turn = timeouts.turn is not None and timeouts.turn < (timeouts.workflow or math.inf)
    return {
        "call_timeout": timeouts.call,
        "layer_timeout": timeouts.layer,
        "run_timeout": timeouts.turn if turn else timeouts.workflow,
        "run_scope": "turn" if turn else "workflow",
    }


def check_choices(*, on_failure: object, in_doubt: object, journal: object) -> None:
    """Raise DagexecError for what is none of the things that a setting can be."""
    if on_failure not in ("skip", "stop"):
        msg = f'on_failure is "skip" or "stop", not {on_failure!r}'
        raise DagexecError(msg)
    if in_doubt not in ("ask", "rerun") and not callable(in_doubt):
        msg = f'in_doubt is "ask", "rerun" or a function, not {in_doubt!r}'
        raise DagexecError(msg)
    if journal is not None and not callable(getattr(journal, "claim", None)):
        msg = (
            f"journal={journal!r:.80} is no journal: give SqliteJournal(path) or"
            " MemoryJournal(), from dagexec.journal"
        )
        raise DagexecError(msg)


def max_items_of(value: object) -> int:
    """Return how many items a call may run for; raise DagexecError for what is no such number."""
    if type(value) is int and value > 0:
        return value
    msg = f"max_items is a number of calls, from 1 on, not {value!r}"
    raise DagexecError(msg)


def seconds_of(name: str, value: float) -> float:
    """Return a setting that is a number of seconds; raise DagexecError that names it."""
    given: object = value
    if isinstance(given, timedelta):
        given = given.total_seconds()
    number = isinstance(given, int | float) and not isinstance(given, bool)
    if not (number and 0 < given < math.inf):  # type: ignore[operator]
        msg = f"{name}={value!r}: it is a positive number of seconds, or a timedelta"
        raise DagexecError(msg)
    return float(given)  # type: ignore[arg-type]


def concurrency_of(value: int | None) -> int | None:
    """Return the concurrency, the environment's if it says one; raise DagexecError."""
    text = os.environ.get("DAGEXEC_CONCURRENCY")
    given: object = value
    if text is not None:
        given = int(text) if text.isascii() and text.isdecimal() else text
    if given is not None and (not isinstance(given, int) or isinstance(given, bool) or given < 0):
        msg = f"concurrency is a number of calls, 0 to debug or None for no limit, not {given!r}"
        raise DagexecError(msg)
    return given


def capacities_for(
    capacities: Mapping[str, int], tools: Iterable[Tool[..., Any]]
) -> dict[str, int]:
    """Return how much there is of each resource; raise DagexecError if it is not enough."""
    for name, total in capacities.items():
        if type(total) is not int or total < 1:
            msg = f"capacities={{{name!r}: {total!r}}}: give a whole number from 1 on"
            raise DagexecError(msg)
    for tool in tools:
        for name, count in tool.uses.items():
            if count > capacities.get(name, 0):
                msg = (
                    f"tool {tool.name!r} uses {count} of {name!r}, and the executor has"
                    f" {capacities.get(name, 0)}: give it capacities={{{name!r}: {count}}}"
                )
                raise DagexecError(msg)
    return dict(capacities)


def check_resumption(run_id: object, answers: object) -> None:
    """Raise DagexecError for what is no id of a run, and no answers by call id."""
    if not isinstance(run_id, str):
        msg = f"resume() takes the id of a run, report.run_id, not {kind_of(run_id)}"
        raise DagexecError(msg)
    if answers is not None and not isinstance(answers, Mapping):
        msg = (
            f"resume() takes answers by call id, {{call_id: Approve()}}, not a"
            f" {type(answers).__name__}"
        )
        raise DagexecError(msg)
