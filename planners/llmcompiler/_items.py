"""What the text of a plan is read as, one item after the other."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, TypeAlias

from planners.llmcompiler._decisions import Decision


@dataclass(frozen=True, slots=True)
class Numbered:
    """A call as the model wrote it; `problem` says what makes it unreadable.

    `number` is None where the model gave none.
    """

    number: int | None
    name: str
    positional: tuple[Any, ...] = ()
    named: dict[str, Any] = field(default_factory=dict[str, Any])
    problem: str | None = None
    late: bool = False
    """It stands behind `join()`."""
    label: str = ""
    """What it has in the place of a number."""
    left_out: bool = False
    """Three dots stand in the place of values."""


@dataclass(frozen=True, slots=True)
class Join:
    """The end of the plan; nothing behind it is one of its calls."""


@dataclass(frozen=True, slots=True)
class Thought:
    """A line that is no call; `label` is its number, where it could have been meant as one."""

    text: str
    label: str = ""


@dataclass(frozen=True, slots=True)
class Unsaid:
    """All items before it were thoughts: a closing tag stands there without its opening one."""


@dataclass(frozen=True, slots=True)
class Mentioned:
    """A line above it has a tool's name before a bracket and was not read as a call; once."""


Item: TypeAlias = Numbered | Join | Decision | Thought | Unsaid | Mentioned
