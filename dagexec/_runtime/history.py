"""What a run had been through before this process drove it, as its records say."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

from dagexec._core.outcomes import Cancelled, Outcome, TimedOut
from dagexec.journal._answers import Given, apply_answer, kept_answer
from dagexec.journal._base import Record
from dagexec.journal._records import (
    blocked_in,
    outcome_of,
    policies_of,
    same_call,
)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """Read from the records of a run, and applied by the recorder.

    `given` holds what people answered and `starts` how often each call was started, by call, as
    they were recorded; the recorder goes on counting in them.
    """

    records: Sequence[Record]
    # The policies that the run began with.
    on_failure: str
    barrier: bool
    given: dict[str, Given]
    starts: dict[str, int]
    # Of the arguments that each call was started with.
    fingerprints: Mapping[str, str]
    # Calls whose answers were recorded, and not yet acted upon when the process ended.
    answered: Sequence[str]
    # What a stop or a deadline had decided for the calls that were under way.
    stopped_by: Outcome
    # Seconds that the run had lasted, as far as its records tell.
    lasted: float
    # Of a run that has ended: its seconds, how many threads it left behind, how many steps blocked
    # its event loop and for how many seconds, in all and by call.
    elapsed: float
    abandoned: int
    blocked: tuple[int, float, Mapping[str, float]]

    def take(self, name: str, body: dict[str, Any], secret: Collection[str]) -> dict[str, Any]:
        """Take in an answer to a call; return it as it is recorded, without what is secret."""
        apply_answer(self.given, name, body)
        return kept_answer(body, secret)

    @property
    def streamed(self) -> bool:
        """Whether the plan came call by call."""
        return self.records[0].kind != "plan"

    @property
    def is_blank(self) -> bool:
        """Whether nothing but the plan, or that there is one, is recorded."""
        return len(self.records) == 1

    @classmethod
    def read(  # noqa: C901 - one a kind
        cls, records: Sequence[Record]
    ) -> History:
        """Read the records of one run, in their order."""
        given: dict[str, Given] = {}
        starts: dict[str, int] = {}
        fingerprints: dict[str, str] = {}
        answered: list[str] = []
        stopped_by: Outcome = Cancelled()
        lasted = elapsed = 0.0
        abandoned, blocked = 0, blocked_in({})
        for record in records:
            name, body = record.call or "", record.body
            match record.kind:
                case "started":
                    starts[name] = starts.get(name, 0) + 1
                    if "args" in body:
                        fingerprints[name] = body["args"]
                    lasted = max(lasted, body["at"])
                case "void":
                    starts[name] = starts.get(name, 1) - 1
                case "settled":
                    lasted = max(lasted, body.get("ended") or 0.0)
                case "stop":
                    stopped_by = outcome_of(body)
                case "expired":
                    stopped_by = TimedOut("layer")
                case "answer":
                    apply_answer(given, name, body)
                    answered.append(name)
                case "reopened":
                    answered = [each for each in answered if each != name]
                case "end":
                    lasted = elapsed = body["elapsed"]
                    abandoned, blocked = body["abandoned"], blocked_in(body)
                case _:
                    pass
        on_failure, barrier = policies_of(records[0])
        return cls(
            records=records,
            on_failure=on_failure,
            barrier=barrier,
            given=given,
            starts=starts,
            fingerprints=fingerprints,
            answered=answered,
            stopped_by=stopped_by,
            lasted=lasted,
            elapsed=elapsed,
            abandoned=abandoned,
            blocked=blocked,
        )

    def began_with(self, calls: Sequence[dict[str, Any]]) -> bool:
        """Whether these are the calls that the run was begun with, as they are recorded."""
        if not self.streamed:
            kept = self.records[0].body["calls"]
            return len(kept) == len(calls) and all(map(same_call, kept, calls))
        by_id = {call["id"]: call for call in calls}
        added = [record.body["call"] for record in self.records if record.kind == "added"]
        closed = any(record.kind == "closed" for record in self.records)
        same = all(each["id"] in by_id and same_call(each, by_id[each["id"]]) for each in added)
        return same and (not closed or len(added) == len(calls))
