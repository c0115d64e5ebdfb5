r"""Child processes that cannot hang, flood or outlive what started them.

A child that writes 64 KiB to a pipe which nobody reads stops for ever, and its parent with it. A
child that is killed leaves its own children. `run_command` runs a program to its end: both pipes
are read all the time, all bytes counted and the last 64 KiB kept (`keep=None` for all). There is
no shell. `Child` is a program to talk to.

```python
import asyncio
import sys

from dagexec.processes import Child, GuardExpired, Guards, run_command


async def main():
    result = await run_command([sys.executable, "-c", "print('out' * 2)"])
    print(result.check().text, result.stdout_bytes)
    try:
        await run_command(["sleep", "60"], guards=Guards(progress=0.2))
    except GuardExpired as broken:
        print(broken.guard)
    async with Child(["cat"], lines=True) as child:
        async with child.request():  # at most guards.request seconds, the write included
            await child.send(b"hello\n")
            print(await anext(child.lines()))


asyncio.run(main())
```

```text
outout
 7
progress
b'hello\n'
```

When the program has ended, or its call's deadline has passed, nothing of its tree is left: SIGTERM,
after `grace` (10 s) SIGKILL, for the group, for what left it, and also when this process is killed.

`Guards` say what a child must not do: `request` (seconds for one answer), `liveness` (seconds
without output or processor time), `progress` (seconds without output), `wall` (its whole life)
and `stderr` (bytes). A line of more than 4 MiB is refused; those before it are read. `Restart`
says when one that has ended is started again.

On Linux a child's tree is its group, its session, its descendants, and everything that inherited
its environment. On macOS it is the group only, and `liveness` sees only output. On Windows the
tree is what `taskkill /T` finds, and a parent that is killed leaves its children. Only Linux was
tried.
"""

from dagexec._concurrency.restart import Restart
from dagexec._errors import CommandFailed, GuardExpired, LineTooLong, ProcessError, ProcessGone
from dagexec.processes._child import Child
from dagexec.processes._command import CommandResult, run_command
from dagexec.processes._guards import Guards
from dagexec.processes._output import Output

__all__ = [
    "Child",
    "CommandFailed",
    "CommandResult",
    "GuardExpired",
    "Guards",
    "LineTooLong",
    "Output",
    "ProcessError",
    "ProcessGone",
    "Restart",
    "run_command",
]
