r"""Web servers, task queues and containers: how runs live and end in them. Nothing to import.

Three questions decide whether a service behaves: how many executors there are, what ends a run
whose client has left, and what happens to runs when the process is told to stop. The answers are
the same everywhere. One executor a process, made where the application is made: its `concurrency`
and its limits hold over all requests. A cancelled request cancels its run. A deadline of the run
that is shorter than everybody else's: `Timeouts(workflow=)` below the server's, the queue's and the
container's, so that dagexec ends the run, with a report, and not they.

# FastAPI

A handler is not cancelled when its client leaves, so `cancelled_with` watches the request.
Starlette does cancel the generator of a StreamingResponse.

```python
import json
from contextlib import asynccontextmanager

import anyio
from fastapi import FastAPI, Request
from fastapi.responses import StreamingResponse

from dagexec import Executor, Timeouts, tool
from dagexec.testing import ScriptedModel
from planners import CallEnded, Said, solve, solving
from planners.openai import ChatPlanner


@tool(effect="read")
async def price(title: str) -> float:
    await anyio.sleep(0.01)
    return {"Dune": 9.5, "Emma": 7.25}[title]


@asynccontextmanager
async def lifespan(app: FastAPI):
    timeouts = Timeouts(call=30, workflow=100)
    async with Executor([price], timeouts=timeouts, concurrency=50) as executor:
        app.state.executor = executor
        yield  # all requests share its slots


app = FastAPI(lifespan=lifespan)
planner = ChatPlanner([price])


def options() -> dict:
    script = [[("price", {"title": "Dune"})], "Dune costs 9.50."]
    client = ScriptedModel(script).openai()  # AsyncOpenAI(), made once in the lifespan
    # fresh(): each conversation has a planner of its own.
    return {
        "planner": planner.fresh(),
        "client": client,
        "model": "gpt-5.5",
        "executor": app.state.executor,
    }


@asynccontextmanager  # cancels its block when the client of the request has left
async def cancelled_with(request: Request):
    async def watch() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass
        group.cancel_scope.cancel()

    async with anyio.create_task_group() as group:
        group.start_soon(watch)
        yield  # to the block
        group.cancel_scope.cancel()


@app.post("/ask")
async def ask(request: Request, question: str) -> dict:
    async with cancelled_with(request):
        answer = await solve(question, **options())
        return {"answer": str(answer), "calls": [r for run in answer.reports for r in run.rows()]}


@app.post("/stream")
async def stream(question: str) -> StreamingResponse:
    async def events():
        async with solving(question, stream=True, **options()) as updates:
            async for update in updates:
                if isinstance(update, Said):
                    yield _event({"text": update.text})
                elif isinstance(update, CallEnded):
                    ended = {"call": update.call.tool, "status": update.outcome.status}
                    yield _event(ended)

    return StreamingResponse(events(), media_type="text/event-stream")


def _event(body: dict) -> str:
    return f"data: {json.dumps(body)}\n\n"
```

Start it with `uvicorn app:app --timeout-graceful-shutdown 25`. At SIGTERM uvicorn takes no new
requests and waits 25 s for those that are open; then it cancels them, their runs end as for every
cancellation, and the lifespan closes the executor. Without the option it waits for ever.

# gunicorn

`gunicorn -k asgi -w 4 --graceful-timeout 25 app:app` for the application above, and plain
`gunicorn -w 4 app:app` for WSGI. A worker process has an executor of its own, so `concurrency`
counts for each worker; limits hold over all of them with a store (`dagexec.limits`). With
`--preload` the executor may be made before the fork: the workers' copies start anew.

A worker that has not ended after `--graceful-timeout` is killed. A sync worker whose request takes
longer than `--timeout` (30 s) is killed too: keep `Timeouts(workflow=)` below both. What a killed
worker was doing is lost without a journal; with one, `dagexec.journal.sweep` in another process
goes on with the run, and a write that was running is `in_doubt`.

# Django, Flask

A synchronous view calls `executor.run_sync(plan)`, on the executor of a module; an asynchronous
view of Django awaits `executor.run(plan)` as above.

# Celery

A task is synchronous, so it runs the plan with `run_sync`. The executor belongs to the module: in a
prefork worker each child has its copy. The order of the time limits matters.

```py
from celery import Celery

from dagexec import Call, Executor, Timeouts, tool

app = Celery("jobs", broker="redis://localhost")
executor = Executor([...], timeouts=Timeouts(call=30, workflow=50))


@app.task(soft_time_limit=55, time_limit=60)
def quote(title):
    report = executor.run_sync([Call("a", "price", {"title": title})])
    return report.rows()  # values of rows are JSON, as Celery wants them
```

At 50 s the run ends with a report that says what had timed out. The soft limit at 55 s raises
SoftTimeLimitExceeded in the main thread: it cancels the run and leaves `run_sync`, but a tool in
whose code it happens to be raised may take it for its own failure. The hard limit at 60 s kills the
child. With `acks_late=True` a killed task is delivered again; give its run a journal and
`run_id=task.request.id`, and the second delivery goes on where the first was killed.
Tried with prefork; not with gevent or eventlet.

# Kubernetes

At the end of a pod, `preStop` runs, then the process gets SIGTERM, and SIGKILL comes
`terminationGracePeriodSeconds` after the beginning of `preStop`. Each needs room in the next:

| | for example |
|---|---|
| `Timeouts(workflow=)`, or what a run may lose | 100 s |
| `preStop: sleep`, until no balancer sends requests to the pod | 5 s |
| `--timeout-graceful-shutdown`, `--graceful-timeout` | 105 s |
| `terminationGracePeriodSeconds`: both, and 10 s to close | 120 s |

A container whose command is a shell does not hand SIGTERM on: write `command: ["uvicorn", ...]`, or
`exec uvicorn ...` in the script. `dagexec run` in a Job ends at SIGTERM with its report, and exit
code 143. For runs that may not be lost use a journal on a volume that outlives the pod, or an
engine (`dagexec.engines.dbos`, `dagexec.engines.temporal`). `DAGEXEC_DOCTOR=1` in the pod's
environment lets `kubectl exec POD -- dagexec doctor` name each call that runs.
"""

# A guide: the code of a service is its own.
__all__: list[str] = []
