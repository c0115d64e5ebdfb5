"""References of a model's calls to one another: by number, across the turns of a conversation.

A call of the same plan stays a reference in it; one of an earlier turn becomes the value that it
left. Whatever is wrong becomes a text for the model, never an exception of its own kind: a call
that cannot run is a call with a `problem`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from itertools import islice
from typing import Any, ClassVar, Final, Generic, TypeVar, cast

from dagexec._core.each import eaches
from dagexec._core.json_form import as_text
from dagexec._core.names import kind_of
from dagexec._core.paths import follow, json_of
from dagexec._core.plan import Call, Plan
from dagexec._core.refs import MISSING, Each, Ref, Template
from dagexec._errors import BadReference

C = TypeVar("C")

# What makes an object in JSON something else than itself.
MARKS: Final = frozenset({"$ref", "$template", "$literal", "$each"})
_SHOWN: Final = 20
_LONGEST: Final = 60


def is_marked(args: Mapping[str, Any]) -> bool:
    """Whether anything in arguments reads as a reference."""
    level: list[Any] = list(args.values())
    while level:
        inner: list[Any] = []
        for node in level:
            if isinstance(node, dict):
                found = cast("dict[Any, Any]", node)
                if not MARKS.isdisjoint(found):
                    return True
                inner.extend(found.values())
            elif isinstance(node, list):
                inner.extend(cast("list[Any]", node))
        level = inner
    return False


class CannotRun(Exception):
    """Why a call cannot run; the text is for the model."""


class EarlierCalls(ABC, Generic[C]):
    """What the calls of a conversation can refer to, and what stands for it in a plan.

    `C` is whatever a subclass knows of a call.
    """

    # Whether a call may be run once for each item of a list: not where a framework runs each call.
    runs_each: ClassVar[bool] = False

    @abstractmethod
    def known(self, name: str) -> C | None:
        """Return the call that a reference names, by its number or its id."""

    @abstractmethod
    def listed(self) -> Iterable[tuple[C, int, str]]:
        """Yield each call that can be referred to, its number and its tool, from the last."""

    @abstractmethod
    def target(self, ref: Ref, call: C, other: C, *, text: bool) -> Any:
        """Return what a reference of `call` to `other` stands for: a `Ref` in the plan, or a value.

        With `text` it goes into a text. Raises CannotRun where there is no value; a reference with
        a default gets that then.
        """

    def missing(self, ref: Ref, call: C) -> Any:
        """Return what stands for a reference to no call at all; by default raise CannotRun."""
        others = [*islice((each for each in self.listed() if each[0] is not call), _SHOWN)][::-1]
        shown = ", ".join(f"{number} ({tool})" for _, number, tool in others)
        there = f"There are: {shown}." if shown else "There is no other call yet."
        named = [number for _, number, tool in others if tool == ref.call]
        hint = f' Write {{"$ref": "{named[-1]}"}} for {ref.call!r}.' if named else ""
        asked = ref.call if len(ref.call) <= _LONGEST else ref.call[:_LONGEST] + "…"
        raise CannotRun(
            f"There is no call {asked!r} to refer to: calls are named by number. {there}{hint}"
        )

    def substituted(
        self, args: Mapping[str, Any], call: C, *, texts: Collection[str] = ()
    ) -> dict[str, Any]:
        """Return the decoded arguments of `call` with what its references stand for.

        `texts` names the arguments that take a text. Raises CannotRun with all that is wrong.
        """
        problems: dict[str, None] = {}
        if not self.runs_each and next(eaches(args), None) is not None:
            raise CannotRun("$each cannot be used here: write a call for each item of the list.")

        def found(ref: Ref, *, text: bool) -> Any:
            try:
                return self._target(ref, call, text=text)
            except CannotRun as error:
                problems[str(error)] = None
                return ref

        filled: dict[str, Any] = {}
        for name, value in args.items():
            try:
                filled[name] = replaced(value, found, text=name in texts)
            except CannotRun as error:
                problems[str(error)] = None
        if problems:
            raise CannotRun("\n".join(problems))
        return filled

    def _target(self, ref: Ref, call: C, *, text: bool) -> Any:
        other = self.known(ref.call)
        if other is None:
            return self.missing(ref, call)
        if other is call:
            raise CannotRun(
                f"Call {ref.call} refers to itself. Refer to another call, or pass a value."
            )
        try:
            return self.target(ref, call, other, text=text)
        except CannotRun:
            if ref.default is MISSING:
                raise
            return ref.default


def replaced(node: Any, target: Callable[..., Any], *, text: bool = False) -> Any:
    """Return decoded arguments with what `target` gives for each reference, values as literals."""
    if isinstance(node, Ref):
        found = target(node, text=text)
        return found if isinstance(found, Ref) else {"$literal": found}
    if isinstance(node, Template):
        return _filled(node, target)
    if isinstance(node, Each):
        return _each(node, target)
    if isinstance(node, dict):
        items = cast("dict[str, Any]", node).items()
        return {key: replaced(item, target) for key, item in items}
    if isinstance(node, list):
        return [replaced(item, target) for item in cast("list[Any]", node)]
    return node


def _each(each: Each, target: Callable[..., Any]) -> Any:
    """Return a list of items with what is known of it: items that are known are literal."""
    if not isinstance(each.items, Ref):
        return each
    found = target(each.items, text=False)
    if isinstance(found, Ref):
        return Each(found)
    listed = json_of(found) if isinstance(found, str) else found
    if isinstance(listed, list | tuple):
        return Each(tuple(cast("Sequence[Any]", listed)))
    raise CannotRun(f'{{"$each": "{each.items!s}"}} takes a list, and that is {kind_of(found)}.')


def _filled(template: Template, target: Callable[..., Any]) -> Any:
    """Return a template with the values that are known as text in it."""
    parts: list[str | Ref] = []
    for part in template.parts:
        found = part if isinstance(part, str) else target(part, text=True)
        parts.append(found if isinstance(found, str | Ref) else as_text(found))
    if any(isinstance(part, Ref) for part in parts):
        return Template.from_parts(parts)
    return "".join(map(str, parts))


def value_at(value: Any, ref: Ref) -> Any:
    """Return the part of a value that a reference leads to; raise CannotRun if nowhere."""
    try:
        return follow(value, ref.path)
    except BadReference as error:
        raise CannotRun(f'{{"$ref": "{ref!s}"}} cannot be followed: {error}') from None


def number_of(name: str) -> int | None:
    """Return the number that a reference's text is; None for other and for very long texts."""
    plain = name.isascii() and name.isdecimal() and len(name) < 10  # noqa: PLR2004
    return int(name) if plain else None


def without_faults(calls: Sequence[Call]) -> list[Call]:
    """Give the calls that cannot stand in one plan their problem: those in a cycle."""
    found: dict[str, str] = {}
    for problem in Plan.problems(calls):
        for id_ in (problem.call, *problem.also):
            if id_ is not None:
                found.setdefault(id_, f"The references cannot be met: {problem.message}.")
    return [
        Call(call.id, call.tool, problem=found[call.id]) if call.id in found else call
        for call in calls
    ]
