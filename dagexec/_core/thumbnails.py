"""The images among a run's values, as a page or a notebook can show them without any request."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from html import escape
from typing import Any, Final

from dagexec._core.media import Media, is_drawn, parts_of
from dagexec._core.outcomes import Outcome

# Bytes of one image, and of all on a page: others are named with their size.
_LARGEST: Final = 512 * 1024
_ALL: Final = 8 * 1024 * 1024
# Images of one call.
_MOST: Final = 8


def thumbnails_of(outcomes: Mapping[str, Outcome]) -> dict[str, list[tuple[str, str]]]:
    """Return the images that calls returned by call, each as a text and an address of its data.

    The address is '' for media that cannot be drawn here: other kinds, too large, or elsewhere.
    """
    found: dict[str, list[tuple[str, str]]] = {}
    left = _ALL
    for name, outcome in outcomes.items():
        if outcome.status != "done":
            continue
        shown: list[tuple[str, str]] = []
        for media in _media_of(outcome.value)[:_MOST]:
            drawn = is_drawn(media, min(left, _LARGEST))
            address = f"data:{media.type};base64,{media.base64}" if drawn else ""
            left -= len(media.data or b"") if drawn else 0
            shown.append((str(media), address))
        if shown:
            found[name] = shown
    return found


def figures(outcomes: Mapping[str, Outcome]) -> str:
    """Return the images that calls returned as HTML, '' where there is none to be drawn."""
    return "".join(
        f'<figure style="display:inline-block;margin:4px"><img src="{address}"'
        f' alt="{escape(text)}" style="max-width:240px;max-height:160px">'
        f"<figcaption>{escape(f'{name}: {text}')}</figcaption></figure>"
        for name, images in thumbnails_of(outcomes).items()
        for text, address in images
        if address
    )


def _media_of(value: Any) -> list[Media]:
    with suppress(Exception):  # a figure that cannot be drawn costs its picture
        return [part for part in parts_of(value) or () if isinstance(part, Media)]
    return []
