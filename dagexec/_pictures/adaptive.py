"""Pictures that adapt to the notebook that shows them: to its width, and to a dark theme.

JupyterLab shows an SVG as an image, which knows nothing of the theme round it. So there is HTML as
well, with an image for each theme, and a style that shows the one that fits the page.
"""

from __future__ import annotations

import re
from functools import cache
from typing import Final
from urllib.parse import quote

from dagexec._pictures.svg import recoloured

_CLASS: Final = "dagexec"
_OPEN: Final = "<svg "
_TITLE: Final = re.compile(r"<title[^>]*>(.*?)</title>", re.DOTALL)
# How pages with a dark theme are marked: JupyterLab's, and those of Visual Studio Code.
_DARK: Final = ("[data-jp-theme-light=false]", ".vscode-dark")


def adaptive(svg: str) -> str:
    """Return a light picture with a style that adapts it, where it is shown by itself."""
    head, close, rest = svg.partition(">")
    fits = f'{_OPEN}class="{_CLASS}" style="max-width:100%;height:auto" '
    return f"{head.replace(_OPEN, fits, 1)}{close}<style>{_style()}</style>{rest}"


def themed(light: str, dark: str) -> str:
    """Return HTML that shows one of two pictures.

    Where styles are left out, as in a notebook that is not trusted, it is the light one.
    """
    title = _TITLE.search(light)
    said = "" if title is None else title[1].replace('"', "&quot;")
    return (
        f"<style>{_toggles()}</style>"
        f'<img class="{_CLASS}-light" alt="{said}" style="max-width:100%;height:auto"'
        f' src="{_address(light)}">'
        f'<img class="{_CLASS}-dark" alt="{said}" style="display:none;max-width:100%;height:auto"'
        f' src="{_address(dark)}">'
    )


def _address(svg: str) -> str:
    # Quotes end the attribute; what else would have to be escaped makes it three times as long.
    return "data:image/svg+xml," + quote(svg, safe=" /:;,=()'!*@&?+~")


@cache
def _toggles() -> str:
    light = ",".join(f"{page} img.{_CLASS}-light" for page in _DARK)
    dark = ",".join(f"{page} img.{_CLASS}-dark" for page in _DARK)
    return f"{light}{{display:none}}{dark}{{display:inline!important}}"


@cache
def _style() -> str:
    # As an image the picture is the root of its document, and nowhere else.
    alone = "".join(
        f"svg.{_CLASS}:root [{name}='{light}']{{{name}:{dark}}}"
        for name, light, dark in recoloured()
    )
    within = "".join(
        f"{','.join(f'{page} svg.{_CLASS} [{name}={light!r}]' for page in _DARK)}{{{name}:{dark}}}"
        for name, light, dark in recoloured()
    )
    return f"@media (prefers-color-scheme:dark){{{alone}}}{within}"
