"""The timeline of a run: when each call waited, for what, and when it ran."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, final

from dagexec._pictures.chart import BAD, Bar, Chart
from dagexec._pictures.glyphs import GLYPHS, json_text, mermaid_text
from dagexec._pictures.mime import ShowsItself
from dagexec._pictures.svg import ThemeName
from dagexec._pictures.timeline_text import draw


@final
@dataclass(frozen=True, slots=True)
class Timeline(ShowsItself, Chart):
    """The calls of a run by time; in a notebook it shows itself, `str()` draws it as text.

    More than 60 calls are folded: what failed, what runs, the critical path and the longest have a
    row each, the others one a tool. `to_dict` has always every call. `now` is the end of the run,
    or the time so far of one that is `live`.
    """

    def __str__(self) -> str:
        """Return the picture as text, 100 columns wide."""
        return self.to_text()

    def to_text(self, width: int = 100) -> str:
        """Return one line a call, in so many columns.

        `·` waits for dependencies, `░` for a slot, `▒` for a limit, `~` for its next attempt, `█`
        runs, `|` is the run's deadline, `*` marks the critical path.
        """
        return draw(self, width)

    def to_mermaid(self) -> str:
        """Return a mermaid Gantt chart, folded like the picture; ids of any content are escaped."""
        bars, clusters = self.rows()
        critical = {link.call: None for link in self.path}
        precise = self.end < 60  # noqa: PLR2004 - seconds
        lines = [
            "gantt",
            "    dateFormat x",
            f"    axisFormat {'%S.%L s' if precise else '%H:%M:%S'}",
        ]
        for index, bar in enumerate(bars):
            lines += _gantt(bar, index, self.now, critical=bar.id in critical)
        for index, cluster in enumerate(clusters):
            begins = min(bar.begins for bar in cluster.bars)
            ends = max(bar.begins + bar.seconds(self.now) for bar in cluster.bars)
            name = mermaid_text(cluster.label, " _-.")
            took = max(1, _milliseconds(ends - begins))
            lines.append(f"    {name} :g{index}, {_milliseconds(begins)}, {took}ms")
        return "\n".join(lines)

    def to_svg(self, *, theme: ThemeName = "light", interactive: bool = False) -> str:
        """Return the picture as SVG: on a card of its own, readable on any page, with a text.

        `theme` is "light" or "dark"; "page" takes the colours from CSS variables. With
        `interactive` each row can be reached by keyboard and has its calls as a JSON list in
        `data-calls`.
        Raises ValueError for another theme.
        """
        from dagexec._pictures import svg, timeline_svg

        return svg.picture(
            lambda colours: timeline_svg.body(self, colours, interactive=interactive),
            title=f"Timeline of {len(self.bars)} calls",
            spoken=self.spoken(),
            theme=theme,
            interactive=interactive,
        )

    def _forms(self) -> tuple[Callable[..., str], Callable[[], str]]:
        return self.to_svg, self.to_text

    def to_dict(self) -> dict[str, Any]:
        """Return every call with its times, the deadlines and the critical path, for JSON."""
        return {
            "now": self.now,
            "live": self.live,
            "calls": [_body(bar) for bar in self.bars],
            "deadlines": [{"scope": each.scope, "at": each.at} for each in self.deadlines],
            "critical_path": [{"call": link.call, "via": link.via} for link in self.path],
        }

    def to_json(self, *, indent: int | None = None) -> str:
        """Return `to_dict` as JSON text."""
        return json_text(self.to_dict(), indent)


def _milliseconds(seconds: float) -> int:
    return round(seconds * 1000)


def _gantt(bar: Bar, index: int, now: float, *, critical: bool) -> list[str]:
    """Return the lines of a bar in a Gantt chart: its waits, and itself."""
    tags = ["crit"] if critical or bar.state in BAD[:2] else []
    if bar.started is None:
        tags.append("milestone")
    elif bar.ended is None:
        tags.append("active")
    elif bar.state == "done" and not tags:
        tags.append("done")
    name = mermaid_text(f"{GLYPHS[bar.state]} {bar.id} {bar.tool}", " _-.")
    lines = [
        f"    {name} waits ({wait.kind}) :w{index}x{number},"
        f" {_milliseconds(wait.begins)}, {_milliseconds(wait.ends - wait.begins)}ms"
        for number, wait in enumerate(bar.waits)
        if wait.kind != "dependencies" and _milliseconds(wait.ends - wait.begins)
    ]
    took = max(1, _milliseconds(bar.seconds(now))) if bar.started is not None else 0
    tags.append(f"c{index}")
    lines.append(f"    {name} :{', '.join(tags)}, {_milliseconds(bar.begins)}, {took}ms")
    return lines


def _body(bar: Bar) -> dict[str, Any]:
    body: dict[str, Any] = {"id": bar.id, "tool": bar.tool, "state": bar.state}
    for name in ("ready", "started", "ended", "limit"):
        value = getattr(bar, name)
        if value is not None:
            body[name] = value
    body["attempts"] = bar.attempts
    body["waits"] = [
        {"for": wait.kind, "begins": wait.begins, "ends": wait.ends} for wait in bar.waits
    ]
    if bar.tries:
        body["tries"] = [
            {"started": each.started, "ended": each.ended, "ok": each.ok} for each in bar.tries
        ]
    return body
