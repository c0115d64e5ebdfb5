"""The text of a plan, read as it comes: thoughts, numbered calls, `join()`, and a decision.

    Thought: two searches, then one sum                 what is no call is a thought
    1. search("cheetah", limit=3)                        a number, a tool, its arguments
    2. math("${1.speed} * 1.3")                          a reference to the call with that number
    3. join()<END_OF_PLAN>                               the end

A `Reader` gives the same items wherever the text is cut. What cannot be read costs the call that
it stands in: reading goes on at the next line that is not part of a text. The rules are those of
LLMCompiler (arXiv:2312.04511) where they are sound; tests/planners/test_compiler_faults.py names
each place where they are not.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from dataclasses import replace
from typing import Any, Final

from planners.llmcompiler._ascii import in_ascii, visible
from planners.llmcompiler._decisions import Decision, answer_in, decision_of, looks_like_one, spoilt
from planners.llmcompiler._items import Item, Join, Mentioned, Numbered, Thought, Unsaid
from planners.llmcompiler._line_heads import (
    END,
    TAIL,
    Mentions,
    bare,
    behind_texts,
    broken,
    listed,
    loose,
    numbered,
)
from planners.llmcompiler._literals import Arguments, Malformed
from planners.llmcompiler._thoughts import OPENING, Block, stray, tag_in
from planners.llmcompiler._window import Window

JOIN: Final = "join"

_ACTION: Final = re.compile(
    r"(?:^|.*?\b((?i:action):))[ \t]*+\**+[ \t]*+((?i:finish|replan))[ \t]*+\("
)
_ANSWER: Final = re.compile(r"[ \t]*+\**+(?i:final answer)\**+:\**+[ \t]*+")
# Characters of a label in a message.
_LONGEST: Final = 12
# Characters of objects that cannot be read, before what begins like one is taken for prose.
_PATIENCE: Final = 50_000
# Empty lines, or one without what a call, a decision, a tag or a number in it would need.
_PLAINLY: Final = re.compile(r"(?:[ \t\r]*+\n)++|[^\n(<\[{:0-9\x80-\U0010ffff]++\n")
_FENCE: Final = re.compile(r"[ \t]*```[\w-]*[ \t]*\r?")


class Reader:
    """Reads the text of one reply; `feed` and `close` give what is complete.

    `names` are the tools' names: they tell a call that lacks its number or a bracket from prose.
    """

    def __init__(self, names: Collection[str] = ()) -> None:
        """Begin before the first character."""
        self._names = names
        self._window = Window()
        self._buffer = ""
        self._at = 0
        self._state: Callable[[bool], bool] = self._line
        self._items: list[Item] = []
        self._head: tuple[int | None, str] = (None, "")
        self._arguments = Arguments(0)
        self._calls = False
        self._joined = False
        self._thoughts: list[str] = []
        self._bracketed = False
        self._block: Block
        self._mentions = Mentions(names)
        self._mentioned = False
        # Characters of objects that could not be read: each costs one line and may reach further.
        self._wasted = 0

    def feed(self, text: str) -> list[Item]:
        """Take a piece of the text; return what it completes."""
        if not self._window.add(text, len(self._buffer)):
            return []
        return self._run(final=False)

    def close(self) -> list[Item]:
        """Take the end of the text; return what was left."""
        return self._run(final=True)

    def _run(self, *, final: bool) -> list[Item]:
        window = self._window
        window.open()
        more = True
        while more:
            # Only when all of the text is in the buffer is its end the text's end.
            while self._state(final and not window):
                if self._at:
                    self._buffer, self._at = window.kept(self._buffer, self._at), 0
            more = bool(window)
            self._buffer += window.take(len(self._buffer))
        items, self._items = self._items, []
        return items

    # ------------------------------------------------------------------------------------- states
    #
    # A state reads from `_at`, which is 0 when it is entered, and returns False when it needs more.

    def _line(self, final: bool) -> bool:  # noqa: FBT001 - the states share one signature
        """At the beginning of a line."""
        text = self._buffer = visible(self._buffer)
        plainly = _PLAINLY.match(text)
        if plainly is not None:
            self._at = plainly.end()
            self._take_prose(plainly[0])
            return True
        if self._begins(text):
            return True
        end = text.find("\n")
        if end < 0 and not (final and text):
            return False
        line = text if end < 0 else text[:end]
        self._at = len(text) if end < 0 else end + 1
        if not self._loose(line) and not self._unsaid(0, len(line)):
            self._prose(line)
        return True

    def _begins(self, text: str) -> bool:
        """Take a line that its beginning identifies; return False if all of it must come first."""
        plain = in_ascii(text)
        opening = OPENING.match(plain)
        if opening is not None:
            self._buffer = plain
            self._block, self._at = Block(opening[1]), opening.end()
            self._state = self._thinking
            return True
        if text.lstrip(" \t").startswith("{") and self._may_be_object(text):
            begin = text.index("{") + 1
            self._arguments = Arguments(begin, "dict")
            self._state = self._object
            return True
        head = numbered(plain)
        if head is not None and (not head[3] or self._known(head[2])):
            self._buffer = plain
            self._begin_call(int(head[1]), head[2], head.end())
            return True
        named = bare(plain)
        if named is not None and self._known(named[1]):
            self._buffer = plain
            self._begin_call(None, named[1], named.end())
            return True
        return False

    def _may_be_object(self, text: str) -> bool:
        patient = self._wasted < _PATIENCE or looks_like_one(text.lstrip(" \t"))
        return patient and not self._calls and not self._joined

    def _thinking(self, final: bool) -> bool:  # noqa: FBT001
        """In a block of thoughts."""
        text = self._buffer
        begin, end = self._block.end(text)
        # No tag goes over lines: without one the last line is kept, which may hold a part of it.
        at = begin if end >= 0 else len(text) if final else text.rfind("\n") + 1
        self._skipped(text[:at])
        if end >= 0:
            self._at = end
            self._state = self._line
            return True
        self._block.forget(at)
        self._buffer = text[at:]
        return False

    def _skipped(self, text: str) -> None:
        """Take whole lines, or the rest of one, that hold no call."""
        if not self._mentioned and self._mentions(text):
            self._mentioned = True
            self._items.append(Mentioned())

    def _unsaid(self, begin: int, end: int = -1) -> bool:
        """Go on behind a closing tag without an opening one, if there is one between two places."""
        at = stray(self._buffer[begin:] if end < 0 else self._buffer[begin:end])
        if at < 0:
            return False
        self._skipped(self._buffer[begin : begin + at])
        self._items.append(Unsaid())
        self._calls = self._joined = False
        self._thoughts = []
        self._at = begin + at
        self._state = self._line
        return True

    def _taken_back(self, *, final: bool) -> bool:
        """Go on behind a closing tag without an opening one, as soon as its line is whole."""
        end = len(self._buffer) if final else self._buffer.rfind("\n") + 1
        return self._unsaid(0, end)

    def _known(self, name: str) -> bool:
        return name in self._names or name.lower() == JOIN

    def _begin_call(self, number: int | None, name: str, at: int) -> None:
        self._head = (number, name)
        self._arguments = Arguments(at)
        self._state = self._join if name.lower() == JOIN else self._call

    def _prose(self, line: str) -> None:
        """Take a whole line that begins no call."""
        stripped = line.strip()
        if stripped.startswith(END):
            self._state = self._over
            return
        if not stripped or _FENCE.fullmatch(line):
            return
        lacking = broken(in_ascii(line))
        if lacking is not None and self._known(lacking[2]):
            self._broken(int(lacking[1]), lacking[2])
            return
        if not self._calls and not self._joined and self._decision(line):
            return
        self._skipped(line)
        thought = stripped.removeprefix("Thought:").strip()
        self._thoughts.append(thought)
        self._items.append(Thought(thought, listed(in_ascii(line))))

    def _take_prose(self, text: str) -> None:
        """Take a line, or empty lines, of which nothing else can be made."""
        thought = text.strip()
        if thought and not _FENCE.fullmatch(text.removesuffix("\n")):
            self._thoughts.append(thought)
            self._items.append(Thought(thought))

    def _loose(self, line: str) -> bool:
        """Take a call that is not written as it was asked for; True if the line begins one."""
        found = loose(in_ascii(line), self._known)
        if found is None:
            return False
        if found.number is None and found.name.lower() != JOIN:
            shown = found.label if len(found.label) <= _LONGEST else found.label[:_LONGEST] + "…"
            problem = f"{shown!r} is no number; write a whole number before it, and a period"
            self._give(Numbered(None, found.name, problem=problem, label=found.label))
            return True
        self._at = 0  # the line is read again, as a call
        self._buffer = in_ascii(self._buffer)
        self._begin_call(found.number, found.name, found.at)
        return True

    def _broken(self, number: int, name: str) -> None:
        if name.lower() == JOIN:
            self._end_of_plan()
            return
        self._give(Numbered(number, name, problem="its arguments must stand in brackets behind it"))

    def _decision(self, line: str) -> bool:
        """Take a decision in words; True if the line is one."""
        action = _ACTION.match(line)
        if action is not None and action[2].lower() == "replan":
            reason = line[action.end() :].strip().removesuffix("**").removesuffix(")")
            self._decide(Decision("replan", thought=reason))
            return True
        answer = _ANSWER.match(line) if action is None else None
        begin = action or answer
        if begin is None:
            return False
        before = line[: max(action.start(1), 0)] if action is not None else ""
        thought = _without_marks(before).removeprefix("Thought:").strip()
        if thought:
            self._thoughts.append(thought)
        self._at = begin.end()  # both patterns begin where the line does
        self._bracketed = action is not None
        self._state = self._answer
        return True

    def _answer(self, final: bool) -> bool:  # noqa: FBT001
        """In an answer in words: all that is left belongs to it."""
        if self._taken_back(final=final):
            return True
        if not final:
            return False
        self._decide(Decision("finish", answer_in(self._buffer, bracketed=self._bracketed)))
        self._at = len(self._buffer)
        self._state = self._over
        return True

    def _object(self, final: bool) -> bool:  # noqa: FBT001
        """In an object at the beginning of a line, which may be a decision."""
        arguments = self._arguments
        try:
            if not arguments.read(self._buffer, final=final):
                return False
        except Malformed:
            self._spoilt_object()
            return True
        self._at = arguments.at
        self._state = self._rest
        self._take_object(arguments.named)
        return True

    def _take_object(self, body: dict[Any, Any]) -> None:
        found = decision_of(body)
        if found is None:
            self._items.append(Thought(self._buffer[: self._at].strip()))
            return
        self._decide(found)
        plan = body.get("plan")
        if found.action == "finish":
            self._state = self._over
        elif isinstance(plan, str) and plan.strip():  # as structured output has to have it
            self._window.put_back(self._buffer[self._at :])
            self._window.put_back(f"{plan}\n")
            self._buffer, self._at = "", 0
            self._state = self._line

    def _spoilt_object(self) -> None:
        """Go on behind an object that cannot be read."""
        text = self._buffer
        self._wasted += self._arguments.at
        if looks_like_one(text.lstrip(" \t")):
            # A decision that was cut off or is not quite JSON. No line of it is a call.
            self._state = self._spoilt_decision
            return
        self._state = self._plain

    def _plain(self, final: bool) -> bool:  # noqa: FBT001
        """At the beginning of a line that is prose, whatever it looks like."""
        end = self._buffer.find("\n")
        if end < 0 and not final:
            return False
        self._at = len(self._buffer) if end < 0 else end + 1
        if not self._unsaid(0, self._at):
            self._skipped(self._buffer[: self._at])
            self._items.append(Thought(self._buffer[: self._at].strip()))
            self._state = self._line
        return True

    def _spoilt_decision(self, final: bool) -> bool:  # noqa: FBT001
        if self._taken_back(final=final):
            return True
        if not final:
            return False
        self._decide(spoilt(self._buffer))
        self._at = len(self._buffer)
        self._state = self._over
        return True

    def _call(self, final: bool) -> bool:  # noqa: FBT001
        """In the arguments of a call."""
        arguments = self._arguments
        try:
            if not arguments.read(self._buffer, final=final):
                return False
        except Malformed as error:
            self._fail(str(error), error.at)
            return True
        self._at = arguments.at
        self._state = self._tail
        return True

    def _fail(self, problem: str, at: int) -> None:
        """Give a call that cannot be read, and find where to go on."""
        text = self._buffer
        broken = self._arguments.broken
        if broken is not None:
            problem = "a text in it has no closing quotes (a line break in a text is written \\n)"
        self._give(Numbered(*self._head, problem=problem))
        if broken is not None:  # the text in quotes was never closed, or should not go over lines
            at = broken
        elif at < len(text):
            line = text.rfind("\n", 0, at) + 1
            if line and not text[line:at].strip():  # the mistake is that another line begins
                self._at = line
                self._state = self._line
                return
        self._at = at
        self._state = self._skip

    def _skip(self, final: bool) -> bool:  # noqa: FBT001
        """Behind a mistake: go to the next line that is not inside of a text."""
        text = self._buffer
        found = behind_texts(text, final=final)
        if found is None:
            return False
        position, self._at = found
        if not self._unsaid(position, self._at):
            self._skipped(text[: self._at])
            self._state = self._line
        return True

    def _tail(self, final: bool) -> bool:  # noqa: FBT001
        """Behind the closing bracket of a call, on its line."""
        text = self._buffer
        end = text.find("\n")
        mark = text.find(END)
        if mark >= 0 and (mark < end or end < 0):
            end = mark
        following = numbered(in_ascii(text.lstrip(" \t;,")))
        if following is not None and not following[3]:
            end = len(text) - len(text.lstrip(" \t;,"))
        elif end < 0 and not final:
            return False
        line = text if end < 0 else text[:end]
        tag = tag_in(line)
        if tag >= 0:
            line, end = line[:tag], tag
        unfinished = END.startswith(line.strip()) and line.strip()
        arguments = self._arguments
        problem = None
        if not TAIL.fullmatch(line) and not unfinished:
            problem = "what stands behind its closing bracket cannot be read; write one call a line"
            self._skipped(line)
        call = Numbered(
            *self._head,
            tuple(arguments.positional),
            arguments.named,
            left_out=arguments.left_out,
        )
        self._give(call if problem is None else Numbered(*self._head, problem=problem))
        self._at = len(text) if end < 0 else end
        self._state = self._line
        return True

    def _rest(self, final: bool) -> bool:  # noqa: FBT001
        """Behind an object: the rest of its line says nothing."""
        end = self._buffer.find("\n")
        if end < 0 and not final:
            return False
        self._at = len(self._buffer) if end < 0 else end + 1
        if not self._unsaid(0, self._at):
            self._skipped(self._buffer[: self._at])
            self._state = self._line
        return True

    def _join(self, final: bool) -> bool:  # noqa: FBT001
        """Behind `join(`: what it is given is of no use."""
        text = self._buffer
        end = text.find("\n")
        mark = text.find(END)
        if mark >= 0 and (mark < end or end < 0):
            self._end_of_plan()
            self._state = self._over
            return True
        if end < 0 and not final:
            return False
        self._at = len(text) if end < 0 else end + 1
        self._end_of_plan()
        if not self._unsaid(0, self._at):
            self._state = self._line
        return True

    def _end_of_plan(self) -> None:
        if not self._joined:
            self._joined = True
            self._items.append(Join())

    def _over(self, final: bool) -> bool:  # noqa: FBT001
        """Behind the end mark or an answer: nothing counts any more, unless all was thought."""
        if self._taken_back(final=final):
            return True
        if final:
            self._buffer = ""
        return False

    # -------------------------------------------------------------------------------------- giving

    def _give(self, call: Numbered) -> None:
        if self._joined:
            call = replace(call, positional=(), named={}, late=True)
        elif call.number is None and call.problem is None:
            problem = "it has no number; write one before it, as in 1. " + call.name + "(...)"
            call = Numbered(None, call.name, problem=problem)
        self._calls = True
        self._items.append(call)

    def _decide(self, found: Decision) -> None:
        thought = found.thought or "\n".join(self._thoughts)
        self._items.append(replace(found, thought=thought))


def _without_marks(text: str) -> str:
    """Return a text without what is no letter, digit or underscore at its end."""
    end = len(text)
    while end and not (text[end - 1].isalnum() or text[end - 1] == "_"):
        end -= 1
    return text[:end]
