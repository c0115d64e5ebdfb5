"""A request of a call to a server, and which request a question of the server's belongs to.

A server may ask its user something while it works on a call. Over HTTP the question comes in the
stream of its request; over pipes nothing says which of several calls it is about, and an answer
must not reach the wrong one: it may be the permission to delete.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager
from contextvars import ContextVar
from typing import Any, Final, Protocol, final

import anyio
from anyio import CancelScope
from mcp_types import ElicitResult

# The request that the package's client works for in this context.
current_asking: Final[ContextVar[Asking]] = ContextVar("dagexec_mcp_asking")


@final
class Question:
    """What a server asks its user, and the answer that it gets."""

    __slots__ = ("_answered", "params", "result")

    def __init__(self, params: Any) -> None:
        """Take an ElicitRequestParams; must be made in the event loop."""
        self.params = params
        self.result = ElicitResult(action="cancel")
        self._answered = anyio.Event()

    def answer(self, result: ElicitResult | None = None) -> None:
        """Answer it; without a result nobody made a choice."""
        self.result = result or self.result
        self._answered.set()

    async def answered(self) -> ElicitResult:
        """Wait for the answer."""
        await self._answered.wait()
        return self.result


class Carrier(Protocol):
    """A session, as far as a call has to know the one that carries its request out."""

    def let_go(self, asking: Asking) -> None:
        """Give a request up."""
        ...

    async def explained(self, asking: Asking, what: str) -> BaseException:
        """Return what to raise for a request that failed."""
        ...


@final
class Asking:
    """One request, made by a call and carried out by the session's task.

    `handed`: the client has it, from then on the server may have it too. `alone`: no other request
    may be under way with it. `again`: it was given up, to be made again alone.
    """

    __slots__ = (
        "_news",
        "_questions",
        "again",
        "alone",
        "done",
        "error",
        "handed",
        "limit",
        "scope",
        "session",
        "task",
        "value",
    )

    def __init__(self, *, alone: bool = False) -> None:
        """Must be made in the event loop."""
        self.alone = alone
        self.again = False
        self.handed = False
        self.done = anyio.Event()
        self.scope = CancelScope()
        # Bounds how long the call waits; without one once the server works on a task.
        self.limit = CancelScope()
        self.value: Any = None
        self.error: BaseException | None = None
        self.session: Carrier | None = None
        # The id of the server's task for it.
        self.task: str | None = None
        self._questions: list[Question] = []
        self._news = anyio.Event()

    def end(self) -> None:
        """Wake the call; questions that nobody answered are taken back."""
        for each in self._questions:
            each.answer()
        self.done.set()
        self._news.set()

    async def ask(self, params: Any) -> ElicitResult:
        """Pass a question of the server's to the call, and return what is answered."""
        question = Question(params)
        if self.done.is_set():
            return question.result
        self._questions.append(question)
        self._news.set()
        return await question.answered()

    async def questions(self) -> Iterator[Question]:
        """Wait until the request has ended or the server asks; return what it asks."""
        await self._news.wait()
        asked, self._questions = self._questions, []
        if not self.done.is_set():
            self._news = anyio.Event()
        return iter(asked)


@final
class Turns:
    """The requests under way in one session, and which of them may begin.

    A request that is `alone` waits for the others to end, and holds back those that come later.
    """

    def __init__(self) -> None:
        """Must be made in the event loop."""
        self._open: list[Asking] = []
        self._want_alone = 0
        # Questions whose request is not known yet; nothing new begins meanwhile.
        self._unclear = 0
        self._moved = anyio.Event()

    @asynccontextmanager
    async def turn(self, asking: Asking) -> AsyncGenerator[None]:
        """Wait until the request may begin; it is under way inside the block."""
        self._want_alone += asking.alone
        try:
            while self._is_held(asking):
                await self._moved.wait()
            self._open.append(asking)
            try:
                yield
            finally:
                self._open.remove(asking)
        finally:
            self._want_alone -= asking.alone
            self._move()

    def _is_held(self, asking: Asking) -> bool:
        if self._unclear:
            return True
        return bool(self._open) if asking.alone else self._want_alone > 0

    def _move(self) -> None:
        self._moved.set()
        self._moved = anyio.Event()

    async def whose(self, task: str | None) -> Asking | None:
        """Return the request that a question belongs to, None if it has ended meanwhile.

        Where nothing tells, the question waits until one request is left. When all that are left
        wait for an answer, they are given up and made again one by one: whoever asks must expect
        that (see `dagexec.ask`).
        """
        current = current_asking.get(None)
        for each in self._open:
            if each is current or (task is not None and each.task == task):
                return each
        self._unclear += 1
        try:
            while True:
                handed = [each for each in self._open if each.handed]
                if len(handed) <= 1:
                    return handed[0] if handed else None
                if self._unclear >= len(handed):
                    for each in handed:
                        each.again = True
                        each.scope.cancel()
                    return None
                await self._moved.wait()
        finally:
            self._unclear -= 1
            self._move()
