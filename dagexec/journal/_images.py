"""Images of PIL and figures of matplotlib in a journal: their PNG.

An image comes back as an image; a figure, whose parts no file holds, as `Media`.
"""

from __future__ import annotations

import base64
from io import BytesIO
from typing import Any

from dagexec._core.media import Media, as_media


def picture_of(value: Any) -> Media | None:
    """Return an image or a figure as Media, None for anything else."""
    home = str(type(value).__module__).partition(".")[0]
    return as_media(value) if home in ("PIL", "matplotlib") else None


def is_image(value: Any) -> bool:
    """Whether a picture can be read back as what it is: an image of PIL."""
    return str(type(value).__module__).partition(".")[0] == "PIL"


def image_read(text: str) -> Any:
    """Return the image of PIL that was recorded, or Media where PIL is missing."""
    data = base64.b64decode(text)
    try:
        from PIL import Image
    except ImportError:
        return Media(data, type="image/png")
    image = Image.open(BytesIO(data))
    image.load()
    return image
