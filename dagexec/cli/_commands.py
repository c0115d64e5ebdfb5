"""The commands run, show and check."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Iterable
from typing import Any, cast

import anyio

from dagexec._core.plan import Call, Plan
from dagexec._core.report import Report
from dagexec._errors import PlanError, Problem
from dagexec._pictures.diagram import Diagram
from dagexec._pictures.timeline import Timeline
from dagexec._runtime.executor import Executor
from dagexec._runtime.settings import Timeouts
from dagexec._tools.checking import problems_of
from dagexec.cli._inputs import (
    UsageError,
    chosen_planner,
    drawn_plan,
    hidden_planners,
    load_tools,
    read,
)
from dagexec.cli._programs import checked, is_program, outcome_of, read_program
from dagexec.cli._runs import is_run, journal_of, show_run
from dagexec.cli._terminal import Terminal
from dagexec.programs import Program

DONE, NOT_DONE, WRONG, INTERRUPTED, TERMINATED = 0, 1, 2, 130, 143


def run(options: Namespace, terminal: Terminal) -> int:
    """Run a plan, the calls of a reply, or a program."""
    program = read_program(options.file) if is_program(options.file) else None
    payload = read(options.file) if program is None else None
    make = chosen_planner(payload, options.planner) if program is None else None
    if make is None and options.answer:
        msg = "--answer is for the reply of a model: a plan has nobody to answer to"
        raise UsageError(msg)
    tools = load_tools(options.tools)
    timeouts = Timeouts(call=options.timeout or None, workflow=options.workflow_timeout or None)
    executor = Executor(
        tools,
        timeouts=timeouts,
        concurrency=options.concurrency,
        on_failure=options.on_failure,
        journal=journal_of(options.journal) if options.journal or options.run_id else None,
    )
    planner = None if make is None else make(tools)
    plan: Plan | Program
    if program is not None:
        plan = program
    else:
        plan = Plan.from_dict(payload) if planner is None else planner.plan(payload)
    try:
        report = anyio.run(terminal.watch, executor, plan, options.run_id)
    except KeyboardInterrupt:
        # What has ended is worth keeping; the live run still knows it.
        if terminal.run is not None:
            terminal.write_json(terminal.run.report.to_dict(), indent=options.json_indent)
        raise
    result: Any = report.to_dict()
    if planner is not None and not options.report:
        result = planner.results(report)
    elif program is not None and not options.report:
        result = outcome_of(report)
    terminal.write_json(result, indent=options.json_indent)
    return DONE if report.ok else NOT_DONE


def serve(options: Namespace, terminal: Terminal) -> int:
    """Serve tools by MCP, as one tool that takes a plan."""
    from dagexec.integrations.mcp import serve_http, serve_stdio

    timeouts = Timeouts(call=options.timeout or None, workflow=options.workflow_timeout or None)
    executor = Executor(
        load_tools(options.tools), timeouts=timeouts, concurrency=options.concurrency
    )
    if options.http is None:
        anyio.run(serve_stdio, executor)
    else:
        terminal.note(f"serving {len(executor.tools)} tools at http://127.0.0.1:{options.http}/mcp")
        anyio.run(serve_http, executor, options.http)
    return DONE


def show(options: Namespace, terminal: Terminal) -> int:
    """Draw a plan, a reply's calls, a report or a recorded run: the graph, or the timeline."""
    if is_run(options.file, options.journal):
        return show_run(options, terminal)
    payload = read(options.file)
    picture: Diagram | Timeline
    picture = _timeline(payload) if options.timeline else _diagram(payload, options.planner)
    if options.form == "json":
        terminal.write_json(picture.to_dict(), indent=2)
    else:
        forms = {"text": picture.to_text, "mermaid": picture.to_mermaid, "svg": picture.to_svg}
        terminal.write(forms[options.form]())
    return DONE


def _timeline(payload: Any) -> Timeline:
    if not isinstance(payload, dict) or "outcomes" not in payload:
        msg = "--timeline is for the report of a run: a plan and a reply have no times yet"
        raise UsageError(msg)
    return Report.from_dict(payload).timeline


def _diagram(payload: Any, planner: str | None) -> Diagram:
    if planner is None and isinstance(payload, dict) and "outcomes" in payload:
        return Report.from_dict(payload).diagram
    make = chosen_planner(payload, planner)
    plan = Plan.from_dict(payload) if make is None else drawn_plan(make, payload)
    return plan.diagram


def check(options: Namespace, terminal: Terminal) -> int:
    """Name every problem of a plan, of a reply's calls or of a program, one a line."""
    hidden = hidden_planners(options.file, options.tools)
    if hidden:
        terminal.note(hidden)
    if is_program(options.file):
        return _check_program(options, terminal)
    payload = read(options.file)
    make = chosen_planner(payload, options.planner)
    tools = load_tools(options.tools) if options.tools else None
    executor = None if tools is None else Executor(tools)
    problems: list[Problem] = []
    calls: Iterable[Call]
    if make is not None:
        calls = make(tools).plan(payload) if tools is not None else drawn_plan(make, payload)
        problems += (
            Problem("bad_call", call.id, call.problem) for call in calls if call.problem is not None
        )
    else:
        try:
            calls = Plan.from_dict(payload)
        except PlanError as error:
            problems += error.problems
            calls = _readable(payload)
    if executor is not None:
        problems += problems_of(calls, executor.tools, {})
    for problem in problems:
        terminal.write_text(str(problem))
    if problems:
        terminal.note(f"{len(problems)} problem{'s' if len(problems) > 1 else ''}")
        return WRONG
    plan = Plan(calls)
    terminal.note(
        f"no problems: {len(plan)} calls, {len(plan.edges)} references and orders,"
        f" {len(plan.layers)} layers"
    )
    return DONE


def _check_program(options: Namespace, terminal: Terminal) -> int:
    found = checked(options.file)
    if isinstance(found, Program):
        terminal.note("no problems: every line of it is in the language of programs")
        return DONE
    for fault in found:
        terminal.write_text(str(fault))
    terminal.note(f"{len(found)} problem{'s' if len(found) > 1 else ''}")
    return WRONG


def _readable(payload: Any) -> list[Call]:
    """Return the calls of a broken plan that can be read by themselves."""
    items: Any = cast("Any", payload)["calls"] if isinstance(payload, dict) else payload
    calls: list[Call] = []
    for item in cast("list[Any]", items) if isinstance(items, list) else ():
        try:
            calls.append(Call.from_dict(item))
        except PlanError:
            continue
    return calls
