"""Long calls as a server's tasks: polled until they end, cancelled with the call.

Two forms: in the protocol of 2025-11-25 the client asks for a task where the tool wants one, and
fetches its result by `tasks/result`; from 2026-07-28 on tasks are an extension, the server decides,
and `tasks/get` brings the result.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, Literal, cast, final

import anyio
from anyio import CancelScope
from mcp.client.extension import ClaimContext, ClientExtension, ResultClaim
from mcp.client.session import ClientRequestContext
from mcp.shared.exceptions import MCPError
from mcp_types import (
    INTERNAL_ERROR,
    CallToolRequest,
    CallToolRequestParams,
    CallToolResult,
    ErrorData,
    InputRequiredResult,
    Request,
    Result,
    TaskMetadata,
)
from pydantic import ConfigDict, TypeAdapter

from dagexec.integrations.mcp._asking import Asking, current_asking

if TYPE_CHECKING:
    from mcp import Client
    from mcp.client.session import ClientSession


# The version of the protocol whose core has tasks.
CORE_VERSION: Final = "2025-11-25"
# Seconds between two polls where the server names none, and the bounds of what it may name.
INTERVAL, SHORTEST, LONGEST = 1.0, 0.02, 60.0
# Seconds for telling the server that a task is given up.
FAREWELL: Final = 1.0

_anything: Final[Any] = TypeAdapter(dict[str, Any])


class _TaskRequest(Request[dict[str, Any], str]):
    """A request about a task; over HTTP its id stands in a header too."""

    name_param = "taskId"


class _Begun(Result):
    """What a server answers that made a task of a call."""

    model_config = ConfigDict(extra="allow")
    result_type: Literal["task"] = "task"


@final
class Tasks(ClientExtension):
    """Tells servers of 2026-07-28 that they may answer a call with a task."""

    identifier = "io.modelcontextprotocol/tasks"

    def __init__(self, patience: float) -> None:
        """Each poll is answered within `patience` seconds."""
        self._patience = patience

    def claims(self) -> Sequence[ResultClaim[Any]]:
        """Take the answers that are tasks."""
        return [ResultClaim(result_type="task", model=_Begun, resolve=self._finish)]

    async def _finish(self, begun: _Begun, context: ClaimContext) -> CallToolResult:
        body = begun.model_dump(by_alias=True)
        task = cast("dict[str, Any]", body.get("task") or body)
        polled = _Task(context.session, task, self._patience, in_core=False)
        return await polled.finished(current_asking.get())


def wants_task(client: Client, listed: Any) -> bool:
    """Whether a tool can only be called as a task, in a session that has such."""
    execution = listed.execution
    required = execution is not None and execution.task_support == "required"
    return required and client.session.protocol_version == CORE_VERSION


async def call_as_task(
    client: Client,
    params: CallToolRequestParams,
    asking: Asking,
    patience: float,
    on_progress: Callable[..., Awaitable[None]],
) -> CallToolResult:
    """Call a tool as a task of 2025-11-25, and wait for its end; each poll takes `patience` s."""
    request = CallToolRequest(params=params.model_copy(update={"task": TaskMetadata()}))
    data = request.model_dump(by_alias=True, mode="json", exclude_none=True)
    # The package has the types of these tasks, but its client takes no such answer.
    session: Any = client.session
    opts: dict[str, Any] = {"on_progress": on_progress}
    session._stamp(data, opts)  # noqa: SLF001
    send = session._dispatcher.send_raw_request  # noqa: SLF001
    answer = await send(data["method"], data["params"], opts)
    if "task" not in answer:
        return CallToolResult.model_validate(answer, by_name=False)
    return await _Task(client.session, answer["task"], patience, in_core=True).finished(asking)


@final
class _Task:
    """One task of a server's."""

    def __init__(
        self, session: ClientSession, task: dict[str, Any], patience: float, *, in_core: bool
    ) -> None:
        self._session = session
        self._task = task
        self._id = str(task["taskId"])
        self._patience = patience
        self._in_core = in_core
        self._answered: set[str] = set()

    async def finished(self, asking: Asking) -> CallToolResult:
        """Poll until it has ended; return its result, raise its error, cancel it if given up."""
        asking.task = self._id
        # The call's own deadline bounds it now: a task is made of what takes long.
        asking.limit.deadline = math.inf
        try:
            while (result := await self._result()) is None:
                await anyio.sleep(self._interval())
                with anyio.fail_after(self._patience):
                    self._task = await self._send("tasks/get")
            return CallToolResult.model_validate(result, by_name=False)
        except TimeoutError:
            await self._cancel()
            msg = f"tasks/get got no answer within {self._patience:g} s"
            raise MCPError(code=INTERNAL_ERROR, message=msg) from None
        except anyio.get_cancelled_exc_class():
            await self._cancel()
            raise

    async def _result(self) -> dict[str, Any] | None:
        """Return the result, None as long as it works; raise why there is none."""
        status = self._task.get("status")
        if status == "working":
            return None
        if self._in_core:
            # Answered when the task has ended; what the server asks comes meanwhile.
            return await self._send("tasks/result")
        if status == "completed":
            return cast("dict[str, Any]", self._task.get("result") or {"content": []})
        if status == "input_required":
            await self._answer()
            return None
        error = self._task.get("error")
        if isinstance(error, Mapping):
            raise MCPError.from_error_data(ErrorData.model_validate(error))
        why = self._task.get("statusMessage") or "no reason given"
        msg = f"the server's task is {status}: {why}"
        raise MCPError(code=INTERNAL_ERROR, message=msg)

    async def _answer(self) -> None:
        """Answer what the server asks in the task, each question once."""
        asked = InputRequiredResult.model_validate(
            {"inputRequests": self._task.get("inputRequests") or {}, "requestState": ""}
        )
        responses: dict[str, Any] = {}
        for key, request in (asked.input_requests or {}).items():
            if key in self._answered:
                continue
            self._answered.add(key)
            context = ClientRequestContext(session=self._session, request_id=key)
            response = await self._session.dispatch_input_request(context, request)
            if isinstance(response, ErrorData):
                raise MCPError.from_error_data(response)
            responses[key] = response.model_dump(by_alias=True, mode="json", exclude_none=True)
        if responses:
            await self._send("tasks/update", inputResponses=responses)

    async def _send(self, method: str, **params: Any) -> dict[str, Any]:
        request = _TaskRequest(method=method, params={"taskId": self._id, **params})
        answer: dict[str, Any] = await self._session.send_request(request, _anything)
        return answer

    def _interval(self) -> float:
        milliseconds = self._task.get("pollInterval" if self._in_core else "pollIntervalMs")
        if not isinstance(milliseconds, int | float):
            return INTERVAL
        return min(max(milliseconds / 1000, SHORTEST), LONGEST)

    async def _cancel(self) -> None:
        if self._task.get("status") in ("completed", "failed", "cancelled"):
            return
        # It may fail: the task has ended, or its server has.
        with CancelScope(shield=True), anyio.move_on_after(FAREWELL), suppress(Exception):
            await self._send("tasks/cancel")
