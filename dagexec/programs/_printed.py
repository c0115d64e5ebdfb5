"""The text that a program printed, as far as it is there."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from dagexec.programs._promise import DONE, Promise


def text_of(printed: Iterable[Any], limit: int) -> str:
    """Return it, cut off at `limit` characters; each part is a text, or the promise of one."""
    texts: list[str] = []
    for each in printed:
        text = each
        while type(text) is Promise and text.state is DONE:
            text = text.value
        if type(text) is Promise:
            break
        texts.append(text)
    size = sum(map(len, texts))
    if size > limit:
        kept, rest = "".join(texts)[:limit], size - limit
        return f"{kept}\n… {rest:,} more characters were printed; {limit:,} are kept"
    return "".join(texts)
