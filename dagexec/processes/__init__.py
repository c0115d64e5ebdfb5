"""Child processes that cannot hang, flood or outlive what started them.

`run_command` runs one to its end; `Child` is one to talk to; `Guards` is what neither may do, and
`Restart` when one that has ended is started again.
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
