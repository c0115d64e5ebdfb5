"""What people give in the place of a plan or its calls, and how each is mended."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final, cast, final

from dagexec._core.names import Names, cut, kind_of
from dagexec._errors import DagexecError

_HINTS: Final = {
    "a Call": "; a plan of one call is [call]",
    "a str": "; Plan.from_json(text) reads JSON, and a planner what a model wrote",
    "a bytes": "; Plan.from_json(text) reads JSON",
    "a dict": "; Plan.from_dict(body) reads the JSON form, and planner.plan(response) a reply",
    "a Report": "; the plan of a report is report.plan",
    "None": "; planner.plan(response) returns one, Plan() is empty",
}


def no_plan(given: object, call: type) -> str:
    """Return the text of the error about what are no calls; `call` is the class that they have."""
    kind = _kind(given)
    hint = _HINTS.get(kind, "")
    if isinstance(given, tuple) and not isinstance(given, str | bytes | Mapping):
        items = cast("Iterable[object]", given)
        other = _kind(next(each for each in items if not isinstance(each, call)))
        kind = f"a list that holds {other}"
        hint = _HINTS["a dict"] if other == "a dict" else ": make each a Call(id, tool, args)"
    return f"a Plan, calls, or an async iterator of calls is needed, not {kind}{hint}"


def _kind(given: object) -> str:
    """Return what something is; only what is short and no text is shown as it is."""
    return repr(given) if given is None or isinstance(given, int | float) else kind_of(given)


def is_file_name(text: str | bytes) -> bool:
    """Whether a text that should be JSON is rather the name of a file."""
    return isinstance(text, str) and text.endswith(".json") and "\n" not in text


@final
class NoCall(DagexecError, KeyError):
    """A plan was asked for a call that it does not have; the text names those that it has."""

    def __init__(self, key: object, names: Names) -> None:
        """Keep what was asked for; the text is made when somebody reads it."""
        super().__init__(key)
        self._names = names

    def __str__(self) -> str:
        """Return the cause, and the id that was probably meant."""
        key = str(self.args[0])
        close = self._names.near(key)
        hint = f"; did you mean {close!r}?" if close else f". There are: {self._names.shown}"
        return f"the plan has no call {cut(key)!r}{hint}"
