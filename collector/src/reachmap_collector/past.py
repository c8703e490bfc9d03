"""What became of flows: one transition as programs see it, and two moments compared. Pure.

Names are those that hosts have now; `source_then` and `destination_then` say what they were. What
a flow should be is judged by the topology in force, since no other is known.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from reachmap_collector.planner import Member
from reachmap_collector.store.api import Entry, Standing, Transition
from reachmap_collector.topology.model import Topology
from reachmap_collector.turns import Turn, turn
from reachmap_collector.views import timestamp
from reachmap_shared import codec
from reachmap_shared.errors import MalformedMessage
from reachmap_shared.messages import Observation
from reachmap_shared.vocabulary import Expectation, Outcome

Json = dict[str, Any]

EXAMPLES: Final = 5
"""Sources that a group names; how many more there are is counted."""


class Expectations:
    """What the topology in force says of flows by the names of host and service."""

    def __init__(self, topology: Topology, members: Mapping[str, Member]) -> None:
        self._topology = topology
        self._members = members
        self._connected: dict[str, set[str]] = {}
        self._denied: dict[str, set[str]] = {}
        for role in topology.roles.values():
            for connection in role.connections:
                self._connected.setdefault(str(connection.service), set()).add(connection.role)
        for deny in topology.denies:
            self._denied.setdefault(str(deny.service), set()).add(deny.role)

    def current(self, host: str) -> str:
        """What a host is called now."""
        return self._topology.current(host)

    def of(self, source: str, destination: str, service: str) -> Expectation | None:
        """What a flow between hosts should be; None when the topology has no such flow."""
        member, other = self._members.get(source), self._members.get(destination)
        if member is None or other is None:
            return None
        roles = set(member.roles)
        if roles & self._connected.get(service, set()):
            return Expectation.REACHABLE
        return Expectation.BLOCKED if roles & self._denied.get(service, set()) else None

    def roles(self, source: str, service: str) -> set[str]:
        """The roles on both ends of a flow for whose sake it is there."""
        member = self._members.get(source)
        because = self._connected.get(service, set()) | self._denied.get(service, set())
        return {service.partition(":")[0], *(because & set(member.roles if member else ()))}


def row(entry: Entry, expectations: Expectations) -> Json:
    """A transition, as `reachmap history --format json` shows it."""
    one, earlier = entry.transition, entry.before
    source, destination = map(expectations.current, (one.flow.source, one.flow.destination))
    expect = expectations.of(source, destination, one.service)
    seen, was = _seen(one), _seen(earlier)
    change = turn(earlier.outcome if earlier else None, one.outcome, expect)
    return {
        "sequence": entry.sequence,
        "at": timestamp(one.at),
        # Kept as a change though the outcome is the same: somebody else answers, say.
        "change": Turn.CHANGED if change is Turn.PASSING else change,
        "source": source,
        "destination": destination,
        "service": one.service,
        "address": one.flow.address,
        "port": one.flow.port,
        "transport": one.flow.transport,
        "expect": expect,
        "was": earlier.outcome if earlier else None,
        "was_answered_by": was.answered_by if was else None,
        "outcome": one.outcome,
        "answered_by": seen.answered_by if seen else None,
        "evidence": list(seen.evidence) if seen else [],
        "source_then": one.flow.source,
        "destination_then": one.flow.destination,
    }


@dataclass(slots=True)
class _Group:
    """Flows to one service of one host that changed alike."""

    since: float
    latest: float
    sources: Counter[str] = field(default_factory=Counter)


def compared(
    before: Iterable[Standing],
    after: Iterable[Standing],
    expectations: Expectations,
    role: str | None = None,
    service: str | None = None,
) -> Json:
    """What changed between two moments: flows counted by what they became, and grouped.

    Args:
        before: The standing of each flow at the first moment, of those that changed; and
            of whatever else has the same names, for a host may have got another address.
        after: Those of the flows that changed, at the second moment.
        expectations: What flows should be.
        role: Of the flows with this role on either end; None for all.
        service: Of this service; None for all.
    """
    exact = {(one.flow, one.service): one for one in before}
    named: dict[tuple[str, str, str, bool], Standing] = {}
    for one in exact.values():
        name = _named(one, expectations)
        if name not in named or named[name].at < one.at:
            named[name] = one
    counts: Counter[Turn] = Counter()
    groups: dict[tuple[Turn, str, str, Outcome | None, Outcome], _Group] = {}
    for one in after:
        source, destination = map(expectations.current, (one.flow.source, one.flow.destination))
        if service is not None and one.service != service:
            continue
        if role is not None and role not in expectations.roles(source, one.service):
            continue
        was = exact.get((one.flow, one.service)) or named.get(_named(one, expectations))
        outcome = was.outcome if was else None
        expect = expectations.of(source, destination, one.service)
        change = turn(outcome, one.outcome, expect)
        counts[change] += 1
        key = (change, one.service, destination, outcome, one.outcome)
        group = groups.setdefault(key, _Group(one.at, one.at))
        group.since, group.latest = min(group.since, one.at), max(group.latest, one.at)
        group.sources[source] += 1
    return {
        "counts": {change: counts[change] for change in Turn},
        "groups": [
            {
                "change": change,
                "service": of_service,
                "destination": destination,
                "was": outcome,
                "outcome": now,
                "flows": group.sources.total(),
                "hosts": len(group.sources),
                "sources": sorted(group.sources)[:EXAMPLES],
                "first": timestamp(group.since),
                "last": timestamp(group.latest),
            }
            for (change, of_service, destination, outcome, now), group in sorted(
                groups.items(), key=lambda item: _order(item[0])
            )
        ],
    }


def _order(key: tuple[Turn, str, str, Outcome | None, Outcome]) -> tuple[int, str, str, str, str]:
    change, service, destination, was, now = key
    return [*Turn].index(change), service, destination, str(was or ""), str(now)


def _named(one: Standing, expectations: Expectations) -> tuple[str, str, str, bool]:
    """What stays of a flow when its hosts get other addresses: names, and the family."""
    ends = (expectations.current(one.flow.source), expectations.current(one.flow.destination))
    return (*ends, one.service, ":" in one.flow.address)


def _seen(one: Transition | None) -> Observation | None:
    if one is None:
        return None
    try:
        return codec.decode(Observation, one.detail)
    except MalformedMessage:  # kept by another version
        return None
