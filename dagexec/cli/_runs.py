"""The commands runs and resume, and what show does with a recorded run."""

from __future__ import annotations

import json
import os
import shlex
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, Final, cast, final

import anyio

from dagexec._core.nested import APPROVAL, DOUBT, QUESTION, awaits_answer, kind_of, waits_in
from dagexec._core.outcomes import Approve, Deny, Done, Edit
from dagexec._core.report import Report
from dagexec._runtime.executor import Executor
from dagexec._runtime.settings import Timeouts
from dagexec.cli._inputs import UsageError, load_tools
from dagexec.cli._programs import outcome_of, read_program
from dagexec.cli._terminal import Terminal
from dagexec.journal import SqliteJournal

_ANSWER: Final = (
    "to a call that waits: ID=approve, ID=deny or ID=deny:REASON, ID=edit:{JSON}, ID=done:JSON; to"
    " one that asked: ID=VALUE, as JSON or as plain text, or ID=value:JSON; what waits"
    " inside a call has the ID CALL/NAME"
)
_CUT_OFF: Final = (
    "it was running when its process ended. `dagexec resume` runs it again, unless it is a write:"
    " that is then in doubt, and a person says whether it took effect"
)
_HINTS: Final = {
    APPROVAL: "approve, deny:REASON, edit:{JSON}, done:JSON",
    DOUBT: "approve to run it again, deny:REASON, done:JSON",
    QUESTION: "value",
}
# What a person does next about a run in this state.
_NEXT: Final = {
    "stale": "it has not ended and nobody drives it. `dagexec show RUN{given}` shows how far it"
    " came, `dagexec resume RUN --tools FILE{given}` goes on with it",
    "waiting": "`dagexec show RUN{given}` says what for, `dagexec resume RUN --tools FILE{given}`"
    " takes the answers",
}
_WORDS: Final = ("approve", "deny", "edit", "done", "value")


def add_runs(commands: Any, *, tools: str, epilog: str) -> None:
    """Add the commands to the parser."""
    where = "the file of the journal (DAGEXEC_JOURNAL)"
    command: ArgumentParser = commands.add_parser("runs", help="list the runs of a journal")
    command.add_argument("file", nargs="?", metavar="JOURNAL", help=where)
    command.add_argument("--journal", metavar="JOURNAL", help="the same")
    command.add_argument("--json", action="store_true", help="print them as JSON")
    command.set_defaults(command=runs)
    command = commands.add_parser(
        "resume",
        help="go on with a run, with answers to what it asks",
        description="Go on with a run and print its report. What it asks is asked here, where"
        " stdin is a terminal and --answer does not say it. A write that was running when its"
        " process ended is in doubt: it runs AGAIN if it is approved, and not otherwise.",
        epilog=epilog,
    )
    add = command.add_argument
    add("run", metavar="RUN", help="as `dagexec runs` lists it")
    add("--journal", metavar="JOURNAL", help=where)
    add("--tools", required=True, metavar="MODULE_OR_PATH", help=tools)
    add("--program", metavar="FILE", help="where the run is that of a program: its file")
    add("--answer", action="append", default=[], metavar="ID=…", help=_ANSWER)
    add("--timeout", type=float, default=30.0, metavar="S", help="of a call: 30; 0 for none")
    add(
        "--no-input",
        action="store_true",
        help="ask nothing here: what has no --answer goes on waiting, and no write in doubt runs",
    )
    command.set_defaults(command=resume)


def journal_of(file: str | None) -> SqliteJournal:
    """Return the journal of a file, or of DAGEXEC_JOURNAL; raise UsageError without either."""
    from dagexec.journal import SqliteJournal

    chosen = file or os.environ.get("DAGEXEC_JOURNAL")
    if not chosen:
        msg = "say where the journal is: --journal FILE, or DAGEXEC_JOURNAL"
        raise UsageError(msg)
    return SqliteJournal(chosen)


def _existing(file: str | None) -> SqliteJournal:
    journal = journal_of(file)
    if not journal.path.exists():
        msg = f"there is no journal {str(journal.path)!r}"
        raise UsageError(msg)
    return journal


def is_run(name: str, file: str | None) -> bool:
    """Whether a name is meant as that of a recorded run and not of a file."""
    known = file or os.environ.get("DAGEXEC_JOURNAL")
    return bool(known) and name != "-" and not Path(name).exists()


def runs(options: Namespace, terminal: Terminal) -> int:
    """List the runs of a journal."""
    if options.file and options.journal and options.file != options.journal:
        msg = f"two journals: {options.file!r} and --journal {options.journal!r}; give one"
        raise UsageError(msg)
    file = options.file or options.journal
    with _existing(file) as journal:
        infos = anyio.run(journal.runs)
    if options.json:
        fields = ("id", "state", "kind", "created", "updated", "summary", "owner", "waiting_for")
        terminal.write_json([{name: getattr(info, name) for name in fields} for info in infos])
        return 0
    width = max([len(info.id) for info in infos], default=0)
    for info in infos:
        when = datetime.fromtimestamp(info.updated).astimezone().isoformat(" ", "seconds")
        waiting = f"; waiting for {', '.join(info.waiting_for)}" if info.waiting_for else ""
        terminal.write_text(f"{info.id:<{width}} {info.state} {when} {info.summary}{waiting}")
    if not infos:
        terminal.note("no runs")
    given = f" --journal {shlex.quote(file)}" if file else ""
    hints = {info.state: _NEXT[info.state] for info in infos if info.state in _NEXT}
    for state, text in hints.items():
        terminal.note(f"{state}: {text.format(given=given)}")
    return 0


def _report(journal: SqliteJournal, run_id: str) -> Report:
    from dagexec.journal._base import RUNS, other_kind
    from dagexec.journal._records import report_of

    records = anyio.run(journal.read, run_id)
    if records[0].kind not in RUNS:
        raise UsageError(anyio.run(other_kind, journal, run_id, records[0].kind)[0])
    return report_of(run_id, records)


def show_run(options: Namespace, terminal: Terminal) -> int:
    """Draw a recorded run, and say what it asks."""
    with _existing(options.journal) as journal:
        report = _report(journal, options.file)
        infos = {info.id: info.state for info in anyio.run(journal.runs)}
    if options.form == "json":
        terminal.write_json(report.to_dict(), indent=2)
        return 0
    picture = report.timeline if options.timeline else report.diagram
    forms = {"text": picture.to_text, "mermaid": picture.to_mermaid, "svg": picture.to_svg}
    terminal.write(forms[options.form]())
    for name, place in _waiting(report).items():
        terminal.note(f"{name}: {place}")
    if infos.get(options.file) == "stale":
        for name, each in report.underway.items():
            if each.started is not None:
                terminal.note(f"{name}: {_CUT_OFF}")
    return 0


def _waiting(report: Report) -> dict[str, _Place]:
    """Return where an answer is waited for, by what it is called here.

    A call that waits for calls of a run of its own has a place for each, `call/name`.
    """
    found: dict[str, _Place] = {}
    for call, outcome in report.items():
        if not awaits_answer(outcome):
            continue
        waits = waits_in(outcome)
        for wait in waits:
            place = _Place(call, wait["name"], wait["for"], wait["question"])
            found[f"{call}/{wait['name']}"] = place
        if not waits:
            found[call] = _Place(call, None, kind_of(outcome), outcome.question)
    return found


@final
@dataclass(frozen=True, slots=True)
class _Place:
    """Where an answer is waited for: a call, or one inside it with its name."""

    call: str
    name: str | None
    kind: str
    question: Any

    def __str__(self) -> str:
        if self.kind == DOUBT:
            return "in doubt: it was running when its process ended, and may have taken effect"
        if isinstance(self.question, str):
            return self.question
        return json.dumps(self.question, ensure_ascii=False, default=str)


def resume(options: Namespace, terminal: Terminal) -> int:
    """Go on with a run."""
    texts: dict[str, str] = {}
    for item in options.answer:
        name, equals, text = item.partition("=")
        if not equals:
            word, colon, _ = item.partition(":")
            shown = f"{word}:…" if colon else item
            msg = f"--answer {shown!r} has no '=': write --answer ID=approve"
            raise UsageError(msg)
        texts[name] = text
    timeouts = Timeouts(call=options.timeout or None)
    program = None if options.program is None else read_program(options.program)
    with _existing(options.journal) as journal:
        executor = Executor(load_tools(options.tools), journal=journal, timeouts=timeouts)
        waiting = _waiting(_report(journal, options.run))
        said = {
            name: _answer(text, asks=_kind(name, waiting) == QUESTION, name=name)
            for name, text in texts.items()
        }
        if sys.stdin.isatty() and not options.no_input:
            said |= _ask(terminal, {n: o for n, o in waiting.items() if n not in said})
        go_on = partial(executor.resume, plan=program)
        report = anyio.run(go_on, options.run, _by_call(said, waiting))
    terminal.write_json(report.to_dict() if program is None else outcome_of(report))
    for name, place in _waiting(report).items():
        terminal.note(f"{name}: {place}")
    return 0 if report.ok else 1


def _kind(name: str, waiting: Mapping[str, _Place]) -> str:
    """Return what an answer of this name is for; a call's name stands for a single place in it."""
    kinds = [place.kind for label, place in waiting.items() if name in (label, place.call)]
    return kinds[0] if len(kinds) == 1 else ""


def _by_call(said: Mapping[str, object], waiting: Mapping[str, _Place]) -> dict[str, object]:
    """Return answers as `Executor.resume` takes them."""
    answers: dict[str, object] = {}
    inner: dict[str, dict[str, object]] = {}
    for label, answer in said.items():
        place = waiting.get(label)
        if place is None or place.name is None:
            answers[label] = answer
        else:
            inner.setdefault(place.call, {})[place.name] = answer
    return {**answers, **inner}


def _answer(text: str, *, asks: bool, name: str) -> object:
    """Read an answer; raise UsageError."""
    word, _, rest = text.partition(":")
    known = word.strip().lower()
    if asks and known not in ("deny", "done", "value"):
        return _value(text)
    if known in ("approve", "yes", "y"):
        return Approve()
    if known in ("deny", "no", "n"):
        return Deny(rest) if rest else Deny()
    if known == "done":
        return Done(_value(rest) if rest else None)
    if known == "value":
        return _value(rest)
    if known == "edit":
        args = _value(rest)
        if isinstance(args, dict):
            return Edit(cast("dict[str, Any]", args))
    shown = f"{word}:…" if rest else text  # what follows may hold a secret
    msg = f"{shown!r} is no answer for call {name!r}; write {_ANSWER}"
    raise UsageError(msg)


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _ask(terminal: Terminal, waiting: Mapping[str, _Place]) -> dict[str, object]:
    """Ask at the terminal; an empty line leaves a call waiting."""
    answers: dict[str, object] = {}
    for name, place in waiting.items():
        terminal.note(f"{name}: {place}")
        while name not in answers:
            terminal.err.write(f"  {_HINTS[place.kind]}, or nothing to leave it: ")
            terminal.err.flush()
            text = sys.stdin.readline().strip()
            if not text:
                break
            try:
                answers[name] = _answer(text, asks=place.kind == QUESTION, name=name)
            except UsageError as error:
                terminal.note(str(error))
    return answers
