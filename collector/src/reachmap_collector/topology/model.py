"""A topology that makes sense as a whole, from the files that it is written in. Pure.

`assemble` merges a topology file with the profiles it builds on and finds what no single value
shows: unknown roles and services, rows that do not exist, definitions that contradict each other.
"""

import difflib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from reachmap_collector.errors import Problem
from reachmap_collector.topology.schema import (
    Basis,
    Checks,
    Host,
    Listen,
    ProfileFile,
    Row,
    TopologyFile,
)
from reachmap_shared.names import ServiceName


@dataclass(frozen=True, slots=True)
class TableRow:
    """A row of a profile's port table, as people know it."""

    profile: str
    number: int
    row: Row

    def __str__(self) -> str:
        text = f"{self.row.port} | {self.row.component} | {self.row.traffic.capitalize()}"
        return f"{text} | {self.row.description}" if self.row.description else text


@dataclass(frozen=True, slots=True)
class Listener:
    """A service as its role offers it."""

    service: ServiceName
    detail: Listen
    table_row: TableRow | None


@dataclass(frozen=True, slots=True)
class Connection:
    """One reason for flows: hosts of `role` connect to `service`."""

    role: str
    service: ServiceName
    basis: Basis
    table_row: TableRow | None
    note: str


@dataclass(frozen=True, slots=True)
class DenyRule:
    """Hosts of `role` must not reach `service`."""

    role: str
    service: ServiceName
    note: str


@dataclass(frozen=True, slots=True)
class RoleDefinition:
    """A role, merged from every file that speaks of it."""

    name: str
    title: str
    listeners: Mapping[ServiceName, Listener]
    connections: tuple[Connection, ...]


@dataclass(frozen=True, slots=True)
class Topology:
    """One deployment, known to make sense."""

    roles: Mapping[str, RoleDefinition] = field(default_factory=dict)
    hosts: Mapping[str, Host] = field(default_factory=dict)
    denies: tuple[DenyRule, ...] = ()
    rows: tuple[TableRow, ...] = ()
    admit: frozenset[str] = frozenset()
    checks: Checks = field(default_factory=Checks)
    former: Mapping[str, str] = field(default_factory=dict)
    """What hosts were called before, and are called now."""

    def current(self, name: str) -> str:
        """What the host is called now that may have had another name then."""
        return self.former.get(name, name)

    def names(self, host: str) -> tuple[str, ...]:
        """What a host is called, and was."""
        listed = self.hosts.get(host)
        return (host, *(listed.was if listed is not None else ()))

    def dependencies(self) -> dict[str, list[str]]:
        """For each service that needs others, those without which it does not work."""
        return {
            str(service): listener.detail.requires
            for role in self.roles.values()
            for service, listener in role.listeners.items()
            if listener.detail.requires
        }

    def listener(self, service: ServiceName) -> Listener:
        """The definition of a service that is known to exist."""
        return self.roles[service.role].listeners[service]


@dataclass(frozen=True, slots=True)
class NamedProfile:
    """A profile file under the name that people call it by."""

    name: str
    content: ProfileFile


def assemble(
    topology: TopologyFile, profiles: Sequence[NamedProfile]
) -> tuple[Topology, list[Problem]]:
    """Merge a topology with its profiles, which come before those that build on them.

    Returns:
        The topology, and all that is wrong with it; with problems, it must not be used.
    """
    parts = [*profiles, NamedProfile("", topology)]
    problems: list[Problem] = []
    rows: list[TableRow] = []
    roles: dict[str, RoleDefinition] = {}
    for part in parts:
        own = [TableRow(part.name, number, row) for number, row in enumerate(part.content.rows, 1)]
        rows += own
        for name in part.content.roles:
            roles[name], found = _merged(roles.get(name), name, part, own)
            problems += found
    assembled = Topology(
        roles=roles,
        hosts=topology.hosts,
        denies=tuple(
            DenyRule(deny.source, ServiceName.parse(deny.to), deny.note)
            for part in parts
            for deny in part.content.deny
        ),
        rows=tuple(rows),
        admit=frozenset(topology.admit),
        checks=topology.checks,
        former={old: name for name, host in topology.hosts.items() for old in host.was},
    )
    problems += _unknown_names(assembled, parts, topology.admit)
    problems += _host_problems(assembled)
    return assembled, problems


def _merged(
    known: RoleDefinition | None,
    name: str,
    part: NamedProfile,
    rows: Sequence[TableRow],
) -> tuple[RoleDefinition, list[Problem]]:
    """One role, with what one more file says of it."""
    role = part.content.roles[name]
    where = _where(part, f"roles.{name}")
    problems: list[Problem] = []
    listeners = dict(known.listeners) if known else {}
    connections = list(known.connections) if known else []

    def table_row(number: int | None, place: str) -> TableRow | None:
        if number is None:
            return None
        if number <= len(rows):
            return rows[number - 1]
        problems.append(Problem(place, f"row {number} is not in this file's rows"))
        return None

    for text, listen in role.listens.items():
        service = ServiceName.parse(text)
        place = f'{where}.listens."{text}"'
        if service.role != name:
            problems.append(
                Problem(place, f"expected a service of this role, as in {name}:{service.port}")
            )
        elif service in listeners:
            problems.append(Problem(place, "a profile has defined this service already"))
        listeners[service] = Listener(service, listen, table_row(listen.row, place))
    for index, connect in enumerate(role.connects):
        place = f"{where}.connects[{index}]"
        service = ServiceName.parse(connect.to)
        if any(service == other.service for other in connections):
            problems.append(Problem(place, f"{service} is connected to twice by this role"))
        connections.append(
            Connection(name, service, connect.basis, table_row(connect.row, place), connect.note)
        )
    title = role.title or (known.title if known else "") or name
    return RoleDefinition(name, title, listeners, tuple(connections)), problems


def _unknown_names(
    topology: Topology, parts: Sequence[NamedProfile], admit: Sequence[str]
) -> Iterator[Problem]:
    """Roles and services that something refers to and nothing defines."""
    services = [str(service) for role in topology.roles.values() for service in role.listeners]
    for part in parts:
        for name, role in part.content.roles.items():
            for index, connect in enumerate(role.connects):
                if connect.to not in services:
                    place = _where(part, f"roles.{name}.connects[{index}]")
                    yield _unknown(place, "service nobody listens on", connect.to, services)
            for service, listen in role.listens.items():
                for index, required in enumerate(listen.requires):
                    if required not in services:
                        place = _where(part, f'roles.{name}.listens."{service}".requires[{index}]')
                        yield _unknown(place, "service nobody listens on", required, services)
        for index, deny in enumerate(part.content.deny):
            if deny.source not in topology.roles:
                place = _where(part, f"deny[{index}].from")
                yield _unknown(place, "unknown role", deny.source, topology.roles)
            if deny.to not in services:
                place = _where(part, f"deny[{index}].to")
                yield _unknown(place, "service nobody listens on", deny.to, services)
    for index, name in enumerate(admit):
        if name not in topology.roles:
            yield _unknown(f"admit[{index}]", "unknown role", name, topology.roles)


def _host_problems(topology: Topology) -> Iterator[Problem]:
    seen: dict[str, str] = {}
    for name, host in topology.hosts.items():
        where = f"hosts.{name}"
        if (other := seen.setdefault(name.lower(), name)) != name:
            yield Problem(where, f"differs from host {other!r} only in upper and lower case")
        own = [
            str(service)
            for role in host.roles or ()
            if role in topology.roles
            for service in topology.roles[role].listeners
        ]
        for index, role in enumerate(host.roles or ()):
            if role not in topology.roles:
                yield _unknown(f"{where}.roles[{index}]", "unknown role", role, topology.roles)
        if host.roles is None:
            own = [str(service) for role in topology.roles.values() for service in role.listeners]
        for key in ("ports", "listen"):
            for service in getattr(host, key):
                if service not in own:
                    place = f'{where}.{key}."{service}"'
                    yield _unknown(place, "service not of this host's roles", service, own)
        if host.roles is None and not host.agent:
            yield Problem(f"{where}.roles", "expected roles, since no agent there will say them")
        if not host.addresses and not host.agent:
            yield Problem(
                f"{where}.addresses", "expected addresses, since no agent there will say them"
            )
        for index, old in enumerate(host.was):
            if old in topology.hosts:
                yield Problem(f"{where}.was[{index}]", f"{old!r} is a host of this topology")
            elif topology.former[old] != name or old in host.was[:index]:
                yield Problem(f"{where}.was[{index}]", f"{old!r} is named twice as what a host was")
        yield from _port_clashes(topology, name, host)


def _port_clashes(topology: Topology, name: str, host: Host) -> Iterator[Problem]:
    held: dict[tuple[int, str], ServiceName] = {}
    for role in dict.fromkeys(host.roles or ()):
        definition = topology.roles.get(role)
        for service, listener in definition.listeners.items() if definition else ():
            port = host.ports.get(str(service), service.port)
            other = held.setdefault((port, listener.detail.transport), service)
            if other != service:
                transport = listener.detail.transport
                yield Problem(
                    f"hosts.{name}", f"{other} and {service} are both on {transport} port {port}"
                )


def _unknown(where: str, what: str, name: str, known: Iterable[str]) -> Problem:
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    if near:
        hint = f"did you mean {' or '.join(near)}?"
    else:
        hint = f"expected one of {', '.join(names) or '(none is defined)'}"
    return Problem(where, f"{what} {name!r}: {hint}")


def _where(part: NamedProfile, key: str) -> str:
    return f"profile {part.name}: {key}" if part.name else key
