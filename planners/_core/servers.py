"""What servers do differently, as one table: how replies end, and how their pieces grow.

What each server is known for, and what is done about it, is told at the top of `planners.openai`.
Nothing of it needs to be told to a planner: each reply is read as it comes, whatever the server.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from planners._core.api import Ending

# Why a reply of an API ended, in small letters: what is not here is no good end.
_ENDS: Final[Mapping[str, Mapping[str, Ending]]] = {
    "chat": {  # finish_reason
        "stop": "answered",
        "end_turn": "answered",
        "eos": "answered",
        "eos_token": "answered",
        "stop_sequence": "answered",
        "tool_calls": "calls",
        "tool_call": "calls",
        "tool_use": "calls",
        "function_call": "calls",
        "length": "cut_off",
        "max_tokens": "cut_off",
        "model_length": "cut_off",
        "content_filter": "refused",
        "safety": "refused",
        "refusal": "refused",
    },
    "responses": {  # status, or the reason of one that is incomplete
        "completed": "answered",
        "incomplete": "cut_off",
        "max_output_tokens": "cut_off",
        "content_filter": "refused",
        "failed": "failed",
        "cancelled": "failed",
    },
    "messages": {  # stop_reason
        "end_turn": "answered",
        "stop_sequence": "answered",
        "stop": "answered",
        "tool_use": "calls",
        "tool_calls": "calls",
        "max_tokens": "cut_off",
        "model_context_window_exceeded": "cut_off",
        "pause_turn": "goes_on",
        "compaction": "goes_on",
        "refusal": "refused",
    },
}
# Ends after which there may be calls all the same, and these must not run: what a stop sequence
# of the user's cuts is not whole.
_NOT_WHOLE: Final[Mapping[str, frozenset[str]]] = {"messages": frozenset({"stop_sequence"})}


def ending(api: str, reason: str) -> Ending:
    """Return what an end means; a word that nobody knows is a reply that was cut off."""
    if "malformed_function_call" in reason.lower():
        return "malformed"
    return _ENDS[api].get(reason.lower(), "cut_off")


def is_good_end(api: str, reason: str) -> bool:
    """Whether calls of a reply that ended so may run."""
    whole = reason.lower() not in _NOT_WHOLE.get(api, ())
    return whole and ending(api, reason) in ("answered", "calls")


def worst_end(api: str, *reasons: str | None) -> str | None:
    """Return the reason that counts of several choices: the first bad one, else the first."""
    given = [reason for reason in reasons if reason is not None]
    return next((each for each in given if not is_good_end(api, each)), given[0] if given else None)


# Texts of a message that come piece by piece; the others are said again with each chunk.
GROWING: Final = frozenset(
    {"content", "refusal", "reasoning", "reasoning_content", "reasoning_text", "thinking", "text"}
    | {"arguments", "transcript", "data"}
)
# Lists whose items come in fragments with an index, and which of their texts grow.
INDEXED: Final[Mapping[str, frozenset[str]]] = {
    "reasoning_details": frozenset({"text", "summary", "data"}),
}
