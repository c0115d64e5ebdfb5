"""What stores that are servers share: calls in threads, each bounded, and names that fit anywhere.

The clients block, in threads: so a store works the same on asyncio and on trio.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from hashlib import sha256
from typing import Final, TypeVar

from anyio import move_on_after

from dagexec._concurrency.threads import ThreadCall
from dagexec._errors import DagexecError
from dagexec.limits._rates import is_amount

T = TypeVar("T")

# Characters. An index of PostgreSQL's takes 2,700 bytes.
_LONGEST: Final = 200


async def within(seconds: float, server: str, function: Callable[[], T]) -> T:
    """Call a function in a thread; raise TimeoutError where it takes longer.

    Its thread is then left to itself, and so it is when the caller is cancelled.
    """
    with move_on_after(seconds):
        value: T = await ThreadCall().run(function)
        return value
    msg = f"{server} did not answer within {seconds:g} s"
    raise TimeoutError(msg)


def plain(name: str) -> str:
    """Return a name of printable ASCII, another one for each: a server may refuse the rest."""
    text = name.encode("unicode_escape").decode("ascii")
    if len(text) <= _LONGEST:
        return text
    return f"{text[: _LONGEST // 2]}#{sha256(text.encode()).hexdigest()}"


def check_timeout(store: str, timeout: object) -> None:
    """Refuse what is no timeout of a store; raise DagexecError."""
    if not is_amount(timeout) or not timeout or timeout == math.inf:
        msg = f"timeout={timeout!r} of a {store}: a positive number of seconds, such as 2.0"
        raise DagexecError(msg)
