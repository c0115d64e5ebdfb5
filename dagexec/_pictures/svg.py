"""What the pictures are drawn with: text that is safe and fits, colours, and the card round them.

Presentation attributes only, and nothing that refers to anything else by an id: nbviewer and GitHub
strip styles, classes, patterns and markers, and what they leave must still be readable.
"""

from __future__ import annotations

import json
import re
import unicodedata
import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias, final

ThemeName: TypeAlias = Literal["light", "dark", "page"]

FONT: Final = "DejaVu Sans, Verdana, Segoe UI, Helvetica, Arial, sans-serif"
# What XML 1.0 cannot hold, and what turns the direction of the text round it.
_UNSAFE: Final = re.compile(
    r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]"
)
_ENTITIES: Final = {ord("&"): "&amp;", ord("<"): "&lt;", ord(">"): "&gt;", ord('"'): "&quot;"}
# JupyterLab cuts off what is wider than the cell, about 960 pixels of a common window.
ROOM: Final = 900.0
_SMALLEST: Final = 0.6  # of its size, so that the text can still be read
_EM: Final = 0.61  # mean width of a character of DejaVu Sans, which is a wide one


@final
@dataclass(frozen=True, slots=True)
class Look:
    """How a state looks: fill, stroke, the stroke's dashes and width; never its colour alone."""

    fill: str
    stroke: str
    dash: str = ""
    width: float = 1.2


@final
@dataclass(frozen=True, slots=True)
class Theme:
    """The colours of a picture. It brings its own card, so that any page can hold it."""

    card: str
    frame: str
    ink: str
    faint: str
    line: str
    critical: str
    alarm: str
    states: Mapping[str, Look]


# Dashes and widths are the same in both themes: they tell the states apart without colour.
_SHAPES: Final[dict[str, tuple[str, float]]] = {
    "plan": ("", 1.2),
    "waiting": ("2 3", 1.2),
    "ready": ("5 3", 1.2),
    "running": ("", 1.8),
    "done": ("", 1.2),
    "failed": ("", 2.6),
    "timed_out": ("9 3", 2.2),
    "skipped": ("2 4", 1.2),
    "cancelled": ("7 3", 1.4),
    "pending": ("1 3", 2.0),
    "in_doubt": ("8 3 2 3", 2.0),
}
_LIGHT: Final = {
    "plan": ("#f4f6f8", "#57606a"),
    "waiting": ("#ffffff", "#8c959f"),
    "ready": ("#ffffff", "#0a64bc"),
    "running": ("#d8ebff", "#0a64bc"),
    "done": ("#dff3e6", "#1a7f4b"),
    "failed": ("#fde1dd", "#b62318"),
    "timed_out": ("#ffecc9", "#96590a"),
    "skipped": ("#f1f1f3", "#72727c"),
    "cancelled": ("#ece7f6", "#66509a"),
    "pending": ("#e2ebfb", "#2b58a8"),
    "in_doubt": ("#fae2f1", "#992c72"),
}
_DARK: Final = {
    "plan": ("#262c36", "#9aa4b0"),
    "waiting": ("#1b2027", "#7d8792"),
    "ready": ("#1b2027", "#6cb2ff"),
    "running": ("#12395f", "#6cb2ff"),
    "done": ("#12402a", "#56c98a"),
    "failed": ("#551d1a", "#ff8479"),
    "timed_out": ("#4d3406", "#f2b556"),
    "skipped": ("#25272d", "#91919d"),
    "cancelled": ("#332a4d", "#b7a2ea"),
    "pending": ("#1a2f57", "#8fb4f7"),
    "in_doubt": ("#4a1b3a", "#ee8fcb"),
}


def _looks(colours: Mapping[str, tuple[str, str]]) -> dict[str, Look]:
    return {state: Look(*pair, *_SHAPES[state]) for state, pair in colours.items()}


def _variable(name: str, fallback: str) -> str:
    return f"var(--dx-{name}, {fallback})"


_BASE: Final = ("card", "frame", "ink", "faint", "line", "critical", "alarm")
_LIGHT_BASE: Final = ("#ffffff", "#d0d7de", "#1f2328", "#5c646d", "#a2abb5", "#1f2328", "#c21c10")
_DARK_BASE: Final = ("#161a20", "#3b434d", "#e8ebef", "#a6afb9", "#5f6a76", "#ffffff", "#ff7468")
_PAGE_BASE: Final = (
    _variable("card", _LIGHT_BASE[0]),
    _variable("frame", _LIGHT_BASE[1]),
    _variable("ink", _LIGHT_BASE[2]),
    _variable("faint", _LIGHT_BASE[3]),
    _variable("line", _LIGHT_BASE[4]),
    _variable("critical", _LIGHT_BASE[5]),
    _variable("alarm", _LIGHT_BASE[6]),
)

THEMES: Final[dict[str, Theme]] = {
    "light": Theme(*_LIGHT_BASE, states=_looks(_LIGHT)),
    "dark": Theme(*_DARK_BASE, states=_looks(_DARK)),
    # For a page that sets the variables itself and so follows its reader's choice.
    "page": Theme(
        *_PAGE_BASE,
        states=_looks(
            {
                state: (_variable(f"{state}-fill", fill), _variable(f"{state}-line", line))
                for state, (fill, line) in _LIGHT.items()
            }
        ),
    ),
}


def variables(theme: Literal["light", "dark"]) -> str:
    """Return the CSS declarations that give the theme "page" these colours."""
    base, states = (_LIGHT_BASE, _LIGHT) if theme == "light" else (_DARK_BASE, _DARK)
    parts = [f"--dx-{name}:{value}" for name, value in zip(_BASE, base, strict=True)]
    for state, (fill, line) in states.items():
        parts += [f"--dx-{state}-fill:{fill}", f"--dx-{state}-line:{line}"]
    return ";".join(parts)


def theme_of(name: str) -> Theme:
    """Return a theme; raise ValueError that names those there are."""
    if name not in THEMES:
        msg = f'theme is "light", "dark" or "page", not {name!r}'
        raise ValueError(msg)
    return THEMES[name]


def recoloured() -> list[tuple[str, str, str]]:
    """Return what makes a light picture dark: attribute, its light colour, its dark one.

    Where two parts share a light colour, the last of them decides: the base's.
    """
    fills: dict[str, str] = {}
    lines: dict[str, str] = {}
    for state, (fill, line) in _LIGHT.items():
        dark_fill, dark_line = _DARK[state]
        fills |= {line: dark_line, fill: dark_fill}
        lines |= {line: dark_line}
    for light, dark in zip(_LIGHT_BASE, _DARK_BASE, strict=True):
        fills.setdefault(light, dark)
        lines[light] = dark
    card, ink = _BASE.index("card"), _BASE.index("ink")
    fills |= {_LIGHT_BASE[at]: _DARK_BASE[at] for at in (card, ink)}
    return [
        (name, light, dark)
        for name, colours in (("fill", fills), ("stroke", lines))
        for light, dark in colours.items()
    ]


def safe(text: str) -> str:
    """Return text as XML may hold it, between tags and in attributes."""
    return _UNSAFE.sub("\ufffd", text).translate(_ENTITIES)


def width_of(text: str, size: float) -> float:
    """Return about how wide a text is, in pixels, at a font size in pixels."""
    if text.isascii():
        return len(text) * size * _EM
    return sum(map(_ems, text)) * size


def _ems(character: str) -> float:
    if character < "\u0300":
        return _EM
    if unicodedata.combining(character):
        return 0.0
    wide = unicodedata.east_asian_width(character) in "WF" or character > "\uffff"
    return 1.2 if wide else 0.85


def fitting(text: str, width: float, size: float) -> str:
    """Return what of a text fits, with an ellipsis where something is left out."""
    if width_of(text, size) <= width:
        return text
    room, kept = width - size * _EM, 0
    for character in text:
        room -= _ems(character) * size
        if room < 0:
            break
        kept += 1
    return text[:kept] + "…"


def label(
    x: float, y: float, text: str, *, fill: str, size: float = 12, bold: bool = False, end: str = ""
) -> str:
    """Return a line of text; `end` is "middle" or "end" for other anchors than the start."""
    weight = ' font-weight="bold"' if bold else ""
    anchor = f' text-anchor="{end}"' if end else ""
    body = safe(text)
    return (
        f'<text x="{x:.0f}" y="{y:.0f}" font-size="{size:g}" fill="{fill}"{weight}{anchor}>'
        f"{body}</text>"
    )


def stroked(look: Look) -> str:
    """Return the attributes of a state's fill and stroke."""
    dash = f' stroke-dasharray="{look.dash}"' if look.dash else ""
    return f'fill="{look.fill}" stroke="{look.stroke}" stroke-width="{look.width:g}"{dash}'


def card(
    parts: Iterable[str],
    size: tuple[float, float],
    theme: Theme,
    *,
    title: str,
    desc: str,
    interactive: bool = False,
) -> str:
    """Return the whole picture: a card of its own colour; `desc` is read aloud."""
    width, height = size
    body = "".join(parts)
    # Two pictures in one page must not share ids, and the same picture must be the same text.
    key = f"dx{zlib.crc32(f'{title}{desc}{body}'.encode(errors='replace')):08x}"
    # As an image its inside is one thing; what can be clicked must stay reachable.
    role = "group" if interactive else "img"
    scale = 1.0 if interactive else max(_SMALLEST, min(1.0, ROOM / width))
    # On a page it shrinks to the column, as far as it can still be read.
    own = f' style="--dx-wide:{width:.0f}px"' if interactive else ""
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width * scale:.0f}"'
        f' height="{height * scale:.0f}" viewBox="0 0 {width:.0f} {height:.0f}"{own}'
        f' role="{role}" aria-labelledby="{key}t {key}d"'
        f' font-family="{FONT}"><title id="{key}t">{safe(title)}</title>'
        f'<desc id="{key}d">{safe(desc)}</desc>'
        f'<rect x="0.5" y="0.5" width="{width - 1:.0f}" height="{height - 1:.0f}" rx="8"'
        f' fill="{theme.card}" stroke="{theme.frame}"/>{body}</svg>'
    )


def picture(
    body: Callable[[Theme], tuple[list[str], tuple[float, float]]],
    *,
    title: str,
    spoken: str,
    theme: str = "light",
    interactive: bool = False,
) -> str:
    """Return a card with what `body` draws in the colours of a theme: parts and their size."""
    colours = theme_of(theme)
    parts, size = body(colours)
    return card(parts, size, colours, title=title, desc=spoken, interactive=interactive)


def clickable(calls: Iterable[str], spoken: str, body: str, *, interactive: bool) -> str:
    """Return a part of the picture that stands for calls, with its full text as a tooltip."""
    tip = f"<title>{safe(spoken)}</title>"
    if not interactive:
        return f"<g>{tip}{body}</g>"
    names = safe(json.dumps(list(calls), ensure_ascii=False))
    return (
        f'<g tabindex="0" role="button" aria-label="{safe(spoken)}" data-calls="{names}">'
        f"{tip}{body}</g>"
    )
