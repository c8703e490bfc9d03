"""The smallest set of causes that explains what is not as it should be. Pure.

Every way in which a deployment breaks takes a whole group of flows with it: all to a host, all to
one of its ports, all from a host, all between two networks, all that one device turned back. A
group is a suspect if everything in it that is known fails, and so could have a cause in common; of
the suspects those are taken, one after the other, that explain the most of what is still
unexplained (the greedy way to cover a set). What stands for itself alone is its own cause.
"""

import heapq
import math
from collections import defaultdict
from collections.abc import Collection, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from itertools import count
from operator import attrgetter
from typing import Final

from reachmap_collector.alerts.groups import (
    Acquitted,
    GroupName,
    Kind,
    Others,
    Sight,
    Sights,
    alone,
    shared_groups_of,
)
from reachmap_collector.planner import FlowKey
from reachmap_collector.roster import AgentState
from reachmap_shared.vocabulary import Cause as Blame
from reachmap_shared.vocabulary import Outcome, State

CUT_OFF_FROM: Final = 0.5
"""Part of the agents that fall silent together from which on it is the collector that is cut off:
half a fleet does not die at once, and a bus does."""

_FEW: Final = 3
"""Agents that must be silent for that: of two, one is half."""

EXAMPLES: Final = 5
"""Flows that an alert names; the map has the others."""

_IN_ORDER: Final = attrgetter(*(one.name for one in fields(FlowKey)))
"""All that a flow's key is ordered by: keys compared themselves take ten times as long."""

Member = FlowKey | str
"""What a cause explains: a flow that fails, or an agent (by name) that is silent."""


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
        flows = (member for member in self.explains if isinstance(member, FlowKey))
        return heapq.nsmallest(EXAMPLES, flows, _IN_ORDER)


def find_causes(
    flows: Collection[Sight],
    agents: Mapping[str, AgentState],
    depends: Mapping[str, Collection[str]] | None = None,
    *,
    now: float = math.inf,
    interval_s: float = 10.0,
    rest: Others | None = None,
) -> list[Cause]:
    """What is wrong, most consequential first.

    Args:
        flows: All that fail, and others: those that are well acquit suspects.
        agents: Every agent that is expected, and how it stands.
        depends: For a service, the services without which it does not listen.
        now: Seconds since the epoch.
        interval_s: Between two checks of one flow: so long a flow may seem well that is not.
        rest: All flows that are not among those.
    """
    silent = {name for name, state in agents.items() if state is AgentState.SILENT}
    causes: list[Cause] = []
    if len(silent) >= _FEW and len(silent) >= CUT_OFF_FROM * len(agents):
        causes.append(Cause(Kind.CUT_OFF, "bus", "", frozenset(silent)))
        silent = set()
    failing: dict[Member, Sight] = {
        sight.key: sight for sight in flows if sight.state is State.BROKEN
    }
    others = [Sights(flows), *([rest] if rest is not None else [])]
    suspects = _Suspects(failing.values(), others, agents, silent, now, interval_s)
    found = [*_cover(failing, suspects)]
    explained = {member for cause in found for member in cause.explains}
    found += [
        Cause(Kind.AGENT_SILENT, name, "", frozenset({name})) for name in sorted(silent - explained)
    ]
    causes += _without_consequences(found, failing, others, depends or {})
    causes += _exposures(flows)
    return sorted(causes, key=lambda cause: (-len(cause.explains), cause.kind, cause.subject))


@dataclass(slots=True)
class _Group:
    """Flows that have something in common, some of which fail."""

    fail: list[Sight] = field(default_factory=list)
    first: float = math.inf
    """Since when the first of them fails."""
    others: Acquitted = field(default_factory=Acquitted)


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
        failing: Collection[Sight],
        others: Sequence[Others],
        agents: Mapping[str, AgentState],
        silent: Collection[str],
        now: float,
        interval_s: float,
    ) -> None:
        self._agents = agents
        self._silent = silent
        self._now = now
        self._interval_s = interval_s
        self._groups: dict[GroupName, _Group] = {}
        self._others = others
        self._ports: dict[str, set[Hashable]] = defaultdict(set)
        self._towards: dict[str, set[str]] = defaultdict(set)
        for sight in failing:
            self._ports[sight.key.destination].add((sight.key.port, sight.key.transport))
            self._towards[sight.key.source].add(sight.key.destination)
            for name in shared_groups_of(sight):
                group = self._groups.get(name)
                if group is None:
                    group = self._groups[name] = _Group()
                group.fail.append(sight)
                group.first = min(group.first, sight.since)
        self._acquit(self._groups)

    def __iter__(self) -> Iterator[_Suspect]:
        """Those of which each may explain several flows."""
        return self._of(self._groups)

    def alone(self, sights: Iterable[Sight]) -> Iterator[_Suspect]:
        """Those of which each explains one flow: where much fails alike, hardly any is needed."""
        groups = {alone(sight): _Group([sight], sight.since) for sight in sights}
        self._acquit(groups)
        return self._of(groups)

    def _acquit(self, groups: Mapping[GroupName, _Group]) -> None:
        """Take note of those in some groups that do not fail."""
        first = {name: group.first for name, group in groups.items()}
        for other in self._others:
            for name, acquitted in other.acquit(first).items():
                mine = groups[name].others
                mine.well += acquitted.well
                mine.at_home += acquitted.at_home
                mine.not_yet += acquitted.not_yet

    def _of(self, groups: Mapping[GroupName, _Group]) -> Iterator[_Suspect]:
        for (kind, name), group in groups.items():
            if group.others.well or self._is_too_slow(group):
                continue
            shown = self._kind(kind, name, group)
            if shown is None:
                continue
            explains: set[Member] = {sight.key for sight in group.fail}
            if shown is Kind.HOST_DOWN and name in self._silent:
                explains.add(name)
            agrees = sum(sight.blame in _PLACES.get(shown, ()) for sight in group.fail)
            yield _Suspect(shown, name, frozenset(explains), agrees, group.others.not_yet)

    def _is_too_slow(self, group: _Group) -> bool:
        """Whether far more of the group had to fail by now, if all of it did for one reason."""
        passed = min(1.0, (self._now - group.first) / self._interval_s)
        expected = (len(group.fail) + group.others.not_yet) * passed
        return len(group.fail) < _OF_THE_EXPECTED * expected

    def _kind(self, kind: Kind, name: str, group: _Group) -> Kind | None:
        """What a group would be if it had one cause; None where it cannot be one."""
        outcomes = {sight.outcome for sight in group.fail}
        match kind:
            case Kind.HOST_DOWN:
                if not outcomes <= _UNANSWERED or (group.others.at_home and name in self._silent):
                    return None
                if self._is_gone(name):
                    return Kind.HOST_DOWN
                return Kind.HOST_UNREACHABLE if self._has_several_ports(name) else None
            case Kind.SERVICE_DOWN:
                if outcomes <= _UNANSWERED:
                    return Kind.PORT_BLOCKED
                return None if group.others.at_home else Kind.SERVICE_DOWN
            case Kind.SOURCE:
                several = self._dials_several(name)
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

    def _has_several_ports(self, host: str) -> bool:
        """Whether it is known of several how they are."""
        return len(self._ports[host].union(*(one.ports(host) for one in self._others))) > 1

    def _dials_several(self, host: str) -> bool:
        """Whether it is known of several destinations how they are from there."""
        known = (one.reached_from(host) for one in self._others)
        return len(self._towards[host].union(*known)) > 1

    def _is_gone(self, host: str) -> bool:
        """Whether its agent says nothing either, where it has one."""
        return host not in self._agents or self._agents[host] is not AgentState.FRESH


_OF_THE_EXPECTED: Final = 0.25
"""Checks come round evenly, but what fails is confirmed before it is told, which takes time."""

_OWN: Final = frozenset({Outcome.LOCAL_ERROR, Outcome.NAME_FAILURE})


def _cover(failing: Mapping[Member, Sight], suspects: _Suspects) -> Iterator[Cause]:
    """Take suspects until everything that fails is explained, each time the one that explains most.

    One that judgements agree with is preferred to one that explains as much, and a kind that says
    more to one that says less.
    """
    unexplained = set(failing)
    # What a suspect explains only ever gets less, so who comes first by an old count and still
    # explains as much is the best of all, and the others need not be counted again.
    numbers = count()
    queue = [
        (*_rank(suspect, len(suspect.explains)), next(numbers), suspect) for suspect in suspects
    ]
    heapq.heapify(queue)
    are_all_there = False
    while unexplained and (queue or not are_all_there):
        # Whoever explains one flow comes after all that explain several.
        if not are_all_there and (not queue or queue[0][0] >= -1):
            for suspect in suspects.alone(failing[member] for member in unexplained):
                heapq.heappush(queue, (*_rank(suspect, 1), next(numbers), suspect))
            are_all_there = True
            continue
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
    causes: list[Cause],
    broken: Mapping[Member, Sight],
    others: Sequence[Others],
    depends: Mapping[str, Collection[str]],
) -> list[Cause]:
    """Fold causes into those that they follow from.

    A service that does not listen because another one is not to be reached from its host is that
    one's consequence, and so on, back to where it began.
    """
    dependent: dict[str, list[Cause]] = defaultdict(list)
    for cause in causes:
        if cause.service in depends and cause.kind in (Kind.SERVICE_DOWN, Kind.FLOW):
            sights = [broken[member] for member in cause.explains if member in broken]
            if not {sight.outcome for sight in sights} <= _UNANSWERED:
                dependent[sights[0].key.destination].append(cause)
    by_member = {member: cause for cause in causes for member in cause.explains}
    roots: dict[str, Cause] = {}
    in_doubt: set[str] = set()
    for sight in broken.values():
        for cause in dependent.get(sight.key.source, ()):
            above = by_member.get(sight.key)  # none where another flow of that key is well
            if above is not None and sight.service in depends[cause.service]:
                roots[cause.subject] = above
    for host, those in dependent.items():
        for sight in (sight for other in others for sight in other.of(host)):
            for cause in those:
                began = min(broken[key].since for key in cause.explains if key in broken)
                if sight.service in depends[cause.service] and sight.checked < began:
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
