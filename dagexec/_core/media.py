"""Images, audio and files that a tool returns: a value like any other, shown as what it is."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any, Final, cast, final

from dagexec._errors import DagexecError

# How files begin, at which place, and what they are.
_MAGIC: Final = (
    (0, b"\x89PNG\r\n\x1a\n", "image/png"),
    (0, b"\xff\xd8\xff", "image/jpeg"),
    (0, b"GIF87a", "image/gif"),
    (0, b"GIF89a", "image/gif"),
    (8, b"WEBP", "image/webp"),
    (0, b"%PDF-", "application/pdf"),
    (8, b"WAVE", "audio/wav"),
    (0, b"ID3", "audio/mpeg"),
    (0, b"OggS", "audio/ogg"),
    (0, b"fLaC", "audio/flac"),
)
# What a browser draws and runs nothing of; and the bytes that a notebook keeps in its file.
# An SVG could hold a script or an address.
_DRAWN: Final = frozenset({"image/png", "image/jpeg", "image/gif", "image/webp"})
_LARGEST: Final = 8 * 1024 * 1024
_UNKNOWN: Final = "application/octet-stream"


@final
@dataclass(frozen=True, slots=True, repr=False)
class Media:
    """An image, a sound or a file: `data`, or a `url` that leads to it.

    `data` may be given as a path, which is read at once. `type` is a MIME type; without one it is
    found by how the data begins, or by the name. By reference it is passed on whole.

    Raises DagexecError unless there is exactly one of `data` and `url`, OSError for a path that
    cannot be read.
    """

    data: bytes | None = None
    url: str | None = None
    type: str = ""
    name: str | None = field(default=None)

    def __post_init__(self) -> None:
        """Read a path; find the type."""
        given: object = self.data
        change = object.__setattr__
        if isinstance(given, Path):
            change(self, "data", given.read_bytes())
            change(self, "name", self.name or given.name)
        elif isinstance(given, bytearray | memoryview):
            change(self, "data", bytes(cast("bytes", given)))
        if (self.data is None) == (self.url is None) or not isinstance(self.data, bytes | None):
            msg = "Media takes either data, bytes or a pathlib.Path, or a url"
            raise DagexecError(msg)
        if not self.type:
            found = None if self.data is None else magic_type(self.data)
            # A program without media needs neither.
            import mimetypes
            from urllib.parse import urlsplit

            for named in ("" if self.url is None else urlsplit(self.url).path, self.name or ""):
                found = found or mimetypes.guess_type(named)[0]
            change(self, "type", found or _UNKNOWN)

    @property
    def base64(self) -> str:
        """The data as base64; empty for a url."""
        return base64.b64encode(self.data or b"").decode()

    def __str__(self) -> str:
        """Return what a model reads in its place: type, size and name."""
        size = "by its address" if self.data is None else f"{len(self.data)} bytes"
        return f"[{self.type}, {size}{f', {self.name}' if self.name else ''}]"

    def __repr__(self) -> str:
        """Return the same; never the data, nor an address, which may hold a key."""
        return f"<Media {str(self)[1:-1]}>"

    def _repr_mimebundle_(self, **_: object) -> dict[str, Any]:
        """Show an image of at most 8 MiB in a notebook; nothing is fetched."""
        shown: dict[str, Any] = {"text/plain": repr(self)}
        if is_drawn(self, _LARGEST):
            shown[self.type] = self.base64
        return shown


def is_drawn(media: Media, most: int) -> bool:
    """Whether a browser can draw the data, of at most so many bytes: an image that is one."""
    data = media.data
    # What it says to be and how it begins must agree.
    return data is not None and len(data) <= most and magic_type(data) == media.type in _DRAWN


def magic_type(data: bytes) -> str | None:
    """Return the MIME type of what begins as a known kind of file does."""
    return next((kind for at, sign, kind in _MAGIC if data[at : at + len(sign)] == sign), None)


def parts_of(value: Any) -> list[Any] | None:
    """Return a value in parts, each Media or something else, None if no part is Media."""
    single = as_media(value)
    if single is not None:
        return [single]
    if not isinstance(value, list | tuple):
        return None
    found = [as_media(item) or _text_of_block(item) for item in cast("Sequence[Any]", value)]
    return found if any(isinstance(each, Media) for each in found) else None


def as_media(value: Any) -> Media | None:
    """Return what a value is as Media, None if it is something else.

    Taken are Media, bytes that begin as a known kind of file, images of PIL, figures of
    matplotlib, and LangChain's and OpenAI's content blocks.
    """
    if isinstance(value, Media):
        return value
    if isinstance(value, bytes):
        kind = magic_type(value)
        return None if kind is None else Media(value, type=kind)
    if isinstance(value, dict):
        return _of_block(cast("dict[str, Any]", value))
    home = type(value).__module__.partition(".")[0]
    if home not in ("PIL", "matplotlib"):
        return None
    save: Any = getattr(value, "save" if home == "PIL" else "savefig", None)
    if save is None:
        return None
    file = BytesIO()
    save(file, format="png")
    return Media(file.getvalue(), type="image/png")


def _of_block(block: Mapping[str, Any]) -> Media | None:
    """Return the Media of a content block."""
    kind = block.get("type")
    if kind == "image_url":
        inner: Any = block.get("image_url")
        address: Any = cast("Any", inner).get("url") if isinstance(inner, Mapping) else inner
        return _of_address(address) if isinstance(address, str) else None
    if kind not in ("image", "audio", "file", "video"):
        return None
    encoded: Any = block.get("base64", block.get("data"))
    named = str(block.get("mime_type") or block.get("mimeType") or "")
    if isinstance(encoded, str) and encoded:
        try:
            return Media(base64.b64decode(encoded, validate=True), type=named)
        except ValueError:
            return None
    address = block.get("url")
    return _of_address(address, named) if isinstance(address, str) else None


def _of_address(address: str, kind: str = "") -> Media | None:
    head, _, body = address.partition(",")
    if head.startswith("data:") and head.endswith(";base64"):
        try:
            data = base64.b64decode(body, validate=True)
        except ValueError:
            return None
        return Media(data, type=head[len("data:") : -len(";base64")])
    return Media(url=address, type=kind)


def _text_of_block(item: Any) -> Any:
    given: object = item
    if isinstance(given, dict):
        block = cast("dict[str, Any]", given)
        if block.get("type") == "text" and isinstance(block.get("text"), str):
            return block["text"]
    return item
