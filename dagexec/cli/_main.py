"""The arguments of the command, and what its errors become."""

from __future__ import annotations

import contextlib
import math
import os
import sys
from argparse import (
    ArgumentError,
    ArgumentParser,
    ArgumentTypeError,
    Namespace,
    RawDescriptionHelpFormatter,
)
from collections.abc import Callable, Sequence
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Final

from dagexec._errors import DagexecError, PlanError
from dagexec.cli._commands import INTERRUPTED, NOT_DONE, TERMINATED, WRONG, check, run, serve, show
from dagexec.cli._doctor import EXITS, doctor
from dagexec.cli._inputs import UsageError
from dagexec.cli._runs import add_runs
from dagexec.cli._signals import interrupted_by_sigterm
from dagexec.cli._terminal import DISPLAYS, Terminal

_FILE: Final = "a plan, or the reply of a model, as JSON; - for stdin; a program, if it ends in .py"
_TOOLS: Final = "module, path.py, or either with :attribute, that defines @dagexec.tool functions"
_PLANNER: Final = "who reads the reply, where it is not plain from its shape"
_EXITS: Final = """\
exit codes: 0 all calls are done, 1 some call is not, 2 the plan or the usage is wrong,
130 interrupted, 143 ended by SIGTERM. Results go to stdout, everything for the eye to stderr."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command with these arguments, by default the process's; return its exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    with interrupted_by_sigterm() as told:
        code = _guarded(arguments)
    return TERMINATED if told.terminate and code == INTERRUPTED else code


def _guarded(arguments: list[str]) -> int:
    terminal = Terminal()
    try:
        return _dispatch(arguments)
    except PlanError as error:
        for problem in error.problems:
            terminal.error(str(problem))
        return WRONG
    except DagexecError as error:
        terminal.error(str(error))
        return WRONG
    except KeyboardInterrupt:
        terminal.error("interrupted")
        return INTERRUPTED
    except BrokenPipeError:
        # The reader of stdout has left; the interpreter's own flush at exit must not complain.
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return NOT_DONE


def _dispatch(arguments: list[str]) -> int:
    others = {entry.name: entry for entry in entry_points(group="dagexec.commands")}
    if arguments and arguments[0] in others:
        return _other(others[arguments[0]], arguments[1:])
    try:
        options = _parser(others).parse_args(arguments)
    except SystemExit as leaving:  # argparse's way to end, with 0 for --help
        return int(leaving.code or 0)
    command: Callable[[Namespace, Terminal], int] = options.command
    return command(options, Terminal(getattr(options, "display", None)))


def _other(entry: EntryPoint, arguments: list[str]) -> int:
    """Run a command that an installed package brings; `--display` is for all of them."""
    display, arguments = _taken(arguments)
    try:
        command = entry.load()
    except (ImportError, AttributeError) as error:
        msg = f"the command {entry.name!r} cannot be loaded: {error}"
        raise UsageError(msg) from error
    try:
        return int(command(arguments, Terminal(display, verbose=True)))
    except SystemExit as leaving:
        return int(leaving.code or 0)


def _taken(arguments: list[str]) -> tuple[str | None, list[str]]:
    """Return the `--display` of these arguments, and the others; raise UsageError."""
    parser = ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("--display", choices=DISPLAYS)
    try:
        options, others = parser.parse_known_args(arguments)
    except ArgumentError as error:
        raise UsageError(str(error)) from None
    return options.display, others


def _parser(others: dict[str, EntryPoint]) -> ArgumentParser:
    parser = ArgumentParser(
        "dagexec",
        description="Run a model's tool calls as a graph of dependencies.",
        epilog=_EXITS,
        formatter_class=RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"dagexec {_version()}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for name, entry in sorted(others.items()):
        commands.add_parser(name, add_help=False, help=_described(entry))
    _add_run(commands)
    _add_serve(commands)
    add_runs(commands, tools=_TOOLS, epilog=_EXITS)
    command = commands.add_parser(
        "show", help="draw the graph of a plan, a reply, a report or a recorded run"
    )
    _add_file(command)
    command.add_argument(
        "--journal", metavar="JOURNAL", help="where the run FILE is recorded (DAGEXEC_JOURNAL)"
    )
    command.add_argument(
        "--as",
        dest="form",
        choices=("text", "mermaid", "svg", "json"),
        default="text",
        help="how it is drawn (text)",
    )
    command.add_argument("--timeline", action="store_true", help="by time (of a report)")
    command.set_defaults(command=show)
    command = commands.add_parser("check", help="name every problem of a plan or a reply")
    _add_file(command)
    command.add_argument("--tools", metavar="MODULE_OR_PATH", help=f"{_TOOLS}: checks names too")
    command.set_defaults(command=check)
    _add_doctor(commands)
    return parser


def _add_run(commands: Any) -> None:
    command: ArgumentParser = commands.add_parser(
        "run",
        help="run a plan, the calls of a reply or a program",
        description="Run a plan and print its report, or the calls of a model's reply and print"
        " the messages that go back.",
        epilog=_EXITS,
        formatter_class=RawDescriptionHelpFormatter,
    )
    _add_file(command)
    add = command.add_argument
    add("--tools", required=True, metavar="MODULE_OR_PATH", help=_TOOLS)
    _add_limits(command)
    add("--on-failure", choices=("skip", "stop"), default="skip", help="what one failure costs")
    add("--json-indent", type=_count, metavar="N", help="print the JSON over several lines")
    add("--journal", metavar="FILE", help="record the run there, to be resumed")
    add("--run-id", metavar="RUN", help="its name; one that is there goes on")
    form = command.add_mutually_exclusive_group()
    form.add_argument("--answer", action="store_true", help="print the messages (of a reply)")
    form.add_argument("--report", action="store_true", help="print the report, of a reply too")
    add("--display", choices=DISPLAYS, help="how the run is shown (auto, or DAGEXEC_DISPLAY)")
    command.set_defaults(command=run)


def _add_serve(commands: Any) -> None:
    command: ArgumentParser = commands.add_parser(
        "serve",
        help="serve tools by MCP, as one tool that takes a plan",
        description="Serve tools by MCP, as one tool that takes a plan: on stdin and stdout, or by"
        " streamable HTTP on the loopback address. Needs the extra mcp.",
    )
    add = command.add_argument
    add("--tools", required=True, metavar="MODULE_OR_PATH", help=_TOOLS)
    add("--http", type=_count, metavar="PORT", help="serve at http://127.0.0.1:PORT/mcp instead")
    _add_limits(command)
    command.set_defaults(command=serve)


def _add_limits(command: ArgumentParser) -> None:
    add = command.add_argument
    add("--timeout", type=_seconds, default=30.0, metavar="S", help="of a call: 30; 0 for none")
    add(
        "--workflow-timeout",
        type=_seconds,
        default=600.0,
        metavar="S",
        help="of the run: 600; 0 for none",
    )
    add("--concurrency", type=_count, default=20, metavar="N", help="calls at a time (20)")


def _add_doctor(commands: Any) -> None:
    command: ArgumentParser = commands.add_parser(
        "doctor",
        help="say why processes hang (Linux)",
        description="Look at processes, their descendants and whoever they wait for, and say who"
        " is blocked on what. Nothing is stopped or changed.",
        epilog=EXITS,
        formatter_class=RawDescriptionHelpFormatter,
    )
    command.add_argument(
        "pids",
        nargs="*",
        type=_pid,
        metavar="PID",
        help="a process id; without one, your processes that tell of their calls are listed",
    )
    command.add_argument("--json", action="store_true", help="print everything as JSON")
    command.add_argument(
        "--seconds",
        type=_seconds,
        default=3.0,
        metavar="S",
        help="how long a suspected stall is watched (3); all else takes 0.7",
    )
    command.set_defaults(command=doctor)


def _add_file(command: ArgumentParser) -> None:
    command.add_argument("file", metavar="FILE", help=_FILE)
    command.add_argument("--planner", metavar="NAME", help=_PLANNER)


def _described(entry: EntryPoint) -> str:
    try:
        text = entry.load().__doc__ or ""
    except Exception:  # noqa: BLE001 - the list of commands must not fail because of one of them
        return "(cannot be loaded)"
    return str(text.strip().partition("\n")[0]).rstrip(".").replace("%", "%%")


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        msg = f"{text!r} is no number of seconds"
        raise ArgumentTypeError(msg)
    return value


def _pid(text: str) -> int:
    number = _count(text)
    if number == 0:
        msg = "'0' is no process id"
        raise ArgumentTypeError(msg)
    return number


def _count(text: str) -> int:
    if not (text.isascii() and text.isdecimal()):
        msg = f"{text!r} is no whole number from 0 on"
        raise ArgumentTypeError(msg)
    return int(text)


def _version() -> str:
    from dagexec import __version__

    return __version__
