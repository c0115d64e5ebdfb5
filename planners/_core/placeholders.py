"""Placeholders that a model writes where another call's result should be.

"<result of call 1>", "TBD from previous step", "{{output of search}}", "RESULT_FROM_STEP_2": the
model knows that the value is not there yet, and the tool would run with nonsense. What counts is
the form of a whole argument, or of a short phrase in brackets inside a short text; words that only
speak of results, as all prose may, do not. `python -m tests.benchmarks.placeholders` counts how
often real text is taken for one.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any, Final

from dagexec.lowlevel import MARKS
from planners._core.edge import is_dict, is_list

_LONGEST: Final = 160  # characters of an argument that can be one placeholder as a whole
_AROUND: Final = 1000  # characters of a text that is searched for placeholders in brackets
_SHOWN: Final = 80

_N: Final = r"(?:(?:no|number|n)? ?#? ?(?P<number{}>[1-9][0-9]{{0,2}}))"
_RESULT: Final = (
    r"(?:(?:final |actual |returned |return |search |tool |extracted |computed )?"
    r"(?:results?|outputs?|responses?|answers?|values?|data|contents?|returns?|outcomes?"
    r"|observations?|ids?|urls?|names?|texts?|items?))"
)
_STEP: Final = (
    r"(?:(?:tool |function |api )?(?:calls?|steps?|tasks?|actions?|queries|query|invocations?)"
    r"|tools?|functions?|plan steps?|responses?|searches|search|lookups?)"
)
# Words for the parts of a plan alone: in prose without brackets nothing else is plain enough.
_CALL: Final = r"(?:(?:tool |function |api )?calls?|steps?|tool use|tool|task|action)"
_BEFORE: Final = (
    r"(?:previous|prior|preceding|earlier|last|above|first|second|third|fourth|fifth|1st|2nd|3rd"
    r"|other|former)"
)
_LINK: Final = r"(?:of|from|in|by|returned by|given by|obtained from|obtained in|produced by)"
_LATER: Final = (
    r"(?:tbd|to be (?:determined|filled|filled in|provided|replaced|supplied|computed|obtained"
    r"|decided|inserted|set|resolved|extracted|retrieved|fetched|known|added)|pending|placeholder"
    r"|will be (?:determined|filled|filled in|provided|replaced|known|available|computed|inserted)"
    r"|insert|fill in|replace(?:d)?(?: this)?(?: with)?|use|put|depends on|awaiting|wait for)"
)
_UNKNOWN: Final = (
    r"(?:tbd|to be (?:determined|filled|filled in|provided|replaced|supplied|inserted)"
    r"|placeholder|insert (?:the )?(?:results?|outputs?|values?|answers?)(?: here)?"
    r"|(?:results?|outputs?|values?) (?:goes |go )?here)"
)

_BRACKETS: Final = re.compile(
    r"(?P<open><{1,3}|\[{1,3}|\{{1,3}|\({1,2}|\$\{|\$\(|%{1,2}|__|\*{1,2}|`|#\{)\s*"
    r"(?P<inner>[^<>\[\]{}()%`]+?)\s*(?:>{1,3}|\]{1,3}|\}{1,3}|\){1,2}|%{1,2}|__|\*{1,2}|`)"
)
_INSIDE: Final = re.compile(
    r"(?:<{1,2}|\[{1,2}|\$?\{{1,2})\s*([^<>\[\]{}()\n]{6,80}?)\s*(?:>{1,2}|\]{1,2}|\}{1,2})"
)
_HUMP: Final = re.compile(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Za-z])(?=[0-9])")
_GAP: Final = re.compile(r"[\s_.\-:/'\"]+")
_IDENTIFIER: Final = re.compile(r"[$@#]?[A-Za-z][A-Za-z0-9_.\-]*(?:\[[0-9]+\][A-Za-z0-9_.]*)?")
_MARKS_OF_PROSE: Final = re.compile(r"[(),:;#!…\u2013\u2014]|\.{2,}|(?<!\S)-(?!\S)|\.\Z")
# `{{get_user.id}}`: a tool's name and a field, with a dot between them.
_FIELD: Final = re.compile(
    r"\s*([A-Za-z0-9_/:-]+)(?:\(\))?((?:\[[0-9]+\]|\.[A-Za-z_][A-Za-z0-9_]*)+)\s*"
)
_OF_FIELD: Final = re.compile(r"<([^<>]+)>|\{\{([^{}]+)\}\}")


def _patterns(tool: str) -> tuple[re.Pattern[str], re.Pattern[str], re.Pattern[str]]:
    """Return the forms that are plain by themselves, in brackets, and inside of a text."""
    n = [_N.format(letter) for letter in "abcdefgh"]
    named = [f"(?P<tool{letter}>{tool})" for letter in "abcdefg"]
    output = r"(?:results?|outputs?|responses?)"
    call = rf"(?:{_BEFORE} {_CALL}|{_CALL} {n[0]})"
    links = r"(?: the| by| after| from| with| in| once| until| for| based on)*"
    known = r"(?: is (?:known|done|available|complete))?"
    later = rf"{_LATER}{links}(?: {_RESULT})?(?: {_LINK})?(?: the)?"
    tool_call = rf"{named[0]} (?:call|step|tool|function)(?: {n[4]})?"
    plain = (
        rf"(?:use |see |insert |take |get |put )?(?:the |a )?{_RESULT} {_LINK} (?:the )?{call}",
        rf"{later} (?:{_BEFORE} {_STEP}|{_CALL} {n[1]})(?: {_RESULT})?{known}",
        rf"(?:the )?{_CALL} {n[2]} (?:s )?(?:{output}|return value)",
        rf"from (?:the )?(?:{_BEFORE} {_CALL}|{_CALL} {n[3]})",
        rf"(?:the )?{_BEFORE} {_CALL} (?:s )?(?:{output}|return value)",
        rf"(?:the )?{output} (?:of|from) (?:the )?{tool_call}",
    )
    what = r"(?:[a-z0-9]+ ){0,6}"
    bracketed = (
        rf"{what}{_LINK} (?:the )?(?:{_BEFORE} {_STEP}|{_CALL} {n[5]})(?: [a-z]+){{0,2}}",
        rf"(?:the )?{_BEFORE} (?:{_STEP} )?(?:s )?(?:{output}|answers?)(?: [a-z0-9]+){{0,3}}",
        rf"(?:the )?{_RESULT} {_LINK} (?:the )?{named[1]}(?: {_STEP})?(?: {n[6]})?",
        rf"{what}{_LINK} (?:the )?{named[2]}(?: (?:call|step|tool|{output}))?",
        rf"(?:the )?{named[3]} {output}(?: [a-z0-9]+){{0,3}}",
        rf"(?:the )?{output} {n[7]}",
        rf"(?:the )?{_CALL}s? \d{{1,3}} [a-z0-9 ]{{1,40}}",
        rf"{_UNKNOWN}",
        rf"{_LATER} .{{0,60}}\b(?:{_BEFORE} (?:{_STEP}|{output})|{named[4]}|{_CALL} \d+)\b.*",
    )
    inside = (plain[0], plain[2], plain[4], plain[5])
    return (_any(plain), _any((*plain, *bracketed)), _any(inside))


def _any(forms: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile("|".join(f"(?:{form})" for form in forms))


class Placeholders:
    """Finds placeholders among arguments; knows the names of the tools."""

    def __init__(self, tools: Collection[str]) -> None:
        """Compile nothing yet: most conversations never have a text that needs it."""
        self._tools = tools
        self._compiled: tuple[re.Pattern[str], ...] | None = None

    def find(self, args: Mapping[str, Any]) -> tuple[str, str, str] | None:
        """Return where the first placeholder stands, its text and what it refers to, or None.

        What it refers to is the number of a call, the name of a tool, or ''. Texts in `Literal`s,
        references and templates are not looked at.
        """
        for name, value in args.items():
            for text in (value,) if isinstance(value, str) else _texts(value):
                found = self.match(text)
                if found is not None:
                    return (name, *found)
        return None

    def match(self, text: str) -> tuple[str, str] | None:
        """Return the placeholder that a text is or holds, and what it refers to."""
        if len(text) > _AROUND or not _worth(text):
            return None
        if self._compiled is None:
            names = sorted({_normal(name) for name in self._tools}, key=len, reverse=True)
            self._compiled = _patterns("|".join(map(re.escape, names)) or "(?!)")
        plain, bracketed, inside = self._compiled
        stripped = text.strip().strip("\"'").strip()
        if len(stripped) <= _LONGEST:
            held = _BRACKETS.fullmatch(stripped)
            body, form = (stripped, plain) if held is None else (held["inner"], bracketed)
            # A word with dots and underscores is a name; other texts keep their sentences.
            prose = held is None and not _IDENTIFIER.fullmatch(stripped)
            found = form.fullmatch(_normal(body, prose=prose))
            if found is not None:
                return stripped, _target(found)
            field = _OF_FIELD.fullmatch(stripped)
            part = None if field is None else _FIELD.fullmatch(field[1] or field[2])
            if part is not None and part[1] in self._tools:
                return stripped, _normal(part[1])
        for held in _INSIDE.finditer(text):
            found = inside.fullmatch(_normal(held[1]))
            if found is not None:
                return held[0], _target(found)
        return None


_HINTS: Final = re.compile(
    r"result|output|response|answer|step|call|tbd|placeholder|to be |from|previous|here|pending"
    r"|value|data|content|of|by|[.][a-z_]+[ }>]",
    re.IGNORECASE,
)


def _worth(text: str) -> bool:
    """Whether a text could hold a placeholder; quick, for the many that cannot."""
    return len(text) > 2 and _HINTS.search(text) is not None  # noqa: PLR2004 - "tbd" has three


def _normal(text: str, *, prose: bool = False) -> str:
    """Return the words of a text or a name in small letters, one space between two."""
    if prose:
        return " ".join(_MARKS_OF_PROSE.sub(" ", text.lower().replace("'s", " s")).split())
    return _GAP.sub(" ", _HUMP.sub(" ", text.lstrip("$@#"))).strip().lower()


def _target(found: re.Match[str]) -> str:
    groups = found.groupdict()
    numbers = [text for name, text in groups.items() if text and name.startswith("number")]
    tools = [text for name, text in groups.items() if text and name.startswith("tool")]
    return (numbers or tools or [""])[0]


def _texts(value: Any) -> Iterator[str]:
    """Yield the texts in an argument, at any depth, without recursion."""
    waiting = [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, str):
            yield item
        elif is_dict(item) and MARKS.isdisjoint(item):
            waiting += reversed(list(item.values()))
        elif is_list(item):
            waiting += reversed(item)


def explained(name: str, text: str, target: str) -> str:
    """Return what the model is told; `target` is the id of the call that it seems to mean."""
    shown = text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"
    return (
        f"Not run: the argument {name!r} is a placeholder, {json.dumps(shown, ensure_ascii=False)},"
        f' not a value. To pass the result of call {target} write {{"$ref": "{target}"}}, or'
        f' {{"$ref": "{target}.items[0].name"}} for a part of it, with the number of the call that'
        ' you mean. If the text is meant as it stands, write {"$literal": "..."} round it.'
    )
