"""Where flows stand among all that are expected. Pure.

Sources of the same roles share their targets, so where a place stands among those is held once.
"""

import numpy as np
from numpy.typing import NDArray

from reachmap_collector.flowmap.bulk import WellFlows
from reachmap_collector.planner import FlowKey, Flows, Target
from reachmap_collector.slots import Place, place_of


class Index:
    """The rows of flows by what makes them those flows."""

    def __init__(self, expected: Flows) -> None:
        self._expected = expected
        self._held: dict[int, tuple[tuple[Target, ...], dict[Place, int], tuple[str, ...]]] = {}
        """By the identity of a tuple of targets: where each place stands in it, and its service."""

    def row(self, flow: FlowKey, service: str | None = None) -> int | None:
        """A flow's row; None if it is none of them, or leads to another service than is said."""
        targets = self._expected.targets.get(flow.source)
        if targets is None:
            return None
        _, index, services = self._of(targets)
        place = index.get(place_of(flow))
        if place is None or service not in (None, services[place]):
            return None
        return self._expected.start(flow.source) + place

    def rows(self, well: WellFlows) -> NDArray[np.int64]:
        """Those of many flows; -1 where it is none of them."""
        keys, services = well.keys, well.services
        groups: dict[int, tuple[int, tuple[Target, ...]]] = {}  # by identity: many share theirs
        of_source = [self._expected.targets.get(source, ()) for source in keys.sources]
        for targets in of_source:
            groups.setdefault(id(targets), (len(groups), targets))
        group = np.array([groups[id(targets)][0] for targets in of_source], np.int64)
        # What leads to one place from sources with the same targets stands at one place of them.
        kinds = (group[keys.source] * len(keys.places) + keys.place) * len(services) + well.service
        distinct, kind = np.unique(kinds, return_inverse=True)
        members = [targets for _, targets in groups.values()]
        found = []
        for one in distinct.tolist():
            rest, service = divmod(one, len(services))
            number, place = divmod(rest, len(keys.places))
            _, index, known = self._of(members[number])
            at = index.get(keys.places[place], -1)
            found.append(at if at >= 0 and known[at] == services[service] else -1)
        within = np.array(found, np.int64)[kind]
        starts = np.array([*map(self._expected.start, keys.sources)], np.int64)
        return np.where(within >= 0, starts[keys.source] + within, -1)

    def _of(
        self, targets: tuple[Target, ...]
    ) -> tuple[tuple[Target, ...], dict[Place, int], tuple[str, ...]]:
        held = self._held.get(id(targets))
        if held is None:
            index = {one.place: number for number, one in enumerate(targets)}
            services = tuple(str(one.service) for one in targets)
            held = self._held[id(targets)] = targets, index, services
        return held
