"""References: another call's value as an argument.

A reference is a value of its own, never a piece of text. In Python it is a `Ref` or a `Template`;
in JSON it is an object with one key, `{"$ref": "search.items[0].url"}` or
`{"$template": "Compare ${1} with ${2}"}`; beside it may stand the default of a reference,
`"default"`, and those of a template's by their texts, `"defaults": {"1": "nothing"}`.
`{"$literal": value}` passes a value that would otherwise read as a reference. Everything else,
every plain string above all, is itself.

JSON is read once, by `decode`, when a call is built. What a tool returned never passes through
`decode`, so it cannot inject anything.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from string import Formatter
from types import EllipsisType
from typing import Any, Final, TypeAlias, cast, final

from dagexec._core.braces import Braces
from dagexec._core.copies import PLAIN, own
from dagexec._core.wrong_names import explained
from dagexec._errors import BadReference

# `...` stands for each item of a list, `[*]` in JSON.
Path: TypeAlias = tuple[str | int | EllipsisType, ...]

# How deep arguments may nest: far beyond any real plan, and below Python's recursion limit.
MAX_DEPTH: Final = 100

_NAME = re.compile(r"[^.\[\]]+")
_INDEX = re.compile(r"\[(-?\d+|\*)\]")
_KEY = re.compile(r'\[("(?:[^"\\]|\\.)*")\]')
_DOLLAR = re.compile(r"(?:\$\$)+|\$\{")
# What would end a reference inside a template, or begin a quoted part there, if it was not quoted.
_BREAKING = frozenset("{}\"'")
_SHOWN_TEXT = 60  # characters


class _Missing:
    """The type of MISSING: no default was given (None is a default like any other)."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "MISSING"

    def __reduce__(self) -> str:
        return "MISSING"


MISSING: Final = _Missing()


@final
@dataclass(frozen=True, slots=True)
class Ref:
    """The value of another call, or a part of it.

    `path` leads into the value: names and keys as strings, positions as integers (-1 is the last),
    `...` for that part of each item of a list. A text that is JSON is entered like what it says.
    `Ref("a")["items"][0]` and `Ref("a").items[0]` are `Ref("a", ("items", 0))`. Names that a
    reference has itself, `call`, `path`, `default` and `parse`, and those that begin with `_`, are
    entered in brackets. With `default`, the call that holds the reference runs even if the other
    call fails or the path leads nowhere, and gets the default instead.
    """

    call: str
    path: Path = ()
    default: Any = MISSING

    def __post_init__(self) -> None:
        """Refuse what could never be followed."""
        if isinstance(self.path, list):  # from JSON, or by habit
            object.__setattr__(self, "path", tuple(self.path))
        # Callers without a type checker, and plans from files, get here with anything.
        call: object = self.call
        path: object = self.path
        if not isinstance(call, str) or not call:
            own: object = getattr(call, "id", None)
            if isinstance(call, int) and not isinstance(call, bool):
                own = str(call)
            hint = f": write Ref({own!r})" if isinstance(own, str) else ""
            msg = f"a reference names a call by its id, a non-empty string, not {call!r:.80}{hint}"
            raise BadReference(msg)
        if not isinstance(path, tuple) or not all(
            part is ... or (isinstance(part, str | int) and not isinstance(part, bool))
            for part in path
        ):
            hint = f": write Ref({call!r}, ({path!r},))" if isinstance(path, str) else ""
            msg = (
                f"the path of a reference is a tuple of names, positions and `...`, not {path!r}"
                f"{hint}"
            )
            raise BadReference(msg)

    def __getitem__(self, part: str | int | EllipsisType) -> Ref:
        """Return the reference to a part of what this one leads to."""
        return Ref(self.call, (*self.path, part), self.default)

    def __getattr__(self, name: str) -> Ref:
        """Return the reference to a part of what this one leads to; none that begins with `_`."""
        # Whoever looks for a protocol's method, `__array__` or `_repr_html_`, finds none. One that
        # is still without its own fields has no parts in their place.
        if name.startswith("_") or name in Ref.__slots__:
            msg = f"a Ref has no attribute {name!r}; a part of that name is ref[{name!r}]"
            raise AttributeError(msg)
        return self[name]

    def __iter__(self) -> Iterator[Any]:
        """Refuse: there is no value before the run."""
        msg = (
            f"{self!r} stands for a value that is not there before the run, so it cannot be"
            f" iterated over: Each({self!r}) runs a call for each item of it"
        )
        raise BadReference(msg)

    def __contains__(self, item: object) -> bool:
        """Refuse, as iterating does."""
        return bool(iter(self))

    def __add__(self, other: object) -> Any:
        """Refuse to be calculated with, or to become a part of a text."""
        msg = (
            f"{self!r} stands for a value that is not there before the run, so nothing can be added"
            f' to it: a text is made by Template("… {{}} …", {self!r}), all else by a tool'
        )
        raise BadReference(msg)

    __radd__ = __add__

    @classmethod
    def parse(cls, text: str) -> Ref:
        """Read `search.items[0].url`; raise BadReference where it cannot be read."""
        head = _NAME.match(text) or _KEY.match(text)
        if head is None:
            msg = (
                f"{_cut(text)!r} is no reference: write the id of a call and a path, as"
                ' "1.items[0].url"'
            )
            raise BadReference(msg)
        try:
            call = json.loads(head[1]) if head.re is _KEY else head[0]
            path = _parse_path(text, head.end())
        except ValueError as error:  # an escape that JSON has not, a position of 5000 digits
            msg = f"{_cut(text)!r} is no reference: {error}"
            raise BadReference(msg) from None
        return cls(call, path)

    def __str__(self) -> str:
        """Return the text that `parse` reads."""
        plain = _NAME.fullmatch(self.call) and _BREAKING.isdisjoint(self.call)
        head = self.call if plain else f"[{json.dumps(self.call)}]"
        return head + "".join(segment(part) for part in self.path)

    def __format__(self, spec: str) -> str:
        """Refuse to become a part of a text: it would be sent as its name, not as the value."""
        msg = (
            f"{self!r} stands in a formatted text, where it would be its name and never the value:"
            f' write Template("… {{}} …", {self!r})'
        )
        raise BadReference(msg)

    def __repr__(self) -> str:
        """Return the shortest call that makes this reference."""
        path = f", {self.path!r}" if self.path else ""
        default = "" if self.default is MISSING else f", default={self.default!r}"
        return f"Ref({self.call!r}{path}{default})"


def segment(part: str | int | EllipsisType) -> str:
    """Return a part of a path as `Ref.parse` reads it."""
    if isinstance(part, EllipsisType):
        return "[*]"
    if isinstance(part, int):
        return f"[{part}]"
    plain = _NAME.fullmatch(part) and _BREAKING.isdisjoint(part)
    return f".{part}" if plain else f"[{json.dumps(part)}]"


def _cut(text: str, begin: int = 0) -> str:
    """Return what is shown of a text in a message."""
    end = begin + _SHOWN_TEXT
    return text[begin:end] + ("…" if len(text) > end else "")


def _parse_path(text: str, position: int) -> Path:
    path: list[str | int | EllipsisType] = []
    while position < len(text):
        if len(path) == MAX_DEPTH:
            msg = f"{_cut(text)!r} is no reference: a path has at most {MAX_DEPTH} parts"
            raise BadReference(msg)
        if text[position] == "." and (match := _NAME.match(text, position + 1)):
            path.append(match[0])
        elif match := _INDEX.match(text, position):
            path.append(... if match[1] == "*" else int(match[1]))
        elif match := _KEY.match(text, position):
            path.append(json.loads(match[1]))
        else:
            msg = (
                f"{_cut(text)!r} is no reference: cannot read {_cut(text, position)!r};"
                ' a path is made of .name, [0], [-1], [*] and ["any key"]'
            )
            raise BadReference(msg)
        position = match.end()
    return tuple(path)


@explained
@final
@dataclass(frozen=True, slots=True, init=False)
class Template:
    """A text with other calls' values in it: `Template("Compare {} with {}", Ref("a"), Ref("b"))`.

    Braces are doubled to stand for themselves. A string goes in as it is, any other value as JSON.
    """

    parts: tuple[str | Ref, ...]

    def __init__(self, text: str, *refs: Ref) -> None:
        """Split the text at each `{}`; raise BadReference unless there is a reference for each."""
        parts: list[str | Ref] = []
        remaining = iter(refs)
        try:
            pieces = list(Formatter().parse(text))
        except ValueError as error:
            msg = f"the template {text!r} cannot be read ({error}); double a brace to write it"
            raise BadReference(msg) from None
        holes = 0
        for literal, name, spec, conversion in pieces:
            parts.append(literal)
            if name is None:
                continue
            if name or spec or conversion:
                msg = f"the template {text!r} has a placeholder that is not a plain {{}}"
                raise BadReference(msg)
            holes += 1
            parts.extend(ref for ref in [next(remaining, None)] if ref is not None)
        if holes != len(refs):
            msg = f"the template {text!r} has {holes} placeholders for {len(refs)} references"
            raise BadReference(msg)
        object.__setattr__(self, "parts", _merged(parts))

    @classmethod
    def from_parts(cls, parts: Sequence[str | Ref]) -> Template:
        """Make a template from its pieces, texts and references in order."""
        template = object.__new__(cls)
        object.__setattr__(template, "parts", _merged(parts))
        return template

    @classmethod
    def parse(cls, text: str) -> Template:
        """Read the JSON form, `Compare ${1} with ${2.name}`, in which `$$` is a dollar sign."""
        parts: list[str | Ref] = []
        braces = Braces(text)
        position = 0
        refs: dict[str, Ref] = {}
        for found in _DOLLAR.finditer(text):
            begin = found.end()
            if begin <= position:  # inside of the reference before it
                continue
            if text[begin - 1] == "$":
                parts.append(text[position : found.start()] + "$" * (len(found[0]) // 2))
                position = begin
            elif (end := braces.end(begin)) >= 0:
                body = text[begin:end]
                if body not in refs:
                    refs[body] = Ref.parse(body)
                parts += (text[position : found.start()], refs[body])
                position = end + 1
        parts.append(text[position:])
        return cls.from_parts(parts)

    def __str__(self) -> str:
        """Return the text that `parse` reads."""
        return "".join(
            part.replace("$", "$$") if isinstance(part, str) else f"${{{part!s}}}"
            for part in self.parts
        )

    def __format__(self, spec: str) -> str:
        """Refuse to become a part of another text: pass it as the argument, or as its part."""
        msg = (
            f"{self!r} stands in a formatted text, where its references would never be filled in:"
            " make one Template of the whole text"
        )
        raise BadReference(msg)

    @property
    def refs(self) -> tuple[Ref, ...]:
        """The references in it, in order."""
        return tuple(part for part in self.parts if isinstance(part, Ref))


def _merged(parts: Sequence[str | Ref]) -> tuple[str | Ref, ...]:
    """Join neighbouring texts, so that equal templates compare equal."""
    merged: list[str | Ref] = []
    texts: list[str] = []
    for part in parts:
        if isinstance(part, str):
            texts.append(part)
            continue
        if text := "".join(texts):
            merged.append(text)
        texts = []
        merged.append(part)
    if text := "".join(texts):
        merged.append(text)
    return tuple(merged)


@final
@dataclass(frozen=True, slots=True)
class Literal:
    """A value that is passed as it is, whatever it looks like; JSON's `{"$literal": value}`."""

    value: Any


@final
@dataclass(frozen=True, slots=True)
class Each:
    """As an argument: the call runs once for each item of a list; JSON's `{"$each": "1.orders"}`.

    `Each(Ref("1", ("orders",)))` takes the items of another call's value, `Each(("a", "b"))` those
    that are given. The items are calls of their own, `3[0]`, `3[1]` …; the value of the call is the
    list of theirs. Several in one call go side by side.
    """

    items: Ref | tuple[Any, ...]

    def __post_init__(self) -> None:
        """Refuse what is no list; a list becomes a tuple."""
        given: object = self.items
        if isinstance(given, list):
            object.__setattr__(self, "items", tuple(cast("list[Any]", given)))
        elif not isinstance(given, Ref | tuple):
            msg = (
                'Each takes a reference to a list, or a list: Each(Ref("1", ("orders",))),'
                f" not {type(given).__name__}"
            )
            raise BadReference(msg)


def decode(value: Any, depth: int = 0) -> Any:
    """Turn the JSON forms of references into values; raise BadReference for malformed ones.

    Containers are copied, so that a plan cannot be changed from outside; every other value is
    kept as it is.
    """
    kind = cast("object", type(value))
    if kind is str or kind is int or value is None:
        return value
    if depth > MAX_DEPTH:
        msg = f"arguments are nested more than {MAX_DEPTH} deep"
        raise BadReference(msg)
    if kind is dict:
        if "$ref" in value or "$template" in value or "$literal" in value or "$each" in value:
            return _special(value)
        return {key: decode(item, depth + 1) for key, item in value.items()}
    if kind is list:
        return [decode(item, depth + 1) for item in value]
    if kind is tuple:
        return tuple(decode(item, depth + 1) for item in value)
    return own(value)


def _special(value: dict[Any, Any]) -> Ref | Template | Literal | Each:
    mark = next(key for key in ("$ref", "$template", "$literal", "$each") if key in value)
    may_default = mark in ("$ref", "$each") and isinstance(value[mark], str | int)
    more = "defaults" if mark == "$template" else "default" if may_default else mark
    extra = [key for key in value if key not in (mark, more)]
    if extra:
        msg = (
            f'an object with "{mark}" is a reference and has no other keys ({extra[0]!r} here);'
            ' write {"$literal": ...} round it to pass it as it is'
        )
        raise BadReference(msg)
    body = value[mark]
    if mark == "$literal":
        return Literal(own(body))
    if mark == "$each" and isinstance(body, list):
        return Each(tuple(cast("list[Any]", body)))
    if mark != "$template" and isinstance(body, int) and not isinstance(body, bool):
        body = str(body)  # models write numbers as numbers
    if not isinstance(body, str):
        msg = f'"{mark}" takes a string, not {type(body).__name__}'
        raise BadReference(msg)
    if mark == "$template":
        return _defaulted(Template.parse(body), value.get("defaults", {}))
    ref = Ref.parse(body)
    if "default" in value:
        ref = Ref(ref.call, ref.path, value["default"])
    return ref if mark == "$ref" else Each(ref)


def _defaulted(template: Template, defaults: object) -> Template:
    """Give the references of a template their defaults, by the texts of the references."""
    if not isinstance(defaults, dict):
        msg = f'"defaults" takes an object of references\' texts, not {type(defaults).__name__}'
        raise BadReference(msg)
    known = cast("dict[object, Any]", defaults)
    unknown = known.keys() - {str(ref) for ref in template.refs}
    if unknown:
        msg = f'"defaults" has {min(map(str, unknown))!r}, which is no reference of the template'
        raise BadReference(msg)
    if not known:
        return template
    return Template.from_parts(
        [
            part
            if isinstance(part, str)
            else Ref(part.call, part.path, known.get(str(part), MISSING))
            for part in template.parts
        ]
    )


def encode(value: Any) -> Any:  # noqa: PLR0911 - one a kind
    """Turn references into their JSON forms; the inverse of `decode`."""
    if isinstance(value, Ref):
        body: dict[str, Any] = {"$ref": str(value)}
        return body if value.default is MISSING else {**body, "default": value.default}
    if isinstance(value, Template):
        refs = [ref for ref in value.refs if ref.default is not MISSING]
        body = {"$template": str(value)}
        return {**body, "defaults": {str(ref): ref.default for ref in refs}} if refs else body
    if isinstance(value, Literal):
        return {"$literal": own(value.value)}
    if isinstance(value, Each):
        return _encoded_each(value.items)
    kind = cast("object", type(value))
    if kind is dict:
        return {key: encode(item) for key, item in value.items()}
    if kind is list or kind is tuple:
        return [encode(item) for item in value]
    return value


def _encoded_each(items: Ref | tuple[Any, ...]) -> dict[str, Any]:
    if not isinstance(items, Ref):
        return {"$each": own(list(items))}
    body: dict[str, Any] = {"$each": str(items)}
    return body if items.default is MISSING else {**body, "default": items.default}


def references(value: Any) -> Iterator[Ref]:  # noqa: C901 - one a kind
    """Yield every reference in decoded arguments, in the order in which they are written."""
    kind = cast("object", type(value))
    if kind is Ref:
        yield value
    elif kind is Template:
        yield from value.refs
    elif kind is Each:
        if isinstance(value.items, Ref):
            yield value.items
    elif kind is dict:
        for item in value.values():
            yield from references(item)
    elif kind is list or kind is tuple:
        for item in value:
            yield from references(item)


def holds_each(value: Any) -> bool:
    """Whether there is an `Each` in decoded arguments."""
    kind = cast("object", type(value))
    if kind is Each:
        return True
    if kind is dict:
        return any(type(item) not in PLAIN and holds_each(item) for item in value.values())
    if kind is list or kind is tuple:
        return any(type(item) not in PLAIN and holds_each(item) for item in value)
    return False
