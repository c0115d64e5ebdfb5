"""The command `dagexec`: run, show and check plans and the replies of models.

Exit codes: 0 all calls are done, 1 some call is not, 2 the plan or the usage is wrong, 130
interrupted; `doctor` has its own. Results go to stdout, as JSON where they are data; what is for
the eye goes to stderr.

Further commands come from the entry points `dagexec.commands`: functions of the arguments and of a
`Terminal`, whose `watch` runs a plan before the user's eyes; they return an exit code.
"""

from __future__ import annotations

from dagexec.cli._main import main
from dagexec.cli._terminal import Terminal

__all__ = ["Terminal", "main"]
