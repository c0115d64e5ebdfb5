"""This process's part: a connection, and a worker for each queue that it serves."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from typing import Any, Final, TypeAlias, final

from temporalio.api.workflowservice.v1 import DescribeNamespaceRequest
from temporalio.client import Client
from temporalio.runtime import (
    LogForwardingConfig,
    LoggingConfig,
    Runtime,
    TelemetryConfig,
    TelemetryFilter,
)
from temporalio.service import RPCError, RPCStatusCode
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from dagexec import DagexecError, Executor
from dagexec.engines._front import Front
from dagexec.engines.temporal._calls import Calls
from dagexec.engines.temporal._interpreter import Interpreter
from dagexec.engines.temporal._pulse import Pulse
from dagexec.engines.temporal._queues import QueueSpec
from dagexec.engines.temporal._values import Values
from dagexec.engines.temporal._wire import queue_of
from dagexec.engines.temporal._workflow import RunWorkflow

_log: Final = logging.getLogger("dagexec")

# Seconds until another worker goes on deciding where the one that did is gone.
STICKY: Final = timedelta(seconds=2)
# Runs that are decided at a time.
_DECIDED: Final = 100
# Calls at a time, where there is no limit.
_UNLIMITED: Final = 1000
# Seconds after which a worker that ends was no mistake from the beginning.
_BRIEF: Final = 1.0
# What a worker does: its queue, its activities, whether it decides, and whether it runs calls.
_Part: TypeAlias = "tuple[QueueSpec, list[Any], bool, bool]"
# Seconds that connecting may take.
_CONNECT: Final = 10.0


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What an engine needs to be open."""

    name: str
    client: Client | None
    address: str
    namespace: str
    executor: Executor
    front: Front
    queues: tuple[QueueSpec, ...]
    values: Values
    lease: float
    beat: float
    grace: float
    calls: bool
    # Whether it runs those of the common queue.
    common: bool
    decides: bool
    cached: int


@final
class Process:
    """An engine that is open."""

    def __init__(self, setting: Setting) -> None:
        """Prepare; nothing is opened."""
        self._setting = setting
        self.loop = asyncio.get_running_loop()
        # Those that work, by the task that lets them.
        self._workers: dict[asyncio.Task[None], Worker] = {}
        self._pulse = Pulse(setting.lease)

    async def open(self) -> Client:
        """Connect, and begin to work; raises DagexecError if the server cannot be reached."""
        _quiet()
        client = self._setting.client or await self._connected()
        try:
            await self._check(client)
            made = [(self._worker(client, *each), each) for each in self._parts(client)]
        except RuntimeError as error:
            # The library's text goes on with where in it that was.
            line = " ".join(str(error).partition("Stack backtrace")[0].split())[:300]
            msg = (
                f"Temporal's library does not work with this client: {line}; give each engine of a"
                " process a client of its own, or another name, and none that is lazy"
            )
            raise DagexecError(msg) from error
        for worker, part in made:
            task = asyncio.create_task(self._run(worker, client, part))
            self._workers[task] = worker
        if self._setting.calls:
            self._pulse.start(beats=_is_free_of_loops(client))
        return client

    async def close(self) -> None:
        """End what runs here: what has not ended within `grace` goes on elsewhere."""
        workers, self._workers = self._workers, {}
        tasks = [*workers]
        tasks += [asyncio.create_task(worker.shutdown()) for worker in workers.values()]
        try:
            if tasks:
                await asyncio.wait(tasks)
        finally:
            self._pulse.close()

    async def _run(self, worker: Worker, client: Client, part: _Part) -> None:
        """Let a worker work; one that its library ended, after a while, has a successor."""
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - for the checkers
        while True:
            begun = time.monotonic()
            try:
                return await worker.run()
            except Exception as error:  # noqa: BLE001 - an engine that only asks goes on without it
                lasts = time.monotonic() - begun > _BRIEF and task in self._workers
                then = "another one takes its place" if lasts else "open the engine again"
                _log.warning("a worker of Temporal ended, and %s: %s", then, error, exc_info=True)
                if not lasts:
                    return None
            worker = self._workers[task] = self._worker(client, *part)

    def _parts(self, client: Client) -> list[_Part]:
        setting = self._setting
        body = Calls(client, setting.executor, setting.values, setting.beat, self._pulse)
        mind = Interpreter(setting.front, setting.values, setting.cached)
        parts: list[_Part] = []
        for queue in setting.queues:
            decides = setting.decides and not queue.part
            calls = setting.calls and (queue.part != "" or setting.common)
            if decides or calls:
                decide = [mind.decide] if decides else []
                parts.append((queue, [*([body.call] if calls else []), *decide], decides, calls))
        return parts

    def _worker(
        self,
        client: Client,
        queue: QueueSpec,
        activities: list[Any],
        decides: bool,  # noqa: FBT001 - of a part
        calls: bool,  # noqa: FBT001
    ) -> Worker:
        setting = self._setting
        beat = timedelta(seconds=setting.beat)
        # The library may take a run out of a full memory while its program is interpreted, and then
        # nobody goes on with it for 10 s: of those in memory, only a few are decided at a time.
        cached = 2 if setting.cached == 1 else setting.cached
        return Worker(
            client,
            task_queue=queue_of(setting.name, queue.part),
            workflows=[RunWorkflow] if decides else [],
            activities=activities,
            no_remote_activities=not calls,
            workflow_runner=UnsandboxedWorkflowRunner(),
            max_cached_workflows=cached,
            max_concurrent_workflow_tasks=min(max(2, cached // 4), _DECIDED) if cached else 1,
            max_concurrent_activities=setting.executor.concurrency or _UNLIMITED,
            max_task_queue_activities_per_second=queue.per_second,
            max_heartbeat_throttle_interval=beat,
            default_heartbeat_throttle_interval=beat,
            sticky_queue_schedule_to_start_timeout=STICKY,
            graceful_shutdown_timeout=timedelta(seconds=setting.grace),
        )

    # ------------------------------------------------------------------------------- the connection

    async def _connected(self) -> Client:
        setting = self._setting
        try:
            async with asyncio.timeout(_CONNECT):
                return await Client.connect(
                    setting.address, namespace=setting.namespace, runtime=_runtime()
                )
        except (RuntimeError, TimeoutError, ValueError) as error:
            line = " ".join(str(error).split()) or "it does not answer"
            msg = (
                f"Temporal cannot be reached at {setting.address}: {line}; give TemporalEngine"
                "(address=) the address of a server that is running, or client= a client of yours"
            )
            raise DagexecError(msg) from None

    @staticmethod
    async def _check(client: Client) -> None:
        try:
            await client.workflow_service.describe_namespace(
                DescribeNamespaceRequest(namespace=client.namespace)
            )
        except RPCError as error:
            if error.status is RPCStatusCode.NOT_FOUND:
                msg = f"Temporal has no namespace {client.namespace!r} there"
                raise DagexecError(msg) from None
            if error.status in (RPCStatusCode.UNAVAILABLE, RPCStatusCode.UNAUTHENTICATED):
                msg = f"Temporal cannot be asked: {error}"
                raise DagexecError(msg) from None
            # Whoever may run workflows need not be allowed to look at their namespace.


def _is_free_of_loops(client: Client) -> bool:
    """Whether heartbeats can be written in any event loop: a codec may be at home in one."""
    converter = client.data_converter
    return converter.payload_codec is None and converter.external_storage is None


def _quiet() -> None:
    """Keep what its library says only to debug out of the log: arguments and values are in it."""
    log = logging.getLogger("temporalio")
    if log.level == logging.NOTSET:
        log.setLevel(logging.INFO)


@cache
def _runtime() -> Runtime:
    """Return the runtime of connections made here; by itself it logs to the standard output."""
    forwarding = LogForwardingConfig(logging.getLogger("dagexec.temporal"))
    levels = TelemetryFilter(core_level="WARN", other_level="ERROR")
    return Runtime(
        telemetry=TelemetryConfig(logging=LoggingConfig(filter=levels, forwarding=forwarding))
    )


def queues_served(
    queues: Mapping[str, QueueSpec], serves: tuple[str, ...]
) -> tuple[QueueSpec, ...]:
    """Return the queues of a process, the common one first; each is served once."""
    served: dict[str, QueueSpec] = {"": QueueSpec("")}
    for queue in queues.values():
        if queue.part.partition(":")[0] in serves:
            served[queue.part] = queue
    return tuple(served.values())
