"""What the fuzz tests of the frameworks' adapters draw."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from random import Random

# The first seed: another one gives other turns.
FIRST = int(os.environ.get("DAGEXEC_FUZZ_FIRST", "0"))


def seeds(count: int) -> range:
    """Return the seeds of so many conversations."""
    return range(FIRST, FIRST + count)


def argument(rng: Random, size: int, plain: object) -> object:
    """Return an argument, often a reference: back, forward, to itself, to nothing."""
    roll = rng.random()
    if roll < 0.5:
        return plain
    number = rng.randint(1, size + 1)
    if roll < 0.7:
        return {"$ref": str(number)}
    if roll < 0.8:
        return {"$ref": f"{number}.items[0]", "default": plain}
    return {"$template": f"<${{{number}}}>"}
