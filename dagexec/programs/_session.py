"""Programs of one conversation: each finds what those before it left, and says what came of it."""

# A value of a program is of any type: what the checker calls unknown here is meant.
# pyright: reportUnknownArgumentType=false, reportUnknownMemberType=false
# pyright: reportUnknownVariableType=false

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import replace
from typing import Any, Final, Protocol, final

import anyio

from dagexec._core.results import Results
from dagexec._core.told import MAYBE
from dagexec._errors import CallError, DagexecError
from dagexec._tools.context import current_call
from dagexec._tools.tool import Tool
from dagexec.programs._check import check_names
from dagexec.programs._definitions import needed
from dagexec.programs._earlier import EarlierCall, bare, calls_of
from dagexec.programs._early import EarlyProgram
from dagexec.programs._errors import LimitReached, ProgramRefused
from dagexec.programs._machine import identifier
from dagexec.programs._program import Program
from dagexec.programs._source import bounded
from dagexec.programs._stubs import stubs
from dagexec.programs._where import brief, call_text

_log = logging.getLogger("dagexec")
RUN_PROGRAM: Final = "run_program"
# What programs of one conversation write, as a resource.
_CONVERSATION: Final = "dagexec:programs"
# Seconds that a program's tool may take: a program's end is that of its run.
_LONGEST: Final = 86_400.0
# What is left to a program of the time of its call, so that it ends first and says where it stood.
_SHARE: Final = 0.98
_RESERVE: Final = 0.5
# Characters of a value that are shown, calls that are listed, and characters of what was printed.
SHOWN: Final = 4_000
_LISTED: Final = 20
_PRINTED: Final = 4_000

LANGUAGE: Final = """\
A program is plain Python: assignments, f-strings, comprehensions, if, for, while, functions, \
try/except, math, json, re, datetime, statistics, itertools, functools. There are no classes, no \
other imports, \
no files, no clock and no attributes: results are dicts, so write r["name"]. Tools are functions. \
Calls that do not need one another run at the same time by themselves: never write threads, and \
await or asyncio.gather change nothing. A tool that fails raises ToolError, which you may catch. \
The value of the last expression comes back, and what you print; long values are shortened. \
Variables and functions of earlier programs are still there, and `_[3]` is the whole value of \
call 3. If a program fails, send all of it again, corrected: calls that are done are not repeated, \
they give their values at once."""

_TOOL: Final = """\
Run a Python program that calls the functions below. Use it for loops, for calls that need one \
another's results, and to compute with results without reading them.

{language}

{stubs}"""


class RunsPrograms(Protocol):
    """What runs programs here: an `Executor`."""

    tools: dict[str, Tool[..., Any]]
    timeouts: Any
    journal: Any

    def within(self, timeouts: Any, /, *, journal: Any = None) -> RunsPrograms:
        """Return the same executor with other timeouts."""
        ...

    def start(self, plan: Any, /, *, run_id: str | None = None) -> Any:
        """Return a live run."""
        ...


# The answers of earlier calls of the conversation by number, oldest first; None for those that have
# no value. What a program answered is a dict as `Answers` describes it.
Past = Callable[[], Mapping[int, Any]]


@final
class Programs:
    """Runs the programs of one conversation.

    `past` returns the values of the earlier calls of the conversation, by number. All that a later
    program needs is in those values, so that it is kept wherever they are. A program's value is
    a dict: `result`, `printed`, `variables`; of one that failed also `error`, and in `calls` what
    is done.
    """

    def __init__(self, past: Callable[[], Mapping[int, Any]] | None = None) -> None:
        """Begin without programs."""
        self._past = past or dict
        # Answers that are not in the conversation yet: of calls of the reply that is being run.
        self._fresh: dict[str, dict[str, Any]] = {}
        # Programs that are still being written.
        self._early: list[EarlyProgram] = []

    def early(self, tools: Mapping[str, Tool[..., Any]]) -> EarlyProgram:
        """Return a program that is about to be written: `feed` it, and `run_early` it."""

        def begin(source: str) -> tuple[dict[str, Any], dict[str, str], list[EarlierCall]]:
            before = self._before("")
            return *_found(source, before), _earlier(before)

        made = EarlyProgram(tools, begin, _definitions(self._before("")))
        self._early.append(made)
        return made

    async def run_early(self, executor: RunsPrograms, program: EarlyProgram) -> None:
        """Run the reads of a program that is being written, until it is closed."""
        alone = executor.within(executor.timeouts)
        alone.journal = None
        try:
            async with alone.start(program) as run:
                await program.closed.wait()
                run.cancel()
        except DagexecError as error:
            _log.debug("reads of a program that is being written: %r", error)
        finally:
            program.close()
            program.end_all()
            if program in self._early:
                self._early.remove(program)

    def _claimed(self, source: str) -> EarlyProgram | None:
        """Return what was started of a program while it was written."""
        for each in self._early:
            if each.started and source.startswith(each.text.rstrip()):
                self._early.remove(each)
                each.stop()
                return each
        return None

    async def run(
        self, executor: RunsPrograms, source: str, repeat: Collection[str] = ()
    ) -> dict[str, Any]:
        """Run a program inside of a call; return its answer.

        Raises CallError for one that is refused before it runs.
        """
        call = current_call()
        before = self._before(call.id)
        started = self._claimed(source)
        try:
            check_names(source, {identifier(name) for name in executor.tools})
            variables, definitions = _found(source, before)
            program = Program(
                source,
                variables=variables,
                definitions=definitions,
                earlier=[each for each in _earlier(before) if each.tool not in repeat],
                started=started,
            )
        except ProgramRefused as error:
            if started is not None:
                started.close()
            raise CallError(str(error)) from None
        run = _bounded_executor(executor, call.deadline).start(
            program, run_id=None if executor.journal is None else f"{call.idempotency_key}.program"
        )
        try:
            async with run:
                pass
        finally:
            if started is not None:
                started.close()
            answer = self._fresh[call.id] = answer_of(run.report, executor.tools)
        return answer

    def _before(self, id_: str) -> dict[str, Any]:
        """Return the values of earlier calls, by number as a text."""
        known = {str(number): value for number, value in self._past().items()}
        # What the conversation has by now needs to be kept no longer.
        self._fresh = {name: each for name, each in self._fresh.items() if name not in known}
        known.update(self._fresh)
        known.pop(id_, None)
        return known


def _bounded_executor(executor: RunsPrograms, deadline: float | None) -> RunsPrograms:
    """Return an executor whose run ends a little before its call has to."""
    if deadline is None:
        return executor
    left = deadline - anyio.current_time()
    short = max(left * _SHARE, left - _RESERVE, 0.001)
    return executor.within(replace(executor.timeouts, turn=None, workflow=short))


def is_answer(value: Any) -> bool:
    """Whether a value is what a program's call gives."""
    return type(value) is dict and {"result", "printed", "variables"} <= value.keys()


def _definitions(before: Mapping[str, Any]) -> dict[str, str]:
    """Return the functions of earlier programs that still have their names."""
    found: dict[str, str] = {}
    for value in before.values():
        if is_answer(value):
            for name in value["variables"]:
                found.pop(name, None)
            found.update(value.get("definitions", {}))
    return found


def _found(source: str, before: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the variables and functions that a program finds: of those that it comes to name."""
    names, definitions = needed(source, _definitions(before))
    found: dict[str, Any] = {}
    for value in before.values():
        if is_answer(value):
            found.update({k: v for k, v in value["variables"].items() if k in names})
            for name in value.get("definitions", {}):
                found.pop(name, None)
    if "_" in names:
        numbers = [int(name) for name in before if name.isdigit()]
        values: list[Any] = [None] * (max(numbers, default=0) + 1)
        for number in numbers:
            value = before[str(number)]
            values[number] = value["result"] if is_answer(value) else value
        found["_"] = values
    return found, definitions


def _earlier(before: Mapping[str, Any]) -> list[EarlierCall]:
    """Return what the last program has done, if it failed."""
    last = next((value for value in reversed(list(before.values())) if is_answer(value)), None)
    if last is None or last.get("error") is None:
        return []
    return [EarlierCall.from_dict(each) for each in last.get("calls", ())]


def result_of(report: Results) -> Any:
    """Return what a program came to as JSON's kinds: sets as lists, dates as texts."""
    try:
        return bounded(report.result)
    except (LimitReached, ValueError) as found:
        return f"(not shown: {found})"


def answer_of(report: Results, tools: Mapping[str, Tool[..., Any]]) -> dict[str, Any]:
    """Return what a program's call gives, as JSON's kinds."""
    program = report.program
    assert program is not None  # noqa: S101 - it is the report of a program
    answer: dict[str, Any] = {"result": None, "printed": program.printed, "variables": {}}
    error = program.error
    if error is None:
        answer["result"] = result_of(report)
        answer["variables"] = dict(program.variables)
    else:
        answer["error"] = str(error)
        answer["variables"] = dict(program.left)
        answer["calls"] = [each.to_dict() for each in calls_of(report, tools)]
    if program.definitions:
        answer["definitions"] = dict(program.definitions)
    lost = [_lost(report, name) for name, each in report.items() if each.status != "done"]
    if lost:
        answer["lost"] = lost
    if program.reused:
        answer["reused"] = [
            f"{call_text(each.tool, each.args)} (line {program.lines.get(name, 0)})"
            for name, each in program.reused.items()
            if not each.doubt
        ]
    return answer


def _lost(report: Results, name: str) -> str:
    """Return a line on a call that is not done: which, where, and why."""
    outcome, call = report[name], report.plan[name]
    program = report.program
    line = program.lines.get(name, 0) if program is not None else 0
    args = {key: bare(value) for key, value in call.args.items()}
    why = brief(str(outcome.error), 300) if outcome.error is not None else ""
    maybe = f" {MAYBE}" if outcome.maybe else ""
    status = outcome.status.replace("_", " ")
    return f"line {line}: {call_text(call.tool, args)}: {status}{f': {why}' if why else ''}{maybe}"


def told(answer: Mapping[str, Any], number: int | None = None, limit: int | None = SHOWN) -> str:
    """Return a program's answer as a text for the model: short, the whole value by reference."""
    parts: list[str] = []
    if answer["printed"]:
        parts.append(f"printed:\n{head_and_tail(answer['printed'].rstrip(), _PRINTED)}")
    if answer.get("error") is not None:
        parts.append(f"The program failed.\n{answer['error']}")
    else:
        text = json.dumps(answer["result"], ensure_ascii=False, default=str)
        shown = head_and_tail(text, limit)
        if shown != text and number is not None:
            shown += f"\n[shortened; `_[{number}]` is the whole value in the next program]"
        parts.append(f"value:\n{shown}")
    if answer.get("error") is not None and answer["variables"]:
        names = ", ".join(list(answer["variables"])[:_LISTED])
        parts.append(f"Variables that the next program finds: {names}")
    if answer.get("lost"):
        parts.append("Calls that are not done:\n" + _listed(answer["lost"]))
    if answer.get("reused"):
        parts.append("Done before, and not repeated:\n" + _listed(answer["reused"]))
    done = [call_text(each["tool"], each["args"]) for each in answer.get("calls", ())]
    if done:
        parts.append(
            "Done, and not repeated when you send the corrected program:\n" + _listed(done)
        )
    return "\n\n".join(parts)


def _listed(lines: list[str]) -> str:
    shown = lines[:_LISTED]
    more = [f"… and {len(lines) - _LISTED} more"] if len(lines) > _LISTED else []
    return "\n".join(f"- {line}" for line in [*shown, *more])


def head_and_tail(text: str, limit: int | None) -> str:
    """Return a text of about `limit` characters: the beginning and the end of a longer one."""
    if limit is None or len(text) <= limit:
        return text
    head = limit * 7 // 10
    tail = limit - head
    return f"{text[:head]}\n… {len(text) - limit:,} characters …\n{text[-tail:]}"


def program_tool(
    executor: RunsPrograms,
    programs: Programs | None = None,
    *,
    text: bool = True,
    description: str = "",
) -> Tool[..., Any]:
    """Return a tool `run_program` that runs programs with the tools of an executor.

    For agents of other frameworks: `DagToolNode([*tools, program_tool(executor)])`. With `programs`
    its programs are those of one conversation, which find one another's variables; without, each
    stands alone. It returns a text for the model, or with `text=False` the answer as a dict. Its
    `description` is by default the language and the tools as stubs.

    Its effect is `idempotent`: run again after a crash, with a journal, a program goes on where it
    was. It touches what its tools may touch, so calls of one reply that conflict keep their order.
    """
    shared = programs or Programs()
    inner = [each for each in executor.tools.values() if each.name != RUN_PROGRAM]

    async def run_program(source: str, repeat: list[str] | None = None) -> Any:
        alone = shared if programs is not None else Programs()
        answer = await alone.run(executor, source, repeat or ())
        return told(answer) if text else answer

    schema = {
        "type": "object",
        "properties": {
            "source": {"type": "string", "description": "The program"},
            "repeat": {
                "type": "array",
                "items": {"type": "string"},
                "description": "Functions whose calls are to run again, though they are done",
            },
        },
        "required": ["source"],
    }
    return Tool.from_schema(
        RUN_PROGRAM,
        schema,
        run_program,
        description=description or _TOOL.format(language=LANGUAGE, stubs=stubs(inner)),
        effect="idempotent",
        timeout=_LONGEST,
        # One conversation's programs find one another's variables, in the order of their calls.
        writes=(*_touched(inner, write=True), *((_CONVERSATION,) if programs is not None else ())),
        reads=_touched(inner, write=False),
    )


def _touched(tools: Iterable[Tool[..., Any]], *, write: bool) -> tuple[str, ...]:
    """Return templates of all that calls of these tools may touch, whatever a program calls.

    Where a tool names an argument, any resource that begins with the text before it may be meant:
    a text has no parts, so what is asked of the source is never known.
    """
    found: dict[str, None] = {}
    for each in tools:
        for template in each.templates:
            if template.write != write:
                continue
            text = ""
            for literal, path in template.pieces:
                text += literal.replace("{", "{{").replace("}", "}}")
                if path:
                    text += "{source.touches}"
                    break
            found[text] = None
    return tuple(found)
