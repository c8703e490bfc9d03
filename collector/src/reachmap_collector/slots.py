"""What the slots of plans mean: reports name flows by their place in a plan. Pure.

Agents of the same roles dial the same targets, so what their slots mean is held once for all.
"""

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final, overload
from weakref import WeakValueDictionary

from reachmap_collector.planner import FlowKey
from reachmap_shared.vocabulary import Transport

_KEPT: Final = 8
"""Revisions of an agent's plan whose reports are still understood: some are under way."""

Place = tuple[str, str, int, Transport]
"""A flow's destination, address, port and transport: all of its key but the source."""


@dataclass(frozen=True, eq=False)
class Ends:
    """Where the flows of a plan's slots lead, whoever's plan it is."""

    places: tuple[Place, ...]
    services: tuple[str, ...]
    """Each flow's, so there are as many."""

    @cached_property
    def slots(self) -> dict[Place, int]:
        """Each place's slot."""
        return {place: slot for slot, place in enumerate(self.places)}


class SlotFlows(Sequence[FlowKey]):
    """The flow of each slot; a key is made when somebody looks at it.

    It is equal to a tuple of them.
    """

    def __init__(self, source: str, places: tuple[Place, ...]) -> None:
        self.source = source
        self.places = places

    def __eq__(self, other: object) -> bool:
        return isinstance(other, tuple | SlotFlows) and (*self,) == (*other,)

    def __hash__(self) -> int:
        return hash((*self,))

    def __len__(self) -> int:
        return len(self.places)

    def __iter__(self) -> Iterator[FlowKey]:
        return (FlowKey(self.source, *place) for place in self.places)

    @overload
    def __getitem__(self, index: int) -> FlowKey: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[FlowKey]: ...
    def __getitem__(self, index: int | slice) -> FlowKey | Sequence[FlowKey]:
        """By slot."""
        if isinstance(index, slice):
            return SlotFlows(self.source, self.places[index])
        return FlowKey(self.source, *self.places[index])


@dataclass(frozen=True, slots=True)
class Slots:
    """The flow of each slot of one plan."""

    agent: str
    revision: str
    ends: Ends

    @classmethod
    def of(
        cls, agent: str, revision: str, flows: Sequence[FlowKey], services: Sequence[str]
    ) -> "Slots":
        """From the flows' keys; sharing is up to who knows of others like it."""
        places = flows.places if isinstance(flows, SlotFlows) else tuple(map(place_of, flows))
        return cls(agent, revision, Ends(places, tuple(services)))

    @property
    def flows(self) -> SlotFlows:
        """The flow of each slot."""
        return SlotFlows(self.agent, self.ends.places)

    @property
    def services(self) -> tuple[str, ...]:
        """The service of each slot's flow."""
        return self.ends.services

    def slot(self, flow: FlowKey) -> int | None:
        """A flow's slot; None where the plan does not have it."""
        return self.ends.slots.get(place_of(flow)) if flow.source == self.agent else None

    def __len__(self) -> int:
        return len(self.ends.places)


class KnownPlans:
    """The latest few plans of each agent."""

    def __init__(self) -> None:
        self._plans: dict[str, OrderedDict[str, Slots]] = {}
        self._ends: WeakValueDictionary[tuple[object, ...], Ends] = WeakValueDictionary()
        """By all that is in them."""

    def add(self, slots: Slots) -> None:
        """Take up a plan, perhaps again: it is the agent's latest now."""
        kept = self._plans.setdefault(slots.agent, OrderedDict())
        kept[slots.revision] = Slots(slots.agent, slots.revision, self._shared(slots.ends))
        kept.move_to_end(slots.revision)
        while len(kept) > _KEPT:
            kept.popitem(last=False)

    def get(self, agent: str, revision: str) -> Slots | None:
        """An agent's plan by its revision; None when it is not known, or no longer."""
        kept = self._plans.get(agent)
        return kept.get(revision) if kept is not None else None

    def _shared(self, ends: Ends) -> Ends:
        """The same ends that agents like this one have."""
        return self._ends.setdefault((ends.places, ends.services), ends)


def place_of(flow: FlowKey) -> Place:
    """All of a flow's key but the source."""
    return flow.destination, flow.address, flow.port, flow.transport
