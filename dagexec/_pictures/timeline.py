"""The timeline of a run: when each call waited, for what, and when it ran."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias, final

from dagexec._pictures.diagram import GLYPHS, bundle, listed, mermaid_text, printable

if TYPE_CHECKING:
    from collections.abc import Container

    from dagexec._pictures.critical import Link
    from dagexec._pictures.svg import ThemeName

WaitKind: TypeAlias = Literal["dependencies", "slot", "limit", "retry"]

# Rows that can be read at a glance; of more calls the bars that matter stay.
MOST: Final = 60
_ALONE: Final = 36
_GROUPS: Final = 8
_BAD: Final = ("failed", "timed_out", "in_doubt", "pending", "running", "cancelled")
_FILLS: Final = {"dependencies": "·", "slot": "░", "limit": "▒", "retry": "~"}


@final
@dataclass(frozen=True, slots=True)
class Wait:
    """A time in which a call waited: for its dependencies, a slot, a limit, its next attempt."""

    kind: WaitKind
    begins: float
    ends: float


@final
@dataclass(frozen=True, slots=True)
class Try:
    """One attempt of a call; `ended` None while it runs."""

    started: float
    ended: float | None
    ok: bool = True


@final
@dataclass(frozen=True, slots=True)
class Bar:
    """A call on the timeline; times are seconds since the run began, None if it never came so far.

    `limit` is when its own deadline expires; `tries` are its attempts, where they are known.
    """

    id: str
    tool: str
    state: str
    note: str = ""
    ready: float | None = None
    started: float | None = None
    ended: float | None = None
    waits: tuple[Wait, ...] = ()
    tries: tuple[Try, ...] = ()
    attempts: int = 0
    limit: float | None = None

    @property
    def begins(self) -> float:
        """When there is first something to draw; calls that never started stand at their end."""
        for at in (self.started, self.ended, self.ready):
            if at is not None:
                return at
        return 0.0

    def seconds(self, now: float) -> float:
        """Return how long it took, or has taken so far."""
        if self.started is None:
            return 0.0
        return max(0.0, (now if self.ended is None else self.ended) - self.started)


@final
@dataclass(frozen=True, slots=True)
class Deadline:
    """A deadline of the whole run: whose it is, and when it expires in seconds of the run."""

    scope: str
    at: float


@final
@dataclass(frozen=True, slots=True)
class Cluster:
    """The calls of a tool that have no row of their own."""

    label: str
    bars: tuple[Bar, ...]


@final
@dataclass(frozen=True, slots=True)
class Timeline:
    """The calls of a run by time; in a notebook it shows itself, `str()` draws it as text.

    More than 60 calls are folded: what failed, what runs, the critical path and the longest have a
    row each, the others one a tool. `to_dict` has always every call. `now` is the end of the run,
    or the time so far of one that is `live`.
    """

    bars: tuple[Bar, ...]
    now: float
    live: bool = False
    path: tuple[Link, ...] = ()
    deadlines: tuple[Deadline, ...] = ()
    caption: str = ""

    def __str__(self) -> str:
        """Return the picture as text, 100 columns wide."""
        return self.to_text()

    def rows(self, most: int = MOST) -> tuple[tuple[Bar, ...], tuple[Cluster, ...]]:
        """Return the bars that have a row, by start, and the rest by tool."""
        bars = sorted(self.bars, key=lambda bar: bar.begins)
        if len(bars) <= most:
            return tuple(bars), ()
        kept = self._kept()
        others: dict[str, list[Bar]] = {}
        for bar in bars:
            if bar.id not in kept:
                others.setdefault(bar.tool, []).append(bar)
        by_size = sorted(others.items(), key=lambda item: -len(item[1]))
        clusters = [Cluster(f"{len(each)} × {tool}", tuple(each)) for tool, each in by_size]
        if len(clusters) > _GROUPS:
            rest = [bar for cluster in clusters[_GROUPS - 1 :] for bar in cluster.bars]
            tools = len(clusters) - _GROUPS + 1
            clusters = [
                *clusters[: _GROUPS - 1],
                Cluster(f"{len(rest)} × {tools} tools", tuple(rest)),
            ]
        return tuple(bar for bar in bars if bar.id in kept), tuple(clusters)

    def _kept(self) -> dict[str, None]:
        """Return the calls that have a row of their own, the most telling first."""
        share = _ALONE // 3
        bad = [bar.id for bar in self.bars if bar.state in _BAD]
        path = [link.call for link in self.path]
        half = share // 2
        if len(path) > share:
            path = [*path[:half], *path[-half:]]
        longest = sorted(self.bars, key=lambda bar: -bar.seconds(self.now))
        # First a share for each kind, then as many of the longest as there is room for.
        kept = dict.fromkeys([*bad[:share], *path, *(bar.id for bar in longest[:share])])
        for bar in longest:
            if len(kept) >= _ALONE:
                break
            kept[bar.id] = None
        return kept

    @property
    def end(self) -> float:
        """Where the time axis ends, in seconds: the run, and a deadline that is not far beyond."""
        end = max([self.now, *(bar.ended for bar in self.bars if bar.ended is not None)])
        near = [each.at for each in self.deadlines if end < each.at <= end * 1.3]
        return max([end, *near]) or 1e-3

    def to_text(self, width: int = 100) -> str:
        """Return one line a call, in so many columns.

        `·` waits for dependencies, `░` for a slot, `▒` for a limit, `~` for its next attempt, `█`
        runs, `|` is the run's deadline, `*` marks the critical path.
        """
        from dagexec._pictures.timeline_text import draw

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
        from dagexec._pictures.timeline_svg import draw

        return draw(self, GLYPHS, theme=theme, interactive=interactive)

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
        return json.dumps(self.to_dict(), indent=indent, ensure_ascii=False)

    def spoken(self) -> str:
        """Return what the picture shows, for who cannot see it."""
        parts = [f"{self.caption or f'{len(self.bars)} calls in {self.now:.2f} s'}."]
        longest = sorted(self.bars, key=lambda bar: -bar.seconds(self.now))[:3]
        parts += [
            f"{bar.id} {bar.tool} took {bar.seconds(self.now):.2f} s."
            for bar in longest
            if bar.started is not None
        ]
        waited: dict[str, float] = {}
        for bar in self.bars:
            for wait in bar.waits:
                if wait.kind != "dependencies":
                    waited[wait.kind] = waited.get(wait.kind, 0.0) + wait.ends - wait.begins
        parts += [
            f"Waiting ({kind}): {seconds:.2f} s in all calls together."
            for kind, seconds in waited.items()
            if seconds > 0.001  # noqa: PLR2004
        ]
        if self.path:
            parts.append(f"Critical path: {listed(tuple(link.call for link in self.path))}.")
        parts += [f"Deadline of the {each.scope}: {each.at:g} s." for each in self.deadlines]
        return " ".join(printable(part) for part in parts)

    def _repr_svg_(self) -> str:
        """Show itself in a notebook."""
        return self.to_svg()

    def _repr_mimebundle_(
        self, include: Container[str] | None = None, exclude: Container[str] | None = None
    ) -> dict[str, str]:
        """Show itself in a notebook, as picture and as text."""
        return bundle(self._repr_svg_, self.to_text, include, exclude)


def _milliseconds(seconds: float) -> int:
    return round(seconds * 1000)


def _gantt(bar: Bar, index: int, now: float, *, critical: bool) -> list[str]:
    """Return the lines of a bar in a Gantt chart: its waits, and itself."""
    tags = ["crit"] if critical or bar.state in _BAD[:2] else []
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


def fills() -> dict[str, str]:
    """Return the characters of the waits in the text form."""
    return dict(_FILLS)
