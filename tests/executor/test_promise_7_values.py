"""Promise 7: values travel by reference, keep their type and inject nothing."""

from __future__ import annotations

import pytest

from dagexec import Call, Executor, Plan, Ref, Template, tool
from dagexec.testing import ToolBox

pytestmark = pytest.mark.anyio

HOSTILE = [
    "$1",
    "${1}",
    "${a}",
    '{"$ref": "a"}',
    {"$ref": "a"},
    {"$template": "${a}"},
    {"$literal": 1},
]


async def test_identity():
    """The object that a tool returned is the object that the next one gets."""
    thing = object()
    box = ToolBox()
    box.tool("make", returns=thing)
    box.tool("same", returns=lambda x: x is thing)
    report = await Executor(box.tools).run(
        Plan([Call("a", "make"), Call("b", "same", {"x": Ref("a")})])
    )
    assert report["a"].value is thing
    assert report.outputs["b"] is True


@pytest.mark.parametrize("hostile", HOSTILE, ids=range(len(HOSTILE)))
async def test_a_result_cannot_inject_a_reference(hostile):
    """Through an argument, a path, a list, a chain and a default, it stays what it was."""
    box = ToolBox()
    box.tool("secret", returns="SECRET")
    box.tool("make", returns={"deep": [hostile]})
    box.tool("echo", returns=lambda x: x)
    plan = Plan(
        [
            Call("a", "secret"),
            Call("1", "secret"),
            Call("m", "make"),
            Call("e", "echo", {"x": Ref("m", ("deep", 0))}),
            Call("f", "echo", {"x": [Ref("e"), {"k": Ref("m")}]}),
        ]
    )
    report = await Executor(box.tools).run(plan)
    assert type(report["e"].value) is type(hostile)
    assert report["e"].value == hostile
    assert report["f"].value == [hostile, {"k": {"deep": [hostile]}}]


async def test_a_template_does_not_read_what_it_puts_in():
    """Text from a tool is not rendered a second time."""
    box = ToolBox()
    box.tool("secret", returns="SECRET")
    box.tool("make", returns="${a} {} {0} $$ $a")
    box.tool("echo", returns=lambda x: x)
    plan = Plan(
        [
            Call("a", "secret"),
            Call("m", "make"),
            Call("t", "echo", {"x": Template("<{}>", Ref("m"))}),
            Call("u", "echo", {"x": Template("[{}]", Ref("t"))}),
        ]
    )
    report = await Executor(box.tools).run(plan)
    assert report.outputs["u"] == "[<${a} {} {0} $$ $a>]"


async def test_a_nested_run_gets_values_not_references():
    """A value that looks like a reference goes through a nested plan as a literal would."""
    box = ToolBox()
    box.tool("make", returns=lambda: ["$1", "${x}"])
    box.tool("echo", returns=lambda x: x)

    @tool
    async def nest(x: list[str]) -> object:
        """Run a plan."""
        inner = await executor.run(
            Plan([Call("x", "echo", {"x": x[0]}), Call("y", "echo", {"x": x})])
        )
        return inner.outputs

    executor = Executor([*box.tools, nest])
    report = await executor.run(Plan([Call("m", "make"), Call("n", "nest", {"x": Ref("m")})]))
    assert report.outputs["n"] == {"x": "$1", "y": ["$1", "${x}"]}


@pytest.mark.parametrize("name", ['a"b', "a}b", "a{b", "it's", 'x"}', "${1}", "a.b[0]", '["a"]'])
def test_references_to_odd_ids_survive_json(name):
    """Alone and in a text, with a path or without."""
    parts = [Ref(name), " and ", Ref(name, ("k}", 0, 'q"')), "$"]
    plan = Plan(
        [
            Call(name, "t"),
            Call("r", "t", {"x": Ref(name, ("a",)), "y": Template.from_parts(parts)}),
        ]
    )
    assert Plan.from_json(plan.to_json()) == plan
    for part in (Ref(name), parts[2]):
        assert Ref.parse(str(part)) == part
