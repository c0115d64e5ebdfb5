"""The arguments that tools declare secret, by the tools' names, for those who know only a call.

What shows a call (`repr`, a log line, an event in a debugger) does not know its executor. A name
that two tools share hides the arguments of both, which costs nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Final

from dagexec._core.refs import references

# What is shown instead of a secret value.
SHOWN: Final = "<secret>"

_declared: Final[dict[str, frozenset[str]]] = {}


def declare(tool: str, names: Collection[str]) -> None:
    """Note that a tool has secret arguments."""
    if names:
        _declared[tool] = _declared.get(tool, frozenset()).union(names)


def shown(tool: str, args: Mapping[str, Any], more: Collection[str] = ()) -> Mapping[str, Any]:
    """Return arguments with secret values hidden, the same object if none is; references stay.

    `more` are further names of secret arguments.
    """
    names = _declared.get(tool, frozenset()).union(more)
    secret = [name for name in names if name in args and not any(references(args[name]))]
    return {**args, **dict.fromkeys(secret, SHOWN)} if secret else args
