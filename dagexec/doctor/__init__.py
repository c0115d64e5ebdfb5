"""The doctor: why processes hang, read from Linux's /proc.

Somebody is called at night: the service answers nothing, its log is silent, its processor idle.
Most such hangs are a full pipe that nobody reads. The doctor finds out, as the user whose
processes they are, without stopping or changing anything:

```console
$ dagexec doctor 1143
deadlock: these threads wait for one another, and nothing else can wake them
  pid 1170 (python server.py) is blocked writing to fd 2 (stderr), pipe:[58724] (holds 65536 of
  65536 bytes); it should be read by pid 1143 (python host.py) at its fd 6; pid 1143 (python host.py)
  waits for data in pipe:[58723] (fd 3) from pid 1170 (python server.py)
```

| verdict | exit code | |
|---|---|---|
| healthy ("no deadlock" in the text) | 0 | whatever waits, waits for something that can happen: a timer, a socket, a terminal, a slow child. A call may still take too long |
| deadlock | 1 | some threads wait for one another, or write to one that never reads, and nobody else can wake them |
| stall | 3 | a thread wants to write, no byte has moved for 3 s and nobody waits to read, but a timer or another client may yet end it; or all threads of a program wait for locks |

Exit code 2: no such process, not allowed to look, not Linux. It takes 0.7 s, 3 s for a stall;
`--json` has the whole graph. From Python, `doctor.examine(pid)` gives `.verdict` and a readable
`str()`. The doctor sees pipes, socket pairs, pseudo-terminals, children and locks, but neither
who holds a lock nor what processes agree on over a network. What it may not see counts as healthy
and is named in `blind`.

# Inside a process

`run.waits()` and `executor.snapshot()` tell, from any thread, what each unfinished call holds,
what it waits for and where it stands in its code: frozen values, with `to_dict()` for JSON and a
readable `str()`. They contain no argument values, and taking one costs the running calls nothing.

```python
import asyncio

from dagexec import Call, Executor, Ref, tool


@tool(effect="read")
async def poll(queue: str) -> str:
    await asyncio.Event().wait()  # nobody sets it
    return queue


@tool(effect="pure")
def write(text: str) -> str:
    return text


async def main():
    plan = [Call("p", "poll", {"queue": "a"}), Call("w", "write", {"text": Ref("p")})]
    async with Executor([poll, write], concurrency=1).start(plan) as run:
        await asyncio.sleep(0.05)
        for call in run.waits():
            print(call.id, call.state, call.holds, call.waits_for, call.where and call.where.function)
        run.cancel()


asyncio.run(main())
```

```text
p running ('a slot',) () poll
w waiting () ('call p',) None
```

A process can opt in to be asked for this from outside: `doctor.listen()`, or `DAGEXEC_DOCTOR=1`
in its environment. A thread then answers `dagexec doctor`, also while the event loop is blocked,
over a socket that only its user may open. The first line then names the call that has run longest:

```console
$ dagexec doctor 1143
no deadlock: call 'p' (poll) has run for 4.3 s at /srv/app/tools.py:12 in poll
```

# In the log

The logger `dagexec` gives each of these one line, as a warning: a call that failed or timed out
(the first 20 of a run, then how many more; without its arguments and the error's text), a tool that
blocks the event loop (with file and line), a tool that swallows its cancellation, and a thread that
was abandoned. At INFO it says at the end of each run how many calls ended how; a plain script shows
that after `logging.basicConfig(level="INFO")`. To hear of no failed call:
`logging.getLogger("dagexec").addFilter(lambda record: not hasattr(record, "dagexec_call"))`. Traces and metrics are in
`dagexec.integrations.otel`.

`diagnose` is the judgement alone, over samples from `read`.
"""  # noqa: E501 - rows of tables  # noqa: E501 - rows of tables  # noqa: E501 - rows of tables

from __future__ import annotations

import time

from dagexec._runtime.listener import listen
from dagexec._runtime.waits import CallWaits, RunWaits, Snapshot
from dagexec.doctor._diagnosis import EXIT_CODES, Diagnosis, Finding, Verdict, diagnose
from dagexec.doctor._inside import ask
from dagexec.doctor._reader import read
from dagexec.doctor._values import Channel, End, Process, Sample, Thread, Wait

__all__ = [
    "EXIT_CODES",
    "CallWaits",
    "Channel",
    "Diagnosis",
    "End",
    "Finding",
    "Process",
    "RunWaits",
    "Sample",
    "Snapshot",
    "Thread",
    "Verdict",
    "Wait",
    "ask",
    "diagnose",
    "examine",
    "listen",
    "read",
]

# Seconds between two looks.
_GAP = 0.7


def examine(*pids: int, seconds: float = 3.0) -> Diagnosis:
    """Look at processes, their descendants and whoever they wait for, and say whether they hang.

    Two looks 0.7 s apart decide what is plain; a suspicion of a stall is watched for `seconds`
    altogether, because the slow move too. Raises DagexecError for a process that is not there or
    may not be looked at, and where there is no Linux.
    """
    samples = [read(pids)]
    began = time.monotonic()
    while True:
        time.sleep(_GAP)
        samples.append(read(pids))
        diagnosis = diagnose(samples)
        if diagnosis.verdict != "stall" or time.monotonic() - began >= seconds:
            break
    inside = {pid: answer for pid in samples[-1].processes if (answer := ask(pid)) is not None}
    return diagnose(samples, inside=inside) if inside else diagnosis
