"""The state of every flow at one moment, without a judgement of each. Pure.

It is told from the rows of all flows at once, and is the one that the judge would give.
"""

from collections.abc import Callable, Mapping
from functools import cache, cached_property
from typing import Final

import numpy as np
from numpy.typing import NDArray

from reachmap_collector.flowmap import columns
from reachmap_collector.flowmap.columns import Bits
from reachmap_collector.flowmap.fold import FlowMap
from reachmap_collector.judge import ASTRAY, CONNECTED, FLAPPING, Judge, Judgement
from reachmap_collector.planner import Target
from reachmap_shared.vocabulary import Outcome, State, Transport

STATES: Final = (*State,)
CODES: Final[Mapping[State, int]] = {state: code for code, state in enumerate(STATES)}

NOBODY: Final = 255
"""Stands for the state where there is no flow."""

_OPEN: Final = columns.OUTCOME_CODES[Outcome.OPEN]
_REFUSED: Final = columns.OUTCOME_CODES[Outcome.REFUSED]
_LOCAL_ERROR: Final = columns.OUTCOME_CODES[Outcome.LOCAL_ERROR]
_ASTRAY: Final = [columns.OUTCOME_CODES[outcome] for outcome in ASTRAY]
_CONNECTED: Final = [columns.OUTCOME_CODES[outcome] for outcome in CONNECTED]

Places = NDArray[np.intp]
"""The numbers of some flows."""


class States:
    """How every flow of a map stands.

    Args:
        flows: The map.
        judge: Of the moment that is meant.
    """

    def __init__(self, flows: FlowMap, judge: Judge) -> None:
        self.flows = flows
        self.judge = judge
        self.rows = flows.every()
        """By number of flow."""
        self.checked = flows.checked()
        """For each flow, when it was checked last."""
        self.codes: NDArray[np.uint8] = self._told()
        """For each flow, the place of its state in STATES; NOBODY for numbers that no flow has."""

    def judged(self, number: int) -> Judgement:
        """The judgement of a flow."""
        return self.judge.judge(self.flows.at(number))

    def counts(self, flows: Bits | None = None) -> dict[State, int]:
        """How many flows are in each state: of all, or of some."""
        found = np.bincount(self.codes if flows is None else self.codes[flows], minlength=NOBODY)
        return {state: int(found[code]) for state, code in CODES.items()}

    def __len__(self) -> int:
        return len(self.flows)

    @cached_property
    def well(self) -> Bits:
        """The flows that are as they should be."""
        bits: Bits = self.codes == CODES[State.OK]
        return bits

    def _told(self) -> NDArray[np.uint8]:
        rows, judge, resolved = self.rows, self.judge, self.flows.resolved
        sources, lengths = self.flows.expected.targets, self.flows.expected.lengths
        patience = np.repeat(np.fromiter(map(judge.patience_s, sources), float), lengths)
        conflicts = np.repeat(np.fromiter(map(judge.is_conflict, sources), bool), lengths)
        patience, conflicts = resolved.with_others(patience), resolved.with_others(conflicts)
        outcome, flags = rows["outcome"], rows["flags"]
        known = (outcome != columns.NOTHING) & (outcome != _LOCAL_ERROR)
        known &= ~conflicts & (flags & columns.UNADDRESSED == 0)
        known &= judge.now <= self.checked + patience
        forbidden = known & (flags & columns.FORBIDDEN != 0)
        wanted = known & ~forbidden
        is_open = wanted & (outcome == _OPEN)
        codes = np.full(len(rows), CODES[State.UNKNOWN], np.uint8)
        codes[wanted] = CODES[State.BROKEN]
        codes[is_open] = CODES[State.OK]
        codes[is_open & (flags & columns.HEALTHY == 0)] = CODES[State.DEGRADED]
        for number in self.flows.flapping(FLAPPING):
            if codes[number] == CODES[State.OK]:
                codes[number] = CODES[State.DEGRADED]
        refused = wanted & (outcome == _REFUSED) & (flags & columns.WINDOW == 0)
        if refused.any():  # it may say no more than that the service is still to come
            codes[refused & self._by_port(judge.is_still_to_come)] = CODES[State.UNKNOWN]
        if forbidden.any():
            fresh = outcome == _OPEN
            fresh &= judge.now <= self.checked + patience
            codes[forbidden] = self._forbidden(np.flatnonzero(forbidden), fresh)
        codes[len(self.flows.rows) :][~resolved.taken] = NOBODY
        return codes

    def _forbidden(self, those: Places, reaching: Bits) -> NDArray[np.uint8]:
        """The states of flows that must be blocked, given which flows reach their destinations."""
        outcome, flags = self.rows["outcome"][those], self.rows["flags"][those]
        reached = self._reached(those, reaching)
        is_proven = (reached > 0) & (reached >= self.checked[those] - self.judge.interval_s)
        is_proven &= (flags & columns.WINDOW != 0) | self._by_port(self.judge.listens)[those]
        is_proven &= ~np.isin(outcome, _ASTRAY)
        codes = np.full(len(those), CODES[State.UNKNOWN], np.uint8)
        codes[is_proven] = CODES[State.OK]
        codes[np.isin(outcome, _CONNECTED)] = CODES[State.EXPOSED]
        return codes

    def _reached(self, those: Places, reaching: Bits) -> NDArray[np.float64]:
        """When the source of each flow last reached its destination by any; 0 if it did not."""
        expected = self.flows.expected
        numbers: dict[str, int] = {}
        to = self.by_target(lambda one: numbers.setdefault(one.destination, len(numbers)))
        sources = np.repeat(np.arange(len(expected.targets)), expected.lengths)
        ends = self.flows.resolved.with_others(sources) * len(numbers) + to
        wanted, of_those = np.unique(ends[those], return_inverse=True)
        latest = np.zeros(len(wanted))
        found = np.flatnonzero(reaching)
        places = np.minimum(np.searchsorted(wanted, ends[found]), len(wanted) - 1)
        meant = wanted[places] == ends[found]
        np.maximum.at(latest, places[meant], self.checked[found[meant]])
        return latest[of_those]

    def by_target(self, says: Callable[[Target], int]) -> NDArray[np.int64]:
        """For each flow, what is said of its target: asked once where sources share theirs."""
        parts: dict[int, NDArray[np.int64]] = {}
        for targets in self.flows.expected.targets.values():
            if id(targets) not in parts:
                parts[id(targets)] = np.fromiter(map(says, targets), np.int64, len(targets))
        every = [parts[id(targets)] for targets in self.flows.expected.targets.values()]
        return self.flows.resolved.with_others(np.concatenate(every))

    def _by_port(self, says: Callable[[str, int, Transport], bool | None]) -> Bits:
        """For each flow, what is said of the port that it leads to: many lead to one."""
        asked = cache(says)
        by_target = self.by_target(
            lambda one: bool(asked(one.destination, one.port, one.transport))
        )
        return by_target.astype(bool)
