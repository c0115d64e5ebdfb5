"""What names a run is a text; anything else is refused by name, wherever it is given."""

from __future__ import annotations

from uuid import UUID

import pytest

from dagexec import Call, DagexecError, Executor, tool
from planners import Dialogue, solve
from planners.openai import ChatPlanner

pytestmark = [pytest.mark.anyio, pytest.mark.real_time, pytest.mark.timeout(240)]
WRONG = [3, True, ["x"], b"x", {}, UUID(int=1), object()]
HINTS = {3: "give a text, '3'$", UUID(int=1): "give a text, '00000000-"}


@tool(effect="read")
async def get() -> int:
    """Return one."""
    return 1


PLAN = [Call("a", "get")]


async def stream():
    yield PLAN[0]


@pytest.mark.parametrize("run_id", WRONG, ids=lambda each: type(each).__name__)
async def test_what_is_no_text_names_no_run(run_id, journal):
    """Before anything runs, with a journal or without one."""
    hint = "is no id of a run" if isinstance(run_id, list | dict) else HINTS.get(run_id, "no id")
    for executor in (Executor([get]), Executor([get], journal=journal)):
        for plan in (PLAN, stream()):
            with pytest.raises(DagexecError, match=hint):
                await executor.run(plan, run_id=run_id)
            with pytest.raises(DagexecError, match=hint):
                executor.start(plan, run_id=run_id)
    for ask in (journal.read, journal.claim):
        with pytest.raises(DagexecError, match=hint):
            await ask(run_id)
    assert not list(await journal.runs())


@pytest.mark.parametrize("run_id", WRONG, ids=lambda each: type(each).__name__)
def test_nor_from_code_without_a_loop(run_id):
    """As from inside of one."""
    with pytest.raises(DagexecError, match="is no id of a run"):
        Executor([get]).run_sync(PLAN, run_id=run_id)


async def test_nor_a_conversation():
    """It is named as a run is."""
    planner = ChatPlanner([get])
    with pytest.raises(DagexecError, match="run_id=3 is no id of a run"):
        Dialogue(planner, id=3)
    for conversation in (None, Dialogue(planner)):
        with pytest.raises(DagexecError, match="run_id=3 is no id of a run"):
            await solve(
                "hi",
                planner=planner,
                client=None,
                model="m",
                executor=Executor([get]),
                run_id=3,
                conversation=conversation,
            )
