"""From the map to what causes are found in: each flow and agent as it is now. Pure."""

from collections.abc import Callable, Iterator, Mapping
from typing import Final

import numpy as np

from reachmap_collector.alerts.causes import Member
from reachmap_collector.alerts.crowd import Crowd
from reachmap_collector.alerts.groups import Sight
from reachmap_collector.flowmap.columns import Bits
from reachmap_collector.flowmap.fold import FlowMap
from reachmap_collector.flowmap.records import FlowRecord
from reachmap_collector.judge import Judge, Judgement
from reachmap_collector.planner import FlowKey
from reachmap_collector.planner import Member as Host
from reachmap_collector.roster import AgentState, Roster
from reachmap_collector.states import CODES, NOBODY, States
from reachmap_collector.topology.schema import Checks
from reachmap_shared.vocabulary import Cause, State

FAILING: Final = frozenset({State.BROKEN, State.EXPOSED})
"""What is somebody's business."""

_ON_THE_WAY: Final = frozenset({Cause.PATH, Cause.MIDDLEBOX})
"""Causes of which the device can be named: a host's own address says no more than its name."""


def agents(members: Mapping[str, Host], roster: Roster, now: float) -> dict[str, AgentState]:
    """How every agent that is expected stands."""
    return {name: roster.state(name, now) for name, host in members.items() if host.has_agent}


class Look:
    """One look at the map: what fails is judged, and the rest, which is nearly all, is counted."""

    def __init__(
        self, flows: FlowMap, roster: Roster, checks: Checks, now: float, until: float
    ) -> None:
        self._flows = flows
        self._expected = flows.expected
        self._states = States(flows, Judge(flows, roster, checks, now))
        codes = self._states.codes
        fails = np.isin(codes, [CODES[state] for state in FAILING])
        ends = (codes != NOBODY) & (self._states.rows["certificate"] <= until)
        self._sighted: Bits = fails | ends
        self.rest = Crowd(self._states, self._sighted) if fails.any() else None
        """All flows but those that `sights` gives; None where none fails."""

    def sights(self) -> Iterator[Sight]:
        """The flows that fail, and those whose certificate ends by `until`.

        Who takes them one by one may let the map change meanwhile.
        """
        for number in np.flatnonzero(self._sighted).tolist():
            if self.is_outdated:
                return
            if self._flows.is_there(number):
                yield self.sight(self._flows.at(number))

    @property
    def is_outdated(self) -> bool:
        """Whether the map has other flows since then."""
        return self._flows.expected is not self._expected

    def knows(self, agents: Mapping[str, AgentState]) -> Callable[[Member], bool]:
        """Of which flows and agents it is known how they are.

        What the topology does not have any more is known to be gone.
        """
        unknown: Bits = self._states.codes == CODES[State.UNKNOWN]

        def is_known(member: Member) -> bool:
            if not isinstance(member, FlowKey):
                return agents.get(member) is not AgentState.ABSENT
            if self.is_outdated:
                return False
            number = self._flows.number(member)
            return number is None or number >= len(unknown) or not unknown[number]

        return is_known

    def sight(self, record: FlowRecord) -> Sight:
        """A flow as it is now."""
        return self._judged(self._states.judge.judge(record))

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
