"""The judgement: who can go on, who never will, and who only might.

Pure logic over samples. A thread waits for one of several things (an OR-graph), so it is stuck
only if nothing that it waits for can happen. Start from what can go on by itself: whatever ran
between the samples, computes, waits for a timer, the network or a person, or cannot be seen. Add
everything that one of those could wake, to the fixed point. The rest is stuck for good.

A *deadlock* is a set of stuck threads of which one wants to write, or whose waits are all for
other processes: nobody in it can go on, and nobody outside will help. A *stall* is less: a thread
wants to write, not a byte has moved during the whole look, and nobody waits to read; a timer or
another client may yet end it. Threads that sleep on locks until a signal comes are a stall too, if
nothing below them lives.

(The knot in an OR-graph: R. C. Holt, "Some deadlock properties of computer systems", 1972.)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, final

import networkx as nx

from dagexec.doctor._values import BETWEEN, Process, Sample, Thread, Wait

# Its stubs are generic in what is known here only as text.
_nx: Final[Any] = nx

# A reader that sleeps for no longer than this, in seconds, is slow and not gone.
PATIENCE: Final = 10.0
# The part of the time that a thread must have computed to be called busy.
_BUSY: Final = 0.1
_LIVE_KINDS: Final = ("timer", "outside", "unknown")


@final
@dataclass(frozen=True, slots=True)
class Judgement:
    """Threads by id. `knots` are deadlocks, `asleep` wait for locks only, `stalled` are writers."""

    knots: tuple[tuple[int, ...], ...] = ()
    asleep: tuple[tuple[int, ...], ...] = ()
    stalled: tuple[int, ...] = ()
    # Everyone that can never go on: the knots and asleep, and whoever waits for them.
    stuck: tuple[int, ...] = ()


def judge(samples: Sequence[Sample]) -> Judgement:
    """Judge what was seen at two or more moments; with one alone, nothing counts as moved."""
    return _Case(samples).judge()


@final
class _Case:
    """The samples and what is derived from them."""

    def __init__(self, samples: Sequence[Sample]) -> None:
        self.samples = samples
        self.last = samples[-1]
        self.owner: dict[int, Process] = {}
        self.threads: dict[int, Thread] = {}
        for process in self.last.processes.values():
            for thread in process.threads:
                self.owner[thread.tid] = process
                self.threads[thread.tid] = thread
        self.moved = self._moved()
        self.live = self._live(self._lives_by_itself)
        self.stuck = [tid for tid in self.threads if tid not in self.live]
        self.cycles = self._cycles()

    def judge(self) -> Judgement:
        knots, asleep = self._knots()
        knots = _largest([*knots, *self._knots_beside_idlers()])
        known = {tid for knot in knots for tid in knot}
        return Judgement(
            knots=tuple(knots),
            asleep=tuple(asleep),
            stalled=tuple(tid for tid in self._stalled() if tid not in known),
            stuck=tuple(self.stuck),
        )

    # ----------------------------------------------------------------------------- who can go on

    def _moved(self) -> set[int]:
        """Return the threads that ran between two samples, or were not there in all of them."""
        first = _threads(self.samples[0])
        moved = {tid for tid in self.threads if tid not in first}
        for sample in self.samples[:-1]:
            for tid, thread in _threads(sample).items():
                if tid in self.threads and self.threads[tid].mark != thread.mark:
                    moved.add(tid)
        return moved

    def _live(self, lives_by_itself: Callable[[Thread], bool]) -> set[int]:
        waiting: dict[int, set[int]] = {}
        live: set[int] = set()
        for tid, thread in self.threads.items():
            if tid in self.moved or lives_by_itself(thread):
                live.add(tid)
            else:
                waiting[tid] = {by for wait in thread.waits for by in wait.by}
        found = {self.owner[tid].pid for tid in live}
        # Processes that can wake others, and have not been looked at for that.
        todo = [*found, *(pid for pids in waiting.values() for pid in pids if self._is_dark(pid))]
        woken_by: dict[int, list[int]] = {}
        for tid, pids in waiting.items():
            for pid in pids:
                woken_by.setdefault(pid, []).append(tid)
        while todo:
            for tid in woken_by.pop(todo.pop(), ()):
                if tid not in live:
                    live.add(tid)
                    todo.append(self.owner[tid].pid)
        return live

    def _lives_by_itself(self, thread: Thread) -> bool:
        if thread.state != "S" or not thread.waits:
            return True
        return any(wait.kind in _LIVE_KINDS for wait in thread.waits)

    def _is_at_work(self, thread: Thread) -> bool:
        """Whether a thread may do something, as above, but idlers of a pool do not count.

        They wait for work and give up after a time; pools of threads end theirs after ten seconds.
        """
        idles = thread.tid != self.owner[thread.tid].pid and all(
            wait.kind in ("lock", "timer") for wait in thread.waits
        )
        return self._lives_by_itself(thread) and not (
            idles and any(wait.kind == "lock" for wait in thread.waits)
        )

    def _is_dark(self, pid: int) -> bool:
        """Whether a process may do anything, as far as can be seen."""
        process = self.last.processes.get(pid)
        return process is None or not process.readable or not process.threads

    # ------------------------------------------------------------------------------ who never will

    def _knots(self) -> tuple[list[tuple[int, ...]], list[tuple[int, ...]]]:
        """Return the deadlocks, and the groups that only sleep."""
        graph = self._graph(self.stuck)
        whole = _nx.condensation(graph)
        knots: list[tuple[int, ...]] = []
        asleep: list[tuple[int, ...]] = []
        for component in whole.nodes:
            members = self._members(whole, component)
            if not members:
                continue
            if whole.out_degree(component):
                # A writer that waits for sleepers will wait for ever, though in no cycle.
                if any(self._writes(tid) for tid in members):
                    knots.append(self._with_all_below(whole, component))
            elif any(self._writes(tid) for tid in members) or not self._has_lock(members):
                knots.append(members)
            elif self._is_abandoned(members):
                asleep.append(members)
        return knots, asleep

    def _knots_beside_idlers(self) -> list[tuple[int, ...]]:
        """Return the circles with a writer in them that only idle threads keep from being stuck."""
        live = self._live(self._is_at_work)
        return [
            circle
            for circle in self.cycles
            if any(self._writes(tid) for tid in circle) and not live.intersection(circle)
        ]

    def _members(self, whole: Any, component: int) -> tuple[int, ...]:
        members: set[tuple[str, int]] = whole.nodes[component]["members"]
        return tuple(sorted(name for kind, name in members if kind == "thread"))

    def _with_all_below(self, whole: Any, component: int) -> tuple[int, ...]:
        reached = {component, *_nx.descendants(whole, component)}
        return tuple(sorted(tid for each in reached for tid in self._members(whole, each)))

    def _graph(self, tids: Iterable[int]) -> Any:
        """Return who waits for whom, as threads and, between them, the processes they belong to.

        Through processes there are as many edges as threads and waits, not their product.
        """
        graph: Any = _nx.DiGraph()
        for tid in tids:
            pid = self.owner[tid].pid
            graph.add_edge(("process", pid), ("thread", tid))
            for wait in self.threads[tid].waits:
                graph.add_edges_from((("thread", tid), ("process", by)) for by in wait.by)
        return graph

    def _writes(self, tid: int) -> bool:
        return any(wait.kind == "write" for wait in self.threads[tid].waits)

    def _has_lock(self, tids: Iterable[int]) -> bool:
        """Whether what these do is up to locks: of a main thread or an event loop, or of all.

        The idle threads of a pool, which wait on a lock for work, say nothing.
        """
        waits = [(tid, wait) for tid in tids for wait in self.threads[tid].waits]
        inside = [tid for tid, wait in waits if self._is_inside(tid, wait)]
        leading = [tid for tid in inside if self.threads[tid].polls or tid == self.owner[tid].pid]
        return bool(leading) or len(inside) == len(waits)

    def _is_inside(self, tid: int, wait: Wait) -> bool:
        """Whether a wait is for another thread of the same program."""
        if wait.kind == "lock":
            return True
        return self.threads[tid].polls and wait.by == (self.owner[tid].pid,)

    def _is_abandoned(self, tids: Iterable[int]) -> bool:
        """Whether nothing but a signal that nobody expects can wake these."""
        processes = {self.owner[tid].pid for tid in tids}
        if any(self.last.processes[pid].catches for pid in processes):
            return False
        below = [each for each in self.last.processes.values() if self._descends(each, processes)]
        return not any(
            self._is_dark(each.pid) or any(thread.tid in self.live for thread in each.threads)
            for each in below
        )

    def _descends(self, process: Process, ancestors: set[int]) -> bool:
        seen: set[int] = set()
        pid = process.parent
        while pid in self.last.processes and pid not in seen:
            if pid in ancestors:
                return True
            seen.add(pid)
            pid = self.last.processes[pid].parent
        return False

    # ----------------------------------------------------------------------------- who only might

    def _stalled(self) -> Iterator[int]:
        cycles = {tid for circle in self.cycles for tid in circle}
        for tid, thread in self.threads.items():
            if thread.state != "S" or tid in self.moved or not self.owner[tid].readable:
                continue
            for wait in thread.waits:
                if wait.kind == "write" and self._stands(wait) and not self._is_read(wait):
                    if any(self._is_busy(by) for by in wait.by):
                        continue
                    if tid in cycles or not any(self._comes_back(by) for by in wait.by):
                        yield tid
                        break

    def _stands(self, wait: Wait) -> bool:
        """Whether no byte of a channel has moved."""
        levels = {
            sample.channels[wait.channel].used
            for sample in self.samples
            if wait.channel is not None and wait.channel in sample.channels
        }
        return bool(wait.by) and len(levels) <= 1

    def _is_read(self, wait: Wait) -> bool:
        """Whether someone has waited to read the channel at any moment."""
        channel = self.last.channels.get(wait.channel or "")
        name = wait.channel if channel is None else channel.read_as
        return any(
            each.kind == "read" and each.channel == name and not each.edge
            for sample in self.samples
            for pid in wait.by
            if pid in sample.processes
            for thread in sample.processes[pid].threads
            for each in thread.waits
        )

    def _is_busy(self, pid: int) -> bool:
        """Whether a process computes, or may."""
        if self._is_dark(pid):
            return True
        before = {tid: thread.cpu for tid, thread in _threads(self.samples[0]).items()}
        window = max(self.last.at - self.samples[0].at, 0.01)
        return any(
            thread.state in "RD" or thread.cpu - before.get(thread.tid, thread.cpu) > _BUSY * window
            for thread in self.last.processes[pid].threads
        )

    def _comes_back(self, pid: int) -> bool:
        """Whether a process waits for something that ends by itself, and may read then.

        An event loop asks for everything that it wants to read, so one that does not ask does not
        want; a thread in a plain call wants one thing after the other.
        """
        return any(self._is_on_its_way(thread) for thread in self.last.processes[pid].threads)

    def _is_on_its_way(self, thread: Thread) -> bool:
        for wait in thread.waits:
            if wait.what == "a terminal" or wait.kind == "unknown":
                return True
            if thread.polls or any(each.kind == "lock" for each in thread.waits):
                continue
            if wait.kind == "timer" and thread.tid not in self.moved:
                if wait.seconds is not None and wait.seconds <= PATIENCE:
                    return True
            elif wait.kind == "outside" or (wait.kind in BETWEEN and thread.tid in self.live):
                return True
        return False

    def _cycles(self) -> list[tuple[int, ...]]:
        """Return the threads that wait for one another in circles, whoever else is awake."""
        graph = self._graph(self._waiting())
        return [
            tuple(sorted(name for kind, name in members if kind == "thread"))
            for members in _nx.strongly_connected_components(graph)
            if sum(kind == "process" for kind, _ in members) > 1 or self._is_circle(members)
        ]

    def _is_circle(self, members: set[tuple[str, int]]) -> bool:
        """Whether two threads of one process wait for one another over channels."""
        tids = [name for kind, name in members if kind == "thread"]
        return sum(self._writes(tid) or self._reads(tid) for tid in tids) > 1

    def _reads(self, tid: int) -> bool:
        return any(wait.kind == "read" for wait in self.threads[tid].waits)

    def _waiting(self) -> list[int]:
        """Return threads that wait for other processes; an event loop also if it has turned."""
        return [
            tid
            for tid, thread in self.threads.items()
            if thread.state == "S" and thread.waits and (thread.polls or tid not in self.moved)
        ]


def _threads(sample: Sample) -> dict[int, Thread]:
    return {
        thread.tid: thread for process in sample.processes.values() for thread in process.threads
    }


def _largest(knots: list[tuple[int, ...]]) -> list[tuple[int, ...]]:
    """Leave out what is part of another."""
    ordered = sorted(knots, key=len, reverse=True)
    kept: list[tuple[int, ...]] = []
    for knot in ordered:
        if not any(set(knot) <= set(other) for other in kept):
            kept.append(knot)
    return kept
