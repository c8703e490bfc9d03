"""From the map to what causes are found in: each flow and agent as it is now. Pure."""

from collections.abc import Callable, Iterator, Mapping
from functools import cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from reachmap_collector.alerts.causes import Member
from reachmap_collector.alerts.crowd import Crowd
from reachmap_collector.alerts.groups import Sight
from reachmap_collector.flowmap import columns
from reachmap_collector.flowmap.columns import Bits, Rows
from reachmap_collector.flowmap.fold import FlowMap
from reachmap_collector.flowmap.records import FlowRecord
from reachmap_collector.judge import Judge, Judgement, goes_before_a_check, of_this_fault
from reachmap_collector.planner import FlowKey
from reachmap_collector.planner import Member as Host
from reachmap_collector.roster import AgentState, Roster
from reachmap_collector.states import CODES, NOBODY, STATES, States
from reachmap_collector.topology.schema import Checks
from reachmap_shared.vocabulary import Cause, State, Transport

AT_ONCE: Final = 2000
"""Flows looked at before all else may have its turn: some ten milliseconds."""

FAILING: Final = frozenset({State.BROKEN, State.EXPOSED})
"""What is somebody's business."""

_ON_THE_WAY: Final = frozenset({Cause.PATH, Cause.MIDDLEBOX})
"""Causes of which the device can be named: a host's own address says no more than its name."""


_BROKEN: Final = CODES[State.BROKEN]

_Alike = tuple[str, int, Transport, int, int]


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
        self._ends = np.cumsum(flows.expected.lengths)
        self._blame: dict[_Alike, Cause] = {}
        """Where those go wrong that lead to one port, fail in one way, and were not looked into."""
        self._services = cache(str)
        codes = self._states.codes
        fails = np.isin(codes, [CODES[state] for state in FAILING])
        ends = (codes != NOBODY) & (self._states.rows["certificate"] <= until)
        sighted: Bits = fails | ends
        self._sighted = np.flatnonzero(sighted)
        self._rows: Rows = self._states.rows[self._sighted]
        """Of those, as they are now."""
        self.rest = Crowd(self._states, sighted) if fails.any() else None
        """All flows but those that `sights` gives; None where none fails."""

    def sights(self) -> Iterator[Sight]:
        """The flows that fail, and those whose certificate ends by `until`.

        Who takes them one by one may let the map change meanwhile.
        """
        for begin in range(0, len(self._sighted), AT_ONCE):
            part = slice(begin, begin + AT_ONCE)
            if self.is_outdated:
                return
            yield from self._some(self._sighted[part], self._rows[part])

    def _some(self, numbers: NDArray[np.int64], rows: Rows) -> Iterator[Sight]:
        """Those of some numbers: as their rows say, and judged where those say too little."""
        codes, plain = self._states.codes[numbers], self._flows.in_rows(numbers)
        plain &= np.isin(codes, [CODES[state] for state in FAILING])
        plain[plain] = self._flows.rows[numbers[plain]] == rows[plain]  # it may have healed
        for number in numbers[~plain].tolist():
            if self._flows.is_there(number):
                yield self.sight(self._flows.at(number))
        yield from self._as_rows_say(numbers[plain], rows[plain], codes[plain])

    def _as_rows_say(
        self, numbers: NDArray[np.int64], rows: Rows, codes: NDArray[np.uint8]
    ) -> Iterator[Sight]:
        expected, blame = self._expected, self._blame
        sources, owners = (*expected.targets,), np.searchsorted(self._ends, numbers, side="right")
        for number, owner, code, row, since, checked in zip(
            numbers.tolist(),
            owners.tolist(),
            codes.tolist(),
            rows[["local", "certificate", "outcome", "flags"]].tolist(),
            np.minimum(rows["at"], rows["since"]).tolist(),
            self._states.checked[numbers].tolist(),
            strict=True,
        ):
            source, (local, ends, seen, flags) = sources[owner], row
            target = expected.targets[source][number - expected.start(source)]
            key = FlowKey(source, target.destination, target.address, target.port, target.transport)
            cause = offender = None
            if code == _BROKEN:
                told = of_this_fault(self._flows.looked_into(number), since)
                if told is not None and goes_before_a_check(told.finding):
                    cause = told.finding.cause
                    offender = told.finding.at if cause in _ON_THE_WAY else None
                else:
                    alike = target.destination, target.port, target.transport, seen, flags
                    cause = blame.get(alike)
                    if cause is None:
                        window = bool(flags & columns.WINDOW)
                        outcome = columns.OUTCOMES[seen]
                        cause = self._states.judge.blame(key, outcome, window=window)
                        blame[alike] = cause
            yield Sight(
                key,
                self._services(target.service),
                STATES[code],
                columns.OUTCOMES[seen],
                cause,
                offender,
                self._flows.dialled_from(local),
                since,
                checked,
                None if ends == columns.NO_CERTIFICATE else ends,
            )

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
