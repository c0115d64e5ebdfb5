"""The one tree of errors.

    DagexecError
    ├── PlanError            a plan that cannot be run as written; names every problem
    ├── ToolDefinitionError  a function that cannot become a tool
    ├── CallError            one call that cannot be run; its text is meant for the model
    │   ├── ArgumentError    its arguments do not fit the tool
    │   ├── BadReference     a reference in it cannot be read or followed
    │   ├── OversizeError    it asks for more than a limit can ever hold
    │   ├── BreakerOpen      its tool fails again and again, so it was not tried
    │   └── Denied           a person refused it
    ├── CallTimeout          a deadline that a call did not meet
    │   └── AdmissionTimeout   its limits would not have let it start before the deadline
    ├── RateLimited          raised by a tool or client: the other side refused, come back later
    ├── CallCancelled        a tool that ended itself by a cancellation that nobody asked for
    ├── PoolDeadlock         a call that would wait for what cannot end before it
    ├── ProcessError         a child process that did not do what was asked of it
    │   ├── CommandFailed    it ended with another exit code than 0
    │   ├── GuardExpired     it broke one of its guards and was stopped
    │   ├── LineTooLong      it wrote a line longer than is read
    │   └── ProcessGone      it ended, or cannot be talked to any more
    ├── JournalError         a journal that cannot be read, written or trusted
    │   └── RunOwned         a run that another process, or another call of `run`, drives now
    └── MissingExtra         an optional part that is not installed

Catch `DagexecError` round a whole run, `PlanError` where a plan comes from a user, `CallError`
never: a call's error is its outcome, not an exception of the run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

__all__ = [
    "AdmissionTimeout",
    "ArgumentError",
    "BadReference",
    "BreakerOpen",
    "CallCancelled",
    "CallError",
    "CallTimeout",
    "CommandFailed",
    "DagexecError",
    "Denied",
    "GuardExpired",
    "JournalError",
    "LineTooLong",
    "MissingExtra",
    "OversizeError",
    "PlanError",
    "PoolDeadlock",
    "Problem",
    "ProcessError",
    "ProcessGone",
    "RateLimited",
    "RunOwned",
    "ToolDefinitionError",
]


_SHOWN: Final = 60  # characters of an id


class DagexecError(Exception):
    """Base of every error that dagexec raises.

    `report` holds what had finished when a run broke off, or None where no run was involved.
    """

    # Any, because the report stands above this module; `Report | None` in fact.
    report: Any = None


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong with a plan: its kind, the call that it is in, cause and way out.

    `also` names further calls that share it: the other members of a cycle.
    """

    kind: str
    call: str | None
    message: str
    also: tuple[str, ...] = ()

    def __str__(self) -> str:
        """Return the message, behind the call that it is about."""
        if self.call is None:
            return self.message
        # One call may have thousands of problems, and an id any length.
        name = self.call if len(self.call) <= _SHOWN else self.call[:_SHOWN] + "…"
        return f"call {name!r}: {self.message}"


class PlanError(DagexecError, ValueError):
    """A plan cannot be run as written; `problems` lists everything that is wrong with it."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        """Keep the problems, in plan order."""
        self.problems = tuple(problems)
        super().__init__(self.problems)

    def __str__(self) -> str:
        """Return the problems, one on a line."""
        if len(self.problems) == 1:
            return str(self.problems[0])
        lines = "\n".join(f"  - {problem}" for problem in self.problems)
        return f"the plan has {len(self.problems)} problems:\n{lines}"


class ToolDefinitionError(DagexecError, TypeError):
    """A function cannot become a tool, or a tool was declared with an option it cannot have."""


class CallError(DagexecError):
    """A call cannot be run as it was written; the text tells the model how to do better."""


class ArgumentError(CallError):
    """The arguments of a call do not fit its tool."""


class BadReference(CallError):
    """A reference cannot be read, or there is no value where its path leads."""


class Denied(CallError):
    """A person refused the call; the text is the reason that was given."""


class OversizeError(CallError):
    """A call asks for more of a limit than it can ever hold, so waiting would not help."""


class BreakerOpen(CallError):
    """A call was not tried: its tool failed too often, and the breaker has not closed again."""


class CallTimeout(DagexecError, TimeoutError):
    """A call did not end before a deadline; `scope` is the deadline's, `call` to `workflow`."""

    def __init__(self, message: str, scope: str) -> None:
        """Keep the scope whose deadline expired."""
        super().__init__(message)
        self.scope = scope

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle with both arguments; an exception's default keeps only the first."""
        return type(self), (str(self), self.scope)


class AdmissionTimeout(CallTimeout):
    """Limits would not have admitted a call before its deadline; nothing was sent or charged."""


class RateLimited(DagexecError):
    """The other side refused a request for now: HTTP 429, or what stands for it elsewhere.

    For tools to raise. `retry_after` is in seconds, None where the other side did not say;
    `headers` are those of its answer.
    """

    def __init__(
        self,
        message: str = "refused for now",
        *,
        retry_after: float | None = None,
        headers: Mapping[str, Any] | None = None,
    ) -> None:
        """Keep what the other side said."""
        super().__init__(message)
        self.retry_after = retry_after
        self.headers = headers


class StoreLost(DagexecError, ConnectionError):
    """What processes share the limits of a key by cannot be reached; the call was not sent."""


class CallCancelled(DagexecError):
    """A tool ended by a cancellation that neither the run nor its caller had asked for."""


class JournalError(DagexecError):
    """A journal cannot be read, written or trusted; the text names file, cause and way out."""


class RunOwned(JournalError):
    """Another process, or another `run` in this one, drives this run now."""


class MissingExtra(DagexecError, ImportError):
    """An optional part of dagexec was used that is not installed; the text names the extra."""


class PoolDeadlock(DagexecError):
    """A call needs what another holds that waits for it; the text names both."""


class ProcessError(DagexecError):
    """A child process did not do what was asked of it.

    `maybe` says that what was asked may have taken effect all the same.
    """

    maybe: bool = False


class CommandFailed(ProcessError):
    """A command ended with another exit code than 0; `result` holds its output."""

    def __init__(self, message: str, result: Any = None) -> None:
        """Keep the command's result."""
        super().__init__(message)
        self.result = result

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle with both arguments; an exception's default keeps only the first."""
        return type(self), (str(self), self.result)


class GuardExpired(ProcessError, TimeoutError):
    """A child process broke one of its guards; `guard` is the name of the field of `Guards`."""

    def __init__(self, message: str, guard: str) -> None:
        """Keep the name of the guard."""
        super().__init__(message)
        self.guard = guard

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle with both arguments; an exception's default keeps only the first."""
        return type(self), (str(self), self.guard)


class LineTooLong(ProcessError):
    """A child process wrote a line longer than is read; all lines before it were given out."""


class ProcessGone(ProcessError):
    """A child process ended while something was still expected of it, or had ended before."""


def text_of(error: BaseException | None) -> str:
    """Return the text of an error; an exception class of a tool may do anything when asked."""
    try:
        return str(error)
    except Exception:  # noqa: BLE001 - one failure must cost one result
        return ""
