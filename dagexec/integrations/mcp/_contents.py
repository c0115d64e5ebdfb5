"""The contents of an MCP result as values: texts, and images, audio and files as Media."""

from __future__ import annotations

import base64
from typing import Any

from dagexec._core.media import Media


def part_of(content: Any) -> Any:
    """Return one content of a result; what is not known stays its JSON."""
    try:
        match content.type:
            case "text":
                return content.text
            case "image" | "audio":
                return Media(base64.b64decode(content.data), type=content.mime_type)
            case "resource":
                return _resource(content.resource)
            case "resource_link":
                return Media(url=str(content.uri), type=content.mime_type or "", name=content.name)
            case _:
                pass
    except ValueError:  # no base64
        pass
    return content.model_dump(by_alias=True, exclude_none=True)


def _resource(resource: Any) -> Any:
    text = getattr(resource, "text", None)
    if text is not None:
        return text
    name = str(resource.uri).rpartition("/")[2] or None
    return Media(base64.b64decode(resource.blob), type=resource.mime_type or "", name=name)
