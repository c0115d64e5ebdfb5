"""The doctor: why processes hang, read from Linux's /proc.

    from dagexec import doctor

    diagnosis = doctor.examine(pid)          # under 5 s; nothing is stopped or changed
    print(diagnosis.verdict, diagnosis)

It finds who is blocked writing to which pipe, how full that is, who should read it, and what that
one waits for. `deadlock` means that nobody in a group can go on and nobody outside will help;
`stall` that a thread wants to write, nothing has moved during the look, and nobody waits to read
(or that all threads of a program wait for locks); `healthy` is everything else: timers, sockets,
terminals, slow children, whatever computes.

It needs no rights but those of the processes' own user. What it may not see counts as healthy, and
is named in `blind`. It sees pipes, socket pairs, pseudo-terminals, locks as such but not their
owners, and children; not what two processes agree on over a network.

A process can opt in to be asked what its executors do: `doctor.listen()`, or the environment
variable `DAGEXEC_DOCTOR=1`. `diagnose` is the judgement alone, over samples from `read`.
"""

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
