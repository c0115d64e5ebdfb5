"""The pipeline: what a program has begun and not ended, in the order in which Python would do it.

A tool call, and an operation on a value that is not there yet, does not wait: it is entered here
and gives a `Promise`. Entries end in any order. They *retire* in the order of the program, as the
instructions of a processor do (Tomasulo's algorithm with a reorder buffer):

    entered ──> done ────> retired      all before it are done: Python would have come this far
       │                     │
       └─────> failed ───> raised       all before it are done: Python would have raised here

* A read starts when its arguments are there, however much before it is still under way. It waits
  only for an earlier write that it conflicts with.
* A write starts when it is the oldest entry: nothing before it can raise or branch away any more.
* When the oldest entry has failed, all behind it never happened: `Squash` takes the program back
  to the innermost `try` that the entry stands in, variables and containers as they were there.

No clock, no loop, no I/O: `calls` fills with what may start, `settle` is told what became of it.
"""

# A value of a program is of any type: what the checker calls unknown here is meant.
# pyright: reportUnknownArgumentType=false, reportUnknownLambdaType=false
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, Final, final

from dagexec.programs._costs import Costs
from dagexec.programs._entries import Ready, Squash, pause
from dagexec.programs._errors import LimitReached, with_line
from dagexec.programs._memory import MOST_BYTES, Memory
from dagexec.programs._printed import text_of
from dagexec.programs._promise import (
    DONE,
    FAILED,
    PENDING,
    SKIPPED,
    Callee,
    Guard,
    Promise,
    all_there,
    copied_value,
    fill,
    reaches,
    there,
)
from dagexec.programs._scopes import Frame
from dagexec.programs._values import CONTAINERS

# Steps between two turns of the event loop: a few milliseconds.
_BREATH: Final = 1_000
# Entries that have not retired: a program that has more waits for the oldest.
_MOST_OPEN: Final = 50_000


@final
class Pipeline(Costs):
    """The entries of one program that have not retired."""

    def __init__(
        self,
        max_calls: int = 10_000,
        max_steps: int = 5_000_000,
        max_memory: int = MOST_BYTES,
    ) -> None:
        """Begin empty."""
        super().__init__(max_steps, Memory(max_memory, self._held))
        self.line = 0
        # When the event loop must turn again.
        self.pause_at = _BREATH
        # Whether it gave up its turn without having to wait.
        self.breathing = False
        # The variables of functions that have begun and not ended, innermost last.
        self.frames: list[Frame] = []
        self.max_calls = max_calls
        # Calls that may start, for the driver to take.
        self.calls: deque[Ready] = deque()
        # What the program printed: text, or the promise of it, and the entry that came before.
        self.printed: list[tuple[int, Any]] = []
        self._count = 0
        self._numbers = 0
        self._total = 0
        # How often the program was taken back: calls behind that have names of their own.
        self._lives = 0
        self._entries: deque[Promise] = deque()
        # Those of them that are writes and not done, in order.
        self._writes: dict[Promise, None] = {}
        self._by_name: dict[str, Promise] = {}
        # Reads whose arguments are there, and that wait for an earlier write.
        self._behind: list[Promise] = []
        # Operations that wait for one input and hold a container as another.
        self._readers: dict[Promise, None] = {}
        self.raised: Promise | None = None
        # Whether no write starts, because the program is not whole; whether to remember them all.
        self.holds_writes = False
        self.watches_writes = False
        self._written: list[Promise] = []
        # The expression at hand, if its error is a value.
        self.guard: Guard | None = None
        # Inside of a `try`: how to take back what variables and containers were given.
        self.tries = 0
        self._undo: deque[tuple[int, Callable[..., object], tuple[Any, ...]]] = deque()

    # ------------------------------------------------------------------------------------- entering

    @property
    def now(self) -> int:
        """The index of the entry that comes next."""
        return self._count

    def _enter(self) -> Promise:
        entry = Promise(self._count, self.line, self._numbers)
        self._count += 1
        self._entries.append(entry)
        if self.guard is not None:
            entry.guard = self.guard
            self.guard.entries.append(entry)
        return entry

    def operate(
        self,
        function: Callable[..., Any],
        inputs: tuple[Any, ...],
        *,
        deep: bool = False,
        copied: bool = False,
        scalar: bool = False,
    ) -> Any:
        """Return `function(*inputs)`, or the promise of it where an input is not there yet.

        With `deep` it looks inside of containers. `copied` says that the result shares nothing
        with its inputs: a later change of them must not be seen, and a copy does not see it.
        """
        missing: list[Promise] = []
        values = all_there(inputs, missing, deep=deep)
        if not missing:
            return self.computing(function, values)
        if copied:
            values = tuple([copied_value(each, {}) for each in values])
        entry = self._enter()
        entry.function = function
        entry.inputs = values
        entry.deep = deep
        entry.scalar = scalar
        self._await(entry, missing)
        if not copied and any(type(each) in CONTAINERS for each in values):
            self._readers[entry] = None
        return entry

    def _held(self) -> list[Any]:
        """Return what holds values of the program beside the large ones themselves."""
        printed = [text for _, text in self.printed]
        return [*self.frames, *self._entries, *printed, *[args for _, _, args in self._undo]]

    def call(self, callee: Callee, args: dict[str, Any]) -> Promise:
        """Enter a call; it starts when it may."""
        if self._total >= self.max_calls:
            msg = f"a program may make {self.max_calls:,} calls"
            raise LimitReached(msg)
        missing: list[Promise] = []
        given = copied_value(
            {name: there(each, missing, deep=True) for name, each in args.items()}, {}
        )
        self.memory.send(given)
        entry = self._enter()
        self._numbers += 1
        self._total += 1
        entry.callee = callee
        entry.args = given
        entry.name = f"{self._numbers}{_suffix(self._lives)}"
        self._by_name[entry.name] = entry
        if not callee.ahead:
            self._writes[entry] = None
            if self.watches_writes:
                self._written.append(entry)
        self._await(entry, missing)
        if not entry.missing:
            self._offer(entry)
        return entry

    def _await(self, entry: Promise, missing: list[Promise]) -> None:
        waited = dict.fromkeys(missing)
        entry.missing = len(waited)
        for each in waited:
            each.dependants.append(entry)

    def tool_of(self, name: str) -> str:
        """Return the tool of a call that has not ended."""
        entry = self._by_name.get(name)
        return "" if entry is None or entry.callee is None else entry.callee.name

    def under_way(self) -> list[str]:
        """Return the calls that were handed out and have not ended."""
        return [name for name, entry in self._by_name.items() if entry.issued]

    def emit(self, text: Any) -> None:
        """Print a text, or the promise of one."""
        self.printed.append((self._count, text))

    # ------------------------------------------------------------------------------- starting calls

    def _offer(self, entry: Promise) -> None:
        """Start a call whose arguments are there, if it may start now."""
        callee = entry.callee
        assert callee is not None  # noqa: S101 - only calls are offered
        if callee.ahead:
            if self._waits_for_a_write(entry):
                self._behind.append(entry)
                return
        elif self.holds_writes or self._entries[0] is not entry:
            return
        self._issue(entry)

    def _waits_for_a_write(self, entry: Promise) -> bool:
        return self._comes_behind(entry, self._writes)

    def _comes_behind(self, entry: Promise, writes: Iterable[Promise]) -> bool:
        """Whether one of these writes, in order, comes before a read and conflicts with it."""
        callee = entry.callee
        assert callee is not None  # noqa: S101 - only calls are asked
        for each in writes:
            if each.index >= entry.index:
                break
            assert each.callee is not None  # noqa: S101 - only calls are writes
            if each.missing or callee.conflicts(entry.args, each.callee, each.args):
                return True
        return False

    def _issue(self, entry: Promise) -> None:
        assert entry.callee is not None  # noqa: S101 - only calls are issued
        if not entry.issued:
            entry.issued = True
            first = self.watches_writes and not self._comes_behind(entry, self._written)
            ready = Ready(entry.name, entry.callee.name, entry.args, entry.line, first)
            self.calls.append(ready)

    # -------------------------------------------------------------------------------------- results

    def settle(self, name: str, value: Any, error: Exception | None) -> None:
        """Tell what became of a call: its value, or the error that it raises in the program."""
        entry = self._by_name.pop(name, None)
        if entry is not None:
            self._conclude(entry, value, error)
            self._advance()

    def _conclude(self, entry: Promise, value: Any, error: Exception | None) -> None:
        """End an entry, and compute what waited for it: by a loop, for chains are long."""
        ended = [(entry, value, error)]
        while ended:
            entry, value, error = ended.pop()
            self._readers.pop(entry, None)
            if entry.state is SKIPPED:
                continue
            if error is not None:
                # What needs it is behind it, and will never have happened.
                entry.state, entry.error, dependants = FAILED, error, []
            else:
                entry.state, entry.value = DONE, value
                self._writes.pop(entry, None)
                dependants, entry.dependants = entry.dependants, []
            if entry.guard is not None:
                ended += self._decided(entry.guard)
            for each in reversed(dependants):
                if (computed := self._one_less(each, value)) is not None:
                    ended.append((each, *computed))

    def _one_less(self, entry: Promise, value: Any) -> tuple[Any, Exception | None] | None:
        """Tell an entry of a value that it needs; return what it comes to once it has all."""
        entry.missing -= 1
        if entry.state is SKIPPED:
            return None
        if entry.missing:
            if type(value) in CONTAINERS:
                self._keep(entry)
            return None
        if entry.function is not None:
            return self._computed(entry)
        self._complete(entry)
        return None

    def _keep(self, entry: Promise) -> None:
        """See to it that a later change of a container that came is not seen."""
        if entry.function is not None:
            self._readers[entry] = None
        else:
            entry.args = copied_value(fill(entry.args, [], {}), {})

    def _complete(self, entry: Promise) -> None:
        """Put what came for a call's arguments in their place, and offer the call."""
        missing: list[Promise] = []
        entry.args = copied_value(fill(entry.args, missing, {}), {})
        if missing:  # what came holds promises of its own
            self._await(entry, missing)
        else:
            self._offer(entry)

    def _computed(self, entry: Promise) -> tuple[Any, Exception | None] | None:
        """Return value and error of an operation, None if what came holds promises of its own."""
        assert entry.function is not None  # noqa: S101 - only operations are computed
        missing: list[Promise] = []
        values = [*all_there(entry.inputs, missing, deep=entry.deep)]
        if missing:
            self._await(entry, missing)
            return None
        try:
            return self.computing(entry.function, values), None
        except Exception as error:  # noqa: BLE001 - raised in the program, at its place
            return None, error

    def _advance(self) -> None:
        """Retire what is done at the front; start the write that is the oldest now."""
        entries = self._entries
        while entries and self.raised is None and _is_over(entries[0]):
            entries.popleft()
        self._forget()
        if entries and self.raised is None:
            first = entries[0]
            if first.state is FAILED:
                self.raised = None if first.guard is not None else first
            elif first.callee is not None and not first.missing and not first.issued:
                self._offer(first)
        if self._behind:
            behind, self._behind = self._behind, []
            for each in behind:
                if each.state is PENDING:
                    self._offer(each)

    def _forget(self) -> None:
        """Forget how to take back what stands before the oldest entry."""
        index = self._entries[0].index if self._entries else self._count
        while self._undo and self._undo[0][0] <= index:
            self._undo.popleft()

    advance = _advance  # for the driver, before the program goes on

    # ----------------------------------------------------------------------- waiting, for a program

    async def force(self, value: Any) -> Any:
        """Return a value that control flow looks at, once it is there."""
        while type(value) is Promise:
            if self.raised is not None:
                raise Squash(self.raised)
            while value.state is not DONE:
                self._look_at_guards()
                await pause()
                if self.raised is not None:
                    raise Squash(self.raised)
            value = value.value
        return value

    async def force_deep(self, value: Any) -> Any:
        """Return a value with all that is inside of it, once it is there."""
        while True:
            missing: list[Promise] = []
            value = there(value, missing, deep=True)
            if not missing:
                return value
            for each in missing:
                await self.force(each)

    async def drain(self) -> None:
        """Wait until all that was entered has retired."""
        self._advance()
        while self._entries:
            if self.raised is not None:
                raise Squash(self.raised)
            await pause()
            self._advance()

    async def breathe(self) -> None:
        """Let the event loop turn in a long loop; find out what failed meanwhile."""
        if self.steps > self.max_steps:
            self.too_many_steps()
        self.pause_at = self.steps + _BREATH
        self.memory.stepped(_BREATH)
        self.breathing = True
        await pause()
        if self.raised is not None:
            raise Squash(self.raised)
        while len(self._entries) > _MOST_OPEN:
            self._advance()
            await self.force(self._entries[0])
            self._advance()

    async def before_change(self, value: Any) -> None:
        """Wait for the operations that still have to read a container, before it is changed."""
        if self._readers:
            for entry in [each for each in self._readers if reaches(each.inputs, value)]:
                while entry.state is PENDING:
                    await pause()
                    if self.raised is not None:
                        raise Squash(self.raised)

    # Errors as values: see `Guard`.

    def begin_guard(self) -> Guard:
        """Begin an expression that gives its error as a value, and changes nothing."""
        self.guard = Guard(self.guard)
        return self.guard

    def end_guard(self, guard: Guard, value: Any) -> Any:
        """Return the value of such an expression, or the error, or the promise of either."""
        if not guard.entries:
            return value
        gate = guard.gate = self._enter()
        guard.value = value
        if type(value) in CONTAINERS:  # what waits for it must not see a later change
            gate.inputs = (value,)
            self._readers[gate] = None
        for each in self._decided(guard):
            self._conclude(*each)
        return gate

    def _decided(self, guard: Guard) -> list[tuple[Promise, Any, Exception | None]]:
        """Return what the expression came to, as the end of its entry, once that is certain."""
        gate = guard.gate
        if gate is None or gate.state is not PENDING:
            return []
        failed = guard.failed()
        if failed is None:
            return [(gate, guard.value, None)] if guard.is_done() else []
        for each in guard.skip_behind(failed):
            self._writes.pop(each, None)
            self._readers.pop(each, None)
            if each.name and not each.issued:
                self._by_name.pop(each.name, None)
        self._writes.pop(failed, None)
        return [(gate, failed.error and with_line(failed.error, failed.line), None)]

    def _look_at_guards(self) -> None:
        """Raise the error of an expression that waits for what will never come."""
        guard = self.guard
        while guard is not None:
            failed = guard.failed()
            if failed is not None and failed.error is not None:
                raise failed.error
            guard = guard.outer

    # ---------------------------------------------------------------------------------- taking back

    @property
    def takes_back(self) -> bool:
        """Whether a change that is made now may have to be taken back.

        Only inside of a `try`, and only if something before it may still fail: where all before it
        has retired, Python would have come this far.
        """
        return bool(self.tries and self._entries)

    def undo(self, function: Callable[..., object], *args: Any) -> None:
        """Keep how to take back a change that is made now."""
        self._undo.append((self._count, function, args))

    def enter_try(self) -> int:
        """Return the place where a `try` begins."""
        self.tries += 1
        return self._count

    def leave_try(self) -> None:
        """Forget how to take back what no `try` can take back any more."""
        self.tries -= 1
        if not self.tries:
            self._undo.clear()

    def take_back(self, entry: Promise) -> None:
        """Undo all that the program did behind an entry that raised."""
        while self._undo and self._undo[-1][0] > entry.index:
            _, function, args = self._undo.pop()
            function(*args)
        while self._entries and self._entries[-1].index >= entry.index:
            gone = self._entries.pop()
            gone.dependants = []
            self._writes.pop(gone, None)
            self._readers.pop(gone, None)
            if gone.name and not gone.issued:
                self._by_name.pop(gone.name, None)  # a guard may have skipped it
        # Those that nobody has taken yet need not start.
        while self.calls and self._is_behind(self.calls[-1], entry):
            del self._by_name[self.calls.pop().id]
        self._behind = [each for each in self._behind if each.index < entry.index]
        while self.printed and self.printed[-1][0] > entry.index:
            self.printed.pop()
        self._numbers = entry.numbered + (entry.callee is not None)
        self._lives += 1
        self.line = entry.line
        self.raised = None

    def _is_behind(self, ready: Ready, entry: Promise) -> bool:
        return self._by_name[ready.id].index >= entry.index

    def output(self, limit: int) -> str:
        """Return what was printed, as far as it is there."""
        return text_of([text for _, text in self.printed], limit)


def _is_over(entry: Promise) -> bool:
    """Whether Python would have come past it, as far as it is concerned."""
    if entry.state is FAILED:
        return entry.guard is not None and entry.guard.gate is not None
    return entry.state is not PENDING


def _suffix(lives: int) -> str:
    """Return what marks the calls behind a failure that the program handled: b, c, …, b2."""
    if not lives:
        return ""
    turn, letter = divmod(lives - 1, 25)
    return f"{chr(ord('b') + letter)}{turn + 1 if turn else ''}"
