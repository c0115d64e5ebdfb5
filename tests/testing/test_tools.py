from __future__ import annotations

import anyio
import pytest

from dagexec.testing import Script, ToolBox

pytestmark = pytest.mark.anyio


async def test_the_log_says_who_ran_when():
    """Starts, ends and the peak are exact in virtual time."""
    box = ToolBox()
    one, two = box.tool("one", seconds=3600, returns=1), box.tool("two", seconds=1.5)
    async with anyio.create_task_group() as group:
        group.start_soon(one.function)
        group.start_soon(two.function)
    await two.function()
    assert sorted(box.order[:2]) == ["one", "two"]
    assert box.order[2] == "two"
    assert box.times == {"one": (0, 3600), "two": (3600, 3601.5)}
    assert box.peak == 2
    assert box.running == []
    assert [tool.name for tool in box.tools] == ["one", "two"]


async def test_values_and_durations_may_depend_on_the_arguments():
    """Functions in a script get the arguments by name."""
    box = ToolBox()
    echo = box.tool("echo", seconds=lambda n: n, returns=lambda n: n * 2)
    assert await echo.function(n=21) == 42
    assert box.times == {"echo": (0, 21)}
    assert box.log[0].args == {"n": 21}


async def test_errors_one_after_the_other():
    """A list of errors belongs to the first calls; later calls return."""
    box = ToolBox()
    flaky = box.tool("flaky", raises=[OSError("1"), None, OSError("3")], returns="ok")
    how = []
    for _ in range(4):
        try:
            how.append(await flaky.function())
        except OSError as error:
            how.append(str(error))
    assert how == ["1", "ok", "3", "ok"]
    assert [span.how for span in box.spans("flaky")] == ["raised", "returned", "raised", "returned"]


async def test_a_tool_that_hangs_is_cancelled():
    """Only a cancellation ends it, and the log says so."""
    box = ToolBox()
    hang = box.tool("hang", hangs=True)
    with anyio.move_on_after(86400):
        await hang.function()
    assert (box.log[0].how, box.log[0].ended) == ("cancelled", pytest.approx(86400, abs=1e-9))


async def test_a_tool_that_swallows_cancellations():
    """It ignores as many as it was told to, and ends at the next."""
    box = ToolBox()
    stubborn = box.function("stubborn", Script(hangs=True, swallows=2))
    with anyio.move_on_after(1):
        await stubborn()
    assert (box.log[0].how, box.log[0].swallowed) == ("cancelled", 2)


async def test_a_tool_that_cleans_up():
    """Its shielded work takes its time after the cancellation."""
    box = ToolBox()
    tool = box.tool("tool", hangs=True, cleanup=2.5)
    with anyio.move_on_after(1):
        await tool.function()
    assert box.times == {"tool": (0, 3.5)}


async def test_options_reach_the_tool():
    """What `Tool` takes beyond a script is handed on."""
    tool = ToolBox().tool("t", effect="read", timeout=3, description="looks")
    assert (tool.effect, tool.timeout, tool.description) == ("read", 3, "looks")
    assert tool.problems({"anything": 1}) == []
