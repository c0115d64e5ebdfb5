"""What an earlier attempt at a program has done: a corrected program takes it from here.

A program that failed is sent again, corrected. Its calls are matched with those of the attempts
before by tool and arguments, each one once and in order. One that is done gives its value and is
not run again. A write of which nobody knows whether it took effect is not run either: it raises
`ToolError` and says so.
"""

# A value of a program is of any type: what the checker calls unknown here is meant.
# pyright: reportUnknownArgumentType=false, reportUnknownMemberType=false
# pyright: reportUnknownVariableType=false

from __future__ import annotations

import json
from collections import deque
from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Final, final

from dagexec._core.refs import Literal
from dagexec._core.results import Results
from dagexec._tools.tool import Tool
from dagexec.programs._json_values import as_json, plain

NOT_AGAIN: Final = (
    "an earlier attempt at this program made the same call, which ended as {} and may have taken"
    " effect. Check that first; `repeat` names the tools whose calls are to run again"
)


@final
@dataclass(frozen=True, slots=True)
class EarlierCall:
    """A call that an earlier attempt has made: its value, or why it must not run again."""

    tool: str
    # Whole, to be compared; some may be secret.
    args: dict[str, Any] = field(repr=False)
    value: Any = None
    doubt: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON's kinds."""
        return asdict(self)

    @staticmethod
    def from_dict(body: Mapping[str, Any]) -> EarlierCall:
        """Read what `to_dict` gave."""
        return EarlierCall(
            body["tool"], body["args"], body.get("value"), str(body.get("doubt", ""))
        )


@final
class Reusable:
    """The calls of earlier attempts, for one run of a corrected program."""

    def __init__(self, calls: Iterable[EarlierCall], tools: Mapping[str, Tool[..., Any]]) -> None:
        """Take them in order."""
        self._tools = tools
        self._left: dict[str, deque[EarlierCall]] = {}
        # Those that the program came to, in order, by the names that they have in it.
        self.taken: dict[str, EarlierCall] = {}
        for call in calls:
            self._left.setdefault(self._key(call.tool, call.args), deque()).append(call)

    def take(self, name: str, tool: str, args: Mapping[str, Any]) -> EarlierCall | None:
        """Return the next earlier call of this tool with these arguments, or None."""
        if not self._left:
            return None
        key = self._key(tool, args)
        calls = self._left.get(key)
        if not calls:
            return None
        found = self.taken[name] = calls.popleft()
        if not calls:
            del self._left[key]
        return found

    @property
    def left(self) -> list[EarlierCall]:
        """Those that the program did not come to."""
        return [call for calls in self._left.values() for call in calls]

    def _key(self, tool: str, args: Mapping[str, Any]) -> str:
        return key_of(tool, args, self._tools)


def key_of(tool: str, args: Mapping[str, Any], tools: Mapping[str, Tool[..., Any]]) -> str:
    """Return a text that is the same for calls of a tool with the same arguments."""
    known = tools.get(tool)
    properties = {} if known is None else known.parameters.get("properties", {})
    defaults = {
        name: each["default"]
        for name, each in properties.items()
        if isinstance(each, dict) and "default" in each
    }
    given = {**defaults, **{name: as_json(value) for name, value in args.items()}}
    return json.dumps([tool, given], sort_keys=True, default=str)


def calls_of(
    report: Results, tools: Mapping[str, Tool[..., Any]], repeat: Collection[str] = ()
) -> list[EarlierCall]:
    """Return what a program has done that failed, for its correction: in order.

    Without calls of the tools in `repeat`, which are to run again.
    """
    program = report.program
    made = [] if program is None else [*program.reused.values()]
    for call in report.plan:
        outcome = report.get(call.id)
        if outcome is None:
            continue
        args = {name: as_json(bare(value)) for name, value in call.args.items()}
        tool = tools.get(call.tool)
        if outcome.status == "done":
            made.append(EarlierCall(call.tool, args, plain(outcome.value)))
        elif outcome.maybe and tool is not None and tool.effect == "write":
            made.append(EarlierCall(call.tool, args, doubt=outcome.status.replace("_", " ")))
    made += [] if program is None else program.unused
    return [call for call in made if call.tool not in repeat]


def bare(value: Any) -> Any:
    """Return an argument of a program's call as the program gave it."""
    return value.value if isinstance(value, Literal) else value
