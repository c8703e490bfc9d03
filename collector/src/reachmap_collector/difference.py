"""Two moments compared: what flows became, counted and grouped. Pure.

All that changed is worked out by columns, for it may be much, and a page of it is little: what
people read is made of the groups on a page alone.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any, Final

import numpy as np

from reachmap_collector.flowmap.bulk import Numbering, Numbers
from reachmap_collector.past import Expectations
from reachmap_collector.store.api import Standing
from reachmap_collector.store.shifts import NOTHING, OUTCOMES, Shifts
from reachmap_collector.turns import Turn, turn
from reachmap_collector.views import timestamp
from reachmap_shared.vocabulary import Expectation

Json = dict[str, Any]

EXAMPLES: Final = 5
"""Sources that a group names; how many more there are is counted."""

_TURNS: Final = (*Turn,)
_EXPECTATIONS: Final = (None, *Expectation)
_SEEN: Final = (None, *OUTCOMES)
"""Outcomes by their places plus one, so that NOTHING comes first."""


class Difference:
    """What became of flows between two moments.

    Args:
        shifts: Those that changed.
        before: How flows stood at the first moment that may be the same by the names of host and
            service: a host may have got another address since.
        expectations: What flows should be.
        role: Of the flows with this role on either end; None for all.
    """

    def __init__(
        self,
        shifts: Shifts,
        before: Iterable[Standing],
        expectations: Expectations,
        role: str | None = None,
    ) -> None:
        flows = _with_names_before(shifts.called(expectations.current), before, expectations)
        if role is not None:
            mine = _asked_once(
                flows, expectations, lambda at, _, to: role in expectations.roles(at, to)
            )
            flows = flows.at(np.flatnonzero(mine))
        self._flows = flows
        self._turns = _turns(flows, expectations)
        self._order, self._begins = _grouped(flows, self._turns)

    def counts(self) -> dict[Turn, int]:
        """How many flows became what."""
        found = np.bincount(self._turns, minlength=len(_TURNS)).tolist()
        return dict(zip(_TURNS, found, strict=True))

    def __len__(self) -> int:
        return len(self._begins) - 1

    def groups(self, begin: int, end: int) -> list[Json]:
        """Some of the groups of flows to one service of one host that changed alike, in order."""
        return [self._group(number) for number in range(begin, min(end, len(self)))]

    def _group(self, number: int) -> Json:
        flows, places = self._flows, self._order[self._begins[number] : self._begins[number + 1]]
        one, since = places[0], flows.since[places]
        sources = sorted(flows.hosts[source] for source in {*flows.source[places].tolist()})
        return {
            "change": _TURNS[self._turns[one]],
            "service": flows.services[flows.service[one]],
            "destination": flows.hosts[flows.destination[one]],
            "was": _SEEN[flows.was[one] + 1],
            "outcome": OUTCOMES[flows.outcome[one]],
            "flows": len(places),
            "hosts": len(sources),
            "sources": sources[:EXAMPLES],
            "first": timestamp(float(since.min())),
            "last": timestamp(float(since.max())),
        }


def _with_names_before(
    flows: Shifts, before: Iterable[Standing], expectations: Expectations
) -> Shifts:
    """The same, and what those were of which nothing is known but by the names of their ends."""
    named: dict[tuple[str, str, str, bool], Standing] = {}
    for one in before:
        ends = expectations.current(one.flow.source), expectations.current(one.flow.destination)
        name = (*ends, one.service, ":" in one.flow.address)
        if name not in named or named[name].at < one.at:
            named[name] = one
    if not named:
        return flows
    was = flows.was.copy()
    for place in flows.fresh().tolist():
        if (then := named.get((*flows.ends(place), bool(flows.by_ipv6[place])))) is not None:
            was[place] = OUTCOMES.index(then.outcome)
    return replace(flows, was=was)


def _asked_once(
    flows: Shifts, expectations: Expectations, says: Callable[[str, str, str], int]
) -> Numbers:
    """For each flow, what is said of it by source, destination and service.

    That is asked once of all whose hosts have the same roles: nothing else of them matters to what
    is expected.
    """
    kinds = [*map(expectations.kind, flows.hosts)]
    kind = Numbering[object]().of(kinds)
    is_known = np.array([one is not None for one in kinds], bool)
    alike = (kind[flows.source], flows.service, is_known[flows.destination])
    _, first, which = np.unique(_coded(alike), return_index=True, return_inverse=True)
    return np.array([says(*flows.ends(place)) for place in first.tolist()], np.int64)[which]


def _turns(flows: Shifts, expectations: Expectations) -> Numbers:
    """For each flow, the place of what its change means."""
    expected = _asked_once(
        flows, expectations, lambda *ends: _EXPECTATIONS.index(expectations.of(*ends))
    )
    alike = (flows.was - NOTHING, flows.outcome, expected)
    _, first, which = np.unique(_coded(alike), return_index=True, return_inverse=True)
    found = [
        turn(_SEEN[was], OUTCOMES[now], _EXPECTATIONS[expect])
        for was, now, expect in zip(*(one[first].tolist() for one in alike), strict=True)
    ]
    return np.array([*map(_TURNS.index, found)], np.int64)[which]


def _grouped(flows: Shifts, turns: Numbers) -> tuple[Numbers, Numbers]:
    """The flows in the order of their groups, and where each group begins; last, where all end."""
    seen = _ranks([str(one or "") for one in _SEEN])
    codes = _coded(
        (
            turns,
            _ranks(flows.services)[flows.service],
            _ranks(flows.hosts)[flows.destination],
            seen[flows.was - NOTHING],
            seen[flows.outcome - NOTHING],
        )
    )
    order = np.argsort(codes, kind="stable")
    begins = np.flatnonzero(np.diff(codes[order], prepend=-1))
    return order, np.append(begins, len(order))


def _ranks(words: Sequence[str]) -> Numbers:
    """For each word, how many come before it in the order of words."""
    ranks = np.empty(len(words), np.int64)
    ranks[sorted(range(len(words)), key=words.__getitem__)] = np.arange(len(words))
    return ranks


def _coded(columns: Sequence[Numbers]) -> Numbers:
    """A number for each row, the same for those that are, and in the order of their columns."""
    codes = np.zeros(len(columns[0]), np.int64)
    for column in columns:
        codes = codes * (int(column.max(initial=0)) + 1) + column
    return codes
