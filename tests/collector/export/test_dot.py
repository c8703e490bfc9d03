"""The graph in Graphviz's language, read by a parser of it."""

from typing import Any

import pydot
import pytest

from reachmap_collector.export import Options, Snapshot, dot
from reachmap_collector.export.graph import COLOURS, build
from reachmap_collector.views import By

pytestmark = pytest.mark.filterwarnings("ignore:.* deprecated - use:DeprecationWarning")  # pydot's

BOTH = pytest.mark.parametrize("by", [By.ROLE, By.HOST])


def parsed(text: str) -> Any:
    graphs = pydot.graph_from_dot_data(text)
    assert graphs is not None
    [graph] = graphs
    assert graph.get_type() == "digraph"
    return graph


@BOTH
@pytest.mark.parametrize("name", ["mixed", "quiet", "large", "hostile"])
def test_a_parser_takes_it_and_finds_all_of_it(
    name: str, by: By, request: pytest.FixtureRequest
) -> None:
    """As many nodes and edges as the graph has, whatever they are called."""
    snapshot: Snapshot = request.getfixturevalue(name)
    text = dot.graph(snapshot, Options(by=by))
    graph = parsed(text)
    drawn = build(snapshot.flows, by)
    nodes = [node for node in graph.get_nodes() if node.get_name() not in ("node", "edge")]
    assert len(nodes) == len(drawn.nodes)
    assert len(graph.get_edges()) == len(drawn.edges)
    assert "".join(text.split("\n")).isprintable()


def test_an_edge_has_the_colour_of_its_state(mixed: Snapshot) -> None:
    """And words that say the same."""
    drawn = build(mixed.flows, By.ROLE)
    edges = parsed(dot.graph(mixed, Options())).get_edges()
    for edge, expected in zip(edges, drawn.edges, strict=True):
        assert edge.get("color").strip('"') == COLOURS[expected.state]
        assert edge.get("label").strip('"').endswith(expected.state)


def test_what_is_left_out_is_told(mixed: Snapshot, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a node of its own."""
    monkeypatch.setattr("reachmap_collector.export.graph.MAX_EDGES", 2)
    left = len(build(mixed.flows, By.ROLE).edges) + build(mixed.flows, By.ROLE).left_out - 2
    assert f'label="{left} more edges"' in dot.graph(mixed, Options())
