"""What agents say of all their flows at once, by the places of the flows on the map. Pure.

Agents of the same roles have the same slots and targets, so which slot speaks of which flow is
worked out once for all of them.
"""

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from reachmap_collector.flowmap.columns import Bits
from reachmap_collector.flowmap.lines import Lines
from reachmap_collector.flowmap.records import PERIODS, Source
from reachmap_collector.flowmap.resolved import Resolved
from reachmap_collector.planner import NO_ADDRESS, FlowKey, Flows, Target
from reachmap_collector.slots import Ends

Places = NDArray[np.int64]


class Sources:
    """Those of all agents."""

    def __init__(self) -> None:
        self._sources: dict[str, Source] = {}
        self._covers: dict[tuple[int, int], tuple[object, object, Bits | None]] = {}

    def of(self, agent: str) -> Source:
        """What an agent says."""
        if agent not in self._sources:
            self._sources[agent] = Source()
        return self._sources[agent]

    def forget_plans(self) -> None:
        """Hold none of those that were in force for what was worked out of them."""
        self._covers = {}

    def checked(
        self, expected: Flows, row_of: Callable[[FlowKey], int | None]
    ) -> NDArray[np.float64]:
        """For each row, when pulses say that its flow was checked at the latest; 0 if never."""
        spans = np.zeros(len(expected.targets))
        apart: list[tuple[str, Source, Bits | None]] = []
        for number, (agent, targets) in enumerate(expected.targets.items()):
            source = self._sources.get(agent)
            span, slots = source.pulsed if source is not None else (0.0, None)
            if source is not None and slots is not None:
                spans[number] = span
                cover = self._cover(slots.ends, targets)
                if cover is not None or source.behind:
                    apart.append((agent, source, cover))
        found: NDArray[np.float64] = np.repeat(spans, expected.lengths)
        for agent, source, cover in apart:
            start = expected.start(agent)
            if cover is not None:
                found[start : start + len(cover)][~cover] = 0.0
            for flow, moment in source.behind.items():
                if (row := row_of(flow)) is not None:
                    found[row] = moment
        return found

    def latencies(self, expected: Flows, resolved: Resolved) -> NDArray[np.uint8]:
        """For each flow, the times to connect of its agent's latest periods, by their octets."""
        count = len(expected)
        found = np.zeros((PERIODS, count + len(resolved.rows)), np.uint8)
        slots_of: dict[tuple[int, int], Places] = {}
        lines_of: dict[tuple[int, int, int, bytes], tuple[Places, Places, Places]] = {}
        for agent, targets in expected.targets.items():
            source, start = self._sources.get(agent), expected.start(agent)
            for number, period in enumerate(source.periods if source is not None else ()):
                if period.counts.latency:
                    pair = id(period.slots.ends), id(targets)
                    if pair not in slots_of:
                        slots_of[pair] = _slots(period.slots.ends, targets)
                    # The last one, for a flow that has no slot, is no time at all.
                    told = np.frombuffer(period.counts.latency + bytes(1), np.uint8)
                    found[number, start : start + len(targets)] = told[slots_of[pair]]
                named = period.counts.named
                if named is not None and named.latency:
                    sets = resolved.sets[start : start + len(targets)]
                    ends = period.slots.ends
                    key = id(named.ends), id(ends), id(targets), sets.tobytes()
                    if key not in lines_of:
                        lines_of[key] = _lines(named, ends, targets, sets, resolved)
                    lines, places, ranks = lines_of[key]
                    rows = start + places
                    others = count + resolved.begins[rows].astype(np.int64) + ranks - 1
                    told = np.frombuffer(named.latency, np.uint8)
                    found[number, np.where(ranks > 0, others, rows)] = told[lines]
        return found

    def flapping(self, expected: Flows, least: int) -> Iterator[tuple[FlowKey, str | None]]:
        """The flows with so many flips lately, with the address for those to names."""
        for agent, source in self._sources.items():
            if agent in expected.targets:
                yield from source.flapping(least)

    def _cover(self, ends: Ends, targets: tuple[Target, ...]) -> Bits | None:
        """Which targets a plan's slots lead to; None for all that have an address."""
        held = self._covers.get((id(ends), id(targets)))
        if held is None:
            bits = np.fromiter((one.place in ends.slots for one in targets), bool, len(targets))
            needed = np.fromiter((one.address != NO_ADDRESS for one in targets), bool, len(targets))
            held = ends, targets, None if (bits | ~needed).all() else bits
            self._covers[id(ends), id(targets)] = held
        return held[2]


def _slots(ends: Ends, targets: tuple[Target, ...]) -> Places:
    """The slot of each target; -1 where it has none."""
    held = (ends.slots.get(one.place, -1) for one in targets)
    return np.fromiter(held, np.int64, len(targets))


def _lines(
    named: Lines,
    ends: Ends,
    targets: tuple[Target, ...],
    sets: NDArray[np.uint32],
    resolved: Resolved,
) -> tuple[Places, Places, Places]:
    """The lines that speak of flows on the map: with the target, and which address it is of."""
    at = {target.place: place for place, target in enumerate(targets)}
    found: list[tuple[int, int, int]] = []
    for line, (slot, address) in enumerate(named.ends.keys):
        place = at.get(ends.places[slot], -1) if slot < len(ends.places) else -1
        addresses = resolved.tuple_of(int(sets[place])) if place >= 0 else ()
        if address in addresses:
            found.append((line, place, addresses.index(address)))
    lines, places, ranks = np.array(found, np.int64).reshape(-1, 3).T
    return lines, places, ranks
