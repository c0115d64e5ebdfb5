"""What is known of each run of an agent: the numbers of its calls, what they left, its turn."""

from __future__ import annotations

import weakref
from collections.abc import Iterable
from typing import Any, Final, cast, final

from dagexec.integrations._turns.conversation import Spoken, read_arguments
from dagexec.integrations._turns.turn import Turn

CALL: Final = "function_call"
OUTPUT: Final = "function_call_output"
_TEXTS: Final = ("text", "input_text", "output_text")


def get(item: Any, name: str) -> Any:
    """Return a field of an item, which is a dict or an object of the API's client."""
    if isinstance(item, dict):
        return cast("dict[str, Any]", item).get(name)
    return getattr(item, name, None)


def value_of(raw: Any) -> Any:
    """Return what later calls get of what a tool returned: texts in place of the API's parts."""
    if isinstance(raw, list):
        parts = [value_of(each) for each in cast("list[Any]", raw)]
        return parts[0] if len(parts) == 1 and isinstance(parts[0], str) else parts
    text = get(raw, "text")
    known = get(raw, "type") in _TEXTS and isinstance(text, str)
    return text if known else raw


@final
class Run:
    """A run of an agent; one for each `Usage`, which all contexts of a run share."""

    def __init__(self) -> None:
        """Begin without calls."""
        # By the API's ids, in the order in which the model wrote them.
        self.known: dict[str, Spoken] = {}
        self.turn: Turn | None = None
        # The ids of calls that a turn of this run had: that knows which left a value, and a text
        # that tells of a failure is none.
        self.announced: set[str] = set()

    def learn(self, items: Iterable[Any]) -> list[Spoken]:
        """Take the calls and results of a conversation; return the calls that were not known."""
        new: list[Spoken] = []
        for item in items:
            kind, id_ = get(item, "type"), get(item, "call_id")
            if kind == CALL and isinstance(id_, str) and id_ not in self.known:
                number = len(self.known) + 1
                args = read_arguments(get(item, "arguments"))
                spoken = Spoken(number, id_, str(get(item, "name")), key=id_, args=args)
                self.known[id_] = spoken
                new.append(spoken)
            elif kind == OUTPUT and id_ in self.known and id_ not in self.announced:
                self.known[id_].value = value_of(get(item, "output"))
        return new

    def headed(self, items: list[Any]) -> None:
        """Put the number of its call in front of each result, in a request only."""
        for place, item in enumerate(items):
            call = self.known.get(str(get(item, "call_id")))
            if not isinstance(item, dict) or get(item, "type") != OUTPUT or call is None:
                continue
            head = f"[call {call.number}]"
            output: Any = get(cast("Any", item), "output")
            if isinstance(output, str):
                items[place] = {**item, "output": f"{head}\n{output}"}
            elif isinstance(output, list):
                items[place] = {**item, "output": [{"type": "input_text", "text": head}, *output]}


@final
class Runs:
    """The runs of one agent that go on at the moment."""

    def __init__(self) -> None:
        """Begin without any."""
        self._runs: dict[int, Run] = {}

    def of(self, context: Any) -> Run:
        """Return the run that a context is part of; it is forgotten with the run's usage."""
        usage = context.usage
        run = self._runs.get(id(usage))
        if run is None:
            run = self._runs[id(usage)] = Run()
            weakref.finalize(usage, self._runs.pop, id(usage), None)
        return run

    def knowing(self, call_id: str) -> dict[str, Spoken]:
        """Return what the latest run knows that has a call with this id.

        A run that was interrupted goes on as another one.
        """
        for run in reversed(self._runs.values()):
            if call_id in run.known:
                return run.known
        return {}
