"""The JSON form of a plan, as models of pydantic; loaded when a plan is first read from JSON."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, ValidationError, WrapValidator

from dagexec._errors import PlanError, Problem


def _text(value: Any, check: Callable[[Any], str]) -> str:
    """Take half of a surrogate pair too: a model's JSON may hold one, and pydantic refuses it."""
    return value if type(value) is str and value else check(value)


Text: TypeAlias = Annotated[str, WrapValidator(_text)]
Name: TypeAlias = Annotated[str, Field(min_length=1), WrapValidator(_text)]


class CallFile(BaseModel):
    """The JSON form of a call."""

    model_config = ConfigDict(extra="forbid", title="Call")

    id: Name = Field(description="Name of the call, unique in the plan")
    tool: Name = Field(description="Name of the tool to call")
    args: dict[str, Any] = Field(
        default_factory=dict,
        description='Arguments by name; {"$ref": "ID.path"} stands for another call\'s value',
    )
    after: list[Text] = Field(default_factory=list, description="Calls that must be done before")
    ordered: list[Text] = Field(default_factory=list, description="Calls that must end before")
    problem: Text | None = Field(default=None, description="Why the call cannot run as written")


class PlanFile(BaseModel):
    """The JSON form of a plan."""

    model_config = ConfigDict(extra="forbid", title="Plan")

    calls: list[CallFile] = Field(description="The calls, in the order of the model")


def read_call(body: Any) -> CallFile:
    """Read the JSON form of a call; raise PlanError where it does not fit."""
    try:
        return CallFile.model_validate(body)
    except ValidationError as error:
        raise PlanError(_problems(error)) from None


def read_plan(body: Any) -> PlanFile:
    """Read the JSON form of a plan; raise PlanError where it does not fit."""
    try:
        return PlanFile.model_validate(body)
    except ValidationError as error:
        raise PlanError(_problems(error)) from None


def _problems(error: ValidationError) -> list[Problem]:
    return [
        Problem("bad_call", None, f"{'.'.join(map(str, item['loc'])) or 'the plan'}: {item['msg']}")
        for item in error.errors(include_url=False, include_context=False, include_input=False)
    ]
