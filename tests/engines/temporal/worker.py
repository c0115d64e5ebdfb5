"""A worker of the tests on Temporal, a process of its own.

    python -m tests.engines.temporal.worker MARK ADDRESS NAME FOLDER [SETTINGS]

It does what `tests.engines.worker` does, with the same tools. SETTINGS is JSON.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import sys
from typing import Any

from dagexec.engines.temporal import TemporalEngine
from tests.engines.worker import TIMEOUTS, TOOLS, alone, listen

# Seconds until a worker that was killed counts as dead.
LEASE = 3.0


async def main(address: str, name: str, settings: dict[str, Any]) -> None:
    given = {"concurrency": 4, "capacities": {"room": 1}, "lease": LEASE, "beat": 0.5, **settings}
    engine = TemporalEngine([*TOOLS, alone], address=address, name=name, timeouts=TIMEOUTS, **given)
    async with engine:
        listening = asyncio.create_task(listen(engine))
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, listening.cancel)
        await asyncio.wait([listening])
    sys.stdout.flush()
    # Without Python's own end: a thread may still read, and the library's own threads may abort an
    # interpreter that ends (temporalio/sdk-python#300).
    os._exit(0)


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING)
    asyncio.run(main(sys.argv[2], sys.argv[3], json.loads((*sys.argv, "{}")[5])))
