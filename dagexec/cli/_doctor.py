"""The command doctor."""

from __future__ import annotations

from argparse import Namespace

from dagexec._pictures.glyphs import printable
from dagexec.cli._terminal import Terminal

EXITS = """\
exit codes: 0 healthy, 1 deadlock, 3 stall, 2 no such process, not allowed to look, not Linux, or a
wrong usage. deadlock: a group of threads that wait for one another, whom nobody else can wake.
stall: nothing has moved and nobody waits to read what a thread wants to write (a timer may yet end
it), or all threads of a program wait for locks. What cannot be seen counts as healthy, and is
named."""


def doctor(options: Namespace, terminal: Terminal) -> int:
    """Say whether processes hang, and why."""
    from dagexec.doctor import examine

    diagnosis = examine(*options.pids, seconds=options.seconds)
    if options.json:
        terminal.write_json(diagnosis.to_dict(), indent=2)
    else:
        for line in str(diagnosis).splitlines():
            terminal.write(printable(line))  # names of programs are others' texts
    return diagnosis.exit_code
