"""What a program came to, as data, and back."""

from __future__ import annotations

import json
from typing import Any

import pytest

from dagexec import Executor, tool
from dagexec.journal import Types
from dagexec.programs import LimitReached, Program, ProgramFailed, ProgramStopped, end_body, end_of

TYPES = Types()


@tool(effect="read")
async def get(x: Any) -> Any:
    if x == "no":
        raise KeyError(x)
    return x


async def came_to(source: str, **options: Any) -> tuple[Any, Any]:
    """Return the end of a program, and what data makes of it."""
    report = await Executor([get]).run(Program(source, **options))
    assert report.program is not None
    body = end_body(report.program, TYPES.dumps)
    return report.program, end_of(TYPES.loads(TYPES.dumps(body)))


@pytest.mark.anyio
@pytest.mark.parametrize(
    "result",
    ["get({'a': [1, None]})", "(1, {2, 'x'}, 1.5)", "'text'", "None", "{}", "10 ** 5000"],
)
async def test_an_end_as_data_and_back(result: str) -> None:
    source = f"def twice(x):\n    return 2 * x\nprint(get(1), twice(2))\nx = get([5])\n{result}"
    end, again = await came_to(source)
    assert again.result == end.result
    assert again.error is None
    for part in ("printed", "lines", "variables", "left", "definitions"):
        assert getattr(again, part) == getattr(end, part)


@pytest.mark.anyio
@pytest.mark.parametrize("result", ["len", "x = [1]\nx.append(x)\nx", "{1: 2}.keys()"])
async def test_a_result_that_is_no_data_is_kept_as_a_text(result: str) -> None:
    end, again = await came_to(result)
    assert again.result == repr(end.result)


@pytest.mark.anyio
async def test_a_result_that_cannot_even_be_written() -> None:
    end, _ = await came_to("10 ** 5000")

    def dumps(value: Any) -> str:
        return json.dumps(value)

    assert end_body(end, dumps)["result"] == "<int>"
    with pytest.raises(ValueError, match="digits"):
        dumps(end.result)


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("source", "kind", "cause"),
    [
        ("x = 1\n{}['k']", ProgramFailed, "KeyError: 'k'"),
        ("x = get('no')", ProgramFailed, "ToolError: KeyError: 'no'"),
        ("while True:\n    pass", LimitReached, ""),
    ],
)
async def test_errors(source: str, kind: type[Exception], cause: str) -> None:
    end, again = await came_to(source, max_steps=2_000)
    assert isinstance(again.error, kind)
    assert str(again.error) == str(end.error)
    assert getattr(again.error, "line", 0) == getattr(end.error, "line", 0)
    assert cause in str(again.error.__cause__)
    assert again.left == end.left


def test_a_program_that_was_stopped() -> None:
    from dagexec._core.results import ProgramEnd

    end = ProgramEnd(error=ProgramStopped("the run ended while the program stood at line 3"))
    again = end_of(end_body(end, TYPES.dumps))
    assert isinstance(again.error, ProgramStopped)
    assert str(again.error) == str(end.error)
