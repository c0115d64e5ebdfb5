"""The doctor's answer: a verdict, what it stands on, and how to say it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal, TypeAlias, final

from dagexec.doctor._graph import Judgement, judge
from dagexec.doctor._values import BETWEEN, Channel, End, Process, Sample, Thread, Wait

Verdict: TypeAlias = Literal["deadlock", "stall", "healthy"]

# What the command returns; 2 is for a wrong usage, as everywhere.
EXIT_CODES: Final[dict[str, int]] = {"healthy": 0, "deadlock": 1, "stall": 3}
_STREAMS: Final = {0: "stdin", 1: "stdout", 2: "stderr"}
_SHOWN: Final = 40  # lines of waiting threads, and names in a sentence


@final
@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong, in words and as the ids of processes and threads, and channels."""

    kind: Literal["deadlock", "stall"]
    text: str
    pids: tuple[int, ...]
    tids: tuple[int, ...]
    channels: tuple[str, ...] = ()


@final
@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What the doctor says of some processes.

    `waits` is the graph: for each waiting thread one entry per thing that would let it go on.
    `inside` are the snapshots of the executors in processes that opted in, by process id;
    `blind` is what could not be seen, in words; `seconds` how long the look took.
    """

    verdict: Verdict
    pids: tuple[int, ...]
    findings: tuple[Finding, ...] = ()
    waits: tuple[dict[str, Any], ...] = ()
    channels: tuple[dict[str, Any], ...] = ()
    blind: tuple[str, ...] = ()
    inside: Mapping[int, Any] = field(default_factory=dict[int, Any])
    seconds: float = 0.0

    @property
    def exit_code(self) -> int:
        """0 healthy, 1 deadlock, 3 stall: what the command returns."""
        return EXIT_CODES[self.verdict]

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {
            "verdict": self.verdict,
            "exit_code": self.exit_code,
            "pids": list(self.pids),
            "seconds": round(self.seconds, 3),
            "findings": [
                {
                    "kind": each.kind,
                    "text": each.text,
                    "pids": list(each.pids),
                    "tids": list(each.tids),
                    "channels": list(each.channels),
                }
                for each in self.findings
            ],
            "waits": list(self.waits),
            "channels": list(self.channels),
            "blind": list(self.blind),
            "inside": {str(pid): value for pid, value in self.inside.items()},
        }

    def to_json(self, *, indent: int | None = None) -> str:
        """Return the same as JSON text."""
        return json.dumps(self.to_dict(), indent=indent)

    def __str__(self) -> str:
        """Return it for a person to read."""
        said = "no deadlock" if self.verdict == "healthy" else self.verdict
        lines = [f"{said}: {self._summary()}"]
        lines += (f"  {each.text}" for each in self.findings)
        if self.waits:
            lines.append("who waits for whom:")
            edges = _edges(self.waits)
            lines += (f"  {each}" for each in edges[:_SHOWN])
            if len(edges) > _SHOWN:
                lines.append(f"  … and {len(edges) - _SHOWN} more (--json shows all)")
        for pid, snapshot in self.inside.items():
            lines.append(f"inside process {pid}:")
            lines += (f"  {line}" for line in str(snapshot.get("text", "")).splitlines())
        lines += (f"not seen: {each}" for each in self.blind)
        return "\n".join(lines)

    def _summary(self) -> str:
        if self.verdict == "deadlock":
            return "these threads wait for one another, and nothing else can wake them"
        if self.verdict == "stall":
            return "nothing has moved, and nobody is about to move it"
        calls = list(_running(self.inside))
        if not calls:
            return "everything that waits, waits for something that can happen"
        call = max(calls, key=lambda call: call["seconds"])
        where = f" at {call['where']}" if call.get("where") else ""
        told = f"call {call['id']!r} ({call['tool']}) has run for {call['seconds']:.1f} s{where}"
        return f"{told}; {len(calls) - 1} more run" if len(calls) > 1 else told


def diagnose(samples: Sequence[Sample], *, inside: Mapping[int, Any] | None = None) -> Diagnosis:
    """Return what two or more samples of the same processes mean; pure, nothing is read.

    With one sample alone nothing can be seen to move, so what is only slow looks stuck.
    """
    judgement = judge(samples)
    words = _Words(samples, inside or {})
    findings = words.findings(judgement)
    verdict: Verdict = "healthy"
    if findings:
        verdict = "deadlock" if judgement.knots else "stall"
    last = samples[-1]
    return Diagnosis(
        verdict=verdict,
        pids=last.asked,
        findings=tuple(findings),
        waits=tuple(words.edges(judgement)),
        channels=tuple(words.channel(each) for each in last.channels.values()),
        blind=last.blind,
        inside=inside or {},
        seconds=last.at - samples[0].at,
    )


@final
class _Words:
    """Puts a judgement into sentences."""

    def __init__(self, samples: Sequence[Sample], inside: Mapping[int, Any]) -> None:
        # What runs in which thread, as far as a process tells.
        self.calls: dict[int, str] = {
            call["thread"]: f", which runs call {call['id']!r} ({call['tool']})"
            for snapshot in inside.values()
            for run in snapshot.get("runs", ())
            for call in run["calls"]
            if call["thread"] is not None
        }
        self.last = samples[-1]
        self.window = self.last.at - samples[0].at
        self.owner: dict[int, Process] = {}
        self.threads: dict[int, Thread] = {}
        for process in self.last.processes.values():
            for thread in process.threads:
                self.owner[thread.tid] = process
                self.threads[thread.tid] = thread

    def findings(self, judgement: Judgement) -> list[Finding]:
        """Return everything that is wrong, the worst first."""
        found = [self._finding("deadlock", knot, self._knot(knot)) for knot in judgement.knots]
        found += (
            self._finding("stall", (tid,), self._stalled_writer(tid)) for tid in judgement.stalled
        )
        found += (
            self._finding("stall", group, self._sleepers(group)) for group in judgement.asleep
        )
        return found

    def _finding(
        self, kind: Literal["deadlock", "stall"], tids: tuple[int, ...], text: str
    ) -> Finding:
        pids = tuple(dict.fromkeys(self.owner[tid].pid for tid in tids))
        channels = dict.fromkeys(
            wait.channel for tid in tids for wait in self.threads[tid].waits if wait.channel
        )
        return Finding(kind, text, pids, tids, tuple(channels))

    def _knot(self, knot: tuple[int, ...]) -> str:
        writers = [tid for tid in knot if self._first(tid, "write") is not None]
        others = [tid for tid in knot if tid not in writers and self._waits_between(tid)]
        locked = len(knot) - len(writers) - len(others)
        told = [self._sentence(tid) for tid in (*writers, *others)[:_SHOWN]]
        if locked:
            told.append(f"{locked} {'thread waits' if locked == 1 else 'threads wait'} for these")
        return "; ".join(told)

    def _waits_between(self, tid: int) -> bool:
        own = (self.owner[tid].pid,)
        return any(each.kind in BETWEEN and each.by != own for each in self.threads[tid].waits)

    def _sentence(self, tid: int) -> str:
        """Say what a thread waits for, the write first if there is one."""
        wait = self._first(tid, "write")
        if wait is not None:
            return self._writer(tid, wait)
        return f"{self.named(tid)} waits for {self._all_wanted(tid)}"

    def _all_wanted(self, tid: int) -> str:
        wanted = dict.fromkeys(self._wanted(tid, each) for each in self.threads[tid].waits)
        names = list(wanted)
        more = f", or {len(names) - 6} more" if len(names) > 6 else ""  # noqa: PLR2004
        return ", or ".join(names[:6]) + more

    def _writer(self, tid: int, wait: Wait) -> str:
        channel = self.last.channels.get(wait.channel or "")
        stream = f" ({_STREAMS[wait.fd]})" if wait.fd in _STREAMS else ""
        text = (
            f"{self.named(tid)} is blocked writing to fd {wait.fd}{stream},"
            f" {wait.channel}{self._level(channel)}"
        )
        holders = self._ends(channel.takers) if channel else self._processes(wait.by)
        return f"{text}; it should be read by {holders}"

    def _stalled_writer(self, tid: int) -> str:
        wait = self._first(tid, "write")
        if wait is None:
            return self._sentence(tid)
        text = f"{self._writer(tid, wait)}, where nobody waits to read it"
        text += f" and no byte has moved for {self.window:.1f} s"
        readers = [
            f"{self.named(thread.tid)} {self._activity(thread)}"
            for pid in wait.by
            if pid in self.last.processes
            for thread in self.last.processes[pid].threads[:_SHOWN]
            if thread.tid != tid
        ]
        return f"{text}; {', '.join(readers[:4])}" if readers else text

    def _activity(self, thread: Thread) -> str:
        if thread.state in "Tt":
            return "is stopped (SIGSTOP)"
        if not thread.waits:
            return "runs"
        return f"waits for {self._all_wanted(thread.tid)}"

    def _sleepers(self, tids: tuple[int, ...]) -> str:
        pids = tuple(dict.fromkeys(self.owner[tid].pid for tid in tids))
        return (
            f"all threads of {self._processes(pids)} wait for one another, on locks: only a signal"
            " can wake them (py-spy dump --pid shows where they stand)"
        )

    # --------------------------------------------------------------------------------- small words

    def named(self, tid: int) -> str:
        """Return the name of a thread: that of its process, and its own id where there are more."""
        process = self.owner[tid]
        thread = f" thread {tid}" if len(process.threads) > 1 else ""
        name = f" ({process.name})" if process.name else ""
        return f"pid {process.pid}{name}{thread}{self.calls.get(tid, '')}"

    def _first(self, tid: int, kind: str) -> Wait | None:
        return next((each for each in self.threads[tid].waits if each.kind == kind), None)

    def _wanted(self, tid: int, wait: Wait) -> str:
        if self.threads[tid].polls and wait.by == (self.owner[tid].pid,):
            return "a wake-up of its own"
        by = self._processes(wait.by)
        place = f" {wait.channel} (fd {wait.fd})" if wait.channel else ""
        left = "" if wait.seconds is None else f" with {wait.seconds:.1f} s left"
        if left and wait.whole:  # Linux does not tell when it was set
            left = f" that was set to {wait.seconds:.1f} s"
        texts = {
            "read": f"data in{place} from {by}",
            "write": f"room in{place} by {by}",
            "close": f"the other end of{place} to close in {by}",
            "exit": f"the end of {by}",
            "timer": f"{wait.what}{left}",
            "unknown": f"something unknown: {wait.what}",
        }
        return texts.get(wait.kind, wait.what or wait.kind)

    def _processes(self, pids: Iterable[int]) -> str:
        names = [f"pid {pid}{self._name(pid)}" for pid in pids]
        if len(names) > 4:  # noqa: PLR2004 - a sentence, not a table
            return f"{', '.join(names[:4])} and {len(names) - 4} more"
        return ", ".join(names) or "nobody"

    def _name(self, pid: int) -> str:
        process = self.last.processes.get(pid)
        return f" ({process.name})" if process is not None and process.name else ""

    def _ends(self, ends: Sequence[End]) -> str:
        names = [f"pid {each.pid}{self._name(each.pid)} at its fd {each.fd}" for each in ends]
        if len(names) > 4:  # noqa: PLR2004
            return f"{', '.join(names[:4])} and {len(names) - 4} more"
        return ", ".join(names) or "nobody"

    def _level(self, channel: Channel | None) -> str:
        if channel is None or channel.used is None:
            return ""
        of = "" if channel.size is None else f" of {channel.size}"
        return f" (holds {channel.used}{of} bytes)"

    def channel(self, channel: Channel) -> dict[str, Any]:
        """Return a channel for JSON."""
        return {
            "channel": channel.key,
            "used": channel.used,
            "size": channel.size,
            "readers": [{"pid": each.pid, "fd": each.fd} for each in channel.takers],
            "writers": [{"pid": each.pid, "fd": each.fd} for each in channel.givers],
        }

    def edges(self, judgement: Judgement) -> list[dict[str, Any]]:
        """Return the graph for JSON, those that are stuck first."""
        wrong = {*judgement.stuck, *judgement.stalled}
        ordered = sorted(self.threads, key=lambda tid: (tid not in wrong, tid))
        return [
            {
                "pid": self.owner[tid].pid,
                "tid": tid,
                "name": self.owner[tid].name,
                "runs": self.calls.get(tid, "").removeprefix(", which runs "),
                "call": self.threads[tid].call,
                "stuck": tid in judgement.stuck,
                "wait": wait.kind,
                "for": list(wait.by),
                "fd": wait.fd,
                "channel": wait.channel,
                "what": self._wanted(tid, wait),
            }
            for tid in ordered
            for wait in self.threads[tid].waits
        ]


def _running(inside: Mapping[int, Any]) -> Iterator[Mapping[str, Any]]:
    """Yield the calls that run in processes that tell."""
    for snapshot in inside.values():
        for run in snapshot.get("runs", ()):
            for call in run["calls"]:
                if call["state"] in ("running", "stopping") and call["seconds"] is not None:
                    yield call


def _edges(waits: Sequence[dict[str, Any]]) -> list[str]:
    """Return one line for each thread."""
    lines: dict[int, str] = {}
    wanted: dict[int, dict[str, None]] = {}
    for each in waits:
        own = f" thread {each['tid']}" if each["tid"] != each["pid"] else ""
        name = f" ({each['name']})" if each["name"] else ""
        own += f", which runs {each['runs']}" if each["runs"] else ""
        call = f", in {each['call']}()," if each["call"] else ""
        lines[each["tid"]] = f"pid {each['pid']}{name}{own}{call} waits for "
        wanted.setdefault(each["tid"], {})[each["what"]] = None
    return [f"{line}{', or '.join(wanted[tid])}" for tid, line in lines.items()]
