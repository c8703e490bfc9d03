"""Flows as a graph that stays readable, however many they are. Pure.

By role there are as many nodes as roles. By host, hosts that are alike (same roles, same worst
state of what they dial and of what dials them) share a node once there are many; the few that
stand out keep their own.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from reachmap_collector.export.snapshot import Json, source_roles
from reachmap_collector.views import WORST_FIRST, By, worst
from reachmap_shared.vocabulary import State

MAX_HOSTS: Final = 40
"""Nodes with a host of their own that a person still finds their way among."""

_FEW: Final = 3
"""Alike hosts that are still named one by one."""

MAX_EDGES: Final = 400
"""Mermaid refuses graphs of more than 500."""

COLOURS: Final[Mapping[State, str]] = {
    State.OK: "#2e7d32",
    State.DEGRADED: "#b26a00",
    State.BROKEN: "#c62828",
    State.EXPOSED: "#8e24aa",
    State.UNKNOWN: "#757575",
}
"""Dark enough to be read on white; the words beside them say the same."""


@dataclass(frozen=True, slots=True)
class Edge:
    """All flows from one node to another."""

    source: int
    """Index of a node."""
    destination: int
    label: str
    """Ports, and how many flows are in the worst state."""
    state: State
    """The worst."""


@dataclass(frozen=True, slots=True)
class Graph:
    """Nodes by their labels, which have several lines, and edges, the worst first."""

    nodes: tuple[tuple[str, ...], ...]
    edges: tuple[Edge, ...]
    left_out: int
    """Edges that there was no room for."""


def build(flows: Sequence[Json], by: By) -> Graph:
    """The graph of some flows, its nodes roles or hosts."""
    labels = _group_hosts(flows) if by is By.HOST else {}
    counts: dict[tuple[tuple[str, ...], tuple[str, ...]], Counter[State]] = {}
    ports: dict[tuple[tuple[str, ...], tuple[str, ...]], set[int]] = {}
    for flow in flows:
        if by is By.HOST:
            pairs = [(labels[flow["source"]], labels[flow["destination"]])]
        else:
            role = flow["service"].rpartition(":")[0]
            pairs = [((one,), (role,)) for one in source_roles(flow)]
        for pair in pairs:
            counts.setdefault(pair, Counter())[State(flow["state"])] += 1
            ports.setdefault(pair, set()).add(flow["port"])
    nodes = {label: index for index, label in enumerate(sorted({one for p in counts for one in p}))}
    edges = [
        Edge(nodes[source], nodes[destination], _label(ports[source, destination], count), state)
        for (source, destination), count in sorted(counts.items())
        if (state := worst(count)) is not None
    ]
    edges.sort(key=lambda edge: WORST_FIRST.index(edge.state))
    return Graph(tuple(nodes), tuple(edges[:MAX_EDGES]), max(0, len(edges) - MAX_EDGES))


def _label(ports: Iterable[int], count: Counter[State]) -> str:
    state = worst(count)
    assert state is not None  # a pair without flows is none
    total, some = count.total(), count[state]
    told = f"{total} {state}" if some == total else f"{some}/{total} {state}"
    return f"{', '.join(map(str, sorted(ports)))}: {told}"


def _group_hosts(flows: Sequence[Json]) -> dict[str, tuple[str, ...]]:
    """Each host's node: its own name, or what it has in common with others."""
    roles: dict[str, set[str]] = {}
    out: dict[str, Counter[State]] = {}
    into: dict[str, Counter[State]] = {}
    for flow in flows:
        source, destination, state = flow["source"], flow["destination"], State(flow["state"])
        roles.setdefault(source, set()).update(source_roles(flow))
        roles.setdefault(destination, set()).add(flow["service"].rpartition(":")[0])
        out.setdefault(source, Counter())[state] += 1
        into.setdefault(destination, Counter())[state] += 1
    own: dict[str, tuple[str, ...]] = {
        host: (host, ", ".join(sorted(roles[host]))) for host in roles
    }
    if len(roles) <= MAX_HOSTS:
        return own
    alike: dict[tuple[str, State | None, State | None], list[str]] = {}
    for host in roles:
        kind = (
            own[host][1],
            worst(out.get(host, Counter())),
            worst(into.get(host, Counter())),
        )
        alike.setdefault(kind, []).append(host)
    few = [group for group in alike.values() if len(group) <= _FEW]
    spelt = few if sum(map(len, few)) <= MAX_HOSTS else []
    labels: dict[str, tuple[str, ...]] = {}
    for (of_roles, dials, is_dialled), group in alike.items():
        states = "; ".join(
            f"{what} {state}" for what, state in (("out", dials), ("in", is_dialled)) if state
        )
        apart = len(group) == 1 or group in spelt
        together = (of_roles, f"{len(group)} hosts", states)
        labels |= {host: own[host] if apart else together for host in group}
    return labels
