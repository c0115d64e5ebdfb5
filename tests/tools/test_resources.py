from __future__ import annotations

from itertools import combinations

import networkx as nx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dagexec._core.refs import Literal, Ref, Template
from dagexec._errors import ToolDefinitionError
from dagexec._tools.resources import Access, Conflicts
from dagexec._tools.tool import Tool, tool


@tool(reads=("dir:{{x}}",), writes="file:{path}.{kind}")
def save(path: str | list[str], kind: str = "md"):
    """Save."""


@pytest.mark.parametrize(
    ("args", "resource", "exact"),
    [
        ({"path": "a"}, "file:a.md", True),
        ({"path": "a", "kind": "txt"}, "file:a.txt", True),
        ({"path": Literal("a")}, "file:a.md", True),
        ({"path": Ref("1")}, "file:", False),
        ({"path": "a", "kind": Ref("1")}, "file:a.", False),
        ({"path": Template("a/{}", Ref("1"))}, "file:a/", False),
        ({"path": Template("plain")}, "file:plain.md", True),
        ({"path": None}, "file:", False),
        ({}, "file:", False),
    ],
)
def test_accesses(args, resource, exact):
    """A template gives the resource, or the text before what is not known."""
    assert save.resources(args) == (Access("dir:{x}", False), Access(resource, True, exact))


def test_lists_give_a_resource_each():
    """Each member of a list is touched; an unknown one keeps the text before it."""
    assert save.resources({"path": ["a", Ref("1"), "b"]})[1:] == (
        Access("file:a.md", True),
        Access("file:", True, exact=False),
        Access("file:b.md", True),
    )
    assert save.resources({"path": []})[1:] == ()


def test_paths_into_arguments():
    """{a.b} and {a[0]} lead into objects and lists."""
    made = Tool.from_schema(
        "f", {"properties": {"q": {}}}, dict, reads=["table:{q.table}", "row:{q[rows][0]}"]
    )
    assert made.resources({"q": {"table": "t", "rows": [7]}}) == (
        Access("table:t", False),
        Access("row:7", False),
    )
    assert not any(item.exact for item in made.resources({"q": {"table": Ref("1")}}))
    assert not any(item.exact for item in made.resources({"q": Ref("1")}))


def test_unknown_parameter():
    """A placeholder for what is no parameter is refused when the tool is made."""
    with pytest.raises(ToolDefinitionError, match=r"'file' of|refers to\s'file'"):

        @tool(writes="x:{file}")
        def f(path: str): ...


def test_a_thousand_writers_form_a_chain():
    """Each writer waits for the one before it only, known or not."""
    for exact in (True, False):
        conflicts = Conflicts()
        found = [conflicts.add(str(i), [Access("file:a", True, exact)]) for i in range(1000)]
        assert found == [()] + [(str(i),) for i in range(999)]


def test_readers_do_not_wait_for_each_other():
    """Readers wait for the writer, the next writer for the readers."""
    conflicts = Conflicts()
    read, write = Access("r", False), Access("r", True)
    assert conflicts.add("w", [write]) == ()
    assert [conflicts.add(str(i), [read]) for i in range(3)] == [("w",)] * 3
    assert conflicts.add("both", [read, write]) == ("w", "0", "1", "2")
    assert conflicts.add("none", []) == ()


def _conflict(one: Access, two: Access) -> bool:
    if not (one.write or two.write):
        return False
    if one.exact and two.exact:
        return one.resource == two.resource
    if one.exact:
        return one.resource.startswith(two.resource)
    if two.exact:
        return two.resource.startswith(one.resource)
    return one.resource.startswith(two.resource) or two.resource.startswith(one.resource)


accesses = st.builds(Access, st.text("ab", max_size=3), st.booleans(), st.booleans())


@given(st.lists(st.lists(accesses, max_size=3), max_size=12))
def test_order_is_that_of_all_conflicting_pairs(calls):
    """Every edge is a conflict, and the edges together order every pair that conflicts."""
    conflicts = Conflicts()
    graph = nx.DiGraph()
    graph.add_nodes_from(range(len(calls)))
    pairs = {
        (i, j)
        for (i, one), (j, two) in combinations(enumerate(calls), 2)
        if any(_conflict(a, b) for a in one for b in two)
    }
    for number, touched in enumerate(calls):
        before = [int(name) for name in conflicts.add(str(number), touched)]
        assert before == sorted(set(before))
        assert all((earlier, number) in pairs for earlier in before)
        graph.add_edges_from((earlier, number) for earlier in before)
    closure = set(nx.transitive_closure_dag(graph).edges)
    assert pairs <= closure
    everything = nx.DiGraph(list(pairs))
    everything.add_nodes_from(graph)
    assert closure == set(nx.transitive_closure_dag(everything).edges)
