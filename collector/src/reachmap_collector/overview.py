"""The flows that fit some filters at one moment: counted all at once, listed page by page. Pure.

Which flows a filter means is mostly told by where they lead, which agents of the same roles have in
common: it is worked out once for all of them.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from typing import Final

import numpy as np
from numpy.typing import NDArray

from reachmap_collector import views
from reachmap_collector.flowmap.columns import Bits
from reachmap_collector.planner import NO_ADDRESS, FlowKey, Target
from reachmap_collector.states import CODES, NOBODY, STATES, States
from reachmap_collector.topology.model import TableRow, Topology
from reachmap_collector.views import By, Tally
from reachmap_shared.vocabulary import State


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
        fits = states.flows.resolved.with_others(self._fitting())
        if filters.state is not None:
            fits = fits & (states.codes == CODES[filters.state])
        self._codes: NDArray[np.uint8] = np.where(fits, states.codes, NOBODY).astype(np.uint8)

    def __len__(self) -> int:
        return int(np.count_nonzero(self._plain))

    @cached_property
    def _plain(self) -> Bits:
        bits: Bits = self._codes != NOBODY
        return bits

    def counts(self) -> dict[State, int]:
        """How many flows are in each state."""
        found = np.bincount(self._codes, minlength=len(STATES))
        return {state: int(found[code]) for state, code in CODES.items()}

    def checked(self, since: float) -> int:
        """How many of them were checked from then on."""
        return int(np.count_nonzero(self._plain & (self._states.checked >= max(since, _EVER))))

    def page(self, after: FlowKey | None = None) -> Iterator[int]:
        """The numbers of the flows that come after one, in the order of their keys."""
        flows, count = self._states.flows, len(self._expected)
        first = 0
        if after is not None:  # all to that destination may come after it, for names have addresses
            pair = FlowKey(after.source, after.destination, NO_ADDRESS, -1, after.transport)
            first = self._expected.after(pair)
        rows = first + np.flatnonzero(self._plain[first:count])
        if not flows.resolved.sets[first:].any():
            begin = 0 if after is None else np.searchsorted(rows, self._expected.after(after))
            yield from rows[begin:].tolist()
            return
        others = np.flatnonzero(self._plain[count:])
        owners = flows.resolved.owners[others].astype(np.int64)
        others, owners = others[owners >= first] + count, owners[owners >= first]
        order = np.argsort(np.concatenate([rows, owners]), kind="stable")
        numbers = np.concatenate([rows, others])[order]
        keyed = ((flows.key(number), number) for number in numbers.tolist())
        for _, group in groupby(keyed, lambda one: (one[0].source, one[0].destination)):
            yield from (number for key, number in sorted(group) if after is None or key > after)

    def part(self, size: int, after: FlowKey | None = None) -> tuple[list[int], bool]:
        """The first so many of a page, and whether there are more.

        Two names of one host may have the same address, and then two flows have the same key: they
        stay together, since the next part begins after a key.
        """
        key = self._states.flows.key
        found: list[int] = []
        for number in self.page(after):
            if len(found) >= size and key(number) != key(found[-1]):
                return found, True
            found.append(number)
        return found, False

    def sources(self) -> list[str]:
        """Whence they lead, in the order of names."""
        targets, count = self._expected.targets, len(self._expected)
        if not targets:
            return []
        fits = self._plain[:count].copy()
        fits[self._states.flows.resolved.owners[self._plain[count:]]] = True
        starts = np.fromiter(map(self._expected.start, targets), int, len(targets))
        some = np.logical_or.reduceat(fits, starts)
        return [source for source, fit in zip(targets, some.tolist(), strict=True) if fit]

    def tallies(self, by: By, of: Collection[str] | None = None) -> Iterator[Tally]:
        """The flows counted, as the rows of a matrix need them: all, or those of some sources."""
        groups: dict[int, list[str]] = {}
        for source in self._expected.targets if of is None else of:
            groups.setdefault(id(self._expected.targets[source]), []).append(source)
        others = self._others()
        for sources in groups.values():
            targets = self._expected.targets[sources[0]]
            starts = np.fromiter(map(self._expected.start, sources), int, len(sources))
            rows = starts[:, None] + np.arange(len(targets))
            codes, more = self._codes[rows], others[rows] if others is not None else None
            if by is By.HOST:
                yield from _by_source(sources, targets, codes, more)
                continue
            for place, target in enumerate(targets):
                counts = np.bincount(codes[:, place], minlength=len(STATES))[: len(STATES)]
                if more is not None:
                    counts += more[:, place].sum(axis=0, dtype=np.int64)
                if states := _counted(counts.tolist()):
                    yield Tally("", target, states)

    def _others(self) -> NDArray[np.uint16] | None:
        """For each row, how many of its name's other addresses are in each state; None if none."""
        count = len(self._expected)
        codes, owners = self._codes[count:], self._states.flows.resolved.owners
        if not len(codes):
            return None
        found = np.zeros((count, len(STATES)), np.uint16)
        fit = codes != NOBODY
        np.add.at(found, (owners[fit], codes[fit]), 1)
        return found

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


def _counted(counts: Sequence[int]) -> dict[State, int]:
    return {state: counts[code] for state, code in CODES.items() if counts[code]}


def _by_source(
    sources: Sequence[str],
    targets: Sequence[Target],
    codes: NDArray[np.uint8],
    more: NDArray[np.uint16] | None,
) -> Iterator[Tally]:
    """A tally for each source and service."""
    services: dict[str, list[int]] = {}
    for place, target in enumerate(targets):
        services.setdefault(str(target.service), []).append(place)
    for places in services.values():
        part = codes[:, places]
        counts = np.stack([(part == code).sum(axis=1) for code in range(len(STATES))], axis=1)
        if more is not None:
            counts += more[:, places].sum(axis=1, dtype=np.int64)
        for source, line in zip(sources, counts.tolist(), strict=True):
            if states := _counted(line):
                yield Tally(source, targets[places[0]], states)
