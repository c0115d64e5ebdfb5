"""Two runs side by side: what became of each call, and how long calls and tools took."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias, final

from dagexec._core.results import Results
from dagexec._pictures.durations import duration
from dagexec._pictures.glyphs import printable

Row: TypeAlias = dict[str, Any]

_SHOWN: Final = 20  # calls whose status differs, in the text
_NAME: Final = 40  # characters
_DURATIONS: Final = ("seconds", "other_seconds", "queued", "other_queued")


@final
@dataclass(frozen=True, slots=True)
class Comparison:
    """A run beside another, made by `Report.compare`; `str()` gives both as text.

    Calls belong together that have the same id and the same tool.
    """

    run: Results
    other: Results

    def rows(self) -> list[Row]:
        """Return a dict a call: id, tool, status, seconds, queued, and the same of the other run.

        Keys: id, tool, status, other_status, seconds, other_seconds, difference, queued,
        other_queued. What a run does not have is None. `difference` is in seconds, `seconds -
        other_seconds`: negative where this run was faster. `queued` is how long a call that could
        have started waited, for a slot, a limit or a resource, in seconds.
        """
        mine, theirs = _by_call(self.run), _by_call(self.other)
        rows: list[Row] = []
        for key in dict.fromkeys((*mine, *theirs)):
            row, other = mine.get(key, {}), theirs.get(key, {})
            rows.append(
                {
                    "id": key[0],
                    "tool": key[1],
                    "status": row.get("status"),
                    "other_status": other.get("status"),
                    **_times(row.get("seconds"), other.get("seconds")),
                    "queued": row.get("queued"),
                    "other_queued": other.get("queued"),
                }
            )
        return rows

    def tools(self) -> list[Row]:
        """Return a dict a tool: how many calls, how many done, and the seconds of all together.

        Keys: tool, calls, other_calls, done, other_done, seconds, other_seconds, difference,
        queued, other_queued.
        """
        mine, theirs = _by_tool(self.run), _by_tool(self.other)
        rows: list[Row] = []
        for tool in dict.fromkeys((*mine, *theirs)):
            own, other = mine.get(tool, []), theirs.get(tool, [])
            rows.append(
                {
                    "tool": tool,
                    "calls": len(own),
                    "other_calls": len(other),
                    "done": sum(row["status"] == "done" for row in own),
                    "other_done": sum(row["status"] == "done" for row in other),
                    **_times(_sum(own), _sum(other)),
                    "queued": _sum(own, "queued"),
                    "other_queued": _sum(other, "queued"),
                }
            )
        return rows

    def __repr__(self) -> str:
        """Return what `str()` returns: in a notebook, the last line of a cell shows it."""
        return str(self)

    def __str__(self) -> str:
        """Return both runs, their tools, and the calls that did not end the same, as text."""
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        yield f"this run   {self.run}"
        yield f"the other  {self.other}"
        tools = self.tools()
        wide = min(_NAME, max((len(row["tool"]) for row in tools), default=4))
        if tools:
            yield ""
            yield (
                f"{'tool':{wide}}  {'calls':>11}  {'this run':>9}  {'the other':>9}  difference"
                "  queued here / there"
            )
        for row in tools:
            calls = f"{row['calls']} / {row['other_calls']}"
            yield f"{_name(row['tool'], wide)}  {calls:>11}  {_spoken(row)}"
        differ = [row for row in self.rows() if row["status"] != row["other_status"]]
        if differ:
            yield ""
        for row in differ[:_SHOWN]:
            was = row["other_status"] or "not there"
            yield printable(f"{row['id']} {row['tool']}: {row['status'] or 'not there'}, was {was}")
        if len(differ) > _SHOWN:
            yield f"+ {len(differ) - _SHOWN} more calls that did not end the same; see rows()"


def _by_call(report: Results) -> dict[tuple[str, str], Row]:
    return {(row["id"], row["tool"]): row for row in report.rows()}


def _by_tool(report: Results) -> dict[str, list[Row]]:
    found: dict[str, list[Row]] = {}
    for row in report.rows():
        found.setdefault(row["tool"], []).append(row)
    return found


def _sum(rows: Sequence[Row], key: str = "seconds") -> float | None:
    known = [row[key] for row in rows if row[key] is not None]
    return sum(known) if known else None


def _times(seconds: float | None, other: float | None) -> Row:
    both = seconds is not None and other is not None
    return {
        "seconds": seconds,
        "other_seconds": other,
        "difference": seconds - other if both else None,  # type: ignore[operator]
    }


def _name(text: str, width: int) -> str:
    text = printable(text)
    return (text if len(text) <= width else text[: width - 1] + "…").ljust(width)


def _spoken(row: Row) -> str:
    shown = {key: "-" if row[key] is None else duration(row[key]) for key in _DURATIONS}
    change = row["difference"]
    sign = "" if change is None else "-" if change < 0 else "+"
    difference = "-" if change is None else f"{sign}{duration(abs(change))}"
    queued = f"{shown['queued']} / {shown['other_queued']}"
    return f"{shown['seconds']:>9}  {shown['other_seconds']:>9}  {difference:>10}  {queued:>19}"
