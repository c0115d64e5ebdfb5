"""Hundreds of nested plans through each provider's form and the real executor."""

from __future__ import annotations

import json

import anyio
import jsonschema
import pytest

from dagexec import Executor, Tool
from dagexec.testing import check_conversation

pytestmark = pytest.mark.anyio

CASES = 320


def tools(nestful, received):
    """Return the tools of all cases, which note what they are called with."""

    def make(name):
        async def function(**args):
            await anyio.sleep(0.01)
            received.append((name, args))
            return nestful.output(name, args)

        schema = {
            "type": "object",
            "properties": {f"arg_{i}": {} for i in range(9)},
            "additionalProperties": False,
        }
        return Tool.from_schema(name, schema, function, effect="read")

    return [make(f"tool_{number}") for number in range(10)]


def test_the_cases_are_many_and_different(nestful):
    """The generator reaches the sizes, path forms and shapes that NESTFUL has."""
    cases = [nestful.make(seed) for seed in range(CASES)]
    assert len({case.shape for case in cases}) >= 28
    assert {len(case.steps) for case in cases} == set(range(2, 8))
    forms = {form for case in cases for step in case.steps for form in step.paths}
    assert {".f", ".f.f", ".f[N]", ".f[N].f"} <= forms
    assert sum(case.roots > 1 for case in cases) > 50
    assert sum(len(case.edges) for case in cases) > 500


@pytest.mark.parametrize("part", [0, *(pytest.param(n, marks=pytest.mark.slow) for n in (1, 2, 3))])
async def test_nested_plans(nestful, wire, part):
    """Edges, arguments, values and answers are those that were computed without dagexec."""
    received = []
    available = tools(nestful, received)
    first = wire.planner(available, limit=None)
    schema = jsonschema.Draft202012Validator(wire.schemas(first)["tool_0"])
    for seed in range(part, CASES, 4):
        received.clear()
        planner = first.fresh()
        case = nestful.make(seed)
        reply = wire.reply(*((step.tool, step.written) for step in case.steps))
        for step in case.steps:
            schema.validate(step.written)
        plan = planner.plan(reply if seed % 2 else planner.response(reply))
        assert [call.problem for call in plan.calls] == [None] * len(case.steps), seed
        assert set(plan.edges) == case.edges, seed
        report = await Executor(available).run(plan)
        assert report.ok, (seed, str(report))
        assert report.outputs == {str(step.number): step.value for step in case.steps}, seed
        expected = [(step.tool, step.received) for step in case.steps]
        assert sorted(map(repr, received)) == sorted(map(repr, expected)), seed
        results = planner.results(report)
        for step, (id_, text) in zip(case.steps, wire.answers(results), strict=True):
            head, _, body = text.partition("\n")
            assert (id_, head) == (f"call_{step.number}", f"[call {step.number}]"), seed
            assert json.loads(body) == step.value, seed
        assert check_conversation(wire.api, wire.conversation((reply, results))) == []


@pytest.mark.parametrize("every", [20, pytest.param(5, marks=pytest.mark.slow)])
async def test_nested_plans_across_turns(nestful, wire, every):
    """A plan cut into one turn per call receives the same arguments by reference."""
    received = []
    available = tools(nestful, received)
    first = wire.planner(available)
    executor = Executor(available)
    for seed in range(0, CASES, every):
        received.clear()
        planner = first.fresh()
        case = nestful.make(seed)
        for step in case.steps:
            plan = planner.plan(wire.reply((step.tool, step.written, "the_same_id")))
            (call,) = plan.calls
            assert (call.id, call.problem, plan.edges) == (str(step.number), None, ()), seed
            planner.results(await executor.run(plan))
        expected = [(step.tool, step.received) for step in case.steps]
        assert list(map(repr, received)) == list(map(repr, expected)), seed
