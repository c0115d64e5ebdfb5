"""`re` of programs: patterns and matches as values, and the functions of the module.

Results are those of Python's `re`. What a program can reach of a value is its methods, by name and
by exact type; none of Python's own patterns and matches is one.
"""

# A value of a program is of any type: what the checker calls unknown here is meant.
# pyright: reportUnknownArgumentType=false, reportUnknownMemberType=false
# pyright: reportUnknownVariableType=false, reportUnknownLambdaType=false

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Any, Final, final

from dagexec.programs._memory import HOLDERS
from dagexec.programs._regex import Regex, Spans
from dagexec.programs._values import CLASS_METHODS, MOST, PURE, fits, too_large

_ESCAPES: Final = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}
# Bytes that a compiled pattern takes, or so.
_PATTERN: Final = 20_000
_OCTAL: Final = frozenset("01234567")


@final
class Match:
    """Where a pattern was found in a text."""

    __slots__ = ("_names", "_spans", "_text")

    def __init__(self, regex: Regex, text: str, spans: Spans) -> None:
        """Keep the spans of the groups."""
        self._names = regex.names
        self._text = text
        self._spans = spans

    def holds(self) -> tuple[Any, ...]:
        """Return what takes memory here."""
        return self._text, self._spans

    def _place(self, group: Any) -> int:
        if isinstance(group, str):
            group = self._names.get(group, -1)
        if not isinstance(group, int) or not 0 <= group < len(self._spans) // 2:
            raise IndexError("no such group")
        return 2 * group

    def _part(self, group: Any, default: Any = None) -> Any:
        place = self._place(group)
        begin, end = self._spans[place], self._spans[place + 1]
        return default if begin < 0 else self._text[begin:end]

    def group(self, *groups: Any) -> Any:
        """Return the text of a group, or of several as a tuple."""
        if len(groups) < 2:  # noqa: PLR2004 - the whole match, or one group
            return self._part(groups[0] if groups else 0)
        return tuple([self._part(each) for each in groups])

    def groups(self, default: Any = None) -> tuple[Any, ...]:
        """Return the texts of all groups."""
        return tuple([self._part(each, default) for each in range(1, len(self._spans) // 2)])

    def groupdict(self, default: Any = None) -> dict[str, Any]:
        """Return the texts of the groups that have names."""
        return {name: self._part(group, default) for name, group in self._names.items()}

    def start(self, group: Any = 0) -> int:
        """Return where a group begins."""
        return self._spans[self._place(group)]

    def end(self, group: Any = 0) -> int:
        """Return where a group ends."""
        return self._spans[self._place(group) + 1]

    def span(self, group: Any = 0) -> tuple[int, int]:
        """Return where a group begins and ends."""
        return self.start(group), self.end(group)

    def __getitem__(self, group: Any) -> Any:
        """Return the text of a group."""
        return self._part(group)

    def __repr__(self) -> str:
        """As Python writes it."""
        return f"<re.Match object; span={self.span()}, match={self.group()!r:.50}>"


@final
class Pattern:
    """A compiled pattern."""

    __slots__ = ("_regex",)

    def __init__(self, regex: Regex) -> None:
        """Keep what was compiled."""
        self._regex = regex

    def _found(self, text: Any, how: str) -> Match | None:
        spans = self._regex.find(_text(text), how=how)
        return None if spans is None else Match(self._regex, text, spans)

    def search(self, string: Any) -> Match | None:
        """Return the first match anywhere in a text."""
        return self._found(string, "search")

    def match(self, string: Any) -> Match | None:
        """Return the match at the beginning of a text."""
        return self._found(string, "match")

    def fullmatch(self, string: Any) -> Match | None:
        """Return the match of a whole text."""
        return self._found(string, "fullmatch")

    def finditer(self, string: Any) -> list[Match]:
        """Return all matches of a text."""
        found: list[Match] = []
        most = MOST // (1 + self._regex.groups)
        for spans in self._regex.all(_text(string)):
            found.append(Match(self._regex, string, spans))
            if len(found) > most:
                raise too_large("the groups of all matches", MOST)
        return found

    def findall(self, string: Any) -> list[Any]:
        """Return the texts of all matches, or of their groups."""
        found = self.finditer(string)
        if not self._regex.groups:
            return [each.group() for each in found]
        texts = [each.groups("") for each in found]
        return [each[0] for each in texts] if self._regex.groups == 1 else texts

    def split(self, string: Any, maxsplit: int = 0) -> list[Any]:
        """Return the parts of a text between matches, and the groups of these."""
        parts: list[Any] = []
        at = 0
        for found in self.some(string, maxsplit):
            begin, end = found.span()
            parts += [string[at:begin], *found.groups()]
            at = end
        return [*parts, string[at:]]

    def sub(self, repl: Any, string: Any, count: int = 0) -> str:
        """Return a text with other text in the place of matches."""
        return self.subn(repl, string, count)[0]

    def subn(self, repl: Any, string: Any, count: int = 0) -> tuple[str, int]:
        """Return what `sub` does, and how many matches there were."""
        if type(repl) is not str:
            msg = "a replacement is a text here, no function; write re.sub(…, lambda m: …, …)"
            raise TypeError(msg)
        template = _template(repl, self._regex)
        parts: list[str] = []
        at = number = size = 0
        for found in self.some(string, count):
            begin, end = found.span()
            texts = [each if isinstance(each, str) else found.group(each) for each in template]
            new = "".join([each or "" for each in texts])
            size += begin - at + len(new)
            fits(size, "the text")
            parts += [string[at:begin], new]
            at, number = end, number + 1
        return "".join([*parts, string[at:]]), number

    def some(self, text: Any, count: Any) -> Iterator[Match]:
        """Yield the first `count` matches of a text, all of them for 0."""
        for number, spans in enumerate(self._regex.all(_text(text)), 1):
            yield Match(self._regex, text, spans)
            if number == count:
                return

    def __repr__(self) -> str:
        """As Python writes it, but for flags."""
        return f"re.compile({self._regex.pattern!r:.200})"


def _text(value: Any) -> str:
    if type(value) is not str:
        msg = f"expected string or bytes-like object, got {type(value).__name__!r}"
        raise TypeError(msg)
    return value


@lru_cache(maxsize=256)
def _compiled(pattern: str, flags: int) -> Pattern:
    return Pattern(Regex(pattern, flags))


def _pattern(pattern: Any, flags: Any = 0) -> Pattern:
    if type(pattern) is Pattern:
        if flags:
            raise ValueError("cannot process flags argument with a compiled pattern")
        return pattern
    if type(pattern) is not str:
        raise TypeError("first argument must be string or compiled pattern")
    return _compiled(pattern, int(flags))


# The arguments of `re.sub`, in order.
REPLACED: Final = ("pattern", "repl", "string", "count", "flags")


def matches(given: dict[str, Any]) -> Iterator[Match]:
    """Yield the matches that `re.sub` replaces which is called with these arguments."""
    pattern = _pattern(given["pattern"], given.get("flags", 0))
    return pattern.some(given["string"], given.get("count", 0))


def _template(text: str, regex: Regex) -> list[str | int]:
    """Return the parts of a replacement: texts, and numbers of groups."""
    parts: list[str | int] = []
    at = 0
    while at < len(text):
        if text[at] != "\\":
            behind = text.find("\\", at)
            behind = len(text) if behind < 0 else behind
            parts.append(text[at:behind])
            at = behind
            continue
        part, at = _escape(text, at + 1, regex)
        parts.append(part)
    return parts


def _escape(  # noqa: C901 - the forms of an escape
    text: str, at: int, regex: Regex
) -> tuple[str | int, int]:
    """Return what stands behind a backslash, and where it ends."""
    if at >= len(text):
        raise re.error("bad escape (end of pattern)", text, at - 1)
    sign = text[at]
    if sign == "g":
        end = text.find(">", at)
        if text[at + 1 : at + 2] != "<" or end < 0:
            raise re.error("missing <" if text[at + 1 : at + 2] != "<" else "missing >", text, at)
        return _group(text[at + 2 : end], text, at, regex), end + 1
    if sign == "0" or (sign.isdecimal() and _is_octal(text[at : at + 3])):
        digits = sign
        while len(digits) < 3 and text[at + len(digits) : at + len(digits) + 1] in _OCTAL:  # noqa: PLR2004 - as in Python
            digits += text[at + len(digits)]
        if int(digits, 8) > 0o377:  # noqa: PLR2004 - as in Python
            raise re.error(f"octal escape value \\{digits} outside of range 0-0o377", text, at)
        return chr(int(digits, 8) & 0xFF), at + len(digits)
    if sign in "123456789":
        digits = sign
        if text[at + 1 : at + 2] in set("0123456789"):
            digits += text[at + 1]
        return _group(digits, text, at, regex), at + len(digits)
    if sign in _ESCAPES:
        return _ESCAPES[sign], at + 1
    if sign.isascii() and sign.isalpha():
        raise re.error(f"bad escape \\{sign}", text, at - 1)
    return (sign if sign == "\\" else f"\\{sign}"), at + 1


def _is_octal(digits: str) -> bool:
    return len(digits) == 3 and digits[0] in "123" and set(digits) <= _OCTAL  # noqa: PLR2004


def _group(name: str, text: str, at: int, regex: Regex) -> int:
    if name.isascii() and name.isdecimal():
        if int(name) > regex.groups:
            raise re.error(f"invalid group reference {int(name)}", text, at)
        return int(name)
    if not name.isidentifier():
        raise re.error("missing group name" if not name else "bad character in group name", text)
    if name not in regex.names:
        raise IndexError(f"unknown group name {name!r}")
    return regex.names[name]


def _flag(name: str) -> int:
    return int(getattr(re, name))


def _named(name: str) -> Any:
    """Return a function of the module that a pattern has as a method."""

    def call(pattern: Any, *args: Any, flags: Any = 0, **named: Any) -> Any:
        places = _PLACES[name]
        if len(args) > places:  # the flags come last
            *args_, flags = args
            args = tuple(args_)
        return getattr(_pattern(pattern, flags), name)(*args, **named)

    return call


# How many arguments each takes beside the pattern and the flags.
_PLACES: Final = {
    "search": 1, "match": 1, "fullmatch": 1, "findall": 1, "finditer": 1, "split": 2, "sub": 3,
    "subn": 3,
}  # fmt: skip
METHODS: Final = frozenset(_PLACES)
HOLDERS[Match] = Match.holds
HOLDERS[Pattern] = lambda _pattern: (" " * _PATTERN,)
PURE[Pattern] = METHODS
PURE[Match] = frozenset(["group", "groups", "groupdict", "start", "end", "span"])
assert not {Pattern, Match} & CLASS_METHODS.keys()  # noqa: S101 - values, no classes


def _re_escape(pattern: Any) -> str:
    text = _text(pattern)
    fits(2 * len(text) if len(text) > MOST // 2 else 0, "the text")
    return re.escape(text)


FUNCTIONS: Final[dict[str, Any]] = {
    **{name: _named(name) for name in _PLACES},
    "compile": _pattern,
    "escape": _re_escape,
    "error": re.error,
    **{
        name: _flag(name)
        for name in (
            "A", "ASCII", "I", "IGNORECASE", "M", "MULTILINE", "S", "DOTALL", "X", "VERBOSE",
        )
    },
}  # fmt: skip
