"""Who has to reach what: from the topology and what agents announce, to flows. Pure.

Hosts of the same roles dial the same targets, so those are worked out once for all of them, and a
deployment of ten thousand hosts is planned anew in the time that its handful of roles takes.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Final, overload

from reachmap_collector.topology.model import Connection, DenyRule, Topology
from reachmap_shared.names import ServiceName
from reachmap_shared.vocabulary import Expectation, ListenMode, Transport

_PORTS: Final = 65_536

NO_ADDRESS: Final = ""
"""Stands for the address of a host that nobody has given one yet."""


@dataclass(frozen=True, slots=True)
class Announcement:
    """What an agent says of its host."""

    roles: tuple[str, ...] = ()
    addresses: tuple[str, ...] = ()
    ports: tuple[tuple[str, int], ...] = ()
    """Where its services are, by their names; nobody has seen yet whether that makes sense."""


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


@dataclass(slots=True, order=True, unsafe_hash=True)
class FlowKey:
    """What makes a flow that flow; nobody changes one.

    It is not frozen, since that makes it four times as slow to make, and a restart makes millions.
    """

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
        said = announcements.get(name)
        if said is None:  # one that was renamed has perhaps not spoken under its new name yet
            spoken = (announcements[old] for old in host.was if old in announcements)
            said = next(spoken, _NOTHING_SAID)
        given = host.roles if host.roles is not None else _known(said.roles, topology.roles)
        roles = tuple(dict.fromkeys(given))
        found[name] = Member(
            name,
            roles,
            _each_once(host.addresses) or _each_once(said.addresses),
            _ports(topology, roles, host.ports, said.ports),
            host.listen,
            host.agent,
        )
    for name, said in announcements.items():
        admitted = _known(said.roles, topology.admit)
        if name not in found and name not in topology.former and admitted:
            addresses = _each_once(said.addresses)
            ports = _ports(topology, admitted, {}, said.ports)
            found[name] = Member(name, admitted, addresses, ports, {}, has_agent=True)
    return found


def _ports(
    topology: Topology,
    roles: Iterable[str],
    listed: Mapping[str, int],
    said: Iterable[tuple[str, int]],
) -> Mapping[str, int]:
    """Where a host's services are: as the topology lists them, else as its agent says.

    An agent's word counts for services of the host's own roles. Where it would put two of them on
    one port, nothing of it does: a rule for one would be taken for the other's.
    """
    if not said:
        return listed
    own = {
        str(service): (service.port, listener.detail.transport)
        for role in roles
        for service, listener in topology.roles[role].listeners.items()
    }
    moved = {
        service: port
        for service, port in sorted(said)
        if service in own
        and service not in listed
        and 0 < port < _PORTS
        and port != own[service][0]
    }
    ports = {**listed, **moved}
    places = {(ports.get(name, port), transport) for name, (port, transport) in own.items()}
    return ports if moved and len(places) == len(own) else listed


_NOTHING_SAID: Final = Announcement()


@dataclass(frozen=True, slots=True)
class Target:
    """What sources dial, and why: one object for all of them that have the same roles."""

    destination: str
    address: str
    port: int
    transport: Transport
    service: ServiceName
    protocol: str
    expect: Expectation
    connections: tuple[Connection, ...]
    denies: tuple[DenyRule, ...]

    @property
    def place(self) -> tuple[str, str, int, Transport]:
        """All of its flows' keys but the source."""
        return self.destination, self.address, self.port, self.transport

    @classmethod
    def of(cls, flow: ExpectedFlow) -> "Target":
        """Where a flow leads."""
        key = flow.key
        return cls(
            key.destination,
            key.address,
            key.port,
            key.transport,
            flow.service,
            flow.protocol,
            flow.expect,
            flow.connections,
            flow.denies,
        )

    @property
    def because(self) -> tuple[str, ...]:
        """The roles for whose sake sources dial it, or must not reach it."""
        return tuple(dict.fromkeys(one.role for one in self.connections or self.denies))

    def flow(self, source: str) -> ExpectedFlow:
        """The flow to it from one source."""
        return ExpectedFlow(
            FlowKey(source, self.destination, self.address, self.port, self.transport),
            self.service,
            self.protocol,
            self.expect,
            self.connections,
            self.denies,
        )


class Flows(Sequence[ExpectedFlow]):
    """Every flow that a topology expects or forbids, in the order of their keys.

    Held as the targets of each source; a flow is made when somebody looks at it.
    """

    def __init__(self, targets: Mapping[str, tuple[Target, ...]]) -> None:
        self.targets: Mapping[str, tuple[Target, ...]] = dict(sorted(targets.items()))
        """By source, in the order of names."""
        self.lengths = tuple(map(len, self.targets.values()))
        """How many targets each source has."""
        self._sources = tuple(self.targets)
        self._ends = tuple(accumulate(self.lengths))
        self._starts = dict(zip(self._sources, (0, *self._ends), strict=False))

    @classmethod
    def of(cls, flows: Iterable[ExpectedFlow]) -> "Flows":
        """From flows in any order."""
        targets: dict[str, list[Target]] = {}
        for flow in sorted(flows, key=lambda one: one.key):
            targets.setdefault(flow.key.source, []).append(Target.of(flow))
        return cls({source: tuple(those) for source, those in targets.items()})

    def are(self, others: "Flows") -> bool:
        """Whether each source has the very targets that it has there."""
        # Both are in the order of names.
        ours, theirs = self.targets.items(), others.targets.items()
        return len(ours) == len(theirs) and all(
            source == other and targets is those
            for (source, targets), (other, those) in zip(ours, theirs, strict=True)
        )

    def start(self, source: str) -> int:
        """The place of a source's first flow; 0 for one that has none."""
        return self._starts.get(source, 0)

    def after(self, key: FlowKey) -> int:
        """The place of the first flow whose key is greater."""
        number = bisect_left(self._sources, key.source)
        if number == len(self._sources) or self._sources[number] != key.source:
            return (0, *self._ends)[number]
        place = key.destination, key.address, key.port, key.transport
        targets = self.targets[key.source]
        return self.start(key.source) + bisect_right(targets, place, key=_place)

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def __iter__(self) -> Iterator[ExpectedFlow]:
        for source, targets in self.targets.items():
            for target in targets:
                yield target.flow(source)

    @overload
    def __getitem__(self, index: int) -> ExpectedFlow: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[ExpectedFlow]: ...
    def __getitem__(self, index: int | slice) -> ExpectedFlow | Sequence[ExpectedFlow]:
        """By place in the order of keys."""
        if isinstance(index, slice):
            return [self[place] for place in range(*index.indices(len(self)))]
        place = index if index >= 0 else len(self) + index
        if not 0 <= place < len(self):
            raise IndexError(index)
        number = bisect_right(self._ends, place)
        source = self._sources[number]
        before_next = place - self._ends[number]  # negative: counted from the end of its source's
        return self.targets[source][before_next].flow(source)


def expected_flows(
    topology: Topology, hosts: Mapping[str, Member], before: Flows | None = None
) -> Flows:
    """Every flow that the topology expects or forbids.

    A role that connects to a service of its own role means the other hosts of that role; any other
    connection may well lead back to the host itself. Where a host has two services on one port,
    what is said of either holds for the flow to the one that has it.

    Args:
        topology: What should be.
        hosts: As `members` gives them.
        before: What it gave before, if it did: a source that has the targets that it had then has
            the very same tuple of them, so that whoever looks for changes sees it at once.
    """
    planning = _Planning(topology, hosts)
    had = before.targets if before is not None else {}
    same: dict[tuple[int, int], bool] = {}  # by identity: sources share what is dear to compare
    found: dict[str, tuple[Target, ...]] = {}
    for source in hosts.values():
        if not source.has_agent:
            continue
        targets, then = planning.targets(source), had.get(source.name, ())
        pair = id(targets), id(then)
        if pair not in same:
            same[pair] = targets == then
        if targets:
            found[source.name] = then if same[pair] else targets
    return Flows(found)


class _Planning:
    """One topology with its hosts, asked for the targets of each source."""

    def __init__(self, topology: Topology, hosts: Mapping[str, Member]) -> None:
        self._topology = topology
        self._by_role: dict[str, list[Member]] = {}
        for member in hosts.values():
            for role in member.roles:
                self._by_role.setdefault(role, []).append(member)
        self._held: dict[str, dict[tuple[int, Transport], ServiceName]] = {}
        """Of the hosts that anybody dials."""
        self._common: dict[frozenset[str], tuple[tuple[Target, ...], frozenset[str]]] = {}
        """By roles: what is dialled, and the destinations of it."""

    def targets(self, source: Member) -> tuple[Target, ...]:
        """What one source dials, in the order of flow keys."""
        roles = frozenset(source.roles)
        if roles not in self._common:
            made = self._targets(roles, None)
            self._common[roles] = made, frozenset(map(_destination, made))
        common, destinations = self._common[roles]
        if source.name not in destinations:
            return common
        # It is one of those that hosts of its roles dial: for itself, other rules hold.
        first = bisect_left(common, source.name, key=_destination)
        last = bisect_right(common, source.name, key=_destination)
        return common[:first] + self._targets(roles, source) + common[last:]

    def _targets(self, roles: frozenset[str], itself: Member | None) -> tuple[Target, ...]:
        """What sources of these roles dial: of all hosts, or of their own one alone."""
        reasons: dict[_Place, tuple[list[Connection], list[DenyRule]]] = {}
        for definition in self._topology.roles.values():
            if definition.name in roles:
                for connection in definition.connections:
                    if itself is None or connection.role != connection.service.role:
                        for place in self._places(connection.service, itself):
                            reasons.setdefault(place, ([], []))[0].append(connection)
        for deny in self._topology.denies:
            if deny.role in roles and itself is None:
                for place in self._places(deny.service, itself):
                    reasons.setdefault(place, ([], []))[1].append(deny)
        return tuple(
            Target(
                *place,
                protocol=self._topology.listener(place[-1]).detail.protocol,
                expect=Expectation.REACHABLE if connections else Expectation.BLOCKED,
                connections=tuple(connections),
                denies=tuple(denies),
            )
            for place, (connections, denies) in sorted(reasons.items())
        )

    def _places(self, service: ServiceName, only: Member | None) -> Iterable["_Place"]:
        """Where a service is offered: at each address of each host that has its role."""
        transport = self._topology.listener(service).detail.transport
        for destination in self._by_role.get(service.role, ()):
            if only is None or destination is only:
                port = destination.ports.get(str(service), service.port)
                held = self._held_by(destination)[port, transport]
                for address in destination.addresses or (NO_ADDRESS,):
                    yield destination.name, address, port, transport, held

    def _held_by(self, member: Member) -> Mapping[tuple[int, Transport], ServiceName]:
        if member.name not in self._held:
            self._held[member.name] = held_ports(self._topology, member)
        return self._held[member.name]


_Place = tuple[str, str, int, Transport, ServiceName]
"""A destination, its address, port and transport, and what is offered there."""


def _destination(target: Target) -> str:
    return target.destination


def _place(target: Target) -> tuple[str, str, int, Transport]:
    return target.place


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


def mode(topology: Topology, member: Member, service: ServiceName) -> ListenMode:
    """When the agent on a host stands in for one of its services."""
    return member.modes.get(str(service), topology.listener(service).detail.listen)


def _each_once(addresses: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(address for address in addresses if address != NO_ADDRESS))


def _known(roles: Iterable[str], known: Iterable[str]) -> tuple[str, ...]:
    allowed = frozenset(known)
    return tuple(role for role in dict.fromkeys(roles) if role in allowed)
