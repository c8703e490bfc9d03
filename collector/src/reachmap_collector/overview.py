"""The flows that fit some filters at one moment: counted all at once, listed page by page. Pure.

Which flows a filter means is mostly told by where they lead, which agents of the same roles have in
common: it is worked out once for all of them.
"""

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from heapq import merge
from typing import Final

import numpy as np
from numpy.typing import NDArray

from reachmap_collector import views
from reachmap_collector.columns import Bits
from reachmap_collector.judge import Judgement
from reachmap_collector.planner import FlowKey, Target
from reachmap_collector.states import CODES, NAMED, STATES, States
from reachmap_collector.topology.model import TableRow, Topology
from reachmap_collector.views import By, Tally
from reachmap_shared.vocabulary import State

_LEFT_OUT: Final = 254
"""Stands for the state of a flow that does not fit."""


@dataclass(frozen=True, slots=True)
class Filters:
    """Which flows are meant; None means all."""

    source: str | None = None
    destination: str | None = None
    service: str | None = None
    role: str | None = None
    state: State | None = None
    rows: Sequence[TableRow] | None = None

    def fit(self, topology: Topology, target: Target) -> bool:
        """Whether flows to a target do, whatever their source and state."""
        return (
            self.destination in (None, target.destination)
            and self.service in (None, str(target.service))
            and (self.role is None or self.role in views.roles(target))
            and (
                self.rows is None
                or any(row in self.rows for row in views.table_rows(topology, target))
            )
        )


EVERYTHING: Final = Filters()


class Overview:
    """The flows that fit.

    Args:
        states: How all flows stand.
        topology: The one in force.
        filters: Which flows are meant.
    """

    def __init__(self, states: States, topology: Topology, filters: Filters) -> None:
        self._states = states
        self._expected = states.flows.expected
        self._topology = topology
        self._filters = filters
        fits = self._fitting()
        wanted = states.codes
        if filters.state is not None:
            fits &= (wanted == CODES[filters.state]) | (wanted == NAMED)
        self._codes: NDArray[np.uint8] = np.where(fits, wanted, _LEFT_OUT).astype(np.uint8)
        self._named = [
            one
            for row, judgements in states.named.items()
            if fits[row]
            for one in judgements
            if filters.state in (None, one.state)
        ]

    def __len__(self) -> int:
        return int(np.count_nonzero(self._plain)) + len(self._named)

    @cached_property
    def _plain(self) -> Bits:
        bits: Bits = self._codes < len(STATES)
        return bits

    def counts(self) -> dict[State, int]:
        """How many flows are in each state."""
        found = np.bincount(self._codes, minlength=len(STATES))
        counts = Counter({state: int(found[code]) for state, code in CODES.items()})
        counts.update(one.state for one in self._named)
        return {state: counts[state] for state in State}

    def checked(self, since: float) -> int:
        """How many of them were checked from then on."""
        plain = self._plain & (self._states.checked >= max(since, _EVER))
        named = sum(one.seen is not None and one.record.checked >= since for one in self._named)
        return int(np.count_nonzero(plain)) + named

    def page(self, after: FlowKey | None = None) -> Iterator[int | Judgement]:
        """Which flows come after one, in the order of their keys: rows, or those of a name."""
        named = sorted(
            (one for one in self._named if after is None or one.record.key > after),
            key=lambda one: one.record.key,
        )
        first = 0 if after is None else self._expected.after(after)
        rows = (first + np.flatnonzero(self._plain[first:])).tolist()
        if not named:
            return iter(rows)
        return merge(rows, named, key=self._key)

    def _key(self, one: int | Judgement) -> FlowKey:
        return self._expected[one].key if isinstance(one, int) else one.record.key

    def sources(self) -> list[str]:
        """Whence they lead, in the order of names."""
        targets = self._expected.targets
        if not targets:
            return []
        starts = np.fromiter(map(self._expected.start, targets), int, len(targets))
        some = np.logical_or.reduceat(self._codes != _LEFT_OUT, starts)
        return [source for source, fits in zip(targets, some.tolist(), strict=True) if fits]

    def tallies(self, by: By, of: Collection[str] | None = None) -> Iterator[Tally]:
        """The flows counted, as the rows of a matrix need them: all, or those of some sources."""
        for one in self._named:
            if of is None or one.record.key.source in of:
                yield Tally.of(one)
        groups: dict[int, list[str]] = {}
        for source in self._expected.targets if of is None else of:
            groups.setdefault(id(self._expected.targets[source]), []).append(source)
        for sources in groups.values():
            targets = self._expected.targets[sources[0]]
            starts = np.fromiter(map(self._expected.start, sources), int, len(sources))
            codes = self._codes[starts[:, None] + np.arange(len(targets))]
            if by is By.HOST:
                yield from _by_source(sources, targets, codes)
            else:
                for place, target in enumerate(targets):
                    if counts := _counted(codes[:, place]):
                        yield Tally("", target, counts)

    def _fitting(self) -> Bits:
        fits: Bits = np.zeros(len(self._expected), bool)
        filters, of_targets = self._filters, dict[int, Bits]()
        is_narrow = filters != Filters(source=filters.source, state=filters.state)
        for source, targets in self._expected.targets.items():
            if filters.source not in (None, source):
                continue
            start = self._expected.start(source)
            if not is_narrow:
                fits[start : start + len(targets)] = True
                continue
            if id(targets) not in of_targets:
                those = (filters.fit(self._topology, target) for target in targets)
                of_targets[id(targets)] = np.fromiter(those, bool, len(targets))
            fits[start : start + len(targets)] = of_targets[id(targets)]
        return fits


_EVER: Final = 1e-9
"""Just after the time that stands for never."""


def _counted(codes: NDArray[np.uint8]) -> dict[State, int]:
    found = np.bincount(codes, minlength=len(STATES))
    return {state: int(found[code]) for state, code in CODES.items() if found[code]}


def _by_source(
    sources: Sequence[str], targets: Sequence[Target], codes: NDArray[np.uint8]
) -> Iterator[Tally]:
    """A tally for each source and service."""
    services: dict[str, list[int]] = {}
    for place, target in enumerate(targets):
        services.setdefault(str(target.service), []).append(place)
    for places in services.values():
        part = codes[:, places]
        counts = np.stack([(part == code).sum(axis=1) for code in range(len(STATES))], axis=1)
        for source, line in zip(sources, counts.tolist(), strict=True):
            states = {state: line[code] for state, code in CODES.items() if line[code]}
            if states:
                yield Tally(source, targets[places[0]], states)
