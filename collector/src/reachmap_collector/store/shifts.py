"""What became of flows in a span, by columns: there may be as many as there are flows. Pure."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from reachmap_collector.flowmap.bulk import Numbering, Numbers
from reachmap_shared.vocabulary import Outcome

OUTCOMES: Final = (*Outcome,)
"""What outcomes are places in."""

NOTHING: Final = -1
"""Stands for the outcome that there was none."""


@dataclass(frozen=True, slots=True, eq=False)
class Shifts:
    """Flows that have a transition in a span: the last of them, and what was at its beginning."""

    hosts: Sequence[str]
    services: Sequence[str]
    source: Numbers
    """Of each flow, as all that follow."""
    destination: Numbers
    service: Numbers
    by_ipv6: NDArray[np.bool_]
    """Whether what is dialled is an address of IPv6."""
    was: Numbers
    """The outcome at the span's beginning, of this flow to this service; NOTHING where there was
    none."""
    outcome: Numbers
    """That at its end."""
    since: NDArray[np.float64]
    """Since when it is so, in seconds since the epoch."""

    def __len__(self) -> int:
        return len(self.since)

    def at(self, places: Numbers) -> "Shifts":
        """Those that stand at some places."""
        return replace(
            self,
            source=self.source[places],
            destination=self.destination[places],
            service=self.service[places],
            by_ipv6=self.by_ipv6[places],
            was=self.was[places],
            outcome=self.outcome[places],
            since=self.since[places],
        )

    def called(self, current: Callable[[str], str]) -> "Shifts":
        """The same by what hosts are called now, each name once."""
        numbers = Numbering[str]()
        hosts = numbers.of(map(current, self.hosts))
        return replace(
            self,
            hosts=(*numbers,),
            source=hosts[self.source],
            destination=hosts[self.destination],
        )

    def fresh(self) -> Numbers:
        """The places of those of which nothing is known at the span's beginning."""
        return np.flatnonzero(self.was == NOTHING)

    def ends(self, place: int) -> tuple[str, str, str]:
        """One flow's source, destination and service."""
        return (
            self.hosts[self.source[place]],
            self.hosts[self.destination[place]],
            self.services[self.service[place]],
        )
