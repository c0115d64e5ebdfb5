"""Programs for the command: a file that ends in .py is one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dagexec._core.report import Report
from dagexec.cli._inputs import UsageError
from dagexec.programs import Fault, Program, ProgramRefused, result_of


def is_program(file: str) -> bool:
    """Whether a file that the command was given is a program."""
    return file.endswith(".py")


def read_program(file: str) -> Program:
    """Return the program of a file; raise UsageError where it cannot be read or is none."""
    found = checked(file)
    if isinstance(found, Program):
        return found
    more = f" (and {len(found) - 1} more; see `dagexec check`)" if len(found) > 1 else ""
    msg = f"{file!r} is no program: {found[0]}{more}"
    raise UsageError(msg)


def checked(file: str) -> Program | list[Fault]:
    """Return the program of a file, or what is wrong with it; raise UsageError for no file."""
    try:
        text = Path(file).read_text("utf-8-sig")
    except (OSError, ValueError) as error:
        msg = f"cannot read {file!r}: {getattr(error, 'strerror', None) or error}"
        raise UsageError(msg) from None
    try:
        return Program(text)
    except ProgramRefused as refused:
        return list(refused.faults)


def outcome_of(report: Report) -> dict[str, Any]:
    """Return what a program came to, as the command prints it."""
    error = None if report.error is None else str(report.error)
    return {"result": result_of(report), "printed": report.printed, "error": error}
