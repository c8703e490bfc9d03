"""What is probably not meant in a topology that is valid. Pure: a topology in, findings out.

What stands here must be true whatever the agents announce later: a host whose roles its agent
will say is left alone, and while there is one, no role counts as missing.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from reachmap_collector.topology.findings import Finding, FindingKind
from reachmap_collector.topology.model import DenyRule, Topology
from reachmap_collector.topology.schema import Host
from reachmap_shared.names import ServiceName
from reachmap_shared.vocabulary import ListenMode

_SHOWN: Final = 5
"""Names in one message; a thousand hosts with one mistake are still one finding to read."""


_WINDOW_S: Final = 4.5
"""The longest timeout that a window covers: agents keep one open for at most 5 s, and its first
half second may pass before the check begins."""


def lint(topology: Topology) -> tuple[Finding, ...]:
    """Warn of all in `topology` that is valid but probably not meant, in a stable order."""
    facts = _Facts.of(topology)
    return tuple(finding for rule in _RULES for finding in rule(facts))


@dataclass(frozen=True, slots=True)
class _Facts:
    """A topology, and what several rules ask of it."""

    topology: Topology
    holders: dict[str, tuple[str, ...]]
    """Hosts that hold a role for certain, by role."""
    probes: frozenset[str]
    """Roles that an agent may check from: those of hosts with an agent, and those admitted."""

    @classmethod
    def of(cls, topology: Topology) -> "_Facts":
        holders: dict[str, list[str]] = defaultdict(list)
        for name, host in topology.hosts.items():
            for role in _roles(host):
                holders[role].append(name)
        probes = {role for host in topology.hosts.values() if host.agent for role in _roles(host)}
        return cls(
            topology,
            {role: tuple(hosts) for role, hosts in holders.items()},
            frozenset(probes | topology.admit),
        )

    def both(self, one: str, other: str) -> list[str]:
        """The hosts that hold two roles."""
        others = set(self.holders.get(other, ()))
        return [host for host in self.holders.get(one, ()) if host in others]

    def on_demand(self) -> Iterator[str]:
        """Services that some agent listens on for a moment, as far as it is known for certain."""
        for host in self.topology.hosts.values():
            for role in _roles(host) if host.agent else ():
                for service, listener in self.topology.roles[role].listeners.items():
                    mode = host.listen.get(str(service), listener.detail.listen)
                    if mode is ListenMode.ON_DEMAND:
                        yield str(service)
        for role in sorted(self.topology.admit):
            for service, listener in self.topology.roles[role].listeners.items():
                if listener.detail.listen is ListenMode.ON_DEMAND:
                    yield str(service)


def _nothing_to_check(facts: _Facts) -> Iterator[Finding]:
    if not facts.topology.hosts and not facts.topology.admit:
        yield Finding(
            FindingKind.NOTHING_TO_CHECK,
            "hosts",
            "there are none, and admit lets no agent in: nothing will be checked",
        )


def _idle_hosts(facts: _Facts) -> Iterator[Finding]:
    denied = {deny.role for deny in facts.topology.denies}
    for name, host in facts.topology.hosts.items():
        roles = [facts.topology.roles[role] for role in _roles(host)]
        dials = any(role.connections or role.name in denied for role in roles)
        if host.roles is None or any(role.listeners for role in roles) or (host.agent and dials):
            continue
        if not host.roles:
            why = "it has no roles"
        elif dials:
            why = "its roles only connect, and no agent is there to do it"
        else:
            why = f"{_names(_roles(host))} neither listens nor connects"
        yield Finding(FindingKind.IDLE_HOST, f"hosts.{name}", f"{why}: no flow begins or ends here")


def _repeated_roles(facts: _Facts) -> Iterator[Finding]:
    for name, host in facts.topology.hosts.items():
        for role, times in Counter(host.roles or ()).items():
            if times > 1:
                yield Finding(
                    FindingKind.REPEATED_ROLE,
                    f"hosts.{name}.roles",
                    f"{role} is listed {times} times",
                )


def _roles_without_host(facts: _Facts) -> Iterator[Finding]:
    if any(host.roles is None for host in facts.topology.hosts.values()):
        return
    dialled: dict[ServiceName, list[str]] = defaultdict(list)
    for role in facts.topology.roles.values():
        for connection in role.connections if role.name in facts.probes else ():
            dialled[connection.service].append(role.name)
    denied: dict[ServiceName, list[str]] = defaultdict(list)
    for deny in facts.topology.denies:
        if deny.role in facts.probes:
            denied[deny.service].append(deny.role)
    for uses, one, many in (
        (dialled, "connects to", "connect to"),
        (denied, "is denied", "are denied"),
    ):
        for service, repeated in uses.items():
            roles = list(dict.fromkeys(repeated))
            if service.role not in facts.holders and service.role not in facts.topology.admit:
                yield Finding(
                    FindingKind.ROLE_WITHOUT_HOST,
                    f"roles.{service.role}",
                    f"{_names(roles)} {one if len(roles) == 1 else many} {service}, "
                    f"but no host is {service.role}",
                )


def _denied_connections(facts: _Facts) -> Iterator[Finding]:
    for deny in facts.topology.denies:
        if any(
            connection.service == deny.service
            for connection in facts.topology.roles[deny.role].connections
        ):
            yield Finding(
                FindingKind.DENIED_CONNECTION,
                _rule(deny),
                f"{deny.role} connects to {deny.service} and is denied it",
            )


def _denies_without_effect(facts: _Facts) -> Iterator[Finding]:
    """Hosts where another role allows what is denied, or that are themselves the destination."""
    for deny in facts.topology.denies:
        for role in facts.topology.roles.values():
            if role.name == deny.role:
                continue
            hosts = facts.both(deny.role, role.name)
            if not hosts:
                continue
            if any(other.service == deny.service for other in role.connections):
                yield _without_effect(deny, hosts, role.name, f"which connects to {deny.service}")
            elif role.name == deny.service.role:
                yield _without_effect(deny, hosts, role.name, "and a host always reaches itself")


def _without_effect(deny: DenyRule, hosts: list[str], role: str, why: str) -> Finding:
    verb = "is" if len(hosts) == 1 else "are"
    return Finding(
        FindingKind.DENY_WITHOUT_EFFECT,
        _rule(deny),
        f"{_names(hosts)} {verb} both {deny.role} and {role}, {why}",
    )


def _shared_addresses(facts: _Facts) -> Iterator[Finding]:
    held: dict[tuple[str, str, int], str] = {}
    for name, host in facts.topology.hosts.items():
        for role in _roles(host):
            for service, listener in facts.topology.roles[role].listeners.items():
                port = host.ports.get(str(service), service.port)
                transport = listener.detail.transport
                for address in host.addresses:
                    # Addresses are in one spelling already; names are not (RFC 4343).
                    key = (address.lower().rstrip("."), transport, port)
                    if (other := held.setdefault(key, name)) != name:
                        yield Finding(
                            FindingKind.SHARED_ADDRESS,
                            f"hosts.{name}",
                            f"{address} {transport} port {port} ({service}) is host {other}'s too",
                        )


def _slow_checks(facts: _Facts) -> Iterator[Finding]:
    checks = facts.topology.checks
    if checks.timeout_s >= checks.interval_s:
        yield Finding(
            FindingKind.SLOW_CHECKS,
            "checks",
            f"timeout_s of {checks.timeout_s:g} is not below interval_s of {checks.interval_s:g}: "
            "a check that is not answered still waits when the next is due",
        )


def _short_windows(facts: _Facts) -> Iterator[Finding]:
    checks = facts.topology.checks
    services = list(dict.fromkeys(facts.on_demand()))
    if checks.timeout_s > _WINDOW_S and services:
        yield Finding(
            FindingKind.SHORT_WINDOW,
            "checks",
            f"timeout_s of {checks.timeout_s:g} is above {_WINDOW_S:g}: a listener on demand, as "
            f"for {_names(services)}, is closed after 5 s, before such a check has ended",
        )


_RULES: Final = (
    _nothing_to_check,
    _idle_hosts,
    _repeated_roles,
    _roles_without_host,
    _denied_connections,
    _denies_without_effect,
    _shared_addresses,
    _slow_checks,
    _short_windows,
)


def _roles(host: Host) -> tuple[str, ...]:
    """The roles that a host is known to hold, each once."""
    return tuple(dict.fromkeys(host.roles or ()))


def _rule(deny: DenyRule) -> str:
    return f"deny {deny.role} -> {deny.service}"


def _names(names: Iterable[str]) -> str:
    """Some names as a person would list them."""
    shown = list(names)
    if len(shown) > _SHOWN:
        shown = [*shown[:_SHOWN], f"{len(shown) - _SHOWN} more"]
    return " and ".join([", ".join(shown[:-1]), shown[-1]] if len(shown) > 1 else shown)
