"""Whether a conversation is what the SDKs' own types of a request say."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

from anthropic.types import MessageParam
from openai.types.chat import ChatCompletionMessageParam
from openai.types.responses import ResponseInputItemParam
from pydantic import TypeAdapter, ValidationError

_TYPES = {
    "chat": ChatCompletionMessageParam,
    "responses": ResponseInputItemParam,
    "messages": MessageParam,
}


@cache
def _adapter(api):
    return TypeAdapter(list[_TYPES[api]])


def _read(value):
    """Read what pydantic checks only when it is asked for: the fields that may be iterators."""
    if isinstance(value, dict):
        for each in value.values():
            _read(each)
    elif isinstance(value, list | Iterator) or type(value).__name__ == "ValidatorIterator":
        for each in value:
            _read(each)


def problems(api, messages):
    """Return what is wrong, as texts."""
    try:
        _read(_adapter(api).validate_python(messages))
    except ValidationError as error:
        return [f"{each['loc']}: {each['msg']}" for each in error.errors()[:5]]
    return []
