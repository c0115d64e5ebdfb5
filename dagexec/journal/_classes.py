"""Where a class of a recorded value is found: by module and name, dagexec's own by public name."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Any, Final, cast

from dagexec._errors import JournalError

# Where dagexec's own classes are found, whatever module they are in; modules move.
_PUBLIC: Final = (
    "dagexec.limits",
    "dagexec.processes",
    "dagexec.journal",
    "dagexec.doctor",
    "dagexec",
    "dagexec.lowlevel",
)


def place_of(kind: Any) -> str:
    """Return where a class is found; raise JournalError if another process would not find it."""
    place = f"{kind.__module__}:{kind.__qualname__}"
    try:
        found: Any = class_at(place)
    except LookupError:
        found = None
    if found is not kind:
        msg = (
            f"a value of type {kind.__qualname__} cannot be recorded: another process would not"
            " find the class; define it at the top of a module, or register it"
            " (dagexec.journal.Types)"
        )
        raise JournalError(msg)
    if _is_own(kind.__module__):
        public, found = _public(kind.__module__, kind.__qualname__)
        if found is kind:
            return f"{public}:{kind.__qualname__}"
    return place


def class_at(place: str) -> Any:
    """Return the class of a place; raise LookupError if it is not loaded, or not there."""
    module, _, qualname = place.partition(":")
    try:
        return _loaded(module, qualname, place)
    except LookupError:
        found = _public(module, qualname)[1] if _is_own(module) else None
        if found is None:
            raise
        return found


def _loaded(module: str, qualname: str, place: str) -> Any:
    found: Any = sys.modules.get(module)
    if found is None:
        msg = f"the module {module!r} of a recorded value is not imported; import it first"
        raise LookupError(msg)
    for part in qualname.split("."):
        # Not getattr: a name in a file must not run a property or a module's __getattr__.
        found = cast("dict[str, Any]", vars(found)).get(part)
        if found is None:
            msg = f"{place!r} of a recorded value is not there any more"
            raise LookupError(msg)
    return found


def _is_own(module: str) -> bool:
    return module == "dagexec" or module.startswith("dagexec.")


def _public(module: str, name: str) -> tuple[str, Any]:
    """Return a public module, the most likely one first, and its class of this name or None."""
    for public in sorted(_PUBLIC, key=lambda each: not f"{module}.".startswith(f"{each}.")):
        found = vars(import_module(public)).get(name)
        if isinstance(found, type):
            return public, found
    return "", None
