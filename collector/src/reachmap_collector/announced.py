"""What an agent says of its host, its ports and targets, beside what the topology says. Pure.

An endpoint's word moves what others dial at itself, and no more: `planner.members` takes a port
for a service of the host's own roles that the topology gives no port. Targets move nothing.
"""

import ipaddress
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Final

from reachmap_collector.planner import Member
from reachmap_collector.topology.model import Topology
from reachmap_shared.errors import InvalidName
from reachmap_shared.messages import Hello
from reachmap_shared.names import ServiceName

_TOLD: Final = 8
"""Contradictions of one agent that are told: more say the same, and one endpoint must not fill
an answer."""

_ITSELF: Final = "localhost"

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address | None


class Contradictions:
    """Where announcements and topology differ.

    Args:
        topology: The one in force.
        members: As `planner.members` gives them.
    """

    def __init__(self, topology: Topology, members: Mapping[str, Member]) -> None:
        self._topology = topology
        self._members = members

    def of(self, hello: Hello) -> Iterator[str]:
        """Those of one agent, in words: the first few."""
        found = [*self._all(hello)]
        yield from found[:_TOLD]
        if len(found) > _TOLD:
            yield f"announces {len(found) - _TOLD} more that the topology does not have so"

    def _all(self, hello: Hello) -> Iterator[str]:
        if (member := self._members.get(hello.agent)) is None:
            yield self._of_stranger(hello.agent)
            return
        for own in hello.ports:
            yield from self._of_port(member, own.service, own.port)
        for target in hello.targets:
            for host in target.hosts:
                if self._is_another(member, target.role, host):
                    yield (
                        f"is told to reach {target.role} at {host}, "
                        "where the topology has no such host"
                    )

    def _of_stranger(self, name: str) -> str:
        if (now := self._topology.former.get(name)) is not None:
            return f"is called {now} in the topology now: enroll it anew by that name"
        return "is not in the topology: list it under hosts, or let its roles in with admit"

    def _of_port(self, member: Member, service: str, port: int) -> Iterator[str]:
        try:
            name = ServiceName.parse(service)
        except InvalidName:
            return
        if name.role not in member.roles or name not in self._topology.roles[name.role].listeners:
            return
        dialled = member.ports.get(service, name.port)
        if dialled == port:
            return
        host = self._topology.hosts.get(member.name)
        says = f"announces {service} on port {port}"
        if host is not None and service in host.ports:
            yield f"{says}, but the topology lists {dialled}, and that is what others dial"
        else:
            yield f"{says}, where it cannot be beside its other services: others dial {dialled}"

    def _is_another(self, member: Member, role: str, host: str) -> bool:
        """Whether it is certain that the topology has another host in mind.

        Names are not resolved here: one that no host is known by proves nothing.
        """
        if role not in self._topology.roles or role not in self._addresses:
            return False
        host = host.rstrip(".").lower()
        try:
            address = ipaddress.ip_address(host)
        except ValueError:
            if host == _ITSELF:
                return role not in member.roles
            roles = self._roles_by_name.get(host) or self._roles_by_name.get(host.partition(".")[0])
            return roles is not None and role not in roles
        if address.is_loopback:
            return role not in member.roles
        known = self._addresses[role]
        return None not in known and address not in known

    @cached_property
    def _roles_by_name(self) -> Mapping[str, set[str]]:
        """By what hosts are called, in the topology or in its addresses."""
        found: dict[str, set[str]] = {}
        for member in self._members.values():
            for name in (member.name, *member.addresses):
                found.setdefault(name.rstrip(".").lower(), set()).update(member.roles)
        return found

    @cached_property
    def _addresses(self) -> Mapping[str, set[_Address]]:
        """By role; with None where one of its hosts has a name for an address, or none yet."""
        found: dict[str, set[_Address]] = {}
        for member in self._members.values():
            addresses = {_as_address(text) for text in member.addresses} or {None}
            for role in member.roles:
                found.setdefault(role, set()).update(addresses)
        return found


def _as_address(text: str) -> _Address:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None
