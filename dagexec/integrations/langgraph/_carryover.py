"""What is known of a message's calls when the node leaves by an interrupt or an error.

LangGraph matches answers to interrupts by the order in which a node asks, and runs the whole node
again. For calls that run side by side both are wrong: answers reach the wrong call, and calls that
are done run twice. So here each call gets a scratchpad of its own, with ids and answers of its
own, and what is done is written into the list of answers that LangGraph keeps for the node.

This stands on names that LangGraph does not document (all of them are used here and nowhere else).
Where they are missing, `carryover_of` returns None, says so once, and LangGraph's own way is used.
"""

# LangGraph's generic types come without their parameters, and its hooks are private by name.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportUnknownParameterType=false
# pyright: reportPrivateUsage=false, reportMissingTypeStubs=false

from __future__ import annotations

import copy
import dataclasses
import itertools
import warnings
from collections.abc import Callable, Iterable, Sequence
from hashlib import blake2b
from importlib import import_module
from typing import Any, Final, cast, final

from langchain_core.messages import ToolMessage
from langchain_core.runnables import RunnableConfig
from langgraph.errors import GraphInterrupt, ParentCommand
from langgraph.types import Command, Interrupt

from dagexec.integrations.langgraph._answers import plain
from dagexec.integrations.langgraph._tracked import TrackedCall


def _find_names() -> tuple[type[Any], str, str, str, str] | None:
    """Return LangGraph's class of scratchpads and the keys of a config, None if any is missing."""
    try:
        keys: Any = import_module("langgraph._internal._constants")
        kind: Any = import_module("langgraph._internal._scratchpad").PregelScratchpad
        fields = {each.name for each in dataclasses.fields(kind)}
        if not {"interrupt_counter", "get_null_resume", "resume", "subgraph_counter"} <= fields:
            return None
        found = (keys.CONFIG_KEY_SEND, keys.CONFIG_KEY_RESUME_MAP, keys.CONFIG_KEY_CHECKPOINT_NS)
    except (ImportError, AttributeError, TypeError):
        return None
    return (kind, *found, keys.RESUME)


_SCRATCHPAD: Final = "__pregel_scratchpad"
NAMES: Final = _find_names()
_MARK: Final = "dagexec"
_VERSION: Final = 1
_warned: list[bool] = []


def in_graph(config: RunnableConfig) -> bool:
    """Whether a graph runs the node, and not a program by itself."""
    return (config.get("configurable") or {}).get(_SCRATCHPAD) is not None


def carryover_of(config: RunnableConfig, tracked_calls: Sequence[TrackedCall]) -> Carryover | None:
    """Return the carryover of a message, with what an attempt before has left in it.

    None outside of a graph, and where LangGraph is not built as expected.
    """
    settings: dict[str, Any] = config.get("configurable") or {}
    scratchpad = settings.get(_SCRATCHPAD)
    if scratchpad is None:
        return None
    if NAMES is None or not isinstance(scratchpad, NAMES[0]) or NAMES[1] not in settings:
        _warn()
        return None
    left: list[Any] = scratchpad.resume
    kept: Any = left[0] if left else None
    if left and not (isinstance(kept, dict) and kept.get(_MARK) == _VERSION):
        return None  # interrupted under the stock class: its answers go by order
    return Carryover(settings, scratchpad, tracked_calls, kept or {})


def _warn() -> None:
    if not _warned:
        _warned.append(True)
        msg = (
            "this version of LangGraph is not built as dagexec expects: interrupts of parallel"
            " calls and calls that are done are treated as by ToolNode, one interrupt at a time"
        )
        warnings.warn(msg, RuntimeWarning, stacklevel=2)


@final
class Carryover:
    """The answers that a message's calls have been given, and the calls that are done."""

    def __init__(
        self,
        settings: dict[str, Any],
        scratchpad: Any,
        tracked_calls: Sequence[TrackedCall],
        kept: dict[str, Any],
    ) -> None:
        """Read what an attempt before has left; settle the tracked_calls that are done."""
        self._settings = settings
        self._scratchpad = scratchpad
        self._records = tracked_calls
        assert NAMES is not None  # noqa: S101 - `carryover_of` has looked
        _, self._send_key, answers, namespace, self._resume_key = NAMES
        self._namespace = str(settings.get(namespace, ""))
        self._given: dict[str, Any] = settings.get(answers) or {}
        self._done: dict[str, dict[str, Any]] = kept.get("done", {})
        self._asked: dict[str, list[Any]] = kept.get("asked", {})
        # What calls asked by dagexec's means, (approval or question, its text), and the answers.
        self._questions: dict[str, tuple[str, Any]] = kept.get("questions", {})
        self.bodies: dict[str, list[dict[str, Any]]] = kept.get("answers", {})
        waiting: list[str] = kept.get("waiting", [])
        # A plain `Command(resume=...)` names no interrupt; LangGraph takes it for a single one.
        self._first_asker = waiting[0] if waiting else None
        for tracked in tracked_calls:
            entry = self._done.get(tracked.id)
            if entry is not None:
                _settle(tracked, entry)

    # ------------------------------------------------------------------------------------- one call

    def answer(self, tracked: TrackedCall) -> tuple[Any, str, Any] | None:
        """Return the answer to what a call asked when the node was left, and the question."""
        asked = self._questions.get(tracked.id)
        if asked is None:
            return None
        id_ = self._id(tracked, f"asked {len(self.bodies.get(tracked.id, ()))}")
        if id_ in self._given:
            return (self._given[id_], *asked)
        if self._first_asker == tracked.id:
            # Left there: an answer that does not fit can be given again.
            answer = self._scratchpad.get_null_resume(False)  # noqa: FBT003 - as it is called
            if answer is not None:
                return (answer, *asked)
        return None

    def took(self, tracked: TrackedCall) -> None:
        """Note that the answer to a call's question fits, and was taken in."""
        if self._first_asker == tracked.id:
            self._scratchpad.get_null_resume(True)  # noqa: FBT003 - as it is called
        del self._questions[tracked.id]

    def config(self, tracked: TrackedCall) -> RunnableConfig:
        """Return a config in which an attempt of a call has a scratchpad of its own.

        Each attempt runs the tool from its first line, so it is given the answers from the first.
        """
        config = tracked.runtime.config
        answers = tracked.resume = list(self._asked.get(tracked.id, ()))
        asked = self._id(tracked, str(len(answers)))
        if asked in self._given:
            answers.append(self._given[asked])
        # Graphs that a call runs are told apart by a number; by position it is the same next time.
        numbers = itertools.count(tracked.position, len(self._records))
        scratchpad = dataclasses.replace(
            self._scratchpad,
            interrupt_counter=itertools.count().__next__,
            get_null_resume=self._plain_answer(tracked),
            resume=answers,
            subgraph_counter=numbers.__next__,
        )
        settings = {
            **config.get("configurable", {}),
            _SCRATCHPAD: scratchpad,
            self._send_key: self._sender(tracked),
        }
        return {**config, "configurable": settings}

    def _id(self, tracked: TrackedCall, answered: str) -> str:
        # 32 hexadecimal digits: LangGraph tells answers by id from other answers by their look.
        text = f"{self._namespace}|call:{tracked.id}:{answered}"
        return blake2b(text.encode(), digest_size=16).hexdigest()

    def _plain_answer(self, tracked: TrackedCall) -> Callable[..., Any]:
        def get(consume: bool = False) -> Any:  # noqa: FBT001, FBT002 - as it is called
            if self._first_asker not in (None, tracked.id):
                return None
            return self._scratchpad.get_null_resume(consume)

        return get

    def _sender(self, tracked: TrackedCall) -> Callable[[Iterable[tuple[str, Any]]], None]:
        send = self._settings[self._send_key]

        def sending(writes: Iterable[tuple[str, Any]]) -> None:
            others: list[tuple[str, Any]] = []
            for channel, value in writes:
                if channel == self._resume_key:
                    # A further attempt begins with the first: the others are not forgotten.
                    if len(value) > len(self._asked.get(tracked.id, ())):
                        self._asked[tracked.id] = list(value)
                else:
                    others.append((channel, value))
            if others:
                send(others)

        return sending

    # ----------------------------------------------------------------------------- leaving the node

    def interrupts(self, tracked: TrackedCall) -> tuple[Interrupt[Any], ...]:
        """Return a call's interrupts with its own ids; those of graphs inside it keep theirs."""
        if tracked.asks is not None:
            bodies = () if tracked.people is None else tracked.people.bodies
            own = Interrupt.from_ns(value=tracked.asks[1], ns=self._namespace)
            own.id = self._id(tracked, f"asked {len(bodies)}")
            return (own,)
        raised: Any = tracked.interrupt.args[0] if tracked.interrupt else ()
        answered = len(tracked.resume)
        stock = {
            Interrupt.from_ns(value=None, ns=name).id
            for name in (self._namespace, f"{self._namespace}|{answered}")
        }
        found: list[Interrupt[Any]] = []
        for each in raised:
            if each.id in stock:
                each = copy.copy(each)  # noqa: PLW2901
                each.id = self._id(tracked, str(answered))
            found.append(each)
        return tuple(found)

    def save(self) -> None:
        """Write down what is known, where the next attempt will look."""
        for tracked in self._records:
            # What an attempt before has written down knows the value.
            entry = None if tracked.id in self._done else _entry(tracked)
            if entry is not None:
                self._done[tracked.id] = entry
        left = [tracked for tracked in self._records if tracked.id not in self._done]
        for tracked in left:
            if tracked.people is not None and tracked.people.bodies:
                self.bodies[tracked.id] = tracked.people.bodies
            if tracked.asks is not None:
                self._questions[tracked.id] = tracked.asks
        ids = {tracked.id for tracked in left}
        kept = {
            _MARK: _VERSION,
            "done": self._done,
            "asked": {id_: answers for id_, answers in self._asked.items() if id_ in ids},
            "waiting": [tracked.id for tracked in left if tracked.is_asking],
            "questions": {id_: asked for id_, asked in self._questions.items() if id_ in ids},
            "answers": {id_: bodies for id_, bodies in self.bodies.items() if id_ in ids},
        }
        # A retry in this process reads the list, a later run what was sent.
        self._scratchpad.resume[:] = [kept]
        self._settings[self._send_key]([(self._resume_key, [kept])])


def _entry(tracked: TrackedCall) -> dict[str, Any] | None:
    """Return what to keep of a call that is done, None for one that has to run again."""
    if isinstance(tracked.leaves, ParentCommand):
        return {"command": tracked.leaves.args[0]}
    if tracked.answer is None or tracked.is_asking or tracked.error is not None:
        return None
    entry: dict[str, Any] = {"answer": tracked.answer}
    if tracked.caught is not None:
        entry["failed"] = True
    elif tracked.wanted:
        entry["value"] = plain(tracked.value())
    return entry


def _settle(tracked: TrackedCall, entry: dict[str, Any]) -> None:
    tracked.settled = True
    command = entry.get("command")
    if isinstance(command, Command):
        tracked.leaves = ParentCommand(cast("Any", command))
        return
    tracked.answer = entry["answer"]
    tracked.raw = entry["value"] if "value" in entry else tracked.value()
    failed = isinstance(tracked.answer, ToolMessage) and tracked.answer.status == "error"
    if entry.get("failed") or failed:
        tracked.caught = RuntimeError("it failed before the node was left")


def merged(interrupts: Iterable[Interrupt[Any]]) -> GraphInterrupt:
    """Return one interrupt of the whole node."""
    return GraphInterrupt(tuple(interrupts))
