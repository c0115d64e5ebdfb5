"""The options of a tool, and how each is checked."""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Callable, Iterable, Mapping
from datetime import timedelta
from enum import StrEnum
from hashlib import blake2b
from typing import Any, Final, Literal, TypedDict, cast

from dagexec._errors import ToolDefinitionError
from dagexec._tools.functions import is_async, label

Runs = Literal["async", "thread", "process"]
EffectName = Literal["pure", "read", "idempotent", "write"]
# Who judges arguments that a schema from elsewhere does not allow: the schema, or the callee.
Judging = Literal["advise", "enforce"]

_LETTERS: Final = r"A-Za-z0-9_.:/-"
_NAME: Final = re.compile(rf"[{_LETTERS}]{{1,128}}")
_UNFIT: Final = re.compile(rf"[^{_LETTERS}]")
_LONGEST: Final = 100
_RUNS: Final = ("async", "thread", "process")


class Effect(StrEnum):
    """What calling a tool does to the world, from most to least freedom for dagexec."""

    pure = "pure"
    """Same arguments, same value."""
    read = "read"
    """Looks, changes nothing."""
    idempotent = "idempotent"
    """Changes, but twice is as once."""
    write = "write"
    """Changes, and twice is wrong."""

    @property
    def shares(self) -> bool:
        """Whether identical calls of one run share one execution."""
        return self is Effect.pure

    @property
    def eager(self) -> bool:
        """Whether a call may start while the model is still writing."""
        return self in {Effect.pure, Effect.read}

    @property
    def retries(self) -> bool:
        """Whether a call may be tried again after a failure or a timeout."""
        return self is not Effect.write

    @property
    def reruns(self) -> bool:
        """Whether a call may run again after a crash; otherwise it is in doubt."""
        return self is not Effect.write


def plan_name(name: str) -> str:
    """Return the name of a framework's tool as a plan takes it: another for each."""
    fitting = _UNFIT.sub("_", name)
    if fitting == name and 0 < len(name) <= _LONGEST:
        return name
    return f"{fitting[:_LONGEST]}_{blake2b(name.encode(), digest_size=4).hexdigest()}"


class ToolOptions(TypedDict, total=False):
    """The options of `tool` and `Tool.from_schema`.

    `timeout` is in seconds, None for the executor's. `reads` and `writes` are templates of
    resources over the arguments, `file:{path}`. `secret` names arguments whose values appear in no
    text but `Plan.to_json`, which has to have them to be run. `runs` is where the function runs, by
    default `async` for an async function and `thread` for any other. `approval` is True, or a
    function of the arguments that says whether a person has to agree. `reconcile` finds out what
    became of a write that a crash interrupted: a function of the call's context and arguments that
    returns `Done(value)`, `Deny(reason)` if it did not happen and shall not, `Approve()` to run it
    again, or None if it does not know. `retry` and `limits` are those of `dagexec.limits`; `cost`
    is what a call takes from a limit. `uses` are named resources of the executor that the call
    holds while it runs, with how many of each: `{"gpu": 1}`. `limit` is how many characters of a
    result a model is shown, None for its planner's.
    """

    name: str | None
    description: str | None
    effect: Effect | EffectName
    timeout: float | timedelta | None
    retry: Any
    limits: Any
    cost: Any
    reads: str | Iterable[str]
    writes: str | Iterable[str]
    approval: bool | Callable[..., bool]
    reconcile: Callable[..., Any] | None
    runs: Runs | None
    secret: str | Iterable[str]
    uses: Mapping[str, int]
    limit: int | None


def name_of(name: object, function: object) -> str:
    """Return a tool's name; raise ToolDefinitionError for what providers refuse."""
    if isinstance(name, str) and _NAME.fullmatch(name):
        return name
    msg = (
        f"{name or label(function)!r} cannot be the name of a tool: give one with tool(name=...),"
        " of at most 128 letters, digits and _ - . : /"
    )
    raise ToolDefinitionError(msg)


def effect_of(name: str, effect: object) -> Effect:
    """Return an effect given by itself or by its name."""
    if isinstance(effect, str) and effect in Effect.__members__:
        return Effect(effect)
    allowed = ", ".join(Effect)
    msg = f"effect={effect!r} of {name!r} is none of {allowed}"
    raise ToolDefinitionError(msg)


def judging_of(name: str, arguments: object) -> Judging:
    """Return what a schema from elsewhere does with arguments that it does not allow."""
    known: tuple[Judging, ...] = ("advise", "enforce")
    for each in known:
        if arguments == each:
            return each
    msg = f'arguments={arguments!r} of {name!r} is neither "advise" nor "enforce"'
    raise ToolDefinitionError(msg)


def timeout_of(name: str, timeout: object) -> float | None:
    """Return a timeout in seconds."""
    if timeout is None:
        return None
    if isinstance(timeout, timedelta):
        timeout = timeout.total_seconds()
    if isinstance(timeout, int | float) and not isinstance(timeout, bool):
        seconds = float(timeout)
        if math.isfinite(seconds) and seconds > 0:
            return seconds
    msg = (
        f"timeout={timeout!r} of {name!r} is no positive, finite number of seconds,"
        " such as 30 or a timedelta; None takes the executor's"
    )
    raise ToolDefinitionError(msg)


def approval_of(name: str, approval: Any) -> bool | Callable[..., bool]:
    """Return whether a person has to agree, or the function that says so."""
    if callable(approval):
        fits(name, "approval", approval, "the arguments, a dict")
        if is_async(approval):
            msg = f"approval={label(approval)} of {name!r} is async: it has to say at once"
            raise ToolDefinitionError(msg)
    elif not isinstance(approval, bool):
        msg = f"approval={approval!r} of {name!r} is neither True or False nor a function"
        raise ToolDefinitionError(msg)
    return cast("bool | Callable[..., bool]", approval)


def fits(name: str, option: str, function: Callable[..., Any], *given: str) -> None:
    """Refuse a function that cannot be called with as many arguments by place as it will be."""
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # of built-in functions nobody knows
        return
    try:
        signature.bind(*given)
    except TypeError as error:
        msg = (
            f"{option}={label(function)} of {name!r} is called with {' and '.join(given)}: {error}"
        )
        raise ToolDefinitionError(msg) from None


def reconcile_of(name: str, reconcile: Any) -> Callable[..., Any] | None:
    """Return the function that finds out what became of an interrupted call."""
    if callable(reconcile):
        fits(name, "reconcile", reconcile, "the call's context", "the arguments, a dict")
    elif reconcile is not None:
        msg = f"reconcile={reconcile!r} of {name!r} is no function"
        raise ToolDefinitionError(msg)
    return cast("Callable[..., Any] | None", reconcile)


def cost_of(name: str, cost: Any) -> Any:
    """Return what a call takes from its limits, or the function that says so."""
    if callable(cost):
        fits(name, "cost", cost, "the arguments, a dict")
    return cost


def runs_of(name: str, runs: object, function: object) -> Runs:
    """Return where a function runs."""
    asynchronous = is_async(function)
    if runs is None:
        return "async" if asynchronous else "thread"
    if runs not in _RUNS:
        msg = f"runs={runs!r} of {name!r} is none of {', '.join(_RUNS)}"
        raise ToolDefinitionError(msg)
    if asynchronous and runs != "async":
        msg = f"runs={runs!r} of {name!r}: an async function runs in the event loop, runs='async'"
        raise ToolDefinitionError(msg)
    return runs


def limit_of(name: str, limit: object) -> int | None:
    """Return how many characters of its results a model is shown."""
    if limit is None or (type(limit) is int and limit > 0):
        return limit
    msg = f"limit={limit!r} of {name!r} is no number of characters, from 1 on, or None"
    raise ToolDefinitionError(msg)


def uses_of(name: str, uses: object) -> dict[str, int]:
    """Return the resources that a tool uses, in one order."""
    if isinstance(uses, Mapping):
        items = cast("Mapping[object, object]", uses)
        if all(
            isinstance(key, str) and type(value) is int and value > 0
            for key, value in items.items()
        ):
            found = cast("Mapping[str, int]", uses)
            return {key: found[key] for key in sorted(found)}
    msg = f"uses={uses!r} of {name!r} has to be names and whole numbers from 1 on, {{'gpu': 1}}"
    raise ToolDefinitionError(msg)


def strings_of(name: str, option: str, value: object) -> tuple[str, ...]:
    """Return strings given as one or several."""
    listed = (value,) if isinstance(value, str) else value
    if isinstance(listed, Iterable):
        items = tuple(cast("Iterable[object]", listed))
        if all(isinstance(item, str) for item in items):
            return cast("tuple[str, ...]", items)
    msg = f"{option}={value!r} of {name!r} has to be strings"
    raise ToolDefinitionError(msg)
