"""From the map to what causes are found in: each flow and agent as it is now. Pure."""

from collections.abc import Mapping
from typing import Final

from reachmap_collector.alerts.causes import Member, Sight
from reachmap_collector.fold import FlowMap
from reachmap_collector.judge import MISSED_CHECKS, Judge
from reachmap_collector.planner import FlowKey
from reachmap_collector.planner import Member as Host
from reachmap_collector.records import FlowRecord
from reachmap_collector.roster import AgentState, Roster
from reachmap_collector.topology.schema import Checks
from reachmap_shared.vocabulary import Cause, Expectation, Outcome, State

FAILING: Final = frozenset({State.BROKEN, State.EXPOSED})
"""What is somebody's business."""

_ON_THE_WAY: Final = frozenset({Cause.PATH, Cause.MIDDLEBOX})
"""Causes of which the device can be named: a host's own address says no more than its name."""

_SEEN: Final = frozenset({State.OK, State.DEGRADED, State.BROKEN, State.EXPOSED})


def agents(members: Mapping[str, Host], roster: Roster, now: float) -> dict[str, AgentState]:
    """How every agent that is expected stands."""
    return {name: roster.state(name, now) for name, host in members.items() if host.has_agent}


class Known:
    """Of which flows and agents it is known how they are; flows that are well may be left out."""

    def __init__(self, flows: list[Sight], agents: Mapping[str, AgentState]) -> None:
        self._unseen = {sight.key for sight in flows if sight.state not in _SEEN}
        self._absent = {name for name, state in agents.items() if state is AgentState.ABSENT}

    def __call__(self, member: Member) -> bool:
        """Whether it is; what the topology does not have any more is known to be gone."""
        if isinstance(member, FlowKey):
            return member not in self._unseen
        return member not in self._absent


class Look:
    """One look at the map. What is plainly well needs no judgement, and that is nearly all."""

    def __init__(
        self, flows: FlowMap, roster: Roster, checks: Checks, now: float, until: float
    ) -> None:
        self._flows = flows
        self._roster = roster
        self._checks = checks
        self._now = now
        self._until = until
        self._stale_s = MISSED_CHECKS * checks.interval_s + checks.timeout_s
        self._judge: Judge | None = None
        self._conflicts: dict[str, bool] = {}

    def is_well(self, record: FlowRecord) -> bool:
        """Whether there is nothing to say of a flow, and no certificate ends by `until`."""
        last = record.last
        if (
            last is None
            or last.outcome is not Outcome.OPEN
            or record.expected.expect is not Expectation.REACHABLE
            or self._now - record.checked > self._stale_s
        ):
            return False
        ends, source = last.certificate_until, record.key.source
        if ends is not None and ends <= self._until:
            return False
        if source not in self._conflicts:
            state = self._roster.state(source, self._now)
            self._conflicts[source] = state is AgentState.CONFLICT
        return not self._conflicts[source]

    def sight(self, record: FlowRecord) -> Sight:
        """A flow as it is now."""
        return self._well(record) if self.is_well(record) else self._judged(record)

    def _well(self, record: FlowRecord) -> Sight:
        assert record.last is not None
        return Sight(
            record.key,
            str(record.expected.service),
            State.OK,
            Outcome.OPEN,
            source_address=_host(record.last.local),
            since=record.changed,
            checked=record.checked,
            certificate_until=record.last.certificate_until,
        )

    def _judged(self, record: FlowRecord) -> Sight:
        if self._judge is None:
            self._judge = Judge(self._flows, self._roster, self._checks, self._now)
        judgement = self._judge.judge(record)
        last = record.last
        return Sight(
            record.key,
            str(record.expected.service),
            judgement.state,
            last.outcome if last else None,
            judgement.cause,
            judgement.at if judgement.cause in _ON_THE_WAY else None,
            source_address=_host(last.local) if last else None,
            since=judgement.since,
            checked=record.checked,
            certificate_until=last.certificate_until if last else None,
        )


def _host(local: str) -> str | None:
    """The address of what a check says it dialled from, as in `10.0.1.1:40000` or `[::1]:4000`."""
    return local.rpartition(":")[0].strip("[]") or None
