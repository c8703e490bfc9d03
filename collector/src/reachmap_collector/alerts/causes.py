"""The smallest set of causes that explains what is not as it should be. Pure.

Every way in which a deployment breaks takes a whole group of flows with it: all to a host, all to
one of its ports, all from a host, all between two networks, all that one device turned back. A
group is a suspect if everything in it that is known fails, and so could have a cause in common; of
the suspects those are taken, one after the other, that explain the most of what is still
unexplained (the greedy way to cover a set). What stands for itself alone is its own cause.
"""

import heapq
import ipaddress
import math
from collections import defaultdict
from collections.abc import Collection, Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import lru_cache
from typing import Final

from reachmap_collector.planner import FlowKey
from reachmap_collector.roster import AgentState
from reachmap_shared.vocabulary import Cause as Blame
from reachmap_shared.vocabulary import Outcome, State

CUT_OFF_FROM: Final = 0.5
"""Part of the agents that fall silent together from which on it is the collector that is cut off:
half a fleet does not die at once, and a bus does."""

_FEW: Final = 3
"""Agents that must be silent for that: of two, one is half."""

_NETWORK_BITS: Final = {4: 24, 6: 64}
"""What counts as one network where nobody says better: the usual size of a subnet."""

EXAMPLES: Final = 5
"""Flows that an alert names; the map has the others."""

Member = FlowKey | str
"""What a cause explains: a flow that fails, or an agent (by name) that is silent."""


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


@dataclass(frozen=True, slots=True)
class Cause:
    """One thing that is wrong, and all that it explains."""

    kind: Kind
    subject: str
    """What is to blame: `nats-1`, `nats-1:4433/tcp`, `10.1.0.0/24 -> 10.2.0.0/24` ..."""
    service: str
    """The service that all of the flows lead to; empty where there are several or none."""
    explains: frozenset[Member]
    consequences: tuple[str, ...] = ()
    """What failed because of it: subjects of causes that this one accounts for."""
    in_doubt: bool = False
    """Whether it may be the consequence of something that had no turn to be seen yet."""
    urgent: bool = False
    """Whether it matters more than its kind usually does."""
    ends: float | None = None
    """When a certificate ends, in seconds since the epoch."""

    def examples(self) -> list[FlowKey]:
        """Some of the flows that fail, in the order of their keys."""
        flows = sorted(member for member in self.explains if isinstance(member, FlowKey))
        return flows[:EXAMPLES]


def find_causes(
    flows: Collection[Sight],
    agents: Mapping[str, AgentState],
    depends: Mapping[str, Collection[str]] | None = None,
    *,
    now: float = math.inf,
    interval_s: float = 10.0,
) -> list[Cause]:
    """What is wrong, most consequential first.

    Args:
        flows: Every flow, those that are well included: they acquit suspects.
        agents: Every agent that is expected, and how it stands.
        depends: For a service, the services without which it does not listen.
        now: Seconds since the epoch.
        interval_s: Between two checks of one flow: so long a flow may seem well that is not.
    """
    silent = {name for name, state in agents.items() if state is AgentState.SILENT}
    causes: list[Cause] = []
    if len(silent) >= _FEW and len(silent) >= CUT_OFF_FROM * len(agents):
        causes.append(Cause(Kind.CUT_OFF, "bus", "", frozenset(silent)))
        silent = set()
    failing = {sight.key: sight for sight in flows if sight.state is State.BROKEN}
    suspects = _Suspects(flows, agents, silent, now, interval_s)
    found = [*_cover(failing, suspects)]
    explained = {member for cause in found for member in cause.explains}
    found += [
        Cause(Kind.AGENT_SILENT, name, "", frozenset({name})) for name in sorted(silent - explained)
    ]
    causes += _without_consequences(found, flows, depends or {})
    causes += _exposures(flows)
    return sorted(causes, key=lambda cause: (-len(cause.explains), cause.kind, cause.subject))


@dataclass(slots=True)
class _Group:
    """Flows that have something in common, some of which fail."""

    fail: list[Sight] = field(default_factory=list)
    first: float = math.inf
    """Since when the first of them fails."""
    well: int = 0
    """How many were found well since then."""
    well_at_home: int = 0
    """And how many of a host to itself: firewalls do not see those."""
    not_yet: int = 0
    """How many were well before, and had no turn since then."""


@dataclass(frozen=True, slots=True)
class _Suspect:
    kind: Kind
    subject: str
    explains: frozenset[Member]
    agrees: int
    """How many of the flows are judged to fail where this suspect is."""
    not_yet: int
    """How many flows it would take along that had no turn to fail yet."""


_UNANSWERED: Final = frozenset({Outcome.TIMEOUT, Outcome.UNREACHABLE, Outcome.REJECTED})
"""Outcomes that come about on the way, or where nobody is at home."""

_PLACES: Final[Mapping[Kind, frozenset[Blame]]] = {
    Kind.HOST_DOWN: frozenset({Blame.DESTINATION_HOST}),
    Kind.SERVICE_DOWN: frozenset({Blame.SERVICE}),
    Kind.HOST_UNREACHABLE: frozenset({Blame.DESTINATION_HOST, Blame.RETURN_PATH}),
    Kind.PORT_BLOCKED: frozenset({Blame.DESTINATION_HOST}),
    Kind.DEVICE: frozenset({Blame.PATH, Blame.MIDDLEBOX, Blame.DESTINATION_HOST}),
    Kind.SOURCE: frozenset({Blame.SOURCE_HOST}),
    Kind.PATH: frozenset({Blame.PATH, Blame.MIDDLEBOX, Blame.RETURN_PATH}),
    Kind.NAME: frozenset({Blame.NAME_RESOLUTION}),
}
"""Where judgements see a fault of each kind."""


class _Suspects:
    """All groups of flows that fail as one, as suspects."""

    def __init__(
        self,
        flows: Collection[Sight],
        agents: Mapping[str, AgentState],
        silent: Collection[str],
        now: float,
        interval_s: float,
    ) -> None:
        self._agents = agents
        self._silent = silent
        self._now = now
        self._interval_s = interval_s
        self._groups: dict[tuple[Kind, str], _Group] = {}
        self._ports: dict[str, set[Hashable]] = defaultdict(set)
        self._towards: dict[str, set[str]] = defaultdict(set)
        for sight in flows:
            if sight.state is State.BROKEN:
                for name in _groups_of(sight):
                    group = self._groups.setdefault(name, _Group())
                    group.fail.append(sight)
                    group.first = min(group.first, sight.since)
        for sight in flows:
            if sight.state in _KNOWN:
                self._ports[sight.key.destination].add((sight.key.port, sight.key.transport))
                self._towards[sight.key.source].add(sight.key.destination)
            if sight.state in _WELL:
                self._acquit(sight)

    def _acquit(self, sight: Sight) -> None:
        for name in _groups_of(sight):
            group = self._groups.get(name)
            if group is None:
                continue
            if sight.checked < group.first:
                group.not_yet += 1
            elif sight.key.source == sight.key.destination:
                group.well_at_home += 1
            else:
                group.well += 1

    def __iter__(self) -> Iterator[_Suspect]:
        for (kind, name), group in self._groups.items():
            if group.well or self._is_too_slow(group):
                continue
            shown = self._kind(kind, name, group)
            if shown is None:
                continue
            explains: set[Member] = {sight.key for sight in group.fail}
            if shown is Kind.HOST_DOWN and name in self._silent:
                explains.add(name)
            agrees = sum(sight.blame in _PLACES.get(shown, ()) for sight in group.fail)
            yield _Suspect(shown, name, frozenset(explains), agrees, group.not_yet)

    def _is_too_slow(self, group: _Group) -> bool:
        """Whether far more of the group had to fail by now, if all of it did for one reason."""
        passed = min(1.0, (self._now - group.first) / self._interval_s)
        expected = (len(group.fail) + group.not_yet) * passed
        return len(group.fail) < _OF_THE_EXPECTED * expected

    def _kind(self, kind: Kind, name: str, group: _Group) -> Kind | None:
        """What a group would be if it had one cause; None where it cannot be one."""
        outcomes = {sight.outcome for sight in group.fail}
        match kind:
            case Kind.HOST_DOWN:
                if not outcomes <= _UNANSWERED or (group.well_at_home and name in self._silent):
                    return None
                if self._is_gone(name):
                    return Kind.HOST_DOWN
                return Kind.HOST_UNREACHABLE if len(self._ports[name]) > 1 else None
            case Kind.SERVICE_DOWN:
                if outcomes <= _UNANSWERED:
                    return Kind.PORT_BLOCKED
                return None if group.well_at_home else Kind.SERVICE_DOWN
            case Kind.SOURCE:
                several = len(self._towards[name]) > 1
                return kind if several and outcomes <= _UNANSWERED | _OWN else None
            case Kind.PATH:
                ends = (
                    {sight.key.source for sight in group.fail},
                    {sight.key.destination for sight in group.fail},
                )
                several = max(map(len, ends)) > 1
                return kind if several and outcomes <= _UNANSWERED else None
            case _:
                return kind

    def _is_gone(self, host: str) -> bool:
        """Whether its agent says nothing either, where it has one."""
        return host not in self._agents or self._agents[host] is not AgentState.FRESH


_OF_THE_EXPECTED: Final = 0.25
"""Checks come round evenly, but what fails is confirmed before it is told, which takes time."""

_WELL: Final = frozenset({State.OK, State.DEGRADED})
_KNOWN: Final = _WELL | {State.BROKEN}

_OWN: Final = frozenset({Outcome.LOCAL_ERROR, Outcome.NAME_FAILURE})


def _groups_of(sight: Sight) -> Iterator[tuple[Kind, str]]:
    """The groups that a flow is in, by what they would be a sign of."""
    key = sight.key
    place = f"{key.destination}:{key.port}/{key.transport}"
    yield Kind.HOST_DOWN, key.destination
    yield Kind.SERVICE_DOWN, place
    yield Kind.FLOW, f"{key.source} -> {place}" + (f" at {key.address}" if key.address else "")
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
    near, far = _network(sight.source_address), _network(sight.key.address)
    if near is None or far is None or near == far:
        return None
    return f"{near} -> {far}"


@lru_cache(maxsize=1 << 16)
def _network(address: str | None) -> str | None:
    try:
        bare = ipaddress.ip_address(address or "")
    except ValueError:
        return None
    return str(ipaddress.ip_network((bare, _NETWORK_BITS[bare.version]), strict=False))


def _cover(failing: Mapping[FlowKey, Sight], suspects: Iterable[_Suspect]) -> Iterator[Cause]:
    """Take suspects until everything that fails is explained, each time the one that explains most.

    One that judgements agree with is preferred to one that explains as much, and a kind that says
    more to one that says less.
    """
    unexplained = set(failing)
    # What a suspect explains only ever gets less, so who comes first by an old count and still
    # explains as much is the best of all, and the others need not be counted again.
    queue = [
        (*_rank(suspect, len(suspect.explains)), number, suspect)
        for number, suspect in enumerate(suspects)
    ]
    heapq.heapify(queue)
    while queue and unexplained:
        *before, number, suspect = heapq.heappop(queue)
        new = sum(1 for member in suspect.explains if member in unexplained)
        if not new:
            continue
        rank = _rank(suspect, new)
        if [*rank] != before:
            heapq.heappush(queue, (*rank, number, suspect))
            continue
        taken = frozenset(m for m in suspect.explains if m in unexplained or isinstance(m, str))
        unexplained -= suspect.explains
        services = {failing[member].service for member in taken if isinstance(member, FlowKey)}
        service = services.pop() if len(services) == 1 else ""
        yield Cause(suspect.kind, suspect.subject, service, taken)


_ORDER: Final = {kind: place for place, kind in enumerate(Kind)}


def _rank(suspect: _Suspect, new: int) -> tuple[int, int, int, int, str]:
    """The lower, the better: how much it explains that nothing else does yet, and so on."""
    return -new, -suspect.agrees, suspect.not_yet, _ORDER[suspect.kind], suspect.subject


def _without_consequences(
    causes: list[Cause], flows: Collection[Sight], depends: Mapping[str, Collection[str]]
) -> list[Cause]:
    """Fold causes into those that they follow from.

    A service that does not listen because another one is not to be reached from its host is that
    one's consequence, and so on, back to where it began.
    """
    broken = {sight.key: sight for sight in flows if sight.state is State.BROKEN}
    dependent: dict[str, list[Cause]] = defaultdict(list)
    for cause in causes:
        if cause.service in depends and cause.kind in (Kind.SERVICE_DOWN, Kind.FLOW):
            sights = [broken[member] for member in cause.explains if member in broken]
            if not {sight.outcome for sight in sights} <= _UNANSWERED:
                dependent[sights[0].key.destination].append(cause)
    by_member = {member: cause for cause in causes for member in cause.explains}
    roots: dict[str, Cause] = {}
    in_doubt: set[str] = set()
    for sight in flows:
        for cause in dependent.get(sight.key.source, ()):
            if sight.service not in depends[cause.service]:
                continue
            if sight.state is State.BROKEN:
                roots[cause.subject] = by_member[sight.key]
            elif sight.checked < min(broken[key].since for key in cause.explains if key in broken):
                in_doubt.add(cause.subject)
    merged = {cause.subject: cause for cause in causes}
    for cause in causes:
        root, seen = cause, {cause.subject}
        while (above := roots.get(root.subject)) is not None and above.subject not in seen:
            root = above
            seen.add(above.subject)
        if root is not cause:
            into = merged[root.subject]
            merged[root.subject] = replace(
                into,
                explains=into.explains | cause.explains,
                consequences=tuple(sorted({*into.consequences, cause.subject})),
            )
            del merged[cause.subject]
        elif cause.subject in in_doubt:
            merged[cause.subject] = replace(merged[cause.subject], in_doubt=True)
    return [*merged.values()]


def _exposures(flows: Iterable[Sight]) -> Iterator[Cause]:
    """What is open and must not be: one for each place that is."""
    places: dict[str, list[Sight]] = defaultdict(list)
    for sight in flows:
        if sight.state is State.EXPOSED:
            key = sight.key
            places[f"{key.destination}:{key.port}/{key.transport}"].append(sight)
    for place, sights in places.items():
        explains: frozenset[Member] = frozenset(sight.key for sight in sights)
        yield Cause(Kind.EXPOSED, place, sights[0].service, explains)
