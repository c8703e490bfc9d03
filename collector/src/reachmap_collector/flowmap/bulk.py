"""What is told of very many flows at once, by columns: objects would take too long. Pure.

A restart begins with a million flows. Their keys have few sources and few places among them, so
those are held once, and a flow is a number for each.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar, overload

import numpy as np
from numpy.typing import NDArray

from reachmap_collector.flowmap.columns import Rows
from reachmap_collector.planner import FlowKey
from reachmap_collector.slots import Place, place_of

Item = TypeVar("Item")

Numbers = NDArray[np.int64]
"""Places in a sequence of what they stand for, unless it is said that they are something else."""


class Numbering(dict[Item, int]):
    """Gives whatever it is asked for a number, from 0 on; what it has stands in that order."""

    def __missing__(self, item: Item) -> int:
        return self.setdefault(item, len(self))

    def of(self, items: Iterable[Item]) -> Numbers:
        """The numbers of all of them."""
        return np.array([*map(self.__getitem__, items)], np.int64)


@dataclass(frozen=True, slots=True, eq=False)
class FlowKeys(Sequence[FlowKey]):
    """The keys of many flows; one is made when somebody looks at it."""

    sources: Sequence[str]
    places: Sequence[Place]
    source: Numbers
    """Of each flow."""
    place: Numbers

    @classmethod
    def of(cls, keys: Sequence[FlowKey]) -> "FlowKeys":
        """From the keys themselves."""
        sources, places = Numbering[str](), Numbering[Place]()
        source, place = sources.of(key.source for key in keys), places.of(map(place_of, keys))
        return cls((*sources,), (*places,), source, place)

    def at(self, rows: Numbers) -> "FlowKeys":
        """Those that stand at some places."""
        return replace(self, source=self.source[rows], place=self.place[rows])

    def called(self, current: Mapping[str, str]) -> "FlowKeys":
        """The same by what hosts are called now; some may be equal then."""
        named = [(current.get(place[0], place[0]), *place[1:]) for place in self.places]
        sources = [current.get(source, source) for source in self.sources]
        return replace(self, sources=sources, places=named)

    def __len__(self) -> int:
        return len(self.source)

    def __iter__(self) -> Iterator[FlowKey]:
        for source, place in zip(self.source.tolist(), self.place.tolist(), strict=True):
            yield FlowKey(self.sources[source], *self.places[place])

    @overload
    def __getitem__(self, index: int) -> FlowKey: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[FlowKey]: ...
    def __getitem__(self, index: int | slice) -> FlowKey | Sequence[FlowKey]:
        """By place."""
        if isinstance(index, slice):
            return replace(self, source=self.source[index], place=self.place[index])
        return FlowKey(self.sources[self.source[index]], *self.places[self.place[index]])


@dataclass(frozen=True, slots=True, eq=False)
class WellFlows:
    """What rows have of the last change of each flow."""

    keys: FlowKeys
    """One to an address of a name has that address."""
    services: Sequence[str]
    service: Numbers
    """Of each flow."""
    boots: Sequence[str]
    locals: Sequence[str]
    sets: Sequence[tuple[str, ...]]
    resolved: Numbers
    """Of each flow, all the addresses of the name, in these; the first of them are none."""
    number: Numbers
    """Of each flow's change, however high: a row has no more than `columns.MOST`."""
    rows: Rows
    """Of each flow, but for what the topology says of it; `boot` and `local` are places in these
    sequences."""
