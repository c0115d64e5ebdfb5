"""Wrong names of arguments: errors that name the argument which was probably meant.

People come from other libraries with their words: `max_workers`, `retries`, `depends_on`. Python's
own TypeError names the wrong word only.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from functools import wraps
from inspect import Parameter, iscoroutinefunction, signature
from typing import Any, Final, TypeVar, final

from dagexec._core.names import Names, cut, some
from dagexec._errors import DagexecError

_T = TypeVar("_T")
_SHOWN: Final = 20  # arguments that a message lists

# What is called so here, and the usual words of other libraries for it.
_WORDS: Final[Mapping[str, str]] = {
    "concurrency": "max_workers workers num_workers n_jobs max_concurrency max_concurrent threads"
    " max_parallel parallelism parallel limit semaphore",
    "in_flight": "concurrency max_workers max_concurrency max_concurrent parallel limit",
    "timeouts": "timeout timeout_s timeout_seconds time_limit deadline max_time",
    "timeout": "timeouts timeout_s timeout_seconds time_limit deadline max_time",
    "call": "timeout tool per_call task node step",
    "workflow": "total overall run global all total_timeout plan graph",
    "retry": "retries max_retries num_retries max_attempts tries attempts retry_policy",
    "attempts": "retries max_retries num_retries max_attempts tries stop times n",
    "base": "delay wait backoff initial wait_initial initial_interval",
    "cap": "max_delay maximum wait_max max_wait max_interval",
    "on": "exceptions retry_on errors retry_if",
    "journal": "checkpointer checkpoint storage memory state db database",
    "observers": "callbacks callback hooks listeners handlers observer on_event",
    "tools": "functions tool toolset toolsets nodes tasks",
    "on_failure": "fail_fast stop_on_error raise_on_error return_exceptions on_error",
    "capacities": "resources pools slots",
    "uses": "resources resource pool slots",
    "tool": "name function tool_name func action",
    "name": "tool tool_name",
    "args": "arguments parameters params kwargs input inputs values",
    "after": "depends_on dependencies depends deps needs requires upstream before wait_for",
    "id": "call_id tool_call_id key node_id task_id uid name",
    "key": "name id",
    "calls": "nodes steps tasks tool_calls",
    "default": "fallback default_value otherwise",
    "reason": "message why because text",
    "rates": "rate rpm tpm requests per_minute per_second quota",
    "limits": "rate_limit limiter rate_limiter rates",
    "per": "per_second period seconds window",
    "limit": "max_length max_chars truncate max_result requests rate amount",
    "secret": "sensitive redact hidden secrets",
    "approval": "confirm requires_approval needs_approval interrupt approve",
    "effect": "effects readonly read_only side_effects idempotent pure",
    "runs": "executor thread process run_in",
    "path": "file filename database url",
    "failures": "threshold fail_max max_failures",
    "interval": "reset_timeout cooldown recovery_timeout",
    "max_turns": "max_iterations max_steps recursion_limit max_rounds",
    "output_type": "response_format response_model output_schema result_type text_format",
    "value": "result output",
    "run_id": "id name key thread_id uid idempotency_key",
    "plan": "calls graph dag tasks nodes program",
    "answers": "approvals approve answer decisions responses response resume values",
}

# What belongs somewhere else than where it was given.
_RETRY: Final = "a retry is its tool's: @tool(retry=Retry(3)), from dagexec.limits"
_LIMITS: Final = "limits are a tool's: @tool(limits=Limiter(...)), from dagexec.limits"
_MODEL: Final = "a model is asked by planners.solve(question, planner=, client=, model=, executor=)"
_ELSEWHERE: Final[Mapping[str, str]] = {
    **dict.fromkeys(
        ("retry", "retries", "max_retries", "num_retries", "retry_policy", "max_attempts"), _RETRY
    ),
    **dict.fromkeys(("limits", "limiter", "rate_limit", "rate_limiter", "rates", "rate"), _LIMITS),
    **dict.fromkeys(("model", "client", "llm", "api_key", "system", "prompt"), _MODEL),
    "effect": 'an effect is a tool\'s: @tool(effect="read")',
    "approval": "an approval is a tool's: @tool(approval=True)",
    "edges": "edges come from the calls: a Ref to another call in `args`, or `after=`",
    "strict": "ChatPlanner, ResponsesPlanner and MessagesPlanner have it",
    **dict.fromkeys(("timeout", "timeouts"), "timeouts are an Executor's, or one tool's"),
    "concurrency": "the concurrency is an Executor's",
    "journal": "a journal is an Executor's",
}


@final
class UnknownArgument(DagexecError, TypeError):
    """A name that is no argument; the text names the right one."""


def wrong_name(
    whose: str,
    name: str,
    known: Collection[str],
    given: Collection[str] = (),
    *,
    what: str = "argument",
) -> str:
    """Return the text of the error about an argument that `whose` does not have.

    `given` are the names of those that were given as well; `what` is what arguments are called.
    """
    told = f"{whose} has no {what} {cut(name)!r}"
    fitting = [each for each in known if name in _WORDS.get(each, "").split()]
    if fitting:
        meant = next((each for each in fitting if each not in given), fitting[0])
        return f"{told}; it is called {meant!r} here"
    if name in _ELSEWHERE:
        return f"{told}: {_ELSEWHERE[name]}"
    near = Names(known, _SHOWN).near(name)
    if near is not None:
        return f"{told}; did you mean {near!r}?"
    if "args" in known:
        return f"{told}; what the tool takes goes into a dict: args={{{cut(name)!r}: …}}"
    return f"{told}; it takes {some(known, _SHOWN) or 'none'}"


def explained(kind: type[_T]) -> type[_T]:
    """Have a class say which argument was meant, where it is made with one that it does not have.

    Nothing is looked at before Python itself has refused the arguments. It costs some 0.2 us for
    each object made, so what is made several times a call, references and outcomes, goes without.
    """
    made: Callable[..., None] = kind.__init__

    @wraps(made)
    def __init__(self: Any, /, *args: Any, **options: Any) -> None:  # noqa: N807 - it becomes it
        try:
            made(self, *args, **options)
        except TypeError as error:
            shown = signature(kind).parameters.values()
            _explain(error, type(self).__name__, _after_self(made), args, options, shown=shown)
            raise

    changed: Any = kind
    changed.__init__ = __init__
    return kind


def explained_with(*methods: str) -> Callable[[type[_T]], type[_T]]:
    """Have a class say the same, and these methods of it as well."""

    def explain(kind: type[_T]) -> type[_T]:
        for name in methods:
            setattr(kind, name, _explained_method(getattr(kind, name), f"{kind.__name__}.{name}"))
        return explained(kind)

    return explain


def _explained_method(method: Callable[..., Any], whose: str) -> Callable[..., Any]:
    """Return a method that says which argument was meant; a coroutine function stays one."""

    def explain(error: TypeError, args: tuple[Any, ...], options: Mapping[str, Any]) -> None:
        _explain(error, whose, _after_self(method), args, options)

    if iscoroutinefunction(method):

        @wraps(method)
        async def later(self: Any, /, *args: Any, **options: Any) -> Any:
            try:
                begun = method(self, *args, **options)
            except TypeError as error:
                explain(error, args, options)
                raise
            return await begun

        return later

    @wraps(method)
    def at_once(self: Any, /, *args: Any, **options: Any) -> Any:
        try:
            return method(self, *args, **options)
        except TypeError as error:
            explain(error, args, options)
            raise

    return at_once


def _explain(
    error: TypeError,
    whose: str,
    takes: Collection[Parameter],
    args: tuple[Any, ...],
    options: Mapping[str, Any],
    *,
    shown: Collection[Parameter] = (),
) -> None:
    """Raise UnknownArgument if Python has refused these arguments for one that is not taken.

    `shown` are the arguments of the public signature, where that says more.
    """
    trace = error.__traceback__
    if isinstance(error, UnknownArgument) or trace is None or trace.tb_next is not None:
        return  # it happened inside
    text = _misfit(f"{whose}()", takes, args, options, shown)
    if text is not None:
        raise UnknownArgument(text) from None


def _after_self(function: Callable[..., Any]) -> list[Parameter]:
    return [*signature(function).parameters.values()][1:]


def _misfit(
    whose: str,
    takes: Collection[Parameter],
    args: tuple[Any, ...],
    options: Mapping[str, Any],
    shown: Collection[Parameter],
) -> str | None:
    """Return what is wrong with the arguments; None if no name is, and they are not too many."""
    named = [each.name for each in takes if each.kind not in _COLLECTING]
    own = [each.name for each in shown if each.kind not in _COLLECTING]
    known = [name for name in dict.fromkeys((*own, *named)) if not name.startswith("_")]
    first = [each.name for each in takes if each.kind is not Parameter.KEYWORD_ONLY]
    for name in options:
        if name not in named:
            return wrong_name(whose, name, known, {*options, *first[: len(args)]})
    if len(args) <= len(first):
        return None
    rest = [name for name in known if name not in first]
    text = f"{whose} takes {_in_order(first)}, and {len(args)} were given"
    if rest:
        return f"{text}; by name it takes {some(rest, _SHOWN)}"
    return f"{text}: give them as one list" if len(first) == 1 else text


_COLLECTING: Final = (Parameter.VAR_KEYWORD, Parameter.VAR_POSITIONAL)


def _in_order(names: list[str]) -> str:
    if not names:
        return "nothing without a name"
    some_ = "one argument" if len(names) == 1 else f"at most {len(names)} arguments"
    return f"{some_} without a name: {', '.join(names)}"
