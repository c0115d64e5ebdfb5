"""The command doctor."""

from __future__ import annotations

from argparse import Namespace
from typing import Final

from dagexec._pictures.glyphs import printable
from dagexec.cli._terminal import Terminal

EXITS = """\
exit codes: 0 no deadlock, 1 deadlock, 3 stall, 2 no such process, not allowed to look, not Linux,
or a wrong usage. deadlock: a group of threads that wait for one another, whom nobody else can wake.
stall: nothing has moved and nobody waits to read what a thread wants to write (a timer may yet end
it), or all threads of a program wait for locks. What cannot be seen counts as no deadlock, and is
named. A call that takes long is none: of a process that was started with DAGEXEC_DOCTOR=1 the first
line names the call that has run longest, and where it stands."""


_HINT: Final = (
    "nothing here tells of its calls: start a program with DAGEXEC_DOCTOR=1, or have it call"
    " dagexec.doctor.listen(), and the doctor names each call, how long it has run, and its line"
)


def doctor(options: Namespace, terminal: Terminal) -> int:
    """Say whether processes hang, and why."""
    from dagexec.doctor import examine

    if not options.pids:
        return _list(options, terminal)
    diagnosis = examine(*options.pids, seconds=options.seconds)
    if options.json:
        terminal.write_json(diagnosis.to_dict(), indent=2)
    else:
        for line in str(diagnosis).splitlines():
            terminal.write(printable(line))  # names of programs are others' texts
        if not diagnosis.inside:
            terminal.note(_HINT)
    return diagnosis.exit_code


def _list(options: Namespace, terminal: Terminal) -> int:
    """Name the processes of this user that tell the doctor of their calls."""
    from dagexec._runtime.listener import listening
    from dagexec.doctor._proc import process_name

    found = {pid: process_name(pid) for pid in listening()}
    if options.json:
        terminal.write_json([{"pid": pid, "name": name} for pid, name in found.items()], indent=2)
        return 0
    for pid, name in found.items():
        terminal.write(printable(f"{pid:>8}  {name}"))
    terminal.note(
        "`dagexec doctor PID` says what each of its calls holds and waits for"
        if found
        else "no process of yours tells of its calls; `dagexec doctor PID` looks at any process"
        " from outside"
    )
    terminal.note(
        "a process tells of its calls if it was started with DAGEXEC_DOCTOR=1, or calls"
        " dagexec.doctor.listen()"
    )
    return 0
