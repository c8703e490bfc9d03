"""The state of every flow at one moment, without a judgement of each. Pure.

What plainly follows from a flow's row is told from the rows of all at once; only the rest is judged
one by one. A state told here is the one that the judge would give.
"""

from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Final

import numpy as np
from numpy.typing import NDArray

from reachmap_collector import columns
from reachmap_collector.columns import Bits
from reachmap_collector.fold import FlowMap
from reachmap_collector.judge import FLAPPING, Judge, Judgement
from reachmap_shared.vocabulary import Outcome, State

STATES: Final = (*State,)
CODES: Final[Mapping[State, int]] = {state: code for code, state in enumerate(STATES)}

NAMED: Final = 255
"""Stands for the flow to a name, in whose place there are those to its addresses."""

_OPEN: Final = columns.OUTCOME_CODES[Outcome.OPEN]
_REFUSED: Final = columns.OUTCOME_CODES[Outcome.REFUSED]
_LOCAL_ERROR: Final = columns.OUTCOME_CODES[Outcome.LOCAL_ERROR]


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
        for row in self._doubtful(refused):
            codes[row] = CODES[State.UNKNOWN]
        for row in np.flatnonzero(forbidden).tolist():
            codes[row] = CODES[judge.judge(self.flows.at(row)).state]
        return codes

    def _doubtful(self, refused: Bits) -> Iterator[int]:
        """The rows of refusals that say no more than that a service is still to come."""
        answers: dict[tuple[str, int, str], bool] = {}  # of places: many flows lead to one
        for row in np.flatnonzero(refused).tolist():
            key = self.flows.expected[row].key
            place = key.destination, key.port, key.transport
            if place not in answers:
                answers[place] = self.judge.is_still_to_come(*place)
            if answers[place]:
                yield row
