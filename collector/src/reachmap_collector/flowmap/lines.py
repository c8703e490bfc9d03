"""What roll-ups say of the addresses of names, for holding it long. Pure.

Agents of the same roles, whose names resolve to the same, have lines on the same addresses of the
same slots: which these are is held once for all of them, and of the counts an octet each.
"""

from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Final
from weakref import WeakValueDictionary

from reachmap_shared.messages import NamedCount

_OCTET: Final = 256

Column = Sequence[int]
"""A number for each line; empty where all are nothing."""


@dataclass(frozen=True, eq=False)
class LineEnds:
    """What the lines of a roll-up are on."""

    keys: tuple[tuple[int, str], ...]
    """A slot and an address of the name that it has, for each line."""

    @cached_property
    def places(self) -> dict[tuple[int, str], int]:
        """Where the line on each stands."""
        return {key: place for place, key in enumerate(self.keys)}


_ends: Final[WeakValueDictionary[tuple[tuple[int, str], ...], LineEnds]] = WeakValueDictionary()
"""All that anybody holds, by what is in them."""


@dataclass(frozen=True, slots=True)
class Lines:
    """The lines of one roll-up."""

    ends: LineEnds
    made: Column
    failed: Column
    local_errors: Column
    flips: Column
    latency: bytes

    @classmethod
    def of(cls, lines: Sequence[NamedCount]) -> "Lines | None":
        """None where there is no line; of several on one address the last counts."""
        if not lines:
            return None
        of_each = {(line.slot, line.address): line for line in lines}
        keys = tuple(of_each)
        ends = _ends.setdefault(keys, LineEnds(keys))
        return cls(
            ends,
            _column([line.made for line in of_each.values()]),
            _column([line.failed for line in of_each.values()]),
            _column([line.local_errors for line in of_each.values()]),
            _column([line.flips for line in of_each.values()]),
            bytes(line.latency for line in of_each.values()),
        )

    def on(self, slot: int, address: str) -> NamedCount | None:
        """That on one address of a slot's name."""
        place = self.ends.places.get((slot, address))
        if place is None:
            return None
        columns = (self.made, self.failed, self.local_errors, self.flips, self.latency)
        return NamedCount(slot, address, *(column[place] if column else 0 for column in columns))

    def flipped(self) -> Iterator[tuple[int, str, int]]:
        """The slots and addresses whose flows went up or down, with how often."""
        for (slot, address), count in zip(self.ends.keys, self.flips, strict=False):
            if count:
                yield slot, address, count


def _column(numbers: Sequence[int]) -> Column:
    most = max(numbers)
    if not most:
        return b""
    if most >= _OCTET:
        return array("I", numbers)
    return constant(most, len(numbers)) if min(numbers) == most else bytes(numbers)


@cache
def constant(value: int, length: int) -> bytes:
    """So many of one octet: the same object whoever asks."""
    return bytes([value]) * length
