"""`python -m dagexec` is the command `dagexec`."""

from __future__ import annotations

import sys

from dagexec.cli import main

sys.exit(main())
