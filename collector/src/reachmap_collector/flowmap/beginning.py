"""The rows of a map that begins, of the last change of each flow that the store has. Pure.

There may be a million, so they are filled by columns. They say what they would if each change were
told by itself: of a name that is the addresses which it resolved to last, each as it was seen last,
or as the name was if that was later.
"""

from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from reachmap_collector.flowmap import columns
from reachmap_collector.flowmap.bulk import Numbering, Numbers, WellFlows
from reachmap_collector.flowmap.columns import Bits, Rows
from reachmap_collector.flowmap.index import SEVERAL
from reachmap_collector.flowmap.resolved import Resolved


class Begun(NamedTuple):
    """The changes that no row was filled with, by their places."""

    whole: Numbers
    """Rows do not say enough of their names: they are to be told one by one."""
    unclear: Numbers
    """Which of several names they were of cannot be told."""


def begin(
    rows: Rows,
    resolved: Resolved,
    well: WellFlows,
    places: Numbers,
    codes: Callable[[Iterable[str]], NDArray[np.uint32]],
) -> Begun:
    """Fill rows of flows of which nothing was told before.

    Args:
        rows: Of the map.
        resolved: The addresses of its names, of which nothing is known either.
        well: The changes.
        places: The row of each change's flow, as the index gives it.
        codes: What rows have for some words.
    """
    seen = well.rows.copy()
    seen["boot"] = codes(well.boots)[seen["boot"]]
    seen["local"] = codes(well.locals)[seen["local"]]
    known = np.flatnonzero(places >= 0)
    names = np.zeros(len(rows), bool)
    names[places[known[well.resolved[known] > 0]]] = True
    of_name = names[places[known]]
    _fill(rows, seen, places, known[~of_name])
    changes = _Changes(well, places, known[of_name])
    whole = _fill_names(rows, resolved, seen, changes)
    return Begun(whole, np.flatnonzero(places == SEVERAL))


def _fill(rows: Rows, seen: Rows, places: Numbers, changes: Numbers) -> None:
    where, seen = places[changes], seen[changes]
    if np.bincount(where).max(initial=0) > 1:
        # Told of under two names of its hosts: the later one counts.
        order = np.argsort(seen["at"], kind="stable")
        where, seen = where[order], seen[order]
    seen["flags"] |= rows["flags"][where]
    rows[where] = seen


class _Changes:
    """Those of names and of their addresses."""

    def __init__(self, well: WellFlows, places: Numbers, changes: Numbers) -> None:
        self.well = well
        at = well.rows["at"]
        self.all = changes[np.lexsort((at[changes], places[changes]))]
        """Name by name, the earlier first."""
        self.row = places[self.all]
        """Of each of these, that of its name."""
        self.is_own = well.resolved[self.all] == 0
        """Of each of these, whether it is of the name itself."""
        # One start is one word, whatever its agent was called at the time.
        boot = np.unique(well.boots, return_inverse=True)[1][well.rows["boot"]]
        self._order = at, boot, well.number
        flags = well.rows["flags"] & columns.HEALTHY
        self._face = well.rows["outcome"], well.rows["answered"], flags

    def are_newer(self, some: Numbers, others: Numbers) -> Bits:
        """Whether each came about after the other, as `records.Told.is_newer` has it."""
        (at, at_), (boot, boot_), (number, number_) = (
            (one[some], one[others]) for one in self._order
        )
        later = (at > at_) | (at == at_) & (boot > boot_)
        return np.where(boot == boot_, number > number_, later)

    def are_alike(self, some: Numbers, others: Numbers) -> Bits:
        """Whether what the checks saw is the same."""
        alike: Bits = np.logical_and.reduce([one[some] == one[others] for one in self._face])
        return alike


def _fill_names(rows: Rows, resolved: Resolved, seen: Rows, changes: _Changes) -> Numbers:
    """Fill the rows of names' addresses; returns the changes of those names that stay out.

    They resolved to an address that nothing was told of.
    """
    of_address, row = changes.all[~changes.is_own], changes.row[~changes.is_own]
    starts = np.flatnonzero(np.diff(row, prepend=-1))
    names, sizes = row[starts], np.diff(starts, append=len(row))
    sets, which = _addresses(changes.well, of_address[_newest(changes, of_address, starts, sizes)])
    lengths = np.array([*map(len, sets)], np.int64)[which]
    # What was told last of each address that each name has now, address by address.
    ranks = _ranks(changes.well, of_address, sets, np.repeat(which, sizes))
    begins = np.cumsum(lengths) - lengths
    told = np.full(lengths.sum(), -1)
    now = ranks >= 0
    told[np.repeat(begins, sizes)[now] + ranks[now]] = of_address[now]
    lacks = np.zeros(len(names), bool)
    lacks[np.repeat(np.arange(len(names)), lengths)[told < 0]] = True
    told = told[~np.repeat(lacks, lengths)]
    lacking, (names, which, lengths) = (
        names[lacks],
        (one[~lacks] for one in (names, which, lengths)),
    )
    own = _own(changes, names, lengths)
    since = changes.well.rows["at"][told]
    has = np.flatnonzero(own >= 0)
    told[has], since[has] = _with_own(changes, told[has], own[has])
    seen = seen[told]
    seen["since"] = since
    seen["flags"] |= rows["flags"][np.repeat(names, lengths)]
    numbers = resolved.begin(names, sets, which)
    first = numbers < len(rows)
    rows[numbers[first]] = seen[first]
    resolved.rows[numbers[~first] - len(rows)] = seen[~first]
    return changes.all[np.isin(changes.row, lacking)]


def _newest(changes: _Changes, of_address: Numbers, starts: Numbers, sizes: Numbers) -> Numbers:
    """Where the change of each name stands that says what it resolved to last."""
    newest, more = starts.copy(), np.arange(len(starts))
    for step in range(1, sizes.max(initial=0)):
        more = more[sizes[more] > step]
        others = starts[more] + step
        newer = changes.are_newer(of_address[others], of_address[newest[more]])
        newest[more[newer]] = others[newer]
    return newest


def _addresses(well: WellFlows, newest: Numbers) -> tuple[list[tuple[str, ...]], Numbers]:
    """What names resolved to, in the order in which the map has it, and which of it each did."""
    used, which = np.unique(well.resolved[newest], return_inverse=True)
    sets = Numbering[tuple[str, ...]]()
    numbers = sets.of(tuple(sorted({*well.sets[one]})) for one in used.tolist())
    return [*sets], numbers[which]


def _ranks(
    well: WellFlows, of_address: Numbers, sets: list[tuple[str, ...]], which: Numbers
) -> Numbers:
    """Where the address of each change stands among those of its name; -1 if it has it no more."""
    addresses = Numbering[str]()
    address = addresses.of(place[1] for place in well.keys.places)[well.keys.place[of_address]]
    pairs, places = np.unique(which * len(addresses) + address, return_inverse=True)
    texts = [*addresses]
    rank_in = [{one: rank for rank, one in enumerate(addresses_)} for addresses_ in sets]
    found = (divmod(pair, len(texts)) for pair in pairs.tolist())
    ranks = [rank_in[number].get(texts[one], -1) for number, one in found]
    return np.array(ranks, np.int64)[places]


def _own(changes: _Changes, names: Numbers, lengths: Numbers) -> Numbers:
    """What was told last of the name itself, for each of its addresses; -1 if nothing was."""
    own = np.full(len(names), -1)
    its = changes.is_own & np.isin(changes.row, names)
    own[np.searchsorted(names, changes.row[its])] = changes.all[its]
    return np.repeat(own, lengths)


def _with_own(
    changes: _Changes, told: Numbers, own: Numbers
) -> tuple[Numbers, NDArray[np.float64]]:
    """Of an address and of its name itself: the later change, and since when it has been so."""
    newer, at = changes.are_newer(own, told), changes.well.rows["at"]
    last, first = np.where(newer, own, told), np.where(newer, told, own)
    return last, np.where(changes.are_alike(first, last), at[first], at[last])
