"""Tools may have names that Python has for something else."""

from __future__ import annotations

import keyword
from typing import Any

import pytest

from dagexec import Call, Executor, Tool
from dagexec.programs import Program, ProgramRefused, Programs, identifier, program_tool, stub
from dagexec.programs._check import _ABSENT, _CALLED
from dagexec.programs._functions import EXCEPTIONS, FUNCTIONS

pytestmark = pytest.mark.anyio

NAMES = sorted({*FUNCTIONS, *_ABSENT, *_CALLED, *EXCEPTIONS, "print", "class", "isinstance"})


def named(name: str) -> Tool[..., Any]:
    schema = {"type": "object", "properties": {"x": {}}, "required": ["x"]}

    async def call(x: Any) -> list[Any]:
        return ["tool", x]

    return Tool.from_schema(name, schema, call, effect="read")


@pytest.mark.parametrize("name", NAMES)
async def test_a_tool_of_any_name_is_called(name: str, anyio_backend: Any) -> None:
    """By the name that its stub shows."""
    tool = named(name)
    assert f"def {identifier(name)}(" in stub(tool)
    for call in ("(1)", "(x=1)", "(*[1])"):
        report = await Executor([tool]).run(Program(f"[{identifier(name)}{call}, 2]"))
        assert report.error is None, report.error
        assert report.result == [["tool", 1], 2]


@pytest.mark.parametrize("name", ["open", "input"])
async def test_open_and_input_are_called_as_they_are_named(name: str, anyio_backend: Any) -> None:
    assert identifier(name) == name
    assert not keyword.iskeyword(name)
    program = Program(f"{name}('x')[1]")
    assert (await Executor([named(name)]).run(program)).result == "x"
    with pytest.raises(ProgramRefused, match=f"there is no {name} here"):
        await Executor([named("other")]).run(program)


async def test_a_model_is_told_that_there_is_no_such_tool(anyio_backend: Any) -> None:
    executor = Executor([named("other")])
    outer = Executor([program_tool(executor, Programs())])
    report = await outer.run([Call("1", "run_program", {"source": "open('x')"})])
    assert "there is no open here" in str(report["1"].error)
