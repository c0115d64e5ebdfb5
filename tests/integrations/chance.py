"""What the fuzz tests of the frameworks' adapters draw."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from random import Random


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
