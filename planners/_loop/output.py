"""The final answer as a value of a type: what the model is told, and how its text is read.

The API's own structured output is asked for where it has one; the schema stands in the system
prompt as well, because not every server that speaks an API knows it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, Final, cast, final

from pydantic import TypeAdapter, ValidationError
from pydantic.errors import PydanticSchemaGenerationError, PydanticUserError

from dagexec import DagexecError
from dagexec.lowlevel import schemas
from planners._core.api import Api

_FENCED: Final = re.compile(r"```(?:json)?\s*\n(.*?)```", re.DOTALL)
_KEY: Final = "value"
_SHOWN: Final = 5  # problems in the text for the model
# What servers say of an argument, or of a form of answer, that they do not know.
_REFUSED: Final = (400, 404, 415, 422, 500, 501)
_FORMS: Final = ("json_schema", "structured output", "text.format", "grammar", "guided")
_NAME: Final = re.compile(r"[^a-zA-Z0-9_-]")


@final
class Output:
    """The type of a final answer. What is no object in JSON is wrapped in one: `{"value": …}`."""

    def __init__(self, kind: Any) -> None:
        """Read the type; raise DagexecError for what pydantic cannot describe."""
        try:
            self._adapter: TypeAdapter[Any] = TypeAdapter(kind)
            schema = self._adapter.json_schema()
        except (PydanticSchemaGenerationError, PydanticUserError, TypeError) as error:
            raise DagexecError(
                f"output_type={kind!r:.80} is no type that pydantic can describe as JSON: give a"
                f" model, a dataclass, a TypedDict or a type such as list[int] ({error!s:.200})"
            ) from None
        self._wrapped = schema.get("type") != "object"
        if self._wrapped:
            kept = {"$defs": schema.pop("$defs")} if "$defs" in schema else {}
            schema = {"type": "object", "properties": {_KEY: schema}, "required": [_KEY], **kept}
        self.schema: dict[str, Any] = schema
        self.name = _NAME.sub("_", getattr(kind, "__name__", "answer"))[:64]
        # Whether the API is asked for this form: until its server refuses to be.
        self._native = True
        # What the request has beside it, by the name of the argument that asks.
        self._beside: dict[str, Any] = {}

    @property
    def instructions(self) -> str:
        """Text for the system prompt."""
        return (
            "Your final answer, the one without calls, is nothing but JSON of this schema:\n"
            + json.dumps(self.schema, ensure_ascii=False)
        )

    def options(self, api: Api, given: dict[str, Any]) -> dict[str, Any]:
        """Return the arguments of `create` with those that ask for this form."""
        merged = dict(given)
        if not self._native:
            return merged
        for name, part in api.structured(self.name, self.schema).items():
            own: dict[str, Any] = given[name] if isinstance(given.get(name), dict) else {}
            merged[name] = {**own, **part}
            self._beside[name] = given.get(name)
        return merged

    def plainer(self, request: Mapping[str, Any], error: Exception) -> dict[str, Any] | None:
        """Return a request again without what asks for this form, if the server refused that.

        Every later request goes without too: the schema in the system prompt remains. None where
        the error is about something else.
        """
        asked = {name: beside for name, beside in self._beside.items() if name in request}
        status = getattr(error, "status_code", None)
        words = (*_FORMS, *(name for name in asked if "_" in name))
        told = str(error).lower()
        if not asked or status not in _REFUSED or not any(word in told for word in words):
            return None
        self._native = False
        kept = {name: value for name, value in request.items() if name not in asked}
        return kept | {name: beside for name, beside in asked.items() if beside is not None}

    def read(self, text: str) -> Any:
        """Return the value that an answer says; raise ValueError with a text for the model."""
        try:
            body = _body(text)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"it is not JSON: {error}") from None
        body = schemas.without_nulls(body, self.schema, self.schema)
        if self._wrapped and isinstance(body, dict) and [*cast("dict[str, Any]", body)] == [_KEY]:
            body = cast("dict[str, Any]", body)[_KEY]
        try:
            # As JSON, where a date is a text and a tuple a list.
            return self._adapter.validate_json(json.dumps(body))
        except ValidationError as error:
            raise ValueError(_problems(error)) from None

    def correction(self, problem: str) -> str:
        """Return what the model is told of an answer that cannot be read."""
        return (
            f"Your answer does not have the form that was asked for: {problem}\n"
            "Write it again, as nothing but JSON of the schema."
        )


def _body(text: str) -> Any:
    """Return what a text says as JSON, or what a block in it says; the whole comes first."""
    try:
        return json.loads(text)
    except ValueError:
        fenced = _FENCED.search(text)
        if fenced is None:
            raise
    return json.loads(fenced[1])


def _problems(error: ValidationError) -> str:
    found = error.errors(include_url=False, include_input=False, include_context=False)
    parts = [
        f"{'.'.join(map(str, each['loc'])) or 'the answer'}: {each['msg']}"
        for each in found[:_SHOWN]
    ]
    more = len(found) - _SHOWN
    return "; ".join(parts) + (f"; and {more} more" if more > 0 else "")
