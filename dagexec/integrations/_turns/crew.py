"""What a user sets for all turns of an agent, and the executor that they share."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Literal, final

from dagexec import DagexecError, Executor, Report, Timeouts, Tool, ToolDefinitionError, tool
from dagexec._runtime.observers import Observer
from dagexec._runtime.settings import SomeTimeouts, timeouts_of
from dagexec._tools.arguments import OpenArguments
from dagexec._tools.json_schema import SchemaArguments
from dagexec._tools.options import ToolOptions, plan_name
from dagexec.limits import Retry

# Read from the disk now, not in the event loop by the first turn.
_READ: Final = (SchemaArguments,)

_log: Final = logging.getLogger("dagexec")

# An agent as a tool may take minutes, so a call has no limit of its own unless it is asked for.
DEFAULT_TIMEOUTS: Final = Timeouts(call=None, workflow=600.0)
DEFAULT_CONCURRENCY: Final = 20
# What the framework keeps, or what only a tool of an `Executor` can have.
_NOT_HERE: Final = ("runs", "name", "description")

Perform = Callable[..., Awaitable[Any]]


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The settings of an adapter, which are those of an executor and a few of its own."""

    timeouts: SomeTimeouts | None = None
    concurrency: int | None = DEFAULT_CONCURRENCY
    on_failure: Literal["skip", "stop"] = "skip"
    barrier: bool = False
    observers: Sequence[Observer] = ()
    references: bool = True
    options: Mapping[str, ToolOptions] | None = None
    capacities: Mapping[str, int] | None = None
    errors: Literal["answer", "raise"] = "answer"
    on_report: Callable[[Report], object] | None = None


@final
class Crew:
    """The tools of an agent as an executor runs them, over all turns and runs of that agent."""

    def __init__(
        self,
        settings: Settings,
        perform: Perform,
        observer: Any,
        final_errors: tuple[type[Exception], ...],
    ) -> None:
        """Check the settings; raise DagexecError or ToolDefinitionError for what cannot be.

        `perform` runs the current call. `final_errors` are how the framework steers: another
        attempt is not made for them.
        """
        if settings.errors not in ("answer", "raise"):
            msg = f'errors={settings.errors!r}: write "answer", or "raise" to end the agent\'s run'
            raise DagexecError(msg)
        self.settings = settings
        self._options = dict(settings.options or {})
        self._perform = perform
        self._observer = observer
        self._final = final_errors
        self._own: dict[str, Tool[..., Any]] = {}
        # What a user said of the tool of a name: approval, effect, secrets.
        self.judges: dict[str, Tool[..., Any]] = {}
        self._names: dict[str, str] = {}
        self._executor = self._made(self._options)

    def own(self, tools: Iterable[Tool[..., Any]]) -> None:
        """Take tools of dagexec, whose own options count."""
        for each in tools:
            if each.runs == "process":
                raise _not_here("runs", each.name)
            self._own[each.name] = each
            self.judges.pop(each.name, None)
        self._executor = self._made(self._names)

    def executor(self, names: Iterable[str]) -> Executor:
        """Return the executor, which knows at least the tools of these names."""
        unknown = [name for name in names if name not in self._names]
        if unknown:
            self._executor = self._made(dict.fromkeys((*self._names, *unknown)))
        return self._executor

    def names(self) -> Mapping[str, str]:
        """Return what each tool is called in plans: some frameworks allow more than dagexec."""
        return self._names

    def judge(self, name: str) -> Tool[..., Any]:
        """Return the tool that says what the user's options mean for calls of this name."""
        made = self.judges.get(name)
        if made is None:
            made = self.judges[name] = self._judge(name)
        return made

    def _judge(self, name: str) -> Tool[..., Any]:
        options = self._options.get(name, {})
        for option in _NOT_HERE:
            if option in options:
                raise _not_here(option, name)
        own = self._own.get(name)
        if own is not None:
            return tool(own, **options) if options else own
        chosen: Any = options
        return Tool.from_schema(plan_name(name), {"type": "object"}, self._perform, **chosen)

    def _made(self, names: Iterable[str]) -> Executor:
        settings = self.settings
        tools = [self._driven(name) for name in names]
        executor = Executor(
            tools,
            timeouts=timeouts_of(settings.timeouts) or DEFAULT_TIMEOUTS,
            concurrency=settings.concurrency,
            on_failure=settings.on_failure,
            barrier=settings.barrier,
            observers=(*settings.observers, self._observer),
            capacities=settings.capacities,
        )
        self._names = {name: made.name for name, made in zip(names, tools, strict=True)}
        return executor

    def _driven(self, name: str) -> Tool[..., Any]:
        """Return what an executor runs for a tool: a call of the framework's handler."""
        judge = self.judge(name)
        open_: Tool[..., Any] = Tool.from_schema(
            plan_name(name), {"type": "object"}, self._perform, secret=judge.secret
        )
        return replace(
            judge,
            name=open_.name,
            function=open_.function,
            raw=open_.raw,
            runs="async",
            needs_context=None,
            # The framework asks people, in its own way.
            approval=False,
            # Calls do not share an execution: their arguments are not all that a tool is handed.
            effect=type(judge.effect).read if judge.effect.shares else judge.effect,
            retry=self._patient(judge.retry),
            parameters=open_.parameters,
            binds="",
            owner=None,
            _arguments=OpenArguments(judge._arguments.defaults, judge.secret),  # noqa: SLF001 # pyright: ignore[reportPrivateUsage]
        )

    def _patient(self, retry: Any) -> Any:
        """Return a retry that leaves alone what steers the framework."""
        if not isinstance(retry, Retry) or not self._final:
            return retry

        def covers(error: Exception) -> bool:
            return not isinstance(error, self._final) and retry.covers(error)

        made = replace(retry, on=covers)
        # Its budgets and its breaker are those of the tools that share the other.
        object.__setattr__(made, "_keys", retry._keys)  # noqa: SLF001 # pyright: ignore[reportPrivateUsage]
        return made

    def report(self, report: Report) -> None:
        """Hand out the report of a turn, to who asked for it."""
        if self.settings.on_report is None:
            return
        try:
            self.settings.on_report(report)
        except Exception:  # noqa: BLE001 - whoever looks on must not disturb
            _log.exception("on_report raised; the agent goes on")


def needs_approval(judge: Tool[..., Any], args: Mapping[str, Any]) -> bool:
    """Whether a person has to agree to a call with these arguments."""
    approval = judge.approval
    return bool(approval(dict(args))) if callable(approval) else approval


def _not_here(option: str, name: str) -> ToolDefinitionError:
    return ToolDefinitionError(
        f"{option}= of {name!r}: inside a framework that is the framework's own affair;"
        ' runs="process" is for tools of an Executor'
    )
