"""Media in what goes back to a model: what each API takes, and what stands for the rest."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from dagexec import Media

_MIB: Final = 1 << 20
_IMAGES: Final = ("image/png", "image/jpeg", "image/gif", "image/webp")


def _address(media: Media) -> str:
    return media.url or f"data:{media.type};base64,{media.base64}"


def _name(media: Media) -> str:
    return media.name or f"file.{media.type.rpartition('/')[2]}"


# ------------------------------------------------------------------------------------- each API


def _messages_image(media: Media) -> dict[str, Any]:
    return {"type": "image", "source": _messages_source(media)}


def _messages_document(media: Media) -> dict[str, Any]:
    return {"type": "document", "source": _messages_source(media), "title": _name(media)}


def _messages_source(media: Media) -> dict[str, Any]:
    if media.url is not None:
        return {"type": "url", "url": media.url}
    return {"type": "base64", "media_type": media.type, "data": media.base64}


def _responses_image(media: Media) -> dict[str, Any]:
    return {"type": "input_image", "image_url": _address(media), "detail": "auto"}


def _responses_file(media: Media) -> dict[str, Any]:
    if media.url is not None:
        return {"type": "input_file", "file_url": media.url}
    return {"type": "input_file", "filename": _name(media), "file_data": _address(media)}


def _chat_image(media: Media) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": _address(media)}}


def _chat_audio(media: Media) -> dict[str, Any] | None:
    if media.data is None:
        return None
    form = "wav" if media.type.endswith("wav") else "mp3"
    return {"type": "input_audio", "input_audio": {"data": media.base64, "format": form}}


def _chat_file(media: Media) -> dict[str, Any] | None:
    if media.data is None:
        return None
    return {"type": "file", "file": {"filename": _name(media), "file_data": _address(media)}}


Form = tuple[int, Callable[[Media], "dict[str, Any] | None"]]

# By API and type: how many bytes at most, and the block. Types and sizes are those of the APIs'
# guides and of their clouds: Messages takes an image of 5 MiB as base64, which is 3.75 MiB of data
# (docs.aws.amazon.com/bedrock, API_runtime_Message: 3.75 MB), and a request of 32 MB, of which
# base64 is 4/3. OpenAI's (developers.openai.com/docs/guides: images-vision, pdf-files) bound a
# request rather than an image; what is taken here leaves room for the rest of the conversation.
FORMS: Final[Mapping[str, Mapping[str, Form]]] = {
    "messages": {
        **dict.fromkeys(_IMAGES, (5 * _MIB * 3 // 4, _messages_image)),
        "application/pdf": (24 * _MIB, _messages_document),
    },
    "responses": {
        **dict.fromkeys(_IMAGES, (20 * _MIB, _responses_image)),
        "application/pdf": (32 * _MIB, _responses_file),
    },
    "chat": {
        **dict.fromkeys(_IMAGES, (20 * _MIB, _chat_image)),
        **dict.fromkeys(("audio/wav", "audio/x-wav", "audio/mpeg"), (20 * _MIB, _chat_audio)),
        "application/pdf": (32 * _MIB, _chat_file),
    },
}


def block_of(media: Media, api: str) -> dict[str, Any] | str:
    """Return the block in which an API takes it, or the text that says why it takes it not."""
    forms = FORMS.get(api, {})
    form = forms.get(media.type)
    if form is None:
        known = ", ".join(forms) or "none"
        return f"{media} cannot be shown to you: the API takes {known}."
    most, made = form
    if media.data is not None and len(media.data) > most:
        return f"{media} is too large to be shown to you: the API takes {most} bytes."
    block = made(media)
    return f"{media} cannot be shown to you by its address." if block is None else block
