"""The graph as SVG: what it shows, what it never does, and how large it gets."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dagexec import Call, Plan, Ref
from dagexec._pictures.diagram import Diagram
from dagexec._pictures.fold import MOST, fold
from dagexec._pictures.glyphs import GLYPHS
from dagexec._pictures.graph import Node
from dagexec._pictures.layout import GAP, arrange
from dagexec._pictures.svg import THEMES

relaxed = settings(max_examples=settings().max_examples * 6 // 10)
SVG = "{http://www.w3.org/2000/svg}"
ALLOWED = {"svg", "title", "desc", "rect", "path", "text", "g"}


def parsed(text):
    """Return the root of an SVG; anything that is no XML raises."""
    return ET.fromstring(text)


def texts(root):
    """Return all drawn lines of text."""
    return [each.text for each in root.iter(f"{SVG}text")]


@st.composite
def plans(draw, most=24):
    """Any graph: each call depends on any of those before it."""
    count = draw(st.integers(1, most))
    calls = []
    for index in range(count):
        sources = draw(st.sets(st.integers(0, index - 1), max_size=4)) if index else set()
        calls.append(
            Call(f"c{index}", "t", after=tuple(f"c{source}" for source in sorted(sources)))
        )
    return Plan(calls)


# ------------------------------------------------------------------------------------------- layout


@relaxed
@given(plans(), st.data())
def test_nodes_never_overlap_and_the_picture_is_the_same_each_time(plan, data):
    """In each layer the nodes keep their gap, and everything lies inside the extent."""
    place = {call.id: index for index, call in enumerate(plan)}
    layers = [[place[name] for name in layer] for layer in plan.layers]
    edges = [(place[source], place[target]) for source, target in plan.edges]
    sizes = [data.draw(st.floats(10, 200)) for _ in plan]
    layout = arrange(layers, edges, sizes)
    for layer in layers:
        ordered = sorted(layer, key=layout.places.__getitem__)
        for one, other in pairwise(ordered):
            apart = layout.places[other] - layout.places[one]
            assert apart >= sizes[one] / 2 + sizes[other] / 2 + GAP - 1e-6
        for node in layer:
            assert layout.places[node] - sizes[node] / 2 >= -1e-6
            assert layout.places[node] + sizes[node] / 2 <= layout.extent + 1e-6
    for (source, target), way in zip(edges, layout.ways, strict=True):
        assert way[0][1] == layout.places[source]
        assert way[-1][1] == layout.places[target]
        assert [layer for layer, _ in way] == sorted({layer for layer, _ in way})
    assert arrange(layers, edges, sizes) == layout


@relaxed
@given(plans())
def test_layers_are_the_topological_generations(plan):
    """As networkx defines them; the plan counts them by itself."""
    import networkx as nx

    generations = [set(each) for each in nx.topological_generations(plan.graph)]
    assert [set(layer) for layer in plan.layers] == generations


# ------------------------------------------------------------------------------------------ folding


@relaxed
@given(
    plans(most=40),
    st.integers(1, 12),
    st.lists(st.sampled_from(sorted(GLYPHS)), min_size=40, max_size=40),
    st.lists(st.sampled_from(["a", "b", "c"]), min_size=40, max_size=40),
)
def test_folding_keeps_every_call_and_every_edge(plan, most, states, tools):
    """Each call is in one group; edges between groups add up to those between their calls."""
    nodes = [Node(call.id, tools[i], states[i]) for i, call in enumerate(plan)]
    diagram = Diagram(tuple(nodes), plan.edges, plan.layers, path=(nodes[0].id,))
    folded = fold(diagram, most)
    members = [node.id for group in folded.groups for node in group.nodes]
    assert sorted(members) == sorted(node.id for node in nodes)
    across = [e for e in plan.edges if folded.group_of[e[0]] != folded.group_of[e[1]]]
    assert sum(folded.edges.values()) == len(across)
    assert sorted(i for layer in folded.layers for i in layer) == list(range(len(folded.groups)))
    parsed(diagram.to_svg())


@pytest.mark.parametrize("shape", ["chain", "fan", "tools", "states"])
def test_five_hundred_calls_of_any_shape_stay_few_nodes(shape):
    """A chain, a fan-out, a tool for each call, all states in turn."""
    states = [state for state in GLYPHS if state != "plan"]
    calls = [
        Call(
            f"c{i}",
            f"t{i}" if shape == "tools" else "t",
            after=(f"c{i - 1}",) if i and shape == "chain" else (),
        )
        for i in range(500)
    ]
    plan = Plan(calls)
    nodes = tuple(
        Node(call.id, call.tool, states[i % len(states)] if shape == "states" else "done")
        for i, call in enumerate(plan)
    )
    diagram = Diagram(nodes, plan.edges, plan.layers, tuple(call.id for call in plan))
    assert len(fold(diagram).groups) <= MOST
    svg = diagram.to_svg()
    root = parsed(svg)
    assert len(svg) < 60_000
    assert float(root.get("width")) <= 2400
    assert float(root.get("height")) <= 3000
    assert len(str(diagram).splitlines()) <= MOST


def test_what_matters_is_not_folded_away(many):
    """A failed call keeps its own node, and its error, among 500."""
    failed = [name for name in many if many[name].status == "failed"]
    assert 0 < len(failed) < 9
    drawn = texts(parsed(many.diagram.to_svg()))
    for name in failed:
        assert f"✗ {name} flaky" in drawn
        assert f"✗ {name} flaky" in str(many.diagram)
    assert any(re.match(r"✓ \d+ × search", text) for text in drawn)


# -------------------------------------------------------------------------------------- the picture


def test_every_state_has_its_glyph_and_its_own_line():
    """Told apart without colour: no two states share both glyph and stroke."""
    for theme in THEMES.values():
        assert set(theme.states) == set(GLYPHS)
        seen = {(GLYPHS[state], look.dash, look.width) for state, look in theme.states.items()}
        assert len(seen) == len(GLYPHS)
    nodes = tuple(Node(state, "tool", state, "note") for state in GLYPHS)
    diagram = Diagram(nodes, (), (tuple(GLYPHS),))
    drawn = texts(parsed(diagram.to_svg()))
    for state, glyph in GLYPHS.items():
        assert (state if state == "plan" else f"{glyph} {state}") in " ".join(drawn)


def test_the_critical_path_and_errors_are_drawn(twelve):
    """Thick edges along it, a frame round its calls; errors by name."""
    diagram = twelve.diagram
    assert diagram.path == twelve.critical_path == ("1", "4", "6", "9", "11")
    root = parsed(diagram.to_svg())
    assert "ValueError 300 ms" in texts(root)
    frames = [each for each in root.iter(f"{SVG}rect") if each.get("fill") == "none"]
    assert len(frames) == len(diagram.path)
    widths = {each.get("stroke-width") for each in root.iter(f"{SVG}path")}
    assert "2.6" in widths
    # 6 had no edge from 4: it got its slot.
    assert [each for each in root.iter(f"{SVG}path") if each.get("stroke-dasharray") == "4 4"]


def test_it_uses_nothing_that_a_page_may_strip(twelve, many):
    """No style, class, script, link or reference; presentation attributes only."""
    for text in (twelve.to_svg(), many.to_svg(), twelve.diagram.to_svg(theme="dark")):
        root = parsed(text)
        for element in root.iter():
            assert element.tag.removeprefix(SVG) in ALLOWED
            assert not {"style", "class", "href", "onclick"} & set(element.attrib)
        assert "http" not in text.replace("http://www.w3.org/2000/svg", "")
        assert "url(" not in text


def test_it_brings_its_own_card_for_dark_and_light_pages(twelve):
    """The first shape covers all of it; text on it has contrast in both themes."""
    for name in ("light", "dark"):
        root = parsed(twelve.diagram.to_svg(theme=name))
        card = root.find(f"{SVG}rect")
        wide = float(root.get("viewBox").split()[2])
        assert float(card.get("width")) == wide - 1
        theme = THEMES[name]
        for ink in (theme.ink, theme.faint, theme.alarm):
            assert contrast(ink, theme.card) >= 4.5
        for look in theme.states.values():
            assert contrast(theme.ink, look.fill) >= 7
            assert contrast(theme.faint, look.fill) >= 3
            assert contrast(look.stroke, theme.card) >= 3
    with pytest.raises(ValueError, match="light"):
        twelve.diagram.to_svg(theme="pink")


def contrast(one, other):
    """Return the contrast of two colours as WCAG 2 defines it."""

    def luminance(colour):
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [p / 12.92 if p <= 0.03928 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_who_cannot_see_it_gets_a_text(twelve):
    """A role, a title and a description that name counts, failures and the critical path."""
    for picture in (twelve.diagram, twelve.timeline, twelve):
        root = parsed(picture.to_svg())
        assert root.get("role") == "img"
        ids = root.get("aria-labelledby").split()
        found = {each.get("id"): each for each in root if each.tag in (f"{SVG}title", f"{SVG}desc")}
        assert list(found) == ids
        desc = found[ids[1]].text
        assert "8 done, 1 failed" in desc
        assert "Critical path: 1 -> 4 -> 6 -> 9 -> 11" in desc
    assert "8 lint: failed, ValueError" in twelve.diagram.spoken()
    one, other = (
        parsed(p.to_svg()).get("aria-labelledby") for p in (twelve.diagram, twelve.timeline)
    )
    assert one != other


@relaxed
@given(st.text(min_size=1), st.text(min_size=1), st.text())
def test_any_text_is_escaped_everywhere(name, tool, note):
    """Whatever a model calls its calls: the picture stays XML, and mermaid a list of nodes."""
    plan = Plan([Call(name, tool), Call(name + "2", tool, {"x": Ref(name)})])
    nodes = tuple(Node(call.id, call.tool, "failed", note) for call in plan)
    diagram = Diagram(nodes, plan.edges, plan.layers, (name,), caption=note)
    for text in (diagram.to_svg(), diagram.to_svg(interactive=True)):
        root = parsed(text)
        assert {element.tag.removeprefix(SVG) for element in root.iter()} <= ALLOWED
        text.encode()
    assert len(str(diagram).splitlines()) == 2
    lines = diagram.to_mermaid().split("\n")
    assert len(lines) == 4
    assert re.fullmatch(r'    c0\["[^"<>\[\]{}()|]*"\]', lines[1])


def test_markup_in_a_call_is_text():
    """The attack in one line."""
    bad = '</text><script>alert(1)</script>"&'
    plan = Plan([Call(bad, bad)])
    root = parsed(plan.diagram.to_svg(interactive=True))
    assert f"{bad} {bad}"[:12] in "".join(texts(root))
    assert not list(root.iter(f"{SVG}script"))


def test_mermaid_is_folded_where_it_would_be_refused(many):
    """Beyond 500 edges mermaid draws an error."""
    assert len(many.plan.edges) > 500
    text = many.diagram.to_mermaid()
    assert text.count("-->") < 500
    assert len(text) < 50_000
    small = Plan([Call(f"c{i}", "t") for i in range(300)])
    assert small.to_mermaid().count("[") == 300


def test_wide_graphs_go_down_and_small_ones_across():
    """So that a cell of a notebook holds them at a size that can be read."""
    chain = Plan([Call(f"c{i}", "fetch", after=(f"c{i - 1}",) if i else ()) for i in range(20)])
    fan = Plan([Call("a", "fetch"), *(Call(f"c{i}", "fetch", after=("a",)) for i in range(20))])
    for plan in (chain, fan):
        assert float(parsed(plan.diagram.to_svg()).get("width")) <= 900
    assert str(Plan().diagram) == "(no calls)"
    parsed(Plan().diagram.to_svg())


def test_a_cell_of_a_notebook_holds_the_pictures(twelve, many):
    """JupyterLab cuts off what is wider; what is drawn stays at a size that can be read."""
    for report in (twelve, many):
        root = parsed(report.to_svg())
        width, whole = float(root.get("width")), float(root.get("viewBox").split()[2])
        assert width <= 960
        sizes = [float(each.get("font-size")) for each in root.iter(f"{SVG}text")]
        assert min(sizes) * width / whole >= 6


def test_calls_that_do_not_depend_on_one_another_stand_in_rows():
    """Twenty in a column would be taller than a screen."""
    root = parsed(Plan([Call(f"c{i}", "fetch") for i in range(20)]).diagram.to_svg())
    assert float(root.get("width")) <= 900
    assert float(root.get("height")) <= 250
    boxes = [(each.get("x"), each.get("y")) for each in root.iter(f"{SVG}rect")]
    assert len(set(boxes)) == 21
