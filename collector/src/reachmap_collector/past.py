"""What became of flows: what they should be, and one transition as programs see it. Pure.

Names are those that hosts have now; `source_then` and `destination_then` say what they were. What
a flow should be is judged by the topology in force, since no other is known.
"""

from collections.abc import Mapping
from typing import Any

from reachmap_collector.planner import Member
from reachmap_collector.store.api import Entry, Transition
from reachmap_collector.topology.model import Topology
from reachmap_collector.turns import Turn, turn
from reachmap_collector.views import timestamp
from reachmap_shared import codec
from reachmap_shared.errors import MalformedMessage
from reachmap_shared.messages import Observation
from reachmap_shared.vocabulary import Expectation

Json = dict[str, Any]


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

    def kind(self, host: str) -> frozenset[str] | None:
        """All that matters of a host to what is expected; None for one that is not there."""
        member = self._members.get(host)
        return None if member is None else frozenset(member.roles)

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


def _seen(one: Transition | None) -> Observation | None:
    if one is None:
        return None
    try:
        return codec.decode(Observation, one.detail)
    except MalformedMessage:  # kept by another version
        return None
