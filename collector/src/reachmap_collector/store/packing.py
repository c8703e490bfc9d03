"""Values to what a column holds and back. Pure.

The numbers that stand for words are in people's databases: add some, never change one.
"""

import sys
import zlib
from array import array
from collections.abc import Mapping, Sequence
from typing import Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from reachmap_collector.errors import StoreRefused
from reachmap_shared.vocabulary import Outcome, Transport

OUTCOMES: Final = {
    Outcome.OPEN: 1,
    Outcome.REFUSED: 2,
    Outcome.TIMEOUT: 3,
    Outcome.REJECTED: 4,
    Outcome.UNREACHABLE: 5,
    Outcome.NAME_FAILURE: 6,
    Outcome.TLS_FAILURE: 7,
    Outcome.WRONG_SERVICE: 8,
    Outcome.WRONG_PEER: 9,
    Outcome.RESET: 10,
    Outcome.STALLED: 11,
    Outcome.LOCAL_ERROR: 12,
}
TRANSPORTS: Final = {Transport.TCP: 1, Transport.UDP: 2}

_FOUR_OCTETS: Final = next(code for code in "IL" if array(code).itemsize == 4)


Word = TypeVar("Word")


class Words(dict[int, Word]):
    """What each number stands for; as a dict, since it is asked millions of times in a row."""

    def __init__(self, numbers: Mapping[Word, int], what: str) -> None:
        super().__init__((number, word) for word, number in numbers.items())
        self._what = what

    def __missing__(self, number: int) -> Word:
        raise StoreRefused(f"the store has {self._what} {number}: a newer reachmap's")


outcome: Final = Words(OUTCOMES, "an outcome")
transport: Final = Words(TRANSPORTS, "a transport")


def milliseconds(seconds: float) -> int:
    """A time as it is kept: six octets in SQLite, where a float takes eight."""
    return round(seconds * 1000)


def seconds(kept: int) -> float:
    """A time as it was given, to the millisecond."""
    return kept / 1000


def text(given: str) -> str:
    """A text that every database takes: PostgreSQL's hold no NUL, and a peer may well send one."""
    return given.replace("\0", "\N{REPLACEMENT CHARACTER}") if "\0" in given else given


def pack_ranges(ranges: Sequence[tuple[int, int]]) -> str:
    """Half-open ranges as people may read them in the database: `0-17 19-20`."""
    return " ".join(f"{first}-{end}" for first, end in ranges)


def unpack_ranges(kept: str) -> tuple[tuple[int, int], ...]:
    """What `pack_ranges` was given."""
    pairs = (part.split("-") for part in kept.split())
    return tuple((int(first), int(end)) for first, end in pairs)


def pack_slots(flows: Sequence[int], services: Sequence[int]) -> bytes:
    """A plan's slots, as the ids of their flows, and then of their services."""
    return zlib.compress(_little_endian(array(_FOUR_OCTETS, [*flows, *services])).tobytes(), 1)


def unpack_slots(kept: bytes) -> tuple[NDArray[np.uint32], NDArray[np.uint32]]:
    """What `pack_slots` was given."""
    both = np.frombuffer(zlib.decompress(kept), "<u4")
    half = len(both) // 2
    return both[:half], both[half:]


def _little_endian(ids: "array[int]") -> "array[int]":
    if sys.byteorder == "big":
        ids.byteswap()
    return ids
