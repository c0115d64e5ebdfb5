"""What travels through Temporal: texts, compressed where they are long, ids, and their limits."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Any, Final, TypeAlias
from urllib.parse import quote

# What is written; a worker takes only what its own version wrote.
FORMAT: Final = "dagexec-1"
RUN: Final = "dagexec.run.1"
CALL: Final = "dagexec.call"
DECIDE: Final = "dagexec.decide"
# The type of the error of a worker that lacks a call's tool; whether the call had begun before is
# its detail.
NO_TOOL: Final = "dagexec.no_tool"
# The type of the error of a worker that closes while it runs a write; its marks are the details.
LEFT: Final = "dagexec.left"

# Bytes. The server refuses a payload of 2 MiB, and ends a workflow without a word whose commands
# of one task are more than 4 MiB.
PAYLOAD: Final = 1_900_000
TASK_BYTES: Final = 1_500_000
PAGE: Final = 1_900_000
# Of the calls of a program in one reply of who interprets it, but for the last of them.
REPLY: Final = 500_000
# Of answers that are given at once: what is taken in counts for a task of the workflow.
ANSWER: Final = TASK_BYTES // 2
# Of 1,000 that the server takes, with room for what makes an id one's own.
_LONGEST_ID: Final = 900
# A text that is shorter stays one, for those who look at it in Temporal's pages.
_SHORT: Final = 1000

Packed: TypeAlias = "str | bytes"


def dump(value: Any) -> str:
    """Return JSON of what is JSON already; half of a surrogate pair is an escape in it."""
    return json.dumps(value, separators=(",", ":"))


def pack(text: str) -> Packed:
    """Return what travels of a text."""
    return text if len(text) <= _SHORT and text.isascii() else zlib.compress(text.encode(), 1)


def unpack(packed: Packed) -> str:
    """Return the text of what travelled."""
    return packed if isinstance(packed, str) else zlib.decompress(packed).decode()


def queue_of(engine: str, part: str = "") -> str:
    """Return the name of a task queue."""
    return f"{FORMAT}:{engine}:{part}" if part else f"{FORMAT}:{engine}"


def workflow_id(engine: str, run_id: str) -> str:
    """Return the id of a run's workflow; other runs never have the same."""
    return f"dagexec:{engine}:{short(run_id)}"


def short(name: str) -> str:
    """Return a name as a part of an id, hashed if it is long; readable where it can be."""
    readable = name.isascii() and name.isprintable() and "%" not in name
    text = name if readable else quote(name, safe=" ", errors="surrogatepass")
    if len(text) <= _LONGEST_ID // 2:
        return text
    return "sha256%" + sha256(text.encode()).hexdigest()


def program_mark(text: str) -> str:
    """Return a fingerprint of a part of a program that makes it another one, from its JSON."""
    return sha256(text.encode()).hexdigest()


def plan_mark(calls: Sequence[Mapping[str, Any]]) -> str:
    """Return a fingerprint of a plan as it was written, from the JSON form of its calls."""
    # Edges that were added follow from the tools' declarations, not from the plan.
    bare = [{k: v for k, v in call.items() if k not in ("ordered", "problem")} for call in calls]
    return sha256(dump(bare).encode()).hexdigest()
