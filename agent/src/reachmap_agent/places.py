"""Who has a place, and who makes room for a newcomer when all are taken. Pure.

When a network has many of them, it is one of its own that makes room: a flood from a few addresses
takes nothing from the others.
"""

from collections.abc import Iterator
from typing import Generic, Protocol, TypeVar

Network = str | bytes
"""An address, or of an IPv6 one the first 64 bits."""


class Guest(Protocol):
    """Whoever has a place."""

    @property
    def network(self) -> Network:
        """Where it comes from."""


AnyGuest = TypeVar("AnyGuest", bound=Guest)


class Places(Generic[AnyGuest]):
    """A number of guests, in the order in which they came here.

    Args:
        limit: How many there are.
        of_one_network: How many one network keeps when all are taken.
    """

    def __init__(self, limit: int, of_one_network: int) -> None:
        self._limit = limit
        self._of_one = of_one_network
        self._all: dict[AnyGuest, None] = {}
        self._by_network: dict[Network, dict[AnyGuest, None]] = {}
        self._crowds: dict[Network, None] = {}
        """Networks with more places than one keeps when all are taken."""

    def __len__(self) -> int:
        return len(self._all)

    def __iter__(self) -> Iterator[AnyGuest]:
        return iter(self._all)

    def add(self, guest: AnyGuest) -> AnyGuest | None:
        """Give it a place; returns who has to make room, if anybody has."""
        network = guest.network
        self._all[guest] = None
        neighbours = self._by_network.get(network)
        if neighbours is None:
            neighbours = self._by_network[network] = {}
        neighbours[guest] = None
        crowded = len(neighbours) > self._of_one
        if crowded:
            self._crowds[network] = None
        if len(self._all) <= self._limit:
            return None
        if not crowded:
            crowd = next(iter(self._crowds), None)
            neighbours = self._all if crowd is None else self._by_network[crowd]
        return next(iter(neighbours))

    def remove(self, guest: AnyGuest) -> None:
        """Take its place."""
        network = guest.network
        del self._all[guest]
        neighbours = self._by_network[network]
        del neighbours[guest]
        if len(neighbours) <= self._of_one:
            self._crowds.pop(network, None)
            if not neighbours:
                del self._by_network[network]

    def costs_a_neighbour(self, network: Network) -> bool:
        """Whether a newcomer from this network would take the place of another one from there."""
        return (
            len(self._all) >= self._limit and len(self._by_network.get(network, ())) >= self._of_one
        )
