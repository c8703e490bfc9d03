"""Where flows stand among all that are expected. Pure.

Sources of the same roles share their targets, so where a place stands among those is held once.
"""

import ipaddress
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np
from numpy.typing import NDArray

from reachmap_collector.flowmap.bulk import WellFlows
from reachmap_collector.planner import FlowKey, Flows, Target
from reachmap_collector.slots import Place, place_of

SEVERAL: Final = -2
"""In place of a row, for an address which more than one name may have resolved to."""


@dataclass(frozen=True)
class _Targets:
    """Where things stand in a tuple of targets."""

    targets: tuple[Target, ...]
    places: dict[Place, int]
    services: tuple[str, ...]
    """Of each."""

    @classmethod
    def of(cls, targets: tuple[Target, ...]) -> "_Targets":
        places = {one.place: number for number, one in enumerate(targets)}
        return cls(targets, places, tuple(str(one.service) for one in targets))

    @cached_property
    def names(self) -> dict[Place, list[int]]:
        """Those that are dialled by name, by all that flows to their addresses share with them."""
        found: dict[Place, list[int]] = {}
        for number, one in enumerate(self.targets):
            if not is_address(one.address):
                found.setdefault(_of_any(one.place), []).append(number)
        return found

    def number(self, place: Place, service: str, *, is_named: bool) -> int:
        """Where a place stands, or the name that it is an address of; -1 where there is none."""
        found = self.names.get(_of_any(place), []) if is_named else [self.places.get(place, -1)]
        if len(found) > 1:
            return SEVERAL
        number = found[0] if found else -1
        return number if number >= 0 and self.services[number] == service else -1


class Index:
    """The rows of flows by what makes them those flows."""

    def __init__(self, expected: Flows) -> None:
        self._expected = expected
        self._held: dict[int, _Targets] = {}
        """By the identity of a tuple of targets."""

    def row(self, flow: FlowKey, service: str | None = None) -> int | None:
        """A flow's row; None if it is none of them, or leads to another service than is said."""
        targets = self._expected.targets.get(flow.source)
        if targets is None:
            return None
        held = self._of(targets)
        place = held.places.get(place_of(flow))
        if place is None or service not in (None, held.services[place]):
            return None
        return self._expected.start(flow.source) + place

    def names(self, flow: FlowKey) -> list[int]:
        """The rows of the flows to names that may have resolved to a flow's address."""
        targets = self._expected.targets.get(flow.source, ())
        start = self._expected.start(flow.source)
        return [start + one for one in self._of(targets).names.get(_of_any(place_of(flow)), ())]

    def rows(self, well: WellFlows) -> NDArray[np.int64]:
        """Those of many flows, or of the names whose addresses they lead to.

        It is -1 where a flow is none of them, and `SEVERAL` where it may be one of several.
        """
        keys, services = well.keys, well.services
        groups: dict[int, tuple[int, tuple[Target, ...]]] = {}  # by identity: many share theirs
        of_source = [self._expected.targets.get(source, ()) for source in keys.sources]
        for targets in of_source:
            groups.setdefault(id(targets), (len(groups), targets))
        group = np.array([groups[id(targets)][0] for targets in of_source], np.int64)
        # What leads to one place from sources with the same targets stands at one place of them.
        kinds = (group[keys.source] * len(keys.places) + keys.place) * len(services) + well.service
        distinct, kind = np.unique(kinds * 2 + (well.resolved > 0), return_inverse=True)
        members = [targets for _, targets in groups.values()]
        found = []
        for one in distinct.tolist():
            rest, is_named = divmod(one, 2)
            rest, service = divmod(rest, len(services))
            number, place = divmod(rest, len(keys.places))
            held = self._of(members[number])
            at = held.number(keys.places[place], services[service], is_named=bool(is_named))
            found.append(at)
        within = np.array(found, np.int64)[kind]
        starts = np.array([*map(self._expected.start, keys.sources)], np.int64)
        return np.where(within >= 0, starts[keys.source] + within, within)

    def _of(self, targets: tuple[Target, ...]) -> _Targets:
        held = self._held.get(id(targets))
        if held is None:
            held = self._held[id(targets)] = _Targets.of(targets)
        return held


def is_address(text: str) -> bool:
    """Whether a flow's address is one, and no name."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _of_any(place: Place) -> Place:
    """The same without its address."""
    destination, _, port, transport = place
    return destination, "", port, transport
