"""Cancelling `solve` wherever it can be cancelled: after any step of any of its tasks."""

from __future__ import annotations

import asyncio
import gc
import warnings

import anyio
import pytest
import sniffio

from dagexec import Executor, Timeouts
from dagexec.testing import Reply, ScriptedModel, ToolBox, check_conversation
from planners import Dialogue, solve
from planners.anthropic import MessagesPlanner
from planners.openai import ChatPlanner, ResponsesPlanner

pytestmark = pytest.mark.anyio
PLANNERS = {"chat": ChatPlanner, "responses": ResponsesPlanner, "messages": MessagesPlanner}
SCRIPT = [
    ["Hm.", ("look", {}), ("change", {}), ("look", {"x": {"$ref": "1"}})],
    Reply("", [("fail", {}), ("look", {"x": {"$ref": "1"}})]),
    "Done.",
]


class Steps:
    """Counts the steps of the tasks below `run`, and cancels after one of them."""

    def __init__(self, at, *, native=False):
        self.at = at
        # Cancel the task itself, as asyncio's own tools do, instead of a scope round it.
        self.native = native
        self.task = None
        self.count = 0
        self.scope = anyio.CancelScope()

    def step(self):
        """Take note of a step."""
        self.count += 1
        if self.count == self.at and self.native:
            self.task.cancel()
        elif self.count == self.at:
            self.scope.cancel()

    async def run(self, function):
        """Run a function and count."""
        backend = {"asyncio": self._on_asyncio, "trio": self._on_trio}
        await backend[sniffio.current_async_library()](function)

    async def _on_asyncio(self, function):
        loop = asyncio.get_running_loop()
        loop.set_task_factory(self._task)
        try:
            if self.native:
                await self._in_a_task(function)
            else:
                with self.scope:
                    await _Counted(function(), self)
        finally:
            loop.set_task_factory(None)

    async def _in_a_task(self, function):
        self.task = asyncio.ensure_future(function())
        try:
            await asyncio.wait([self.task])
            self.task.result()
        except asyncio.CancelledError:
            self.scope.cancel()
            with self.scope:
                await anyio.lowlevel.checkpoint()

    def _task(self, loop, coro, **options):
        async def counted():
            return await _Counted(coro, self)

        return asyncio.Task(counted(), loop=loop, **options)

    async def _on_trio(self, function):
        import trio

        class Watch(trio.abc.Instrument):
            def after_task_step(_, task):  # noqa: N805 - the other self is the one that counts
                if task.name is not None and task is not watcher:
                    self.step()

        watcher = None
        watch = Watch()
        with self.scope:
            trio.lowlevel.add_instrument(watch)
            try:
                await function()
            finally:
                trio.lowlevel.remove_instrument(watch)


class _Counted:
    """A coroutine of which each step is counted, before it waits."""

    def __init__(self, coro, steps):
        self.coro = coro
        self.steps = steps

    def __await__(self):
        send, value = self.coro.send, None
        while True:
            try:
                waits_for = send(value)
            except StopIteration as end:
                return end.value
            self.steps.step()
            try:
                value = yield waits_for
                send = self.coro.send
            except BaseException as error:
                send, value = self.coro.throw, error


def others():
    """Return what runs beside the test itself."""
    if sniffio.current_async_library() == "asyncio":
        return [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    import trio

    return [task for n in trio.lowlevel.current_task().child_nurseries for task in n.child_tasks]


async def cancelled_after(api, at, *, stream, native=False):
    """Cancel after a step, look at what is left, go on; return the steps if it was not reached."""
    box = ToolBox()
    box.tool("look", seconds=0.3, returns="seen", effect="read")
    box.tool("change", seconds=0.2, returns="changed")
    box.tool("fail", seconds=0.1, raises=ValueError("no luck"), effect="read")
    model = ScriptedModel(SCRIPT, speed=40, delay=0.1)
    client = model.anthropic() if api == "messages" else model.openai()
    planner = PLANNERS[api](box.tools)
    executor = Executor(box.tools, timeouts=Timeouts(turn=60))
    talk = Dialogue(planner)
    before = others()
    answers = []

    async def ask():
        answers.append(
            await solve(
                "Go.",
                planner=planner,
                client=client,
                model="m",
                executor=executor,
                stream=stream,
                conversation=talk,
            )
        )

    steps = Steps(at, native=native)
    await steps.run(ask)
    # asyncio closes a generator that was left in the middle in a task of its own, a turn later.
    for _ in range(10):
        await anyio.lowlevel.checkpoint()
    assert [each for each in others() if each not in before] == [], at
    assert box.running == [], at
    name = "input" if api == "responses" else "messages"
    assert check_conversation(api, {name: talk.messages}) == [], at
    if answers:
        assert answers == ["Done."]
    assert Dialogue.from_json(talk.to_json(), PLANNERS[api](box.tools)).messages == talk.messages
    # What is asked next is taken by the provider, and the numbers go on.
    number = len(talk.planner.calls.records) + 1
    more = ScriptedModel([[("look", {})], "Fine."])
    client = more.anthropic() if api == "messages" else more.openai()
    answer = await solve(
        "Go on.",
        planner=planner,
        client=client,
        model="m",
        executor=executor,
        stream=stream,
        conversation=talk,
    )
    assert answer == "Fine."
    assert list(answer.reports[0]) == [str(number)]
    return None if steps.scope.cancelled_caught else steps.count


async def every(api, stride, **how):
    """Cancel after each step, or after one in so many; return how many steps there are."""
    at, reached = 1, None
    with warnings.catch_warnings():
        # The SDK's generators that were left in the middle; see tests/conftest.py.
        warnings.simplefilter("ignore", ResourceWarning)
        while reached is None:
            reached = await cancelled_after(api, at, **how)
            at += stride
        gc.collect()
    return reached


@pytest.mark.parametrize("stride", [3, pytest.param(1, marks=pytest.mark.slow)])
@pytest.mark.parametrize("api", PLANNERS)
async def test_cancelling_after_every_step(api, stride):
    """Nothing is left running, and the conversation can be sent again."""
    assert await every(api, stride, stream=False) > 10


@pytest.mark.parametrize("anyio_backend", ["asyncio"], indirect=True)
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
async def test_cancelling_the_task_itself(anyio_backend, stream):
    """As `asyncio.timeout` and `Task.cancel` do."""
    assert await every("chat", 5, stream=stream, native=True) > 10


@pytest.mark.parametrize("api", PLANNERS)
async def test_cancelling_a_stream_after_some_steps(api):
    """The same; one step in seven."""
    assert await every(api, 7, stream=True) > 40


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("api", PLANNERS)
async def test_cancelling_a_stream_after_every_step(api):
    """The same; one step at least for each event of a stream and each part of a call."""
    assert await every(api, 1, stream=True) > 40
