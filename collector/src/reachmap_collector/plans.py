"""What each agent is told to do: plans, from the flows. Pure.

The same input always gives the same plans, revisions included, so a collector that restarts
disturbs nobody. A revision costs next to nothing; the plan itself, with its thousands of keys, is
made when it is to be sent.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

from reachmap_collector.planner import (
    NO_ADDRESS,
    Flows,
    Member,
    Target,
    held_ports,
    mode,
)
from reachmap_collector.slots import Ends, Slots
from reachmap_collector.topology.model import Topology
from reachmap_shared import codec, keys
from reachmap_shared.messages import CheckSpec, ListenerSpec, Plan
from reachmap_shared.vocabulary import Expectation, ListenMode


class Plans(Mapping[str, Plan]):
    """The plan of each host's agent; `revisions` tells which have changed without making any.

    Args:
        topology: What should be.
        hosts: As `planner.members` gives them.
        flows: As `planner.expected_flows` gives them.
        secret: Of the deployment; the keys by which listeners prove who they are come from it.
        certificate: PEM for listeners that stand in for TLS services.
    """

    def __init__(
        self,
        topology: Topology,
        hosts: Mapping[str, Member],
        flows: Flows,
        secret: bytes,
        certificate: str,
    ) -> None:
        self._topology = topology
        self._hosts = hosts
        self._flows = flows
        self._secret = secret
        self._frame = Plan(
            agent="",
            revision="",
            interval_s=topology.checks.interval_s,
            timeout_s=topology.checks.timeout_s,
            certificate=certificate,
            deployment_key=keys.to_text(keys.deployment_key(secret)),
            host_key="",
            listeners=(),
            checks=(),
        )
        self._common = _digest((self._frame,))
        self._listeners: dict[tuple[object, ...], tuple[tuple[ListenerSpec, ...], bytes]] = {}
        """By roles, ports and modes: what hosts that are alike in these listen on, and a digest."""
        self._checks: dict[int, tuple[tuple[CheckSpec, ...], bytes]] = {}
        """By the identity of a tuple of targets, which the flows keep alive: the checks of them,
        but for their keys, and a digest."""
        self._ends: dict[int, Ends] = {}
        """By the same: what the slots mean."""
        self._host_keys: dict[str, bytes] = {}
        self.revisions: Mapping[str, str] = {
            name: self._revision(member) for name, member in hosts.items() if member.has_agent
        }
        """Of every agent's plan: a digest of all that is in it."""

    def __len__(self) -> int:
        return len(self.revisions)

    def __iter__(self) -> Iterator[str]:
        return iter(self.revisions)

    def __contains__(self, name: object) -> bool:
        return name in self.revisions

    def __getitem__(self, name: str) -> Plan:
        """Make one agent's plan. Raises KeyError where no agent is to run."""
        revision = self.revisions[name]
        source = keys.source_id(name)
        return replace(
            self._frame,
            agent=name,
            revision=revision,
            host_key=keys.to_text(self._host_key(name)),
            listeners=self._listeners_of(self._hosts[name])[0],
            checks=tuple(
                replace(check, key=self._pair_key(check.destination, source))
                for check in self._checks_of(name)[0]
            ),
        )

    def slots(self, name: str) -> Slots:
        """What each slot of an agent's plan means."""
        targets = self._flows.targets.get(name, ())
        if id(targets) not in self._ends:
            dialled = tuple(_dialled(self._flows, name))
            self._ends[id(targets)] = Ends(
                tuple(target.place for target in dialled),
                tuple(str(target.service) for target in dialled),
            )
        return Slots(name, self.revisions[name], self._ends[id(targets)])

    def _revision(self, member: Member) -> str:
        """The digest of all that makes this plan; the keys in it come from the secret alone."""
        digest = hashlib.blake2b(self._common, digest_size=8)
        digest.update(self._listeners_of(member)[1])
        digest.update(self._checks_of(member.name)[1])
        digest.update(member.name.encode())
        return digest.hexdigest()

    def _listeners_of(self, member: Member) -> tuple[tuple[ListenerSpec, ...], bytes]:
        likes = member.roles, *member.ports.items(), *member.modes.items()
        if likes not in self._listeners:
            listeners = _listeners(self._topology, member)
            self._listeners[likes] = listeners, _digest(listeners)
        return self._listeners[likes]

    def _checks_of(self, name: str) -> tuple[tuple[CheckSpec, ...], bytes]:
        targets = self._flows.targets.get(name, ())
        if id(targets) not in self._checks:
            checks = tuple(self._check(target) for target in _dialled(self._flows, name))
            self._checks[id(targets)] = checks, _digest(checks)
        return self._checks[id(targets)]

    def _check(self, target: Target) -> CheckSpec:
        destination = self._hosts[target.destination]
        listens = mode(self._topology, destination, target.service)
        return CheckSpec(
            destination=target.destination,
            service=str(target.service),
            address=target.address,
            port=target.port,
            transport=target.transport,
            protocol=target.protocol,
            key="",
            window=destination.has_agent and listens is ListenMode.ON_DEMAND,
            forbidden=target.expect is Expectation.BLOCKED,
        )

    def _pair_key(self, destination: str, source: bytes) -> str:
        """By which a destination proves to a source who it is; empty where no agent can."""
        if not self._hosts[destination].has_agent:
            return ""
        return keys.to_text(keys.pair_key(self._host_key(destination), source))

    def _host_key(self, host: str) -> bytes:
        if host not in self._host_keys:
            self._host_keys[host] = keys.host_key(self._secret, host)
        return self._host_keys[host]


def idle_plan(agent: str) -> Plan:
    """A plan to do nothing, for an agent whose host has left the topology."""
    plan = Plan(
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
    return replace(plan, revision=hashlib.blake2b(codec.encode(plan), digest_size=8).hexdigest())


def _dialled(flows: Flows, source: str) -> Iterator[Target]:
    """The targets that can be dialled, each of which has a slot in the plan."""
    return (target for target in flows.targets.get(source, ()) if target.address != NO_ADDRESS)


def _digest(parts: Iterable[CheckSpec | ListenerSpec | Plan]) -> bytes:
    # Piece by piece, for a plan too large to send must not keep the others from being made.
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        digest.update(codec.encode(part))
    return digest.digest()


def _listeners(topology: Topology, member: Member) -> tuple[ListenerSpec, ...]:
    return tuple(
        ListenerSpec(
            service=str(service),
            port=port,
            transport=transport,
            protocol=topology.listener(service).detail.protocol,
            mode=mode(topology, member, service),
        )
        for (port, transport), service in held_ports(topology, member).items()
    )
