"""Calls that run in the process that decides their run, as a part of its round.

They are no workflows. A write that is about to start, and a call that has ended, are told with the
next `wait` step of the round: one record for all that came together, and a call goes on once it is
written. A process that lost its round can record no step of it, so it starts no write. Calls that
were under way when the process died are begun again as workflows, which DBOS counts the deaths of.

A process has places for so many calls of the common queue. Those that find none are held, and begin
here the moment that a place becomes free: the way through the queue takes longer. Where places
become free more slowly than that, some go into the queue, for whichever worker is free: as many as
there are places here, and twice as many more as others have begun. So idle workers get all that
they can take, a few looks later, and where there are none nearly all calls begin here.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, final

from dagexec import Executor, RunOwned
from dagexec.engines._front import broken
from dagexec.engines._one import Attempt, assignment_of
from dagexec.engines.dbos._ends import Waiter
from dagexec.engines.dbos._inside import active
from dagexec.engines.dbos._queued import Queued
from dagexec.engines.dbos._site import Site
from dagexec.engines.dbos._sizes import result_text
from dagexec.engines.dbos._traces import below

if TYPE_CHECKING:
    from dagexec.engines._one import Done

_log: Final = logging.getLogger("dagexec")

# Seconds for which calls wait for a place here before the first go into the queue. Each place that
# becomes free adds what the way through the queue would take at the least, up to a limit.
_PATIENCE: Final = 0.1
_BY_QUEUE: Final = 0.005
_LONGEST: Final = 1.0
# Seconds between two looks at what others have begun of it.
_LOOK: Final = 0.05
# Seconds after which a call that nobody has begun there gets one of the places here that become
# free: others may have left older ones in the queue.
_OLD: Final = 1.0
# Characters of values that are recorded together; one that is larger is recorded alone.
_RECORD: Final = 4_000_000
# Seconds after which the start of a call that only looks is recorded. The outcome of one that has
# ended by then says how often it was started.
BEHIND: Final = 0.05


@final
@dataclass(frozen=True, slots=True)
class Held:
    """A call that waits for a place: the id of its workflow, if it becomes one, and its text."""

    own: Own
    name: str
    text: str


@final
class Here:
    """The places of this process for calls of the common queue, and who waits for one."""

    def __init__(
        self, site: Site, executor: Executor, queued: Queued, queue: str, places: float
    ) -> None:
        """Keep how many places there are, 0 where others work, or the engine closes."""
        self.site = site
        self.executor = executor
        self.queued = queued
        self.queue = queue
        self._places = places
        # By name, in the order in which they came.
        self._held: dict[str, Held] = {}
        # Until when they wait, on the loop's clock, and what looks after that.
        self._until = 0.0
        self._owns: dict[Own, None] = {}
        self._timer: asyncio.Handle | None = None
        # Those that went into the queue and that nobody has ended, as far as is known: since when.
        self._given: dict[str, float] = {}
        # How many of the places that become free are left to the queue, and whether one was.
        self._left = 0
        self._spared = False

    def takes(self, queue: str, tool: str) -> bool:
        """Whether calls of this queue can run here; of a tool that is not here they cannot."""
        if queue != self.queue or not self._places or tool not in self.executor.tools:
            return False
        return active() is not None

    @property
    def busy(self) -> bool:
        """Whether anything runs here as a part of its round, or has to be recorded."""
        return any(own.busy for own in self._owns)

    def drain(self) -> None:
        """Let nothing more begin here; what waits for a place goes into the queue."""
        self._places = 0
        self._give_away(len(self._held))

    def enter(self, own: Own) -> None:
        """Take note of a round."""
        self._owns[own] = None

    def leave(self, own: Own) -> None:
        """Forget a round."""
        del self._owns[own]

    def hold(self, held: Held) -> None:
        """Start a call as soon as there is a place for it."""
        self._held[held.name] = held
        self._fill()

    def release(self, name: str) -> bool:
        """Give up a call that waits for a place; return whether it did."""
        return self._held.pop(name, None) is not None

    def freed(self) -> None:
        """Take note that a call has ended here."""
        self._until = min(self._until + _BY_QUEUE, asyncio.get_running_loop().time() + _LONGEST)
        if self._left and self._held:
            self._left -= 1
            self._spared = True
            self.site.bell.ring(self.queue)
        else:
            self._fill()

    def _fill(self) -> None:
        while self._held and not self.site.closing:
            name = next(iter(self._held))
            release = self._place(name)
            if release is None:
                break
            held = self._held.pop(name)
            held.own.start(held, release)
            if self._given and not self._held:
                self.site.bell.expect_more()
        if self._held and self._timer is None:
            # Not from now on: whoever launches many calls lets nobody else run.
            self._timer = asyncio.get_running_loop().call_soon(self._begin_to_wait)

    def _begin_to_wait(self) -> None:
        loop = asyncio.get_running_loop()
        self._until = loop.time() + _PATIENCE
        self._timer = loop.call_at(self._until, self._look)

    def _place(self, name: str) -> Callable[[], None] | None:
        """Take a place of the queue, so that DBOS takes no more from it than can run here."""
        if self._places == math.inf:
            return _nothing
        counts = active()
        if counts is None or counts.count_for_queue(self.queue) >= self._places:
            return None
        release: Callable[[], None] = counts.add(name, self.queue).release
        return release

    def _look(self) -> None:
        """Let some of what waits go into the queue if places become free too slowly."""
        loop = asyncio.get_running_loop()
        if self._held and self._until > loop.time():
            self._timer = loop.call_at(self._until, self._look)
        elif self._held and not self.site.closing:
            self.site.leave([self.site.start(self._share())])
        else:
            self._timer = None

    async def _share(self) -> None:
        """Let so many go into the queue as others seem to take, and look again later."""
        loop = asyncio.get_running_loop()
        spared, self._spared = self._spared, False
        try:
            await self._share_with(loop.time() - _OLD)
            if not spared:  # a call of the queue may have left a place
                self._fill()
        except Exception:  # noqa: BLE001 - the next look does what this one should have done
            _log.debug("a look at what others have begun failed", exc_info=True)
        finally:
            self._timer = loop.call_later(_LOOK, self._look)

    async def _share_with(self, old: float) -> None:
        begun = await self.site.database.begun([*self._given]) if self._given else {}
        self._given = {name: since for name, since in self._given.items() if name in begun}
        left = [name for name, is_begun in begun.items() if not is_begun]
        self._left = sum(self._given[name] < old for name in left)
        more = int(self._places) + 2 * (len(begun) - len(left)) - len(left)
        if giving := self._give_away(max(0, more)):
            await asyncio.wait(giving)

    def _give_away(self, count: int) -> list[asyncio.Task[Any]]:
        now = asyncio.get_running_loop().time()
        by_round: dict[Own, list[Held]] = {}
        for held in [*islice(self._held.values(), count)]:
            del self._held[held.name]
            self._given[held.name] = now
            by_round.setdefault(held.own, []).append(held)
        return [own.give_away(each, self.queued) for own, each in by_round.items()]


@final
class Own:
    """The calls of one round that run in the process that decides it."""

    def __init__(self, here: Here, waiter: Waiter) -> None:
        """Start with none; who waits for news of the round is woken for what it has to record."""
        self._here = here
        self._site = here.site
        self._waiter = waiter
        self._held: dict[str, None] = {}
        self._running: dict[str, asyncio.Task[None]] = {}
        self._attempts: dict[str, Attempt] = {}
        self._giving: dict[asyncio.Task[Any], None] = {}
        # What calls that have ended came to.
        self._texts: dict[str, str] = {}
        # Those that began, each with its mark, and what to call when that is recorded.
        self._begun: list[tuple[str, str, Done | None]] = []
        self._asked: list[Done] = []
        # Whether something is being recorded.
        self._records = False
        # Why all was told to stop: also what begins at that moment.
        self._stopped: tuple[str | None] | None = None
        self._closed = False

    @property
    def busy(self) -> bool:
        """Whether anything runs here, or has to be recorded."""
        return bool(self._running or self._texts or self._begun or self._records)

    async def __aenter__(self) -> Own:
        """Begin."""
        self._here.enter(self)
        return self

    async def __aexit__(self, *raised: object) -> None:
        """Leave what runs to itself: nobody waits for it any more.

        At the end of a round that is what did not stop when it was told to. A round that is cut off
        goes on elsewhere, and all of it is begun again there: here it is cancelled.
        """
        self._closed = True
        for name in [*self._held]:
            self.release(name)
        tasks = [*self._running.values(), *self._giving]
        if raised[0] is not None:
            for task in tasks:
                task.cancel()
        for done in self._asked + [done for _, _, done in self._begun if done is not None]:
            done(_over())
        self._site.leave(tasks)
        self._here.leave(self)

    # ------------------------------------------------------------------------------ what is to run

    def take(self, name: str, text: str) -> None:
        """Run a call here, as soon as there is a place, or let it go into the queue."""
        self._site.ends.begin(name)
        self._held[name] = None
        self._here.hold(Held(self, name, text))

    def release(self, name: str) -> bool:
        """Give up a call that waits for a place; return whether it did."""
        if name not in self._held or not self._here.release(name):
            return False
        del self._held[name]
        self._site.ends.end(name, None)
        return True

    def give_away(self, calls: Sequence[Held], queued: Queued) -> asyncio.Task[Any]:
        """Put calls into the queue that found no place here; return what does so."""
        task = self._site.start(
            queued.put([(each.name, self._here.queue, each.text) for each in calls])
        )
        self._giving[task] = None

        def given(task: asyncio.Task[Any]) -> None:
            # One that failed is kept: the round has to hear of it.
            if not task.cancelled() and task.exception() is None:
                self._giving.pop(task)
            for each in calls:
                self._held.pop(each.name, None)
                self._site.ends.end(each.name, None)
            self._waiter.wake()

        task.add_done_callback(given)
        return task

    async def given(self) -> None:
        """Wait until what was to be put into the queue is there; raise what made it impossible."""
        for task in [*self._giving]:
            await task

    def raise_failed(self) -> None:
        """Raise what made it impossible to put calls into the queue."""
        for task in self._giving:
            if task.done():
                task.result()

    def settle(self, name: str, result: Mapping[str, Any]) -> None:
        """Let a call that nobody runs have ended with this result."""
        text = self._texts[name] = self._site.types.dumps(result)
        self._site.ends.tell(name, text)

    # ----------------------------------------------------------------------------- what is running

    def start(self, held: Held, release: Callable[[], None]) -> None:
        """Start a call that has a place, which it gives back."""
        name = held.name
        del self._held[name]
        self._site.bell.begin(many=False)
        task = self._running[name] = self._site.start(self._run(name, held.text))

        def ended(_: asyncio.Task[None]) -> None:
            release()
            self._site.bell.end()
            del self._running[name]
            self._site.ends.end(name, self._texts.get(name))
            self._here.freed()

        task.add_done_callback(ended)

    async def _run(self, name: str, text: str) -> None:
        types = self._site.types
        body = types.loads(text)
        work = assignment_of(body)
        tool = self._here.executor.tools.get(work.tool)
        looks = tool is not None and tool.effect.eager
        attempt = self._attempts[name] = Attempt(
            self._here.executor,
            work,
            types=types,
            clock=self._site.database.now,
            marks=(),
            intend=partial(self._looks if looks else self._intend, name),
        )
        if self._stopped is not None:
            attempt.stop(*self._stopped)
        try:
            result = await below(body, attempt.run())
        except Exception as error:  # noqa: BLE001 - the round has to hear of it
            result = broken(f"{type(error).__name__}: {error}")
        finally:
            del self._attempts[name]
        reruns = tool is not None and tool.effect.reruns
        self._texts[name] = result_text(types, result, reruns=reruns)

    def _intend(self, name: str, mark: str, done: Done) -> None:
        if self._closed:
            done(_over())
            return
        self._begun.append((name, mark, done))
        self._waiter.wake()

    def _looks(self, name: str, mark: str, done: Done) -> None:
        """Start at once; that it was started is recorded behind it, if it takes its time."""
        done(None)

        def late() -> None:
            if name in self._running:
                self._begun.append((name, mark, None))
                self._waiter.wake()

        asyncio.get_running_loop().call_later(BEHIND, late)

    def stop(self, because: str | None) -> None:
        """Tell all that runs here to stop."""
        self._stopped = (because,)
        for attempt in [*self._attempts.values()]:
            attempt.stop(because)

    # ------------------------------------------------------------------------- what is recorded

    def told(self, news: dict[str, Any]) -> dict[str, Any]:
        """Add what the round has to record to the news that it was woken with.

        What is too much for one record is left for the next.
        """
        texts: dict[str, str] = {}
        size = 0
        for place, name in enumerate(news["ended"]):
            size += len(self._texts.get(name, ""))
            if size > _RECORD and texts:
                news["ended"] = news["ended"][:place]
                break
            if name in self._texts:
                texts[name] = self._texts.pop(name)
        begun, self._begun = self._begun, []
        self._asked += [done for _, _, done in begun if done is not None]
        if texts:
            news["texts"] = texts
        self._records = bool(texts or begun)
        if begun:
            news["begun"] = [[name, mark] for name, mark, _ in begun]
        return news

    def recorded(self) -> None:
        """Let what waited for a record of its start go on: the news are recorded."""
        self._records = False
        asked, self._asked = self._asked, []
        for done in asked:
            done(None)


def _over() -> RunOwned:
    return RunOwned("the run has ended, or goes on elsewhere")


def _nothing() -> None:
    pass
