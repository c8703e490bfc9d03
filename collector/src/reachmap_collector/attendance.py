"""Who reports, as people and programs look at it: agent by agent, or counted. Pure.

At ten thousand agents a row for each takes half a second, so whoever wants numbers gets them
without any, and a page costs no more than what is on it.
"""

import ipaddress
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Final

from reachmap_collector.announced import Contradictions
from reachmap_collector.ledger import Ledger, Losses
from reachmap_collector.planner import Member
from reachmap_collector.roster import AgentState, Instance, Roster
from reachmap_collector.topology.model import Topology
from reachmap_collector.views import Census, Json, timestamp
from reachmap_shared.messages import Hello

_LATE_S: Final = 1.0
"""How late a check may start before people are told; a tenth of a long interval if that is more."""

_SKEWED_S: Final = 5.0
"""How wrong an agent's clock may be before people are told."""


class Attendance:
    """Who reports or should at one moment.

    Args:
        roster: Who was heard of.
        ledger: What came of what they said.
        deployment: The topology in force.
        known: Its hosts, as `planner.members` gives them.
        now: Seconds since the epoch.
    """

    def __init__(
        self,
        roster: Roster,
        ledger: Ledger,
        deployment: Topology,
        known: Mapping[str, Member],
        now: float,
    ) -> None:
        self._roster = roster
        self._ledger = ledger
        self._deployment = deployment
        self._known = known
        self._now = now

    def rows(self, after: str | None = None) -> Iterator[tuple[str, list[Json]]]:
        """By their names, from after one on: a row for each agent, for each process if several.

        `notes` say what of an agent's word the topology passes over, and how it lags behind.
        """
        names = sorted(self._names)
        for name in names[0 if after is None else bisect_right(names, after) :]:
            if (found := self._standing(name)) is not None:
                yield name, [*self._rows(name, *found)]

    def all(self) -> list[Json]:
        """Every row."""
        return [row for _, rows in self.rows() for row in rows]

    def census(self) -> Census:
        """All of them, counted."""
        states: Counter[AgentState] = Counter()
        missing: list[str] = []
        heard: list[float] = []
        expected = waiting = dropped = 0
        for name in self._names:
            if (found := self._standing(name)) is None:
                continue
            state, instances = found
            states[state] += 1
            expected += self._is_expected(name)
            if self._is_missing(name, state):
                missing.append(name)
            for one in instances:
                if one.pulse is not None:
                    waiting += max(0, one.pulse.waiting)
                    dropped += max(0, one.pulse.lost)
            if state is AgentState.FRESH:
                heard += [one.last_heard for one in instances]
        return Census(states, sorted(missing), expected, waiting, dropped, heard)

    @cached_property
    def _names(self) -> set[str]:
        expected = (name for name, member in self._known.items() if member.has_agent)
        return {*expected, *self._roster.agents()}

    @cached_property
    def _contradictions(self) -> Contradictions:
        return Contradictions(self._deployment, self._known)

    def _standing(self, name: str) -> tuple[AgentState, Sequence[Instance]] | None:
        """How an agent stands, and its processes; None for one that goes on under a new name."""
        state, instances = self._roster.standing(name, self._now)
        if name in self._deployment.former and state is not AgentState.FRESH:
            return None
        if not instances and state is not AgentState.ABSENT:
            instances = [self._roster.current(name)]
        return state, instances

    def _is_expected(self, name: str) -> bool:
        return name in self._known and self._known[name].has_agent

    def _is_missing(self, name: str, state: AgentState) -> bool:
        """Whether it should be there; one that left, and that nobody expects, need not."""
        if state is AgentState.LEFT and not self._is_expected(name):
            return False
        return state is not AgentState.FRESH

    def _rows(self, name: str, state: AgentState, instances: Sequence[Instance]) -> Iterator[Json]:
        about = {
            "agent": name,
            "state": state,
            "in_topology": name in self._known,
            "expected": self._is_expected(name),
            "roles": list(self._known[name].roles) if name in self._known else [],
        }
        for one in instances:
            notes = _notes(one, self._deployment, self._ledger)
            yield (
                about
                | _instance(one, self._now)
                | _account(one, self._ledger)
                | {"notes": [*notes, *self._contradictions.of(one.hello)]}
            )
        if not instances:
            yield about | {"notes": []}


def _notes(instance: Instance, deployment: Topology, ledger: Ledger) -> Iterator[str]:
    """What an agent says in vain, how far behind it is, and how wrong its clock."""
    yield from _announced_in_vain(instance.hello, deployment)
    if (pulse := instance.pulse) is not None:
        if pulse.late_ms / 1000 > max(_LATE_S, deployment.checks.interval_s / 10):
            yield f"checks up to {pulse.late_ms / 1000:.1f} s late"
        if pulse.lost > 0:
            yield f"{_counted(pulse.lost, 'observation')} dropped, which the map lacks"
    losses = ledger.losses.get(instance.hello.agent, Losses())
    if losses.vanished_in_all > 0:
        counted = _counted(losses.vanished_in_all, "observation")
        yield f"{counted} vanished with the bus's storage, which the map lacks"
    if instance.hello.changes_lost > 0:
        yield f"{_counted(instance.hello.changes_lost, 'change')} dropped, which the history lacks"
    if instance.hello.spool_failure:
        yield f"keeps what waits in memory alone: {instance.hello.spool_failure}"
    if abs(instance.skew_s) > _SKEWED_S:
        way = "ahead of" if instance.skew_s > 0 else "behind"
        yield f"its clock is {abs(instance.skew_s):.0f} s {way} the bus's; ages stay right"


def _counted(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _announced_in_vain(hello: Hello, deployment: Topology) -> Iterator[str]:
    host = deployment.hosts.get(hello.agent)
    for role in dict.fromkeys(hello.roles):
        if role not in deployment.roles:
            yield f"announces role {role!r}, which the topology does not know"
        elif host is None and role not in deployment.admit:
            yield f"announces role {role!r}, which the topology does not admit"
        elif host is not None and host.roles is not None and role not in host.roles:
            yield f"announces role {role!r}, which the topology does not give to this host"
    if host is not None and not host.agent:
        yield "reports, though the topology says agent = false: nothing is checked from here"
    if host is not None and _are_elsewhere(hello.addresses, host.addresses):
        yield (
            f"announces {', '.join(hello.addresses)}, but the topology lists "
            f"{', '.join(host.addresses)}, and that is what others dial"
        )


def _are_elsewhere(announced: Sequence[str], listed: Sequence[str]) -> bool:
    """Whether none of a host's announced addresses is one that the topology lists.

    An agent without addresses of its own announces those of its routes, which need not be all:
    some overlap is agreement. Names are not resolved here, so a list with one proves nothing.
    """
    wanted = [_as_address(address) for address in listed]
    if not announced or not wanted or None in wanted:
        return False
    return not set(wanted) & {_as_address(address) for address in announced}


def _as_address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None


def _instance(instance: Instance, now: float) -> Json:
    hello, pulse = instance.hello, instance.pulse
    return {
        "heard": timestamp(instance.last_heard),
        "age_s": round(max(0.0, now - instance.last_heard), 1),
        "joined": timestamp(instance.first_heard),
        "boot": hello.boot,
        "hostname": hello.hostname,
        "addresses": list(hello.addresses),
        "announced_roles": list(hello.roles),
        "announced_ports": {own.service: own.port for own in hello.ports},
        "announced_targets": {target.role: list(target.hosts) for target in hello.targets},
        "version": hello.version,
        "platform": hello.platform,
        "capabilities": list(hello.capabilities),
        "plan": pulse.plan if pulse else "",
        "plan_refused": hello.plan_refused,
        "listeners": [
            {
                "service": report.service,
                "port": report.port,
                "transport": report.transport,
                "state": report.state,
                "detail": report.detail,
            }
            for report in hello.listeners
        ],
        "checks_done": max(0, pulse.made) if pulse else 0,
        "checks_late_ms": max(0, pulse.late_ms) if pulse else 0,
        "observations_dropped": max(0, pulse.lost) if pulse else 0,
        "observations_waiting": max(0, pulse.waiting) if pulse else 0,
        "changes_dropped": max(0, hello.changes_lost),
        "clock_skew_s": round(instance.skew_s, 1) if pulse else None,
    }


def _account(instance: Instance, ledger: Ledger) -> Json:
    """What came of what it made, and what became of what its earlier starts made."""
    account = ledger.get(instance.hello.agent, instance.hello.boot)
    losses = ledger.losses.get(instance.hello.agent, Losses())
    vanished = losses.vanished_of(instance.hello.boot)
    return {
        "observations_received": account.observations if account else 0,
        "observations_refused": account.refused if account else 0,
        "observations_vanished": vanished,
        "dropped_before": losses.lost,
        "vanished_before": losses.vanished_in_all - vanished,
    }
