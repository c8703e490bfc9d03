"""What the slots of plans mean: reports name flows by their place in a plan. Pure."""

from collections import OrderedDict
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from reachmap_collector.planner import FlowKey

_KEPT: Final = 8
"""Revisions of an agent's plan whose reports are still understood: some are under way."""


@dataclass(frozen=True)
class Slots:
    """The flow of each slot of one plan."""

    agent: str
    revision: str
    flows: tuple[FlowKey, ...]
    services: tuple[str, ...]
    """Each flow's, so there are as many."""

    @cached_property
    def places(self) -> dict[FlowKey, int]:
        """Each flow's slot; made when first asked for, since most plans are never asked."""
        return {flow: slot for slot, flow in enumerate(self.flows)}


class KnownPlans:
    """The latest few plans of each agent."""

    def __init__(self) -> None:
        self._plans: dict[str, OrderedDict[str, Slots]] = {}

    def add(self, slots: Slots) -> None:
        """Take up a plan, perhaps again: it is the agent's latest now."""
        kept = self._plans.setdefault(slots.agent, OrderedDict())
        kept[slots.revision] = slots
        kept.move_to_end(slots.revision)
        while len(kept) > _KEPT:
            kept.popitem(last=False)

    def get(self, agent: str, revision: str) -> Slots | None:
        """An agent's plan by its revision; None when it is not known, or no longer."""
        kept = self._plans.get(agent)
        return kept.get(revision) if kept is not None else None
