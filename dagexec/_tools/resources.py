"""Which resources a call touches, and which calls have to keep their order because of it.

`writes=("file:{path}",)` names a resource by a template over the tool's arguments. Two calls
conflict if they touch the same resource and one of them writes it, the rule by which a processor
keeps instructions in order (read after write, write after read, write after write).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from string import Formatter
from typing import Any, Final, cast, final

from dagexec._core.refs import Literal, Ref, Template
from dagexec._errors import ToolDefinitionError
from dagexec._tools.arguments import is_list, is_object

_UNKNOWN: Final = object()
# Resources that one template names: as many for each value as in all, or this many characters.
_SPELLED: Final = 4
_PRODUCT: Final = 10_000
# What looking for conflicts may cost before it is made coarser: for each call, and at least.
_EACH: Final = 100
_LEAST: Final = 100_000


@final
@dataclass(frozen=True, slots=True)
class Access:
    """One resource that a call touches.

    Where an argument is not known yet, `exact` is False and `resource` is the text before it: any
    resource that begins with it may be meant.
    """

    resource: str
    write: bool
    exact: bool = True


# What stands for calls that conflict with all others.
_EVERYTHING: Final = Access("", write=True, exact=False)


@final
@dataclass(frozen=True, slots=True)
class ResourceTemplate:
    """A resource named over a tool's arguments: `file:{path}`, `table:{query.table}`.

    Braces are doubled to stand for themselves. A list gives one resource for each of its members;
    of several long lists only the first counts, and all resources that begin as it says are meant.
    """

    text: str
    write: bool
    # Each piece is a text and the path of the argument behind it, empty where there is none.
    pieces: tuple[tuple[str, tuple[str, ...]], ...]

    @classmethod
    def parse(cls, tool: str, text: str, *, write: bool) -> ResourceTemplate:
        """Read a template; raise ToolDefinitionError where it cannot be read."""
        where = f"{'writes' if write else 'reads'}={text!r} of {tool!r}"
        if not isinstance(text, str) or not text:  # pyright: ignore[reportUnnecessaryIsInstance]
            msg = f'{where}: a resource is a non-empty string such as "file:{{path}}"'
            raise ToolDefinitionError(msg)
        try:
            parsed = list(Formatter().parse(text))
        except ValueError as error:
            msg = f"{where} cannot be read ({error}); double a brace to write it"
            raise ToolDefinitionError(msg) from None
        pieces: list[tuple[str, tuple[str, ...]]] = []
        for literal, name, spec, conversion in parsed:
            path = () if name is None else tuple(name.replace("[", ".").replace("]", "").split("."))
            if spec or conversion or (name is not None and not all(path)):
                msg = f"{where}: a placeholder is the name of a parameter, {{path}} or {{a.b}}"
                raise ToolDefinitionError(msg)
            pieces.append((literal, path))
        return cls(text, write, tuple(pieces))

    @property
    def names(self) -> tuple[str, ...]:
        """The parameters that it refers to, in order."""
        return tuple(path[0] for _, path in self.pieces if path)

    def require(self, tool: str, parameters: Collection[str]) -> None:
        """Raise ToolDefinitionError if it refers to a parameter that the tool does not have."""
        for name in self.names:
            if name not in parameters:
                msg = (
                    f"{'writes' if self.write else 'reads'}={self.text!r} of {tool!r} refers to"
                    f" {name!r}; its parameters are {', '.join(parameters) or 'none'}"
                )
                raise ToolDefinitionError(msg)

    def accesses(self, args: Mapping[str, Any], defaults: Mapping[str, Any]) -> tuple[Access, ...]:
        """Return what a call with these arguments touches, as far as they are known."""
        texts: list[tuple[str, bool]] = [("", True)]
        for literal, path in self.pieces:
            values = [("", True)] if not path else _texts(_at(args, defaults, path))
            if len(values) + len(texts) > 2 and not _affordable(texts, literal, values):  # noqa: PLR2004
                values = [("", False)]
            texts = [
                (before + literal + value, exact) if known else (before, False)
                for before, known in texts
                for value, exact in (values if known else [("", False)])
            ]
        return tuple(dict.fromkeys(Access(text, self.write, exact) for text, exact in texts))


def _at(args: Mapping[str, Any], defaults: Mapping[str, Any], path: Sequence[str]) -> Any:
    value = args.get(path[0], defaults.get(path[0], _UNKNOWN))
    for part in path[1:]:
        value = _unwrapped(value)
        if is_object(value):
            value = value.get(part, _UNKNOWN)
        elif is_list(value) and part.isdecimal() and int(part) < len(value):
            value = value[int(part)]
        else:
            return _UNKNOWN
    return _unwrapped(value)


def _affordable(
    texts: Sequence[tuple[str, bool]], literal: str, values: Sequence[tuple[str, bool]]
) -> bool:
    """Whether each text with each value is little beside them: lists of lists soon are not."""
    given = [sum(len(text) + len(literal) + 1 for text, _ in each) for each in (texts, values)]
    product = given[0] * len(values) + given[1] * len(texts)
    return product <= max(_PRODUCT, _SPELLED * sum(given))


def _unwrapped(value: Any) -> Any:
    return value.value if isinstance(value, Literal) else value


def _texts(value: Any) -> list[tuple[str, bool]]:
    """Return the texts that a value stands for, and whether each is whole."""
    if value is _UNKNOWN or value is None or isinstance(value, Ref | dict):
        return [("", False)]
    if isinstance(value, Template):
        first = value.parts[0] if value.parts else ""
        return [(first if isinstance(first, str) else "", not value.refs)]
    if isinstance(value, list | tuple):
        several = cast("list[Any]", value)
        # An empty list touches nothing.
        return [text for item in several for text in _texts(_unwrapped(item))]
    return [(str(value), True)]


@dataclass(slots=True)
class _Touched:
    """Who last wrote one resource, or what begins so, and who has read it since."""

    writer: int | None = None
    readers: list[int] = field(default_factory=list[int])


@final
class Conflicts:
    """Finds the earlier calls that a call has to wait for; fed with calls in plan order.

    It keeps what is needed and no more: the last writer of a resource and the readers since. So a
    thousand writers of one resource form a chain. That an earlier call is left out because a later
    one waits for it holds only if a call counts as ended after all that it waits for has ended,
    also when it is skipped.

    Thousands of calls that may touch anything, between thousands that touch one thing each, would
    be millions of pairs. Once looking for them has cost too much, a call that would wait for many
    waits for all, and those behind it for that call: fewer run side by side, in the right order.
    """

    __slots__ = ("_exact", "_ids", "_looked", "_vague", "_written")

    def __init__(self) -> None:
        """Start without any call."""
        self._ids: list[str] = []
        self._exact: dict[str, _Touched] = {}
        # Those resources of `_exact` that have a writer.
        self._written: dict[str, None] = {}
        # By the text that resources begin with, where only that is known.
        self._vague: dict[str, _Touched] = {}
        self._looked = 0

    def add(self, call: str, accesses: Iterable[Access]) -> tuple[str, ...]:
        """Return the ids of earlier calls that have to end first, in plan order."""
        noted, found = self.before(accesses)
        self.note(call, noted)
        return found

    def before(self, accesses: Iterable[Access]) -> tuple[tuple[Access, ...], tuple[str, ...]]:
        """Return what to note of a call, and the ids of earlier calls that have to end first."""
        listed = tuple(dict.fromkeys(accesses))
        begin = self._looked
        found = self._found(listed)
        if self._looked > max(_LEAST, _EACH * len(self._ids)) and self._looked > begin + _EACH:
            listed = (_EVERYTHING,)
            found = self._found(listed)
        return listed, tuple(self._ids[earlier] for earlier in sorted(found))

    def note(self, call: str, accesses: Sequence[Access]) -> None:
        """Take note of what a call touches, as `before` returned it."""
        if not accesses:
            return
        number = len(self._ids)
        self._ids.append(call)
        # Reads first: what a call writes covers what it reads.
        for access in sorted(accesses, key=lambda item: item.write):
            self._note(number, access)

    def _found(self, accesses: Iterable[Access]) -> dict[int, None]:
        found: dict[int, None] = {}
        for access in accesses:
            before = dict.fromkeys(self._before(access))
            self._looked += len(before)
            found |= before
        return found

    def _before(self, access: Access) -> Iterable[int]:
        settled = -1
        if access.exact:
            entry = self._exact.get(access.resource)
            if entry is not None:
                yield from _needed(entry, access)
                settled = -1 if entry.writer is None else entry.writer
        else:
            touched = self._exact if access.write else self._written
            self._looked += len(touched)
            for resource in touched:
                if resource.startswith(access.resource):
                    yield from _needed(self._exact[resource], access)
        self._looked += len(self._vague)
        for beginning, entry in self._vague.items():
            if _overlap(access, beginning):
                # Whoever wrote this very resource later has waited for it already.
                yield from (number for number in _needed(entry, access) if number > settled)

    def _note(self, number: int, access: Access) -> None:
        if not access.exact and access.write:
            # All that this one may write conflicts with it: it stands for what came before.
            covered = access.resource
            for kept in (self._exact, self._written, self._vague):
                for resource in [name for name in kept if name.startswith(covered)]:
                    del kept[resource]
        entry = (self._exact if access.exact else self._vague).setdefault(
            access.resource, _Touched()
        )
        if not access.write:
            entry.readers.append(number)
            return
        entry.writer = number
        entry.readers.clear()
        if access.exact:
            self._written[access.resource] = None


def _needed(entry: _Touched, access: Access) -> Sequence[int]:
    if access.write and entry.readers:
        return entry.readers
    return () if entry.writer is None else (entry.writer,)


def _overlap(access: Access, beginning: str) -> bool:
    """Say whether an access may be of a resource that begins so."""
    if access.resource.startswith(beginning):
        return True
    return not access.exact and beginning.startswith(access.resource)
