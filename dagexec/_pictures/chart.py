"""When the calls of a run waited and ran, as data: what is drawn as text, mermaid and SVG."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias, final

from dagexec._pictures.critical import Link
from dagexec._pictures.durations import duration
from dagexec._pictures.glyphs import listed, printable

WaitKind: TypeAlias = Literal["dependencies", "slot", "limit", "retry"]

# Rows that can be read at a glance; of more calls the bars that matter stay.
MOST: Final = 60
_ALONE: Final = 36
_GROUPS: Final = 8
BAD: Final = ("failed", "timed_out", "in_doubt", "pending", "running", "cancelled")
FILLS: Final = {"dependencies": "·", "slot": "░", "limit": "▒", "retry": "~"}


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
    """A call on the timeline; times are seconds since the run began, None if it never got that far.

    `limit` is when its own deadline expires; `tries` are its attempts, where they are known.
    `blocked` marks one that blocked the event loop, whatever its state.
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
    blocked: bool = False

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


@dataclass(frozen=True, slots=True)
class Chart:
    """The calls of a run by time.

    `now` is the end of the run, or the time so far of one that is `live`.
    """

    bars: tuple[Bar, ...]
    now: float
    live: bool = False
    path: tuple[Link, ...] = ()
    deadlines: tuple[Deadline, ...] = ()
    caption: str = ""

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
        bad = [bar.id for bar in self.bars if bar.blocked or bar.state in BAD]
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

    def spoken(self) -> str:
        """Return what the picture shows, for readers who cannot see it."""
        parts = [f"{self.caption or f'{len(self.bars)} calls in {duration(self.now)}'}."]
        longest = sorted(self.bars, key=lambda bar: -bar.seconds(self.now))[:3]
        parts += [
            f"{bar.id} {bar.tool} took {duration(bar.seconds(self.now))}."
            for bar in longest
            if bar.started is not None
        ]
        waited: dict[str, float] = {}
        for bar in self.bars:
            for wait in bar.waits:
                if wait.kind != "dependencies":
                    waited[wait.kind] = waited.get(wait.kind, 0.0) + wait.ends - wait.begins
        parts += [
            f"Waiting ({kind}): {duration(seconds)} in all calls together."
            for kind, seconds in waited.items()
            if seconds > 0.001  # noqa: PLR2004
        ]
        if self.path:
            parts.append(f"Critical path: {listed(tuple(link.call for link in self.path))}.")
        parts += [f"Deadline of the {each.scope}: {each.at:g} s." for each in self.deadlines]
        return " ".join(printable(part) for part in parts)


def concurrency(bars: Iterable[Bar], now: float, end: float, columns: int) -> list[int]:
    """Return how many bars ran at a time, at most, in each of so many equal parts of the axis."""
    moments: list[tuple[float, int]] = []
    for bar in bars:
        if bar.started is not None:
            # At the same moment an end comes before a start: a slot changes hands.
            moments += ((bar.started, 1), (bar.started + bar.seconds(now), -1))
    moments.sort()
    counts = [0] * columns
    running, column = 0, 0
    for at, change in moments:
        here = column_of(at, end, columns)
        for between in range(column + 1, here + 1):
            counts[between] = running
        column = here
        running += change
        counts[here] = max(counts[here], running)
    return counts


def column_of(at: float, end: float, plot: int) -> int:
    """Return the column, of so many, in which a time stands; `end` is the axis's, in seconds."""
    return min(plot - 1, max(0, int(at / end * plot)))
