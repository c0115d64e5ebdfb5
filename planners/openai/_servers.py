"""What the servers that speak Chat Completions do differently, as one table.

Not one of these needs to be told to a planner: each is read as it comes, whatever the server.

* Gemini's endpoint
  odd: calls without index or with an empty id; `extra_content` with a `thought_signature` that
    must come back, also in a delta of its own; MALFORMED_FUNCTION_CALL
  dagexec: assigns by order; keeps unknown fields of a call and sends them back; asks once more,
    then an error.
* Mistral
  odd: id "null" in continuations; content now a text, now a list of parts
  dagexec: "null" is no id; texts become parts of the list.
* DeepSeek, Qwen
  odd: `reasoning_content` beside the text; the whole call in one delta; arguments that are
    empty for no arguments
  dagexec: keeps it and sends it back; reads `""`, `null` and `{}` as no arguments, sends back
    `{}`.
* Ollama
  odd: finish_reason "" on every chunk; arguments as an object; refuses empty arguments
  dagexec: "" is no end; sends text of an object.
* vLLM
  odd: the whole arguments once more at the end; refuses arguments that are no JSON
  dagexec: reads the object once; sends back valid JSON.
* SGLang
  odd: finish_reason "" or "abort"; "stop" beside calls
  dagexec: only known ends are good; calls count, not the word.
* llama.cpp
  odd: arguments as an object; Responses without output_index, items without id
  dagexec: sends text; keys by id, call_id and place.
* LiteLLM, Bedrock
  odd: `{}` before the real arguments; all calls with index 0
  dagexec: waits with `{}` for what follows; id and name tell calls apart.
* OpenRouter
  odd: `reasoning_details` in fragments, signed; error bodies with status 200
  dagexec: merges them by index; raises with the server's message.
* Azure, Copilot
  odd: chunks without choices; text in one choice, calls in another
  dagexec: passes over; takes the calls from where they are.
* proxies
  odd: an empty `function_call` beside everything; names with remains of a template; lone halves
    of characters
  dagexec: leaves it out; cleans the name; mends the text.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from planners._core.api import Ending

# Why a reply ended, in small letters: what is not here is no good end.
_ENDS: Final[Mapping[str, Ending]] = {
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
}


def ending(reason: str) -> Ending:
    """Return what a `finish_reason` means; a word that nobody knows is a reply that was cut off."""
    if "malformed_function_call" in reason.lower():
        return "malformed"
    return _ENDS.get(reason.lower(), "cut_off")


def is_good_end(reason: str) -> bool:
    """Whether calls of a reply that ended so may run."""
    return ending(reason) in ("answered", "calls")


def worst_end(*reasons: str | None) -> str | None:
    """Return the reason that counts of several choices: the first bad one, else the first."""
    given = [reason for reason in reasons if reason is not None]
    return next((each for each in given if not is_good_end(each)), given[0] if given else None)


# Texts of a message that come piece by piece; the others are said again with each chunk.
GROWING: Final = frozenset(
    {"content", "refusal", "reasoning", "reasoning_content", "reasoning_text", "thinking", "text"}
    | {"arguments", "transcript", "data"}
)
# Lists whose items come in fragments with an index, and which of their texts grow.
INDEXED: Final[Mapping[str, frozenset[str]]] = {
    "reasoning_details": frozenset({"text", "summary", "data"}),
}
