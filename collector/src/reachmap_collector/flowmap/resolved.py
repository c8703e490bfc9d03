"""Which addresses names have, and the rows of the flows to those beyond the first. Pure.

Each address of a name is a flow of its own. The row of the flow to a name is that of the flow to
the first of its addresses, so a name with one address costs hardly more than an address; those of
the others stand behind the rows of all flows. Names mostly have the same addresses wherever they
are looked up, so what a row has of them is the number of the tuple of them all.
"""

from collections.abc import Callable, Sequence
from typing import Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from reachmap_collector.flowmap import columns
from reachmap_collector.flowmap.columns import Bits, Rows
from reachmap_collector.flowmap.records import FlowRecord, Told

_HIDDEN: Final = 32
"""Addresses of a name that are remembered, those that it has no more included."""

_SETS: Final = 10_000
"""Above so many, and twice those in use, the tuples that no name has any more are forgotten."""

Scalar = TypeVar("Scalar", bound=np.generic)

_FREE: Final = columns.MOST
"""Stands for the owner of a row that nobody has."""


class Name:
    """What is known of one name and its addresses, those included that it had before."""

    def __init__(self, own: FlowRecord) -> None:
        self.own = own
        """What was told of the name itself: that it does not resolve, say."""
        self.records: dict[str, FlowRecord] = {}
        """By address."""

    @property
    def newest(self) -> Told | None:
        """The change that says what the name resolved to last."""
        newest: Told | None = None
        for record in self.records.values():
            told = record.newest
            if told is not None and (newest is None or told.is_newer(newest)):
                newest = told
        return newest

    @property
    def resolved(self) -> tuple[str, ...]:
        """All that it resolved to last, told of or not."""
        return newest.seen.resolved if (newest := self.newest) is not None else ()

    def shown(self) -> tuple[str, ...]:
        """The addresses that it has now and that were told of, in their order."""
        return tuple(one for one in sorted({*self.resolved}) if one in self.records)

    def is_said_by_rows(self) -> bool:
        """Whether numbers say enough of it: all its addresses were told of, none looked into."""
        every = (self.own, *self.records.values())
        return self.records.keys() >= {*self.resolved} and all(map(is_said_by_a_row, every))

    def forget_the_oldest(self) -> None:
        """Keep no more addresses than there may be."""
        if len(self.records) > _HIDDEN:
            oldest = min(self.records, key=lambda address: self.records[address].changed)
            if oldest not in self.resolved:
                del self.records[oldest]


def is_said_by_a_row(record: FlowRecord) -> bool:
    """Whether numbers say enough of a flow: it was not looked into, and its change has one."""
    told = record.newest
    return record.diagnosed is None and (told is None or told.number < columns.MOST)


class Resolved:
    """The addresses of the names that some of so many flows lead to.

    Flows have numbers: those of the map its row's, those behind them their row's here and on.
    """

    def __init__(self, count: int) -> None:
        self._count = count
        # What no name ever writes to takes no memory.
        self._sets = np.zeros(count, np.uint32)
        """By row of the map: the number of the tuple of its addresses; 0 where it has none."""
        self._begins = np.zeros(count, np.uint32)
        """By row of the map: where the rows of its other addresses begin, if it has any."""
        self._rows = columns.blank(0, 0.0)
        self._owners = np.zeros(0, np.uint32)
        """By row here: the row of the map whose name's address it is."""
        self._used = 0
        self._free: dict[int, list[int]] = {}
        """By how many lie side by side: where they begin."""
        self._codes: dict[tuple[str, ...], int] = {(): 0}
        self._tuples: list[tuple[str, ...]] = [()]
        self._most = _SETS

    @property
    def rows(self) -> Rows:
        """Those of the flows to names' other addresses, in no order, and some that nobody has."""
        return self._rows[: self._used]

    @property
    def owners(self) -> NDArray[np.uint32]:
        """By row: the row of the name, or any where nobody has it."""
        owners = self._owners[: self._used]
        return np.where(owners == _FREE, np.uint32(0), owners)

    @property
    def taken(self) -> Bits:
        """By row: whether it is anybody's."""
        taken: Bits = self._owners[: self._used] != _FREE
        return taken

    @property
    def sets(self) -> NDArray[np.uint32]:
        """By row of the map: the same number for the same addresses; 0 where it has none."""
        return self._sets

    @property
    def begins(self) -> NDArray[np.uint32]:
        """By row of the map: where the rows of its other addresses begin."""
        return self._begins

    def __len__(self) -> int:
        return int(np.count_nonzero(self.taken))

    def of(self, row: int) -> tuple[str, ...]:
        """The addresses of a row's name; none where it is no name, or none is known."""
        return self._tuples[int(self._sets[row])]

    def tuple_of(self, number: int) -> tuple[str, ...]:
        """The addresses that a number of `sets` stands for."""
        return self._tuples[number]

    def is_there(self, number: int) -> bool:
        """Whether any flow has a number."""
        place = number - self._count
        return place < 0 or (place < self._used and bool(self._owners[place] != _FREE))

    def owner(self, number: int) -> tuple[int, int]:
        """The row of the map that a flow belongs to, and which of its name's addresses it is."""
        if number < self._count:
            return number, 0
        row = int(self._owners[number - self._count])
        return row, number - self._count - int(self._begins[row]) + 1

    def numbers(self, row: int) -> list[int]:
        """The flows of a row of the map: that to its first address, or to what it is, first."""
        others = max(0, len(self.of(row)) - 1)
        begin = self._count + int(self._begins[row]) if others else 0
        return [row, *range(begin, begin + others)]

    def number(self, row: int, address: str) -> int:
        """The flow of a row of the map that leads to one of its name's addresses."""
        return self.numbers(row)[self.of(row).index(address)]

    def hold(self, row: int, addresses: tuple[str, ...]) -> list[int]:
        """A name has just these addresses from now on; their flows' rows are to be filled."""
        if (held := self.of(row)) != addresses:
            before, after = max(0, len(held) - 1), max(0, len(addresses) - 1)
            if before != after:
                if before:
                    self._give_back(int(self._begins[row]), before)
                if after:
                    self._begins[row] = self._take(row, after)
            self._sets[row] = self._code(addresses)
        return self.numbers(row)

    def begin(
        self, rows: NDArray[np.int64], sets: Sequence[tuple[str, ...]], which: NDArray[np.int64]
    ) -> NDArray[np.int64]:
        """Many names that have no addresses get some; the rows of their flows are to be filled.

        Args:
            rows: Of the map, those of the names.
            sets: Some addresses each.
            which: Of each name, its addresses' place in these.

        Returns:
            The flows of the first of them, that to its first address first, then those of the next.
        """
        codes = np.array([*map(self._number, sets)], np.uint32)
        lengths = np.array([*map(len, sets)], np.int64)[which]
        firsts = np.cumsum(lengths) - lengths
        owners, is_first = np.repeat(rows, lengths), np.zeros(lengths.sum(), bool)
        is_first[firsts] = True
        others = owners[~is_first]
        self._sets[rows] = codes[which]
        self._begins[rows] = self._used + firsts - np.arange(len(rows))
        self._rows = np.concatenate([self.rows, columns.blank(len(others), 0.0)])
        self._owners = np.concatenate([self._owners[: self._used], others.astype(np.uint32)])
        numbers = np.where(is_first, owners, self._count + self._used + np.cumsum(~is_first) - 1)
        self._used += len(others)
        return numbers

    def moved(
        self, to: NDArray[np.int64], flags: NDArray[np.uint8], of_topology: int
    ) -> "Resolved":
        """The same, when each row of the map has another place, or -1 for none.

        Args:
            to: Where each row of the map is then.
            flags: Of the rows of the map then.
            of_topology: Which of them go for all addresses of a name.
        """
        after = Resolved(len(flags))
        after._codes, after._tuples, after._most = self._codes, self._tuples, self._most
        had = np.flatnonzero(self._sets)
        had = had[to[had] >= 0]
        after._sets[to[had]] = self._sets[had]
        here = np.flatnonzero(self.taken)
        here = here[to[self._owners[here]] >= 0]
        after._rows = self._rows[here]
        after._owners = to[self._owners[here]].astype(np.uint32)
        after._used = len(here)
        # Those of one name lie side by side, before and after.
        firsts = np.flatnonzero(np.diff(after._owners.astype(np.int64), prepend=-1))
        after._begins[after._owners[firsts]] = firsts
        kept = after._rows["flags"] & ~np.uint8(of_topology)
        after._rows["flags"] = kept | flags[after._owners] & of_topology
        return after

    def with_others(self, of_rows: NDArray[Scalar]) -> NDArray[Scalar]:
        """What is so for each row of the map, for each flow: a name's is its addresses'."""
        return np.concatenate([of_rows, of_rows[self.owners]]) if self._used else of_rows

    def dialled(self, of_rows: NDArray[np.int64], says: Callable[[str], int]) -> NDArray[np.int64]:
        """For each flow, what is said of the address that it leads to.

        Args:
            of_rows: What is said of the address of each row of the map, were it no name.
            says: What is said of an address.
        """
        found = self.with_others(of_rows).copy()
        of_tuples = [[says(address) for address in one] for one in self._tuples]
        firsts = np.array([one[0] if one else 0 for one in of_tuples], np.int64)
        named = np.flatnonzero(self._sets)
        found[named] = firsts[self._sets[named]]
        if self._used:
            owners, most = self.owners, max(map(len, of_tuples))
            every = np.array([one + [0] * (most - len(one)) for one in of_tuples], np.int64)
            places = np.arange(self._used) - self._begins[owners].astype(np.int64) + 1
            # Those that nobody has are anywhere.
            found[self._count :] = every[self._sets[owners], places.clip(0, most - 1)]
        return found

    def _code(self, addresses: tuple[str, ...]) -> int:
        if addresses not in self._codes and len(self._tuples) > self._most:
            self._forget()
        return self._number(addresses)

    def _number(self, addresses: tuple[str, ...]) -> int:
        if addresses not in self._codes:
            self._codes[addresses] = len(self._tuples)
            self._tuples.append(addresses)
        return self._codes[addresses]

    def _forget(self) -> None:
        """Forget the tuples that no name has any more: some names have others all the time."""
        used, places = np.unique(self._sets, return_inverse=True)
        tuples = [self._tuples[number] for number in used.tolist()]
        self._tuples = [(), *(one for one in tuples if one)]
        self._codes = {one: number for number, one in enumerate(self._tuples)}
        self._sets = np.array([self._codes[one] for one in tuples], np.uint32)[places]
        self._most = _SETS + 2 * len(self._tuples)

    def _take(self, row: int, count: int) -> int:
        """Rows side by side for a name; returns where they begin."""
        if self._free.get(count):
            begin = self._free[count].pop()
        else:
            begin = self._used
            self._used += count
            if self._used > len(self._rows):
                rows = np.zeros(2 * self._used, columns.ROW)
                owners = np.zeros(2 * self._used, np.uint32)
                rows[:begin], owners[:begin] = self._rows[:begin], self._owners[:begin]
                self._rows, self._owners = rows, owners
        self._owners[begin : begin + count] = row
        return begin

    def _give_back(self, begin: int, count: int) -> None:
        self._rows[begin : begin + count] = columns.blank(count, 0.0)
        self._owners[begin : begin + count] = _FREE
        self._free.setdefault(count, []).append(begin)
