"""Outcomes: what became of a call, and the answers that a person can give to a waiting one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import field, fields
from reprlib import Repr
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal, TypeAlias, final, get_args

from dagexec._core.plan import Call
from dagexec._core.secrets import shown_of_any
from dagexec._core.values import value
from dagexec._core.wrong_names import explained
from dagexec._errors import DagexecError, text_of

Status: TypeAlias = Literal[
    "done", "failed", "timed_out", "cancelled", "skipped", "pending", "in_doubt"
]

STATUSES: Final[tuple[str, ...]] = get_args(Status)

_SHOWN: Final = 80  # characters of a value in a repr
_REPR: Final = Repr()
_REPR.maxstring = _REPR.maxother = _SHOWN


@value(kw_only=True, shown=False)
class Outcome:
    """What became of a call; one of the seven classes below.

    Every attribute can be read on every outcome and is None where it means nothing. Times are
    seconds since the run began; `started` is when the call was admitted, and `queued` the seconds
    that it was ready before that. `maybe` marks a write that did not end as it should but may have
    taken effect. `call` is the call that it is the outcome of; None unless it came from a report.
    """

    status: ClassVar[Status]

    value: Any = None
    error: Exception | None = None
    scope: str | None = None
    because: str | None = None
    question: Any = None
    attempts: int = 0
    started: float | None = None
    ended: float | None = None
    queued: float | None = None
    maybe: bool = False
    # What a value that may change was like when its call ended: its JSON form. None otherwise.
    form: Any = field(default=None, repr=False, compare=False)
    call: Call | None = field(default=None, repr=False, compare=False)

    @property
    def ok(self) -> bool:
        """Whether the call is done."""
        return self.status == "done"

    @property
    def tool(self) -> str | None:
        """The name of the call's tool; None unless the outcome came from a report."""
        return None if self.call is None else self.call.tool

    @property
    def seconds(self) -> float | None:
        """How long the call ran, from its admission to its end; None if it never started."""
        if self.started is None or self.ended is None:
            return None
        return max(0.0, self.ended - self.started)

    def result(self) -> Any:
        """Return the value of a call that is done; raise what became of any other.

        Raises the error of a call that failed or timed out, and DagexecError, which names the call,
        its status and the cause, for one that is cancelled, skipped, pending or in doubt.
        """
        if self.status == "done":
            return self.value
        if self.error is not None:
            if self.call is not None:
                note_call(self.error, self.call)
            raise self.error
        raise DagexecError(self.told())

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            hint = _MEANT.get(name)
            msg = f"an outcome has no attribute {name!r}" + (f"; write {hint}" if hint else "")
            raise AttributeError(msg)

    def told(self) -> str:
        """Return in a line what became of the call, and why: for errors."""
        call = self.call
        name = "the call" if call is None else f"call {call.id!r} of tool {call.tool!r}"
        return f"{name} is {self.status}: {self._cause()}"

    def _cause(self) -> str:
        if self.error is not None:
            return str(error_line(self.error))
        if self.because is not None:
            return _BECAUSE.get(self.status, "because of {!r}").format(self.because)
        if self.status == "timed_out":
            return f"the deadline of the {self.scope} expired"
        if self.question is not None:
            return f"it waits for an answer to {_REPR.repr(self.question)}; give it to resume()"
        return _CAUSES[self.status]

    def __repr__(self) -> str:
        """Return the class and the fields that mean something, long values cut."""
        return f"{type(self).__name__}({', '.join(self._parts())})"

    def _parts(self) -> Iterator[str]:
        for each in fields(self):
            item = getattr(self, each.name)
            empty = item is None or item is False or (each.name == "attempts" and item == 0)
            if each.repr and not (empty and not (each.name == "value" and self.ok)):
                yield f"{each.name}={_REPR.repr(item)}"


# What people look for, and how it is called.
_MEANT: Final = {
    "output": ".value, or .result() to raise what went wrong",
    "outputs": ".value, or .result() to raise what went wrong",
    "exception": ".error",
    "elapsed": ".seconds",
    "duration": ".seconds",
    "success": ".ok",
    "id": ".call.id",
    "args": ".call.args",
}
_BECAUSE: Final[Mapping[str, str]] = {
    "skipped": "it needs {!r}, which did not succeed",
    "cancelled": "the failure of {!r} ended the run",
    "pending": "it waits for {!r}, which waits for an answer; give that to resume()",
}
_CAUSES: Final[Mapping[str, str]] = {
    "failed": "no error was recorded",
    "cancelled": "the run was ended before the call was",
    "skipped": "a call that it needs did not succeed",
    "pending": "it waits for an answer; give it to resume()",
    "in_doubt": "a crash left unknown whether it took effect; tell resume() which answer is right",
}


def note_call(error: BaseException, call: Call) -> None:
    """Add to an error, once, which call raised it."""
    note = f"in call {call.id!r} of tool {call.tool!r}"
    if note not in getattr(error, "__notes__", ()):
        error.add_note(note)


def error_line(error: BaseException | None) -> str | None:
    """Return the type and text of an error, `KeyError: 'b'`, None for None."""
    if error is None:
        return None
    # One that was read back from a report or a journal names its type itself.
    kind = getattr(error, "kind", None)
    text = text_of(error)
    if isinstance(kind, str) and text.startswith(kind):
        return text
    name = type(error).__name__
    return f"{name}: {text}" if text else name


@final
@value(shown=False)
class Done(Outcome):
    """The tool returned; `value` is what it returned, with its type."""

    status: ClassVar[Status] = "done"

    value: Any = field(default=None, kw_only=False)


@final
@value(shown=False)
class Failed(Outcome):
    """The tool raised, or the call could not be run; `error` is the exception."""

    status: ClassVar[Status] = "failed"

    error: Exception | None = field(default=None, kw_only=False)


@final
@value(shown=False)
class TimedOut(Outcome):
    """A deadline expired before the call had ended; `scope` is the deadline's.

    A call that never started has `started` None.
    """

    status: ClassVar[Status] = "timed_out"

    scope: str | None = field(default="call", kw_only=False)


@final
@value(shown=False)
class Cancelled(Outcome):
    """The run was stopped; `because` names the call whose failure stopped it, if one did."""

    status: ClassVar[Status] = "cancelled"


@final
@value(shown=False)
class Skipped(Outcome):
    """The call never started: `because` names the call that failed first."""

    status: ClassVar[Status] = "skipped"

    because: str | None = field(default=None, kw_only=False)


@final
@value(shown=False)
class Pending(Outcome):
    """A person has to answer first: `question`, or the call named by `because` waits for one."""

    status: ClassVar[Status] = "pending"

    question: Any = field(default=None, kw_only=False)


@final
@value(shown=False)
class InDoubt(Outcome):
    """A crash left unknown whether this write took effect; a person or a policy decides."""

    status: ClassVar[Status] = "in_doubt"


OUTCOMES: Final[Mapping[str, type[Outcome]]] = {
    kind.status: kind for kind in (Done, Failed, TimedOut, Cancelled, Skipped, Pending, InDoubt)
}


@final
@value()
class Approve:
    """Let a pending call run, or run an in-doubt one again."""


@explained
@final
@value()
class Deny:
    """Refuse a pending call: it fails with the reason. Of an in-doubt one: it did not happen."""

    reason: str = "denied"


@explained
@final
@value(shown=False)
class Edit:
    """Let a pending call run with other arguments: those named here; the rest stay as they are.

    A journal does not keep what it holds for arguments that their tool declares `secret`. Where the
    run goes on without this answer at hand, such as after a crash, the call waits again, and its
    question names under "missing" what the next `Edit` has to give.
    """

    args: Mapping[str, Any]

    def __repr__(self) -> str:
        """Return the arguments without those that any tool declares secret."""
        return f"Edit(args={shown_of_any(self.args)!r})"
