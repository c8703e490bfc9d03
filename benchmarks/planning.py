"""What planning costs: a million flows between ten thousand hosts, and one host that changes.

Two hundred servers of twenty roles, and endpoints that dial half of them each: no two groups of
endpoints have the same roles. A plan counts as made when its bytes are ready to be sent.
"""

import time
from collections.abc import Callable
from typing import Any

from common import figure

from reachmap_collector import garbage, planner
from reachmap_collector.planner import Announcement, Flows
from reachmap_collector.plans import Plans
from reachmap_collector.topology.model import NamedProfile, Topology, assemble
from reachmap_collector.topology.schema import TopologyFile
from reachmap_shared import codec

HOSTS = 10_000
SERVERS = 200
SERVICES = 20
KINDS = 50

ALL_GOAL_S, ONE_GOAL_S = 10.0, 0.2


def main() -> None:
    """Everything, then one endpoint's and one server's new address."""
    print(f"\nplanning {HOSTS:,} hosts")
    with garbage.rarely_looked_for() as set_aside:  # as in a collector
        _measure(set_aside)


def _measure(set_aside: Callable[[], None]) -> None:
    topology = _topology()
    said = {
        f"pc-{n:05}": Announcement((), (f"10.1.{n >> 8}.{n & 255}",))
        for n in range(HOSTS - SERVERS)
    }
    began = time.perf_counter()
    flows, plans = _planned(topology, said)
    made = sum(len(codec.encode(plan)) for plan in plans.values())
    took = time.perf_counter() - began
    figure(
        f"{len(flows):,} flows to {made / 1e6:.0f} MB of plans",
        f"{took:.1f} s",
        f"under {ALL_GOAL_S:g} s",
        took < ALL_GOAL_S,
    )
    set_aside()
    said["pc-00007"] = Announcement((), ("10.9.9.9",))
    _change("an endpoint moves", topology, said, flows, plans)
    said["server-007"] = Announcement((), ("10.9.9.8",))
    _change("a server moves", topology, said, flows, plans)


def _change(
    what: str, topology: Topology, said: dict[str, Announcement], flows: Flows, plans: Plans
) -> None:
    began = time.perf_counter()
    _, after = _planned(topology, said, flows)
    changed = [n for n, revision in after.revisions.items() if plans.revisions[n] != revision]
    took = time.perf_counter() - began
    sent = time.perf_counter()
    for name in changed:
        codec.encode(after[name])
    sent = time.perf_counter() - sent
    figure(
        f"{what}: {len(changed):,} plans concerned",
        f"{took * 1000:.0f} ms",
        f"under {ONE_GOAL_S * 1000:g} ms",
        took < ONE_GOAL_S,
    )
    figure("  and to make those", f"{sent * 1000:.0f} ms")


def deployment(*, by_name: bool = False) -> tuple[Topology, Flows, Plans]:
    """That deployment, planned; its servers' addresses are names if asked."""
    topology = _topology(by_name=by_name)
    said = {
        f"pc-{n:05}": Announcement((), (f"10.1.{n >> 8}.{n & 255}",))
        for n in range(HOSTS - SERVERS)
    }
    return topology, *_planned(topology, said)


def _planned(
    topology: Topology, said: dict[str, Announcement], before: Flows | None = None
) -> tuple[Flows, Plans]:
    hosts = planner.members(topology, said)
    flows = planner.expected_flows(topology, hosts, before)
    return flows, Plans(topology, hosts, flows, b"secret", "PEM" * 400)


def tables(*, by_name: bool = False) -> dict[str, dict[str, dict[str, Any]]]:
    """That deployment, as a topology's file has it."""
    roles: dict[str, dict[str, Any]] = {
        f"role-{n:02}": {"listens": {f"role-{n:02}:{8000 + n}": {"protocol": "http"}}}
        for n in range(SERVICES)
    }
    for kind in range(KINDS):
        wanted = [(kind + step) % SERVICES for step in range(SERVICES // 2)]
        roles[f"kind-{kind:02}"] = {"connects": [f"role-{n:02}:{8000 + n}" for n in wanted]}
    hosts: dict[str, dict[str, Any]] = {
        f"server-{n:03}": {"roles": [f"role-{n % SERVICES:02}"]} for n in range(SERVERS)
    }
    hosts |= {f"pc-{n:05}": {"roles": [f"kind-{n % KINDS:02}"]} for n in range(HOSTS - SERVERS)}
    for n in range(SERVERS):
        address = f"server-{n}.example" if by_name else f"10.0.0.{n}"
        hosts[f"server-{n:03}"]["addresses"] = [address] if n != 7 else []
    return {"roles": roles, "hosts": hosts}


def _topology(*, by_name: bool = False) -> Topology:
    text = TopologyFile.model_validate(tables(by_name=by_name))
    assembled, problems = assemble(text, list[NamedProfile]())
    assert not problems, problems
    return assembled
