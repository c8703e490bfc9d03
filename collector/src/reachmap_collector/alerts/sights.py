"""From the map to what causes are found in: each flow and agent as it is now. Pure."""

from collections.abc import Iterator, Mapping
from typing import Final

import numpy as np

from reachmap_collector.alerts.causes import Member, Sight
from reachmap_collector.fold import FlowMap
from reachmap_collector.judge import Judge, Judgement
from reachmap_collector.planner import FlowKey
from reachmap_collector.planner import Member as Host
from reachmap_collector.records import FlowRecord
from reachmap_collector.roster import AgentState, Roster
from reachmap_collector.states import NOBODY, States
from reachmap_collector.topology.schema import Checks
from reachmap_shared.vocabulary import Cause, Outcome, State

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
        self._states = States(flows, Judge(flows, roster, checks, now))
        self._plain = self._states.well & (self._states.rows["certificate"] > until)

    def is_well(self, record: FlowRecord) -> bool:
        """Whether there is nothing to say of a flow, and no certificate ends by `until`."""
        return record.row >= 0 and bool(self._plain[record.row])

    def troubled(self) -> Iterator[Sight]:
        """All flows but those."""
        for row in np.flatnonzero(~self._plain).tolist():
            if self._states.codes[row] != NOBODY:
                yield self._judged(self._states.judged(row))

    def well(self) -> Iterator[Sight]:
        """Those."""
        return (self._well(self._flows.at(row)) for row in np.flatnonzero(self._plain).tolist())

    def sight(self, record: FlowRecord) -> Sight:
        """A flow as it is now."""
        if self.is_well(record):
            return self._well(record)
        return self._judged(self._states.judge.judge(record))

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

    def _judged(self, judgement: Judgement) -> Sight:
        record = judgement.record
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
