"""The groups of flows in which causes are looked for, and who is well in them. Pure.

Every way in which a deployment breaks takes a whole group of flows with it: all to a host, all to
one of its ports, all from a host, all between two networks, all that one device turned back.
"""

import ipaddress
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property, lru_cache
from typing import Final, Protocol

from reachmap_collector.planner import FlowKey
from reachmap_shared.vocabulary import Cause as Blame
from reachmap_shared.vocabulary import Outcome, State, Transport

_TO: Final = " -> "

_NETWORK_BITS: Final = {4: 24, 6: 64}
"""What counts as one network where nobody says better: the usual size of a subnet."""


class Kind(StrEnum):
    """What went wrong. Between suspects that explain the same, an earlier kind is preferred."""

    CUT_OFF = "cut-off"
    """Most agents are silent: the collector does not hear, and says nothing of the rest."""
    HOST_DOWN = "host-down"
    """Nothing gets to it, and its agent is silent too."""
    SERVICE_DOWN = "service-down"
    """The host answers, and the service does not."""
    HOST_UNREACHABLE = "host-unreachable"
    """Nothing gets to it, though its agent is well."""
    PORT_BLOCKED = "port-blocked"
    """Nothing gets to this port of the host, while others are open, or its agent is well."""
    DEVICE = "device"
    """One device turns all of these back."""
    SOURCE = "source"
    """Nothing gets out of this host."""
    PATH = "path"
    """Nothing gets from one network to the other."""
    AGENT_SILENT = "agent-silent"
    NAME = "name"
    """A name that nobody can resolve."""
    FLOW = "flow"
    """One flow alone."""
    EXPOSED = "exposed"
    """Open to those who must not reach it."""
    CERTIFICATE = "certificate"
    """A service's certificate ends soon, or has ended."""


@dataclass(frozen=True, slots=True)
class Sight:
    """One flow as it is now."""

    key: FlowKey
    service: str
    state: State
    outcome: Outcome | None = None
    blame: Blame | None = None
    """Where the collector's judgement sees the fault."""
    offender: str | None = None
    """Address of the device that did it, when known."""
    source_address: str | None = None
    """Where the source dials from, when known."""
    since: float = 0.0
    """Since when it is so, in seconds since the epoch."""
    checked: float = 0.0
    """When it was found so last, at the earliest."""
    certificate_until: float | None = None
    """When the certificate that the service showed ends."""


WELL: Final = frozenset({State.OK, State.DEGRADED})
KNOWN: Final = WELL | {State.BROKEN}

GroupName = tuple[Kind, str]
"""A group by what it would be a sign of, if all of it failed."""


@dataclass(slots=True)
class Acquitted:
    """How many flows of a group are not broken."""

    well: int = 0
    """They were found well since the first of the group failed."""
    at_home: int = 0
    """And those of a host to itself: firewalls do not see those."""
    not_yet: int = 0
    """They were well before, and had no turn since then."""


class Others(Protocol):
    """Flows that are not broken, without a sight of each."""

    def acquit(self, first: Mapping[GroupName, float]) -> Mapping[GroupName, Acquitted]:
        """Those of some groups, given since when the first of each group fails."""

    def ports(self, host: str) -> Collection[tuple[int, Transport]]:
        """The ports of a host of which it is known how they are."""

    def reached_from(self, host: str) -> Collection[str]:
        """The destinations from a host of which it is known how they are."""

    def of(self, host: str) -> Iterable[Sight]:
        """Those from a host, known or not."""


class Sights:
    """Those that there are sights of."""

    def __init__(self, flows: Collection[Sight]) -> None:
        self._flows = [sight for sight in flows if sight.state is not State.BROKEN]

    @cached_property
    def _of(self) -> Mapping[str, Sequence[Sight]]:
        found: dict[str, list[Sight]] = defaultdict(list)
        for sight in self._flows:
            found[sight.key.source].append(sight)
        return found

    @cached_property
    def _ports(self) -> Mapping[str, set[tuple[int, Transport]]]:
        found: dict[str, set[tuple[int, Transport]]] = defaultdict(set)
        for sight in self._flows:
            if sight.state in WELL:
                found[sight.key.destination].add((sight.key.port, sight.key.transport))
        return found

    def acquit(self, first: Mapping[GroupName, float]) -> Mapping[GroupName, Acquitted]:
        """See `Others`."""
        found: dict[GroupName, Acquitted] = defaultdict(Acquitted)
        for sight in self._flows if first else ():
            if sight.state in WELL:
                for name in groups_of(sight):
                    begins = first.get(name)
                    if begins is None:
                        continue
                    if sight.checked < begins:
                        found[name].not_yet += 1
                    elif sight.key.source == sight.key.destination:
                        found[name].at_home += 1
                    else:
                        found[name].well += 1
        return found

    def ports(self, host: str) -> Collection[tuple[int, Transport]]:
        """See `Others`."""
        return self._ports.get(host, ())

    def reached_from(self, host: str) -> Collection[str]:
        """See `Others`."""
        return {sight.key.destination for sight in self.of(host) if sight.state in WELL}

    def of(self, host: str) -> Collection[Sight]:
        """See `Others`."""
        return self._of.get(host, ())


def groups_of(sight: Sight) -> Iterator[GroupName]:
    """The groups that a flow is in, by what they would be a sign of."""
    yield from shared_groups_of(sight)
    yield alone(sight)


def alone(sight: Sight) -> GroupName:
    """The group that a flow is for itself."""
    key = sight.key
    place = place_of(key.destination, key.port, key.transport)
    return Kind.FLOW, f"{key.source}{_TO}{place}" + (f" at {key.address}" if key.address else "")


def shared_groups_of(sight: Sight) -> Iterator[GroupName]:
    """The groups that a flow may be in with others."""
    key = sight.key
    yield Kind.HOST_DOWN, key.destination
    yield Kind.SERVICE_DOWN, place_of(key.destination, key.port, key.transport)
    if key.source != key.destination:
        yield Kind.SOURCE, key.source
        if (networks := _networks(sight)) is not None:
            yield Kind.PATH, networks
    if sight.offender:
        yield Kind.DEVICE, sight.offender
    if sight.outcome is Outcome.NAME_FAILURE:
        yield Kind.NAME, key.address


def _networks(sight: Sight) -> str | None:
    """The networks of both ends, where they are known and differ."""
    near, far = network(sight.source_address), network(sight.key.address)
    return f"{near}{_TO}{far}" if near and far and near != far else None


def parted(networks: str) -> tuple[str, str]:
    """The two networks that flows are between, of what their group is called."""
    near, _, far = networks.partition(_TO)
    return near, far


def place_of(host: str, port: int, transport: Transport) -> str:
    """What a port of a host is called."""
    return f"{host}:{port}/{transport}"


@lru_cache(maxsize=1 << 16)
def network(address: str | None) -> str | None:
    """The network that an address is in; None for what is none."""
    try:
        bare = ipaddress.ip_address(address or "")
    except ValueError:
        return None
    return str(ipaddress.ip_network((bare, _NETWORK_BITS[bare.version]), strict=False))
