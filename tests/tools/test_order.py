"""The order of calls that touch the same resource, where some refer to calls further down."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import networkx as nx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dagexec import Call, Plan, Ref, tool
from dagexec._tools import precedence, resources
from dagexec._tools.order import Order, order_conflicts


@tool(writes="{r}")
def write(r: str, a: Any = None, b: Any = None) -> None:
    """Write."""


@tool(reads="{r}")
def read(r: str, a: Any = None, b: Any = None) -> None:
    """Read."""


TOOLS = {"write": write, "read": read}


@st.composite
def plans(draw: st.DrawFn) -> list[Call]:
    """Draw calls without a cycle, written in any order."""
    names = [f"c{index}" for index in range(draw(st.integers(1, 9)))]
    calls = []
    for index, name in enumerate(names):
        args: dict[str, Any] = {"r": draw(st.sampled_from("xxy"))}
        if index and draw(st.integers(0, 3)) == 0:
            args["r"] = Ref(draw(st.sampled_from(names[:index])))
        for key in draw(st.sets(st.sampled_from("ab"))) if index else ():
            args[key] = Ref(draw(st.sampled_from(names[:index])))
        calls.append(Call(name, draw(st.sampled_from(sorted(TOOLS))), args))
    return draw(st.permutations(calls))


def conflict(one: Call, two: Call) -> bool:
    """Whether two calls may touch one resource that one of them writes."""
    if "write" not in (one.tool, two.tool):
        return False
    texts = [call.args["r"] for call in (one, two)]
    return texts[0] == texts[1] or any(isinstance(text, Ref) for text in texts)


def check(calls: list[Call], ordered: list[Call], *, ahead: bool) -> None:
    """Compare with the rule: any two that conflict are in order, that of writing if it can be."""
    after = nx.transitive_closure_dag(Plan(ordered).graph)
    for earlier, later in combinations(calls, 2):
        if conflict(earlier, later):
            forward = after.has_edge(earlier.id, later.id)
            assert forward or after.has_edge(later.id, earlier.id)
            assert forward or ahead


@pytest.fixture(params=[False, True], ids=["exact", "coarse"])
def coarse(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run it also as if looking for conflicts had cost too much already."""
    if request.param:
        monkeypatch.setattr(resources, "_LEAST", 2)
        monkeypatch.setattr(resources, "_EACH", 0)


@pytest.mark.usefixtures("coarse")
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(plans())
def test_calls_that_conflict_are_in_order(calls: list[Call]) -> None:
    """All of them, also behind calls that refer to later ones; and there is no cycle."""
    check(calls, order_conflicts(calls, TOOLS), ahead=True)


@pytest.mark.usefixtures("coarse")
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(plans())
def test_without_forward_references_the_order_is_that_of_writing(calls: list[Call]) -> None:
    """As a stream gives them, one by one."""
    written = sorted(calls, key=lambda call: call.id)
    order = Order(TOOLS)
    check(written, [order.add(call) for call in written], ahead=False)


@given(plans())
def test_no_order_of_a_stream_closes_a_cycle_as_it_is_given(calls: list[Call]) -> None:
    """Only a reference can: what it leads to had arrived, and had been given an order before."""
    order = Order(TOOLS)
    graph: nx.DiGraph[str] = nx.DiGraph()
    for call in calls:
        graph.add_edges_from((source, call.id) for source in call.needs)
        if not nx.is_directed_acyclic_graph(graph):
            return
        graph.add_edges_from((source, call.id) for source in order.add(call).waits)
        assert nx.is_directed_acyclic_graph(graph)


def test_a_plan_that_is_too_tangled_says_so() -> None:
    """The call that would cost too much does not run."""
    calls = [
        Call("a", "write", {"r": "x", "a": Ref("d")}),
        Call("b", "write", {"r": "x"}),
        Call("c", "write", {"r": "x"}),
        Call("d", "read", {"r": "y", "a": Ref("b")}),
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(precedence, "_LEAST", 0)
        patch.setattr(precedence, "_EACH", 0)
        found = order_conflicts(calls, TOOLS)
    assert [found[index].problem is None for index in (0, 1, 3)] == [True, False, True]
    assert "write calls in the order in which they need one another" in str(found[1].problem)
