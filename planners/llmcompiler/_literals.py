"""The arguments of one call in a text plan, read as they come: Python and JSON literals.

A pushdown automaton over tokens: what has been read is never read again, a mistake is found at the
first token that cannot stand where it stands, and nesting costs no recursion. Where the text was
cut between two chunks makes no difference, because a token is taken only once it is whole.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass, field
from math import inf, nan
from typing import Any, Final

from planners._core.edge import is_dict
from planners.llmcompiler._comments import comment_end

# As deep as dagexec takes arguments.
MAX_DEPTH: Final = 100

_SPACE: Final = " \t\r\n\f\v"
_OPENERS: Final = {"[": "list", "(": "paren", "{": "dict"}
_CLOSERS: Final = {"list": "]", "paren": ")", "call": ")", "dict": "}"}
# As some scripts write them; only where nothing else can stand.
_WIDE: Final = {"）": ")", "，": ","}  # noqa: RUF001
_CONSTANTS: Final[dict[str, Any]] = {
    "True": True,
    "true": True,
    "False": False,
    "false": False,
    "None": None,
    "null": None,
    "NaN": nan,
    "Infinity": inf,
    "-Infinity": -inf,
}
_QUOTE: Final = re.compile(r"""((?i:[rub]|f|br|rb|fr|rf|ur)?)("{3}|'{3}|"|')""")
_MAYBE_PREFIX: Final = re.compile(r"[A-Za-z]{0,2}\Z")
_STOPS: Final = {'"': re.compile(r'[\\"]'), "'": re.compile(r"[\\']")}
# Text without quotes: up to what ends an argument. A reference in braces belongs to it whole, and
# so does an apostrophe behind a letter, as in Ender's Game.
_GROUP: Final = r'\$\{(?:[^}"\n]|"(?:[^"\\\n]|\\.)*")*\}'
_WORD: Final = re.compile(rf"""(?:{_GROUP}|[^,()\[\]{{}}"'\n]|(?<=\w)'(?=[\w \t]))*""")
_KEY_WORD: Final = re.compile(r"""[^,()\[\]{}"'\n:]*""")
_KEYWORD: Final = re.compile(r"([^\W\d][\w.$-]*)[ \t]*=(?!=)")
_MAYBE_KEYWORD: Final = re.compile(r"[^\W\d][\w.$-]*[ \t]*=?\Z")
_COMMENT: Final = re.compile(r"\s#")
_REFERENCE: Final = re.compile(r"\$(?:[0-9]+|\{[^}\n]*\})")
_WITH_PATH: Final = re.compile(r"\$([0-9]+)(?:\[|\.[A-Za-z_])")
_INTEGER: Final = re.compile(r"[+-]?(?:0|[1-9][0-9]*(?:_[0-9]+)*)")
_BASED: Final = re.compile(r"[+-]?0(?:[xX][0-9a-fA-F]+|[oO][0-7]+|[bB][01]+)")
_FLOAT: Final = re.compile(r"[+-]?(?:[0-9]+\.[0-9]*|\.[0-9]+|[0-9]+(?=[eE]))(?:[eE][+-]?[0-9]+)?")
_ESCAPE: Final = re.compile(
    r"\\(?:(\r?\n)|([0-7]{1,3})|x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})"
    r"|N\{([^}\n]{0,100})\}|(.))",  # no character's name is longer
    re.DOTALL,
)
_PAIR: Final = re.compile("[\ud800-\udbff][\udc00-\udfff]")
_SIMPLE: Final = {
    "a": "\a",
    "b": "\b",
    "f": "\f",
    "n": "\n",
    "r": "\r",
    "t": "\t",
    "v": "\v",
    "/": "/",
    "\\": "\\",
    "'": "'",
    '"': '"',
}
_LAST_CODE: Final = 0x10FFFF
# What a model writes for values that it leaves out.
_LEFT_OUT: Final = frozenset({"...", "\N{HORIZONTAL ELLIPSIS}"})


class Malformed(Exception):
    """The text cannot be read at `at`; the message is for the model."""

    def __init__(self, message: str, at: int) -> None:
        """Keep the place where the token began that cannot stand there."""
        super().__init__(message)
        self.at = at


@dataclass(slots=True)
class _Frame:
    """An open bracket and what has been read inside of it."""

    kind: str
    items: list[Any] = field(default_factory=list[Any])
    named: dict[Any, Any] = field(default_factory=dict[Any, Any])
    # What may come next: "item" (or the end), "colon", "value" (must come), "comma" (or the end).
    expects: str = "item"
    key: Any = None
    spread: bool = False
    commas: int = 0


class Arguments:
    """Reads arguments up to the bracket that closes them.

    Start `at` behind the opening bracket; call `read` again with a longer buffer while it returns
    False. The buffer must begin with the same text each time.
    """

    def __init__(self, at: int, kind: str = "call") -> None:
        """Begin behind the opening bracket of a call, or of a dict alone."""
        self.at = at
        self._stack = [_Frame(kind)]
        self._scan = -1  # how far the string that begins at `at` has been searched for its end
        # Where the first string began that has a line break and no right to one.
        self.broken: int | None = None
        # Whether three dots without quotes stand for a value.
        self.left_out = False

    @property
    def positional(self) -> list[Any]:
        """The arguments without a name."""
        return self._stack[0].items

    @property
    def named(self) -> dict[Any, Any]:
        """The arguments by name; the entries of a dict."""
        return self._stack[0].named

    def read(self, buffer: str, *, final: bool) -> bool:
        """Read on; True once the closing bracket was read, `at` is then behind it.

        Raises Malformed at the first token that cannot stand where it stands.
        """
        while self._to_token(buffer, final=final):
            if not self._token(buffer, final=final):
                return False
            if not self._stack[-1].kind:
                return True
        return False

    def _to_token(self, buffer: str, *, final: bool) -> bool:
        """Skip spaces and comments; False if no token follows yet."""
        while True:
            while self.at < len(buffer) and buffer[self.at] in _SPACE:
                self.at += 1
            if self.at >= len(buffer):
                if final:
                    raise Malformed(self._unclosed(), self.at)
                return False
            commented = buffer[self.at] == "#" and self._commented(buffer, final=final)
            if not commented:
                return commented is False

    def _commented(self, buffer: str, *, final: bool) -> bool | None:
        """Skip a comment that begins here; False where it is text, None if it is not whole yet."""
        certain = self._stack[-1].expects not in ("item", "value")
        end = comment_end(buffer, self.at, self._closing, certain=certain, final=final)
        if end is None:
            return None
        self.at = max(end, self.at)
        return end >= 0

    @property
    def _closing(self) -> str:
        """What closes all that is open."""
        return "".join(_CLOSERS[frame.kind] for frame in reversed(self._stack))

    def _unclosed(self) -> str:
        closer = _CLOSERS[self._stack[-1].kind]
        return f"it is not finished: the closing {closer!r} is missing"

    def _token(self, buffer: str, *, final: bool) -> bool:
        """Take one token; False if it is not whole yet."""
        frame = self._stack[-1]
        char = buffer[self.at]
        if frame.expects == "comma":
            char = _WIDE.get(char, char)
        if char == _CLOSERS[frame.kind]:
            self._close(frame)
        elif char in ")]}":
            raise Malformed(f"{char!r} closes nothing that is open", self.at)
        elif frame.expects == "colon":
            self._expect(char == ":", f"a ':' must follow the key {frame.key!r}")
            frame.expects = "value"
        elif frame.expects == "comma":
            if char != ",":
                raise Malformed(self._no_comma(buffer), self.at)
            frame.commas += 1
            frame.expects = "item"
        elif char in _OPENERS:
            self._open(frame, char)
        else:
            return self._scalar(frame, buffer, final=final)
        self.at += 1
        return True

    def _no_comma(self, buffer: str) -> str:
        # One character: how much of the rest is there depends on where the text was cut.
        closer = _CLOSERS[self._stack[-1].kind]
        return f"a comma or the closing {closer!r} is missing before {buffer[self.at]!r}"

    def _expect(self, fits: bool, message: str) -> None:  # noqa: FBT001 - a condition
        if not fits:
            raise Malformed(message, self.at)

    def _open(self, frame: _Frame, char: str) -> None:
        self._expect(
            frame.kind != "dict" or frame.expects == "value", f"{char!r} cannot begin a key"
        )
        self._expect(
            len(self._stack) < MAX_DEPTH,
            f"its arguments are nested more than {MAX_DEPTH} deep; write them flatter",
        )
        self._stack.append(_Frame(_OPENERS[char]))

    def _close(self, frame: _Frame) -> None:
        self._expect(
            frame.expects in ("item", "comma") and not frame.spread,
            f"a value is missing before {_CLOSERS[frame.kind]!r}",
        )
        if len(self._stack) == 1:
            frame.kind = ""
            return
        self._stack.pop()
        if frame.kind == "dict":
            self._put(frame.named)
        elif frame.kind == "paren" and len(frame.items) == 1 and not frame.commas:
            self._put(frame.items[0])
        else:
            self._put(frame.items)

    def _put(self, value: Any) -> None:
        """Take a value where one was expected."""
        frame = self._stack[-1]
        if frame.spread:
            self._spread(frame, value)
        elif frame.key is None and frame.kind != "dict":
            self._expect(
                not frame.named or frame.kind != "call",
                "an argument without a name stands behind one with a name",
            )
            frame.items.append(value)
        else:
            frame.named[frame.key] = value
        frame.key, frame.spread, frame.expects = None, False, "comma"

    def _spread(self, frame: _Frame, value: Any) -> None:
        if not is_dict(value) or not all(isinstance(name, str) for name in value):
            raise Malformed("an object with the names of arguments must follow '**'", self.at)
        clash = next((name for name in value if name in frame.named), None)
        self._expect(clash is None, f"the argument {clash!r} is given twice")
        frame.named.update(value)

    # ---------------------------------------------------------------------------------- scalars

    def _scalar(self, frame: _Frame, buffer: str, *, final: bool) -> bool:
        """Take a string, a number, a word or the name of an argument; False if it is not whole."""
        self._expect(buffer[self.at] not in ",:=", f"a value is missing before {buffer[self.at]!r}")
        if self._scan < 0 and not final and _MAYBE_PREFIX.match(buffer, self.at):
            return False
        quote = _QUOTE.match(buffer, self.at)
        if quote is not None:
            return self._string(frame, buffer, quote, final=final)
        if frame.kind == "call" and frame.key is None and not frame.spread:
            taken = self._name(frame, buffer, final=final)
            if taken is not None:
                return taken
        is_key = frame.kind == "dict" and frame.expects == "item"
        word = (_KEY_WORD if is_key else _WORD).match(buffer, self.at)
        end = self.at if word is None else word.end()
        if not final and (end >= len(buffer) or self._open_group(buffer, end)):
            return False
        commented = -1 if is_key else self._comment_in(buffer, end, final=final)
        if commented is None:
            return False
        end = end if commented < 0 else commented
        text = buffer[self.at : end].strip()
        self._check_word(text, "" if commented >= 0 else buffer[end : end + 1])
        value = _constant(text, self.at)
        self.left_out = self.left_out or text in _LEFT_OUT
        if is_key:
            self._expect(
                not isinstance(value, str), f'the key {text!r} must be in quotes, as "{text}"'
            )
            frame.key, frame.expects = value, "colon"
        else:
            self._put(value)
        self.at = end
        return True

    def _comment_in(self, buffer: str, end: int, *, final: bool) -> int | None:
        """Return where a comment begins in a word; -1 for none, None if its line is not whole."""
        mark = _COMMENT.search(buffer, self.at, end)
        if mark is None:
            return -1
        begin = mark.end() - 1
        word = buffer[self.at : begin].strip()
        certain = _REFERENCE.fullmatch(word) is not None or word in _LEFT_OUT
        certain = certain or not isinstance(_constant(word, self.at), str)
        ended = comment_end(buffer, begin, self._closing, certain=certain, final=final)
        return None if ended is None else -1 if ended < 0 else begin

    @staticmethod
    def _open_group(buffer: str, end: int) -> bool:
        """Whether a reference in braces or an apostrophe has begun and may belong to the word."""
        if buffer[end] == "'":  # an apostrophe, if a letter follows
            return end + 1 == len(buffer)
        return buffer.startswith("${", end - 1) and "\n" not in buffer[end:]

    def _check_word(self, text: str, follows: str) -> None:
        """Refuse what only looks like a word."""
        path = _WITH_PATH.match(text + follows)
        if path is not None:
            raise Malformed(
                f"a path needs braces: write ${{{path[1]}.name}} or ${{{path[1]}[0]}}", self.at
            )
        if follows == "(":
            raise Malformed(
                f"a call cannot stand inside of another one: write {text!r} as a call with a"
                " number of its own and refer to it, as $1",
                self.at,
            )
        self._expect(not follows or follows not in "[{\"'", f"put the text in quotes: {text!r}")

    def _name(self, frame: _Frame, buffer: str, *, final: bool) -> bool | None:
        """Take the name of an argument or `**`; None where neither stands."""
        if buffer.startswith("**", self.at):
            frame.spread = True
            self.at += 2
            return True
        if not final and (_MAYBE_KEYWORD.match(buffer, self.at) or buffer[self.at :] == "*"):
            return False
        name = _KEYWORD.match(buffer, self.at)
        if name is None:
            return None
        self._expect(name[1] not in frame.named, f"the argument {name[1]!r} is given twice")
        frame.key, frame.expects = name[1], "value"
        self.at = name.end()
        return True

    def _string(self, frame: _Frame, buffer: str, quote: re.Match[str], *, final: bool) -> bool:
        mark = quote[2]
        if self._scan < 0:
            rest = buffer[quote.start(2) : quote.start(2) + 3]
            if not final and len(rest) < 3 and not rest.strip(mark[0]):  # noqa: PLR2004 - three quotes
                return False  # may still become three quotes
            self._expect(
                quote[1].lower() in ("", "r", "u"),
                f"a string with {quote[1]!r} before it cannot be used: write a plain one",
            )
            self._scan = quote.end()
        end = self._end_of_string(buffer, mark, final=final)
        body = buffer[quote.end() : len(buffer) if end is None else end]
        if len(mark) == 1 and self.broken is None and "\n" in body:
            self.broken = self.at
        if end is None:
            if final:
                raise Malformed(f"it has a text without its closing {mark}", self.at)
            return False
        text = body if quote[1].lower() == "r" else _unescaped(body, self.at)
        if frame.kind == "dict" and frame.expects == "item":
            frame.key, frame.expects = text, "colon"
        else:
            self._put(text)
        self.at, self._scan = end + len(mark), -1
        return True

    def _end_of_string(self, buffer: str, mark: str, *, final: bool) -> int | None:
        """Return where the closing quotes begin, None if they have not come."""
        while True:
            stop = _STOPS[mark[0]].search(buffer, self._scan)
            if stop is None:
                self._scan = len(buffer)
                return None
            self._scan = stop.start()
            if stop[0] == "\\":
                if self._scan + 1 >= len(buffer):
                    return None
                self._scan += 2
            elif buffer.startswith(mark, self._scan):
                return self._scan
            elif len(buffer) - self._scan < len(mark) and not final:
                return None
            else:
                self._scan += 1


def _constant(text: str, at: int) -> Any:
    """Return the value of a word: a constant, a number, or the text itself."""
    if text in _CONSTANTS:
        return _CONSTANTS[text]
    try:
        if _INTEGER.fullmatch(text):
            return int(text)
        if _BASED.fullmatch(text):
            return int(text, 0)
        if _FLOAT.fullmatch(text):
            return float(text)
    except ValueError as error:  # a number of thousands of digits
        raise Malformed(f"a number cannot be read: {error}", at) from None
    return text


def _unescaped(body: str, at: int) -> str:
    """Return a string's text; what neither Python nor JSON knows stays as it is, as in Python."""
    if "\\" not in body:
        return body

    def replace(match: re.Match[str]) -> str:
        found = _character(match)
        if found is None:
            digits = match[0][1] in "xuU"
            why = "needs its digits; write a backslash as two" if digits else "is no character"
            raise Malformed(f"{match[0]} in a text {why}", at)
        return found

    text = _ESCAPE.sub(replace, body)
    return _PAIR.sub(_joined, text)


def _character(escape: re.Match[str]) -> str | None:
    """Return what an escape stands for, None if for nothing."""
    newline, octal, byte, short, long, name, char = escape.groups()
    if newline is not None:
        return ""
    if name is not None:
        try:
            return unicodedata.lookup(name)
        except KeyError:
            return None
    if char is not None:
        return None if char in "xuUN" else _SIMPLE.get(char, escape[0])
    code = int(octal, 8) if octal is not None else int(byte or short or long, 16)
    return chr(code) if code <= _LAST_CODE else None


def _joined(pair: re.Match[str]) -> str:
    """Return the character that JSON writes as two halves."""
    return pair[0].encode("utf-16", "surrogatepass").decode("utf-16")
