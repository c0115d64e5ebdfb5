"""Whether a report is that of the turn which is to be answered, and if not, whose it is."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any, cast

from dagexec import Call, DagexecError, Outcome, Plan, Run
from dagexec.lowlevel import kind_of
from planners._core.call_log import CallLog, CallRecord

_HOW = "give it the report of the plan's run: planner.results(await executor.run(plan))"
_PLAIN = (str, int, float, bool, type(None))


def records_of(log: CallLog, given: Any, *, older: bool = False) -> list[CallRecord]:
    """Return the calls that a report answers; raise DagexecError unless they are the last turn's.

    With `older` they may be those of any turn.

    A mapping of outcomes by call id is taken for a report, and one without any says nothing.
    """
    report = _as_report(given)
    known = {record.id: record for record in log.records}
    turns = {known[name].turn for name in report if name in known}
    now = log.number_of_turn
    if report and not turns:
        names = ", ".join(list(report)[:3])
        own = ", ".join(record.id for record in log.last()) or "none"
        msg = (
            f"results() was given the report of other calls ({names}) than those of this planner's"
            f" turn ({own}): give each planner the report of the plan that it made"
        )
        raise DagexecError(msg)
    if turns and older:
        now = max(turns)
    if turns and now not in turns:
        msg = (
            f"results() was given the report of turn {max(turns)}, and turn {now} is to be"
            " answered: answers of an older turn would stand in the wrong place"
        )
        raise DagexecError(msg)
    plan = getattr(report, "plan", None)
    records = log.of_turn(now)
    for record in records:
        if isinstance(plan, Plan) and record.id in plan and _differ(plan[record.id], record):
            msg = (
                f"results() was given a foreign report: its call {record.id} is one of"
                f" {plan[record.id].tool!r} with other arguments than those that the model gave"
                f" {record.raw.name!r} in this planner's turn {now}"
            )
            raise DagexecError(msg)
    return records


def _as_report(given: Any) -> Mapping[str, Outcome]:
    if isinstance(given, Mapping):
        report = cast("Mapping[str, Outcome]", given)
        if all(isinstance(each, Outcome) for each in report.values()):
            return report
        hint = "Report.from_dict(body) reads the JSON form of a report"
        what = "a dict that holds no outcomes"
    elif isinstance(given, Run):
        what, hint = "a Run", "its report is run.report"
    elif inspect.isawaitable(given):
        what, hint = kind_of(given), "await it first"
    else:
        what, hint = "a Plan" if isinstance(given, Plan) else kind_of(given), _HOW
    msg = f"results() takes the report of a run, not {what}; {hint}"
    raise DagexecError(msg)


def _differ(call: Call, record: CallRecord) -> bool:
    """Whether a call that ran is certainly not the one that the model wrote."""
    own = record.call
    if own is None or record.taken_back:
        return False
    if own.tool != call.tool:
        return True
    # Only what no journal changes is compared: it keeps no secrets, and values in its own way.
    return any(
        isinstance(each, _PLAIN)
        and isinstance(call.args[name], _PLAIN)
        and (type(each), each) != (type(call.args[name]), call.args[name])
        for name, each in own.args.items()
        if name in call.args
    )
