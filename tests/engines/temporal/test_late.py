"""What a worker says too late: nobody hears it, and nothing begins by it."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest

from dagexec import Call, RunOwned
from tests.engines.temporal.test_limits import engine_at
from tests.engines.temporal.test_runs import handle_of, statuses

pytestmark = [pytest.mark.real_time, pytest.mark.anyio, pytest.mark.slow]


async def test_a_late_intent_and_a_late_result(address, name):
    """The server refuses both of a worker that took a call and was silent for the lease."""
    from temporalio.api.taskqueue.v1 import TaskQueue
    from temporalio.api.workflowservice.v1 import PollActivityTaskQueueRequest
    from temporalio.service import RPCError, RPCStatusCode
    from temporalio.testing import ActivityEnvironment

    from dagexec.engines.temporal._calls import _Begun
    from dagexec.engines.temporal._wire import queue_of

    asking = engine_at(address, name, calls=False, lease=1)
    async with asking, asyncio.timeout(30):
        waiting = asyncio.create_task(asking.run([Call("m", "make", {"size": 10})], run_id=name))
        client = asking._runs._client  # type: ignore[union-attr]
        task = await client.workflow_service.poll_activity_task_queue(
            PollActivityTaskQueueRequest(
                namespace="default", task_queue=TaskQueue(name=queue_of(name)), identity="late"
            )
        )
        assert task.activity_id == "m#1"

        async def intent() -> Exception | None:
            heard: list[Exception | None] = []
            await _Begun(client, False, []).intend("mark", heard.append)
            return heard[0]

        env = ActivityEnvironment()
        lease = timedelta(seconds=1)
        env.info = replace(env.info, task_token=task.task_token, heartbeat_timeout=lease)
        while True:
            described = (await handle_of(asking, name).describe()).raw_description
            (pending,) = described.pending_activities
            if pending.activity_id != "m#1":
                break
            await asyncio.sleep(0.1)
        refusal = await env.run(intent)
        assert isinstance(refusal, RunOwned)
        assert "the call runs elsewhere" in str(refusal)
        late = client.get_async_activity_handle(task_token=task.task_token)
        with pytest.raises(RPCError) as caught:
            await late.complete('{"outcome":{"status":"done","value":"late"}}')
        assert caught.value.status is RPCStatusCode.NOT_FOUND
        async with engine_at(address, name, decides=False, lease=1):
            report = await waiting
    assert statuses(report) == {"m": "done"}
    assert report["m"].value != "late"
    assert report["m"].attempts == 1


async def test_cancelled_in_the_queue(address, name):
    """A call that no worker has taken ends at once, and nothing of it may have happened."""
    from temporalio.service import RPCError

    plan = [Call("m", "make", {"size": 10}), Call("n", "nap", {"seconds": 50})]
    async with engine_at(address, name, calls=False) as engine, asyncio.timeout(20):
        waiting = asyncio.create_task(engine.run(plan, run_id=name))
        while True:
            await asyncio.sleep(0.05)
            try:
                described = (await handle_of(engine, name).describe()).raw_description
            except RPCError:  # it is not there yet
                continue
            if len(described.pending_activities) == 2:
                break
        report = await engine.cancel(name)
        assert (await waiting).to_dict() == report.to_dict()
        async with engine_at(address, name, decides=False):
            await asyncio.sleep(1)
    assert statuses(report) == {"m": "cancelled", "n": "cancelled"}
    assert not report["m"].maybe
    assert report["m"].started is None
