"""Flows as a graph that a person can read."""

import re

import pytest

from reachmap_collector.export import Snapshot
from reachmap_collector.export.graph import MAX_EDGES, MAX_HOSTS, build
from reachmap_collector.views import WORST_FIRST, By
from reachmap_shared.vocabulary import State


def numbers(label: str) -> int:
    """How many flows an edge stands for."""
    found = re.search(r": (?:\d+/)?(\d+) [a-z]+$", label)
    assert found, label
    return int(found[1])


def test_by_host_every_flow_is_in_one_edge(mixed: Snapshot) -> None:
    """And the worst edges come first."""
    graph = build(mixed.flows, By.HOST)
    assert sum(numbers(edge.label) for edge in graph.edges) == len(mixed.flows)
    ranks = [WORST_FIRST.index(edge.state) for edge in graph.edges]
    assert ranks == sorted(ranks)
    assert graph.left_out == 0
    assert ("pc-1",) not in graph.nodes
    assert ("agent-1", "agent") in graph.nodes


def test_by_role_an_edge_counts_its_worst(mixed: Snapshot) -> None:
    """With the ports that are dialled."""
    graph = build(mixed.flows, By.ROLE)
    for edge in graph.edges:
        [source] = graph.nodes[edge.source]
        [destination] = graph.nodes[edge.destination]
        flows = [
            flow
            for flow in mixed.flows
            if flow["service"].startswith(f"{destination}:")
            and source in [reason["role"] for reason in flow["reasons"]]
        ]
        worst = [flow for flow in flows if flow["state"] == edge.state]
        assert worst
        told = f"{len(worst)}/{len(flows)}" if len(worst) < len(flows) else f"{len(flows)}"
        ports = ", ".join(map(str, sorted({flow["port"] for flow in flows})))
        assert edge.label == f"{ports}: {told} {edge.state}"
        assert not any(
            WORST_FIRST.index(State(flow["state"])) < WORST_FIRST.index(edge.state)
            for flow in flows
        )


def test_ten_thousand_flows_stay_readable(large: Snapshot) -> None:
    """By role two nodes; by host what is alike together, and what stands out by its name."""
    by_role = build(large.flows, By.ROLE)
    assert by_role.nodes == (("pc",), ("server",))
    assert [edge.label for edge in by_role.edges] == ["443: 4/10000 broken"]
    by_host = build(large.flows, By.HOST)
    assert len(by_host.nodes) <= MAX_HOSTS
    assert by_host.nodes == (
        ("pc", "2499 hosts", "out ok"),
        ("pc-7", "pc"),
        ("server", "4 hosts", "in broken"),
    )
    assert [edge.label for edge in by_host.edges] == ["443: 4 broken", "443: 9996 ok"]


@pytest.mark.parametrize("hosts", [MAX_HOSTS, MAX_HOSTS + 1, 2000])
def test_there_is_a_limit_to_everything(mixed: Snapshot, hosts: int) -> None:
    """Also where no two hosts are alike: edges that are left out are counted."""
    flow = next(flow for flow in mixed.flows if flow["reasons"])
    flows = [
        {
            **flow,
            "source": f"pc-{number}",
            "destination": f"srv-{number}",
            "reasons": [{**flow["reasons"][0], "role": f"role-{number}"}],
        }
        for number in range(hosts)
    ]
    graph = build(flows, By.ROLE)
    assert len(graph.edges) + graph.left_out == hosts
    assert len(graph.edges) <= MAX_EDGES


def test_nothing_is_a_graph_too(quiet: Snapshot) -> None:
    """With nothing in it."""
    for by in (By.ROLE, By.HOST):
        graph = build(quiet.flows, by)
        assert (graph.nodes, graph.edges, graph.left_out) == ((), (), 0)
