"""Who has to check what: from the topology and what agents announce, to flows and plans. Pure.

The same input always gives the same plans, revisions included, so a collector that restarts
disturbs nobody.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Final

from reachmap_collector.topology.model import Connection, DenyRule, Topology
from reachmap_shared import codec, keys
from reachmap_shared.messages import CheckSpec, ListenerSpec, Plan
from reachmap_shared.names import ServiceName
from reachmap_shared.vocabulary import Expectation, ListenMode, Transport

NO_ADDRESS: Final = ""
"""Stands for the address of a host that nobody has given one yet."""


@dataclass(frozen=True, slots=True)
class Announcement:
    """What an agent says of its host."""

    roles: tuple[str, ...] = ()
    addresses: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Member:
    """A host of the deployment, as topology and announcement together make it."""

    name: str
    roles: tuple[str, ...]
    addresses: tuple[str, ...]
    ports: Mapping[str, int]
    modes: Mapping[str, ListenMode]
    """Where the host says itself when its agent stands in for a service."""
    has_agent: bool
    """Whether an agent is to run there."""


@dataclass(frozen=True, slots=True, order=True)
class FlowKey:
    """What makes a flow that flow."""

    source: str
    destination: str
    address: str
    port: int
    transport: Transport


@dataclass(frozen=True, slots=True)
class ExpectedFlow:
    """A flow that the topology speaks of, and why."""

    key: FlowKey
    service: ServiceName
    protocol: str
    expect: Expectation
    connections: tuple[Connection, ...]
    """Why it should be reachable; empty when it must not be."""
    denies: tuple[DenyRule, ...]
    """Why it must be blocked; of no effect where there is a connection too."""


def members(topology: Topology, announcements: Mapping[str, Announcement]) -> dict[str, Member]:
    """The hosts of the deployment: those listed, and those whose announced roles are admitted."""
    found: dict[str, Member] = {}
    for name, host in topology.hosts.items():
        said = announcements.get(name, Announcement())
        roles = host.roles if host.roles is not None else _known(said.roles, topology.roles)
        found[name] = Member(
            name,
            tuple(dict.fromkeys(roles)),
            _each_once(host.addresses) or _each_once(said.addresses),
            host.ports,
            host.listen,
            host.agent,
        )
    for name, said in announcements.items():
        admitted = _known(said.roles, topology.admit)
        if name not in found and admitted:
            addresses = _each_once(said.addresses)
            found[name] = Member(name, admitted, addresses, {}, {}, has_agent=True)
    return found


def expected_flows(topology: Topology, hosts: Mapping[str, Member]) -> list[ExpectedFlow]:
    """Every flow that the topology expects or forbids, in the order of their keys.

    A role that connects to a service of its own role means the other hosts of that role; any other
    connection may well lead back to the host itself. Where a host has two services on one port,
    what is said of either holds for the flow to the one that has it.
    """
    by_role: dict[str, list[Member]] = {}
    for member in hosts.values():
        for role in member.roles:
            by_role.setdefault(role, []).append(member)
    held = {name: held_ports(topology, member) for name, member in hosts.items()}

    reasons: dict[tuple[FlowKey, ServiceName], tuple[list[Connection], list[DenyRule]]] = {}

    def pairs(role: str, service: ServiceName) -> Iterable[tuple[FlowKey, ServiceName]]:
        transport = topology.listener(service).detail.transport
        for source in by_role.get(role, ()):
            if not source.has_agent:
                continue
            for destination in by_role.get(service.role, ()):
                if destination is source and role == service.role:
                    continue
                port = destination.ports.get(str(service), service.port)
                for address in destination.addresses or (NO_ADDRESS,):
                    key = FlowKey(source.name, destination.name, address, port, transport)
                    yield key, held[destination.name][port, transport]

    for definition in topology.roles.values():
        for connection in definition.connections:
            for pair in pairs(connection.role, connection.service):
                reasons.setdefault(pair, ([], []))[0].append(connection)
    for deny in topology.denies:
        for pair in pairs(deny.role, deny.service):
            if pair[0].source != pair[0].destination:
                reasons.setdefault(pair, ([], []))[1].append(deny)
    return [
        ExpectedFlow(
            key=key,
            service=service,
            protocol=topology.listener(service).detail.protocol,
            expect=Expectation.REACHABLE if connections else Expectation.BLOCKED,
            connections=tuple(connections),
            denies=tuple(denies),
        )
        for (key, service), (connections, denies) in sorted(reasons.items())
    ]


def held_ports(topology: Topology, member: Member) -> dict[tuple[int, Transport], ServiceName]:
    """The services of a host by their ports.

    A listed host has no two on one port, or its topology was refused. One whose agent announces
    such roles has the service of the role that it names first.
    """
    held: dict[tuple[int, Transport], ServiceName] = {}
    for role in member.roles:
        for service, listener in topology.roles[role].listeners.items():
            port = member.ports.get(str(service), service.port)
            held.setdefault((port, listener.detail.transport), service)
    return held


def compile_plans(
    topology: Topology,
    hosts: Mapping[str, Member],
    flows: Sequence[ExpectedFlow],
    secret: bytes,
    certificate: str,
) -> dict[str, Plan]:
    """What each host's agent is to do.

    Args:
        topology: What should be.
        hosts: As `members` gives them.
        flows: As `expected_flows` gives them, so that a source's stand together.
        secret: Of the deployment; the keys by which listeners prove who they are come from it.
        certificate: PEM for listeners that stand in for TLS services.
    """
    checks = {
        source: tuple(
            _check(flow, topology, hosts, secret)
            for flow in group
            if flow.key.address != NO_ADDRESS
        )
        for source, group in groupby(flows, key=lambda flow: flow.key.source)
    }
    plans: dict[str, Plan] = {}
    for name, member in hosts.items():
        if not member.has_agent:
            continue
        plans[name] = _with_revision(
            Plan(
                agent=name,
                revision="",
                interval_s=topology.checks.interval_s,
                timeout_s=topology.checks.timeout_s,
                certificate=certificate,
                deployment_key=keys.to_text(keys.deployment_key(secret)),
                host_key=keys.to_text(keys.host_key(secret, name)),
                listeners=_listeners(topology, member),
                checks=checks.get(name, ()),
            )
        )
    return plans


def idle_plan(agent: str) -> Plan:
    """A plan to do nothing, for an agent whose host has left the topology."""
    return _with_revision(
        Plan(
            agent,
            "",
            interval_s=60,
            timeout_s=1,
            certificate="",
            deployment_key="",
            host_key="",
            listeners=(),
            checks=(),
        )
    )


def planned_flows(flows: Iterable[ExpectedFlow]) -> dict[str, tuple[FlowKey, ...]]:
    """For each source, the flow of each slot of its plan."""
    return {
        source: tuple(flow.key for flow in group if flow.key.address != NO_ADDRESS)
        for source, group in groupby(flows, key=lambda flow: flow.key.source)
    }


def _with_revision(plan: Plan) -> Plan:
    # Piece by piece, for a plan too large to send must not keep the others from being made.
    digest = hashlib.blake2b(digest_size=8)
    for part in (replace(plan, listeners=(), checks=()), *plan.listeners, *plan.checks):
        digest.update(codec.encode(part))
    return replace(plan, revision=digest.hexdigest())


def _check(
    flow: ExpectedFlow, topology: Topology, hosts: Mapping[str, Member], secret: bytes
) -> CheckSpec:
    destination = hosts[flow.key.destination]
    mode = _mode(topology, destination, flow.service)
    return CheckSpec(
        destination=flow.key.destination,
        service=str(flow.service),
        address=flow.key.address,
        port=flow.key.port,
        transport=flow.key.transport,
        protocol=flow.protocol,
        key=_pair_key(flow.key, secret) if destination.has_agent else "",
        window=destination.has_agent and mode is ListenMode.ON_DEMAND,
    )


def _pair_key(key: FlowKey, secret: bytes) -> str:
    """By which a flow's destination proves to its source who it is."""
    of_host = keys.host_key(secret, key.destination)
    return keys.to_text(keys.pair_key(of_host, keys.source_id(key.source)))


def _listeners(topology: Topology, member: Member) -> tuple[ListenerSpec, ...]:
    return tuple(
        ListenerSpec(
            service=str(service),
            port=port,
            transport=transport,
            protocol=topology.listener(service).detail.protocol,
            mode=_mode(topology, member, service),
        )
        for (port, transport), service in held_ports(topology, member).items()
    )


def _each_once(addresses: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(address for address in addresses if address != NO_ADDRESS))


def _mode(topology: Topology, member: Member, service: ServiceName) -> ListenMode:
    return member.modes.get(str(service), topology.listener(service).detail.listen)


def _known(roles: Iterable[str], known: Iterable[str]) -> tuple[str, ...]:
    allowed = frozenset(known)
    return tuple(role for role in dict.fromkeys(roles) if role in allowed)
