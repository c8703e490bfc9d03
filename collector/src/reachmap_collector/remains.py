"""What the store has of the time before a restart, read in one go."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from reachmap_collector.diagnoses import DIAGNOSES
from reachmap_collector.garbage import not_looked_for
from reachmap_collector.reports import LOSSES
from reachmap_collector.store.api import Kept, Latest, PlanSlots, Received, Store, Transition

HELLOS: Final = "hellos"
"""The store's area for what agents announced."""

_RECENT: Final = 50_000
"""Changes that the map begins with besides the last of each flow."""

_PAGE: Final = 5000


@dataclass(frozen=True, slots=True)
class Remains:
    """What the store has of the time before a restart."""

    plans: Sequence[PlanSlots]
    hellos: Sequence[Kept]
    losses: Sequence[Kept]
    diagnoses: Sequence[Kept]
    received: Sequence[Received]
    latest: Latest
    """The last change of each flow."""
    older: Sequence[Transition]
    """The latest of all changes: they say since when it has been so."""

    @classmethod
    def read(cls, store: Store) -> "Remains":
        """All of it; it takes its time."""
        with not_looked_for():
            page = store.history(limit=_PAGE)
            older = [*page.transitions]
            while page.next is not None and len(older) < _RECENT:
                page = store.history(limit=_PAGE, before=page.next)
                older += page.transitions
            begins = store.beginning()
            return cls(
                plans=begins.plans,
                hellos=[*store.kept(HELLOS)],
                losses=[*store.kept(LOSSES)],
                diagnoses=[*store.kept(DIAGNOSES)],
                received=[*store.received()],
                latest=begins.latest,
                older=older,
            )
