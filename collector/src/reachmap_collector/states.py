"""The state of every flow at one moment, without a judgement of each. Pure.

It is told from the rows of all flows at once; only those to addresses of names are judged one by
one. A state told here is the one that the judge would give.
"""

from collections.abc import Callable, Mapping
from functools import cache, cached_property
from typing import Final

import numpy as np
from numpy.typing import NDArray

from reachmap_collector import columns
from reachmap_collector.columns import Bits
from reachmap_collector.fold import FlowMap
from reachmap_collector.judge import ASTRAY, CONNECTED, FLAPPING, Judge, Judgement
from reachmap_collector.planner import Target
from reachmap_shared.vocabulary import Outcome, State, Transport

STATES: Final = (*State,)
CODES: Final[Mapping[State, int]] = {state: code for code, state in enumerate(STATES)}

NAMED: Final = 255
"""Stands for the flow to a name, in whose place there are those to its addresses."""

_OPEN: Final = columns.OUTCOME_CODES[Outcome.OPEN]
_REFUSED: Final = columns.OUTCOME_CODES[Outcome.REFUSED]
_LOCAL_ERROR: Final = columns.OUTCOME_CODES[Outcome.LOCAL_ERROR]
_ASTRAY: Final = [columns.OUTCOME_CODES[outcome] for outcome in ASTRAY]
_CONNECTED: Final = [columns.OUTCOME_CODES[outcome] for outcome in CONNECTED]

Places = NDArray[np.intp]
"""The numbers of some rows."""


class States:
    """How every flow of a map stands.

    Args:
        flows: The map.
        judge: Of the moment that is meant.
    """

    def __init__(self, flows: FlowMap, judge: Judge) -> None:
        self.flows = flows
        self.judge = judge
        self.checked = flows.checked()
        """For each row, when its flow was checked last."""
        self.codes: NDArray[np.uint8] = self._plain()
        """For each row, the place of its flow's state in STATES, or NAMED."""
        self.named = {
            row: [judge.judge(record) for record in records]
            for row, records in flows.resolved().items()
        }
        """By the row of the flow to a name: those to its addresses."""
        self.codes[[*self.named]] = NAMED

    def judged(self, row: int) -> list[Judgement]:
        """The judgement of a row's flow, or of those to the addresses of a name."""
        named = self.named.get(row)
        return [self.judge.judge(self.flows.at(row))] if named is None else named

    def counts(self, rows: Bits | None = None) -> dict[State, int]:
        """How many flows are in each state: of all, or of some rows."""
        codes = self.codes if rows is None else self.codes[rows]
        found = np.bincount(codes, minlength=NAMED + 1)
        counts = {state: int(found[code]) for state, code in CODES.items()}
        for row, judgements in self.named.items():
            if rows is None or rows[row]:
                for one in judgements:
                    counts[one.state] += 1
        return counts

    def __len__(self) -> int:
        return len(self.codes) + sum(len(those) - 1 for those in self.named.values())

    @cached_property
    def well(self) -> Bits:
        """The rows of flows that are as they should be, and to no name."""
        bits: Bits = self.codes == CODES[State.OK]
        return bits

    def _plain(self) -> NDArray[np.uint8]:
        rows, judge = self.flows.rows, self.judge
        sources, lengths = self.flows.expected.targets, self.flows.expected.lengths
        patience = np.repeat(np.fromiter(map(judge.patience_s, sources), float), lengths)
        conflicts = np.repeat(np.fromiter(map(judge.is_conflict, sources), bool), lengths)
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
        for row in self.flows.flapping(FLAPPING):
            if codes[row] == CODES[State.OK]:
                codes[row] = CODES[State.DEGRADED]
        refused = wanted & (outcome == _REFUSED) & (flags & columns.WINDOW == 0)
        if refused.any():  # it may say no more than that the service is still to come
            codes[refused & self._by_port(judge.is_still_to_come)] = CODES[State.UNKNOWN]
        if forbidden.any():
            fresh = outcome == _OPEN
            fresh &= judge.now <= self.checked + patience
            codes[forbidden] = self._forbidden(np.flatnonzero(forbidden), fresh)
        return codes

    def _forbidden(self, rows: Places, reaching: Bits) -> NDArray[np.uint8]:
        """The states of flows that must be blocked, given which flows reach their destinations."""
        outcome, flags = self.flows.rows["outcome"][rows], self.flows.rows["flags"][rows]
        reached = self._reached(rows, reaching)
        is_proven = (reached > 0) & (reached >= self.checked[rows] - self.judge.interval_s)
        is_proven &= (flags & columns.WINDOW != 0) | self._by_port(self.judge.listens)[rows]
        is_proven &= ~np.isin(outcome, _ASTRAY)
        codes = np.full(len(rows), CODES[State.UNKNOWN], np.uint8)
        codes[is_proven] = CODES[State.OK]
        codes[np.isin(outcome, _CONNECTED)] = CODES[State.EXPOSED]
        return codes

    def _reached(self, rows: Places, reaching: Bits) -> NDArray[np.float64]:
        """When the source of each row last reached its destination by any flow; 0 if it did not."""
        expected = self.flows.expected
        numbers: dict[str, int] = {}
        to = self.by_target(lambda one: numbers.setdefault(one.destination, len(numbers)))
        ends = np.repeat(np.arange(len(expected.targets)), expected.lengths) * len(numbers) + to
        wanted, of_rows = np.unique(ends[rows], return_inverse=True)
        latest = np.zeros(len(wanted))
        named = self.flows.resolved()
        reaching = reaching.copy()
        reaching[[*named]] = False
        found_rows = np.flatnonzero(reaching)
        places = np.minimum(np.searchsorted(wanted, ends[found_rows]), len(wanted) - 1)
        meant = wanted[places] == ends[found_rows]
        np.maximum.at(latest, places[meant], self.checked[found_rows[meant]])
        for row, records in named.items():
            place = min(int(np.searchsorted(wanted, ends[row])), len(wanted) - 1)
            if wanted[place] == ends[row]:
                times = [one.checked for one in records if self.judge.reaches(one)]
                latest[place] = max(latest[place], *times, 0.0)
        return latest[of_rows]

    def by_target(self, says: Callable[[Target], int]) -> NDArray[np.int64]:
        """For each row, what is said of its target: asked once where sources share theirs."""
        parts: dict[int, NDArray[np.int64]] = {}
        for targets in self.flows.expected.targets.values():
            if id(targets) not in parts:
                parts[id(targets)] = np.fromiter(map(says, targets), np.int64, len(targets))
        every = [parts[id(targets)] for targets in self.flows.expected.targets.values()]
        return np.concatenate(every)

    def _by_port(self, says: Callable[[str, int, Transport], bool | None]) -> Bits:
        """For each row, what is said of the port that its flow leads to: many lead to one."""
        asked = cache(says)
        by_target = self.by_target(
            lambda one: bool(asked(one.destination, one.port, one.transport))
        )
        return by_target.astype(bool)
