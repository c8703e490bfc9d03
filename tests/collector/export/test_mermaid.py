"""The graph in Mermaid's language, line by line."""

import re

import pytest

from reachmap_collector.export import Options, Snapshot, mermaid
from reachmap_collector.export.graph import build
from reachmap_collector.views import By

LABEL = r'"(?:[A-Za-z0-9 _.,:/()-]|#[0-9]+;|<br/>)*"'
NODE = re.compile(rf"  (n\d+|rest)\[{LABEL}\]")
EDGE = re.compile(rf"  (n\d+) (?:-->|==>|-\.->)\|{LABEL}\| (n\d+)")
STYLE = re.compile(r"  linkStyle (\d+(?:,\d+)*) stroke:#[0-9a-f]{6},color:#[0-9a-f]{6}")


@pytest.mark.parametrize("by", [By.ROLE, By.HOST])
@pytest.mark.parametrize("name", ["mixed", "quiet", "large", "hostile"])
def test_every_line_is_a_node_an_edge_or_a_style(
    name: str, by: By, request: pytest.FixtureRequest
) -> None:
    """No label gets out of its quotes; each edge has one style, and none more than there are."""
    snapshot: Snapshot = request.getfixturevalue(name)
    first, *lines = mermaid.graph(snapshot, Options(by=by)).splitlines()
    drawn = build(snapshot.flows, by)
    assert first == "flowchart LR"
    nodes = [found[1] for line in lines if (found := NODE.fullmatch(line))]
    edges = [found.groups() for line in lines if (found := EDGE.fullmatch(line))]
    styled = [
        int(number)
        for line in lines
        if (found := STYLE.fullmatch(line))
        for number in found[1].split(",")
    ]
    styles = sum(1 for line in lines if STYLE.fullmatch(line))
    assert len(nodes) + len(edges) + styles == len(lines)
    assert len(nodes) == len(set(nodes)) == len(drawn.nodes)
    assert {end for edge in edges for end in edge} <= set(nodes)
    assert sorted(styled) == [*range(len(drawn.edges))] == [*range(len(edges))]


def test_what_is_left_out_is_told(mixed: Snapshot, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a node of its own; Mermaid would refuse the whole."""
    monkeypatch.setattr("reachmap_collector.export.graph.MAX_EDGES", 1)
    text = mermaid.graph(mixed, Options())
    assert re.search(r'\n  rest\["\d+ more edges"\]\n', text)
