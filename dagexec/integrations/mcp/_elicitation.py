"""What a server asks its user, as a question of `ask()`, and the answer as the server wants it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, Final, cast

from mcp_types import ElicitRequestURLParams, ElicitResult

from dagexec._errors import DagexecError
from dagexec._tools.context import ask

if TYPE_CHECKING:
    from mcp.shared.exceptions import MCPError

ACTIONS: Final = ("accept", "decline", "cancel")
# The error by which a server of 2025-11-25 says that a page must be visited before the call.
URL_REQUIRED: Final = -32042


def answering(server: str, tool: str) -> Callable[[Any], Awaitable[ElicitResult]]:
    """Return what asks a person for a tool of a server; to be awaited in the call's own task."""

    async def answer(params: Any) -> ElicitResult:
        question = question_of(params, server, tool)
        return result_of(await ask(question), question)

    return answer


def question_of(params: Any, server: str, tool: str) -> dict[str, Any]:
    """Return what a person is asked; the same each time that the server asks the same."""
    question = {"server": server, "tool": tool, "message": params.message}
    if isinstance(params, ElicitRequestURLParams):
        return {**question, "url": params.url}
    return {**question, "schema": params.requested_schema}


def result_of(answer: Any, question: Mapping[str, Any]) -> ElicitResult:
    """Return a person's answer as the server wants it; raise DagexecError if it is none.

    A mapping is the form filled in, a single value fills in a form with a single field, True
    consents, False and None decline. `{"action": "accept" | "decline" | "cancel", "content": ...}`
    is MCP's own form.
    """
    given: Any = answer
    if isinstance(given, Mapping):
        mapping = dict(cast("Mapping[str, Any]", given))
        if mapping.get("action") in ACTIONS and set(mapping) <= {"action", "content"}:
            return _checked(mapping["action"], mapping.get("content"), question)
        return _checked("accept", mapping, question)
    fields = list(question.get("schema", {}).get("properties", ()))
    if given is None:
        return ElicitResult(action="decline")
    if len(fields) == 1:
        return _checked("accept", {fields[0]: given}, question)
    if given is False:
        return ElicitResult(action="decline")
    if given is True:
        return _checked("accept", {} if "schema" in question else None, question)
    what = f"the fields {fields}" if fields else "True or False"
    msg = f"{given!r} does not answer {question['message']!r}: give {what}"
    raise DagexecError(msg)


def _checked(action: Any, content: Any, question: Mapping[str, Any]) -> ElicitResult:
    try:
        return ElicitResult(action=action, content=content)
    except ValueError as error:
        msg = (
            f"the answer to {question['message']!r} is not what MCP can carry: a form's fields hold"
            " texts, numbers, booleans, lists of texts or None"
        )
        raise DagexecError(msg) from error


def pages_of(error: MCPError) -> list[ElicitRequestURLParams]:
    """Return the pages that a person must visit before the call, if that is what an error says."""
    data: Any = error.error.data
    if error.error.code != URL_REQUIRED or not isinstance(data, Mapping):
        return []
    try:
        asked: Any = cast("Mapping[str, Any]", data).get("elicitations") or ()
        return [ElicitRequestURLParams.model_validate(each) for each in asked]
    except (TypeError, ValueError):
        return []
