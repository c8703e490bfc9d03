"""The flows that are not broken, counted in the groups in which causes are looked for. Pure.

There may be a million of them, and what is asked of them is how many of a group are well: that is
told from the rows of them all. It is made of arrays that nobody changes, so that causes can be
found in a thread.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from reachmap_collector.alerts.groups import (
    WELL,
    Acquitted,
    GroupName,
    Kind,
    Sight,
    network,
    parted,
    place_of,
)
from reachmap_collector.flowmap.columns import Bits
from reachmap_collector.states import CODES, NOBODY, STATES, States
from reachmap_shared.vocabulary import Transport

Number = TypeVar("Number", np.int64, NDArray[np.int64])

Codes = NDArray[np.int64]
"""For each flow, the number of what it has in common with others."""


class Crowd:
    """Those of a map, but for some.

    Args:
        states: How all flows stand.
        sighted: Those that there are sights of.
    """

    def __init__(self, states: States, sighted: Bits) -> None:
        flows = states.flows
        expected, resolved = flows.expected, flows.resolved
        self._expected = expected
        self._codes = np.where(sighted, NOBODY, states.codes)
        self._well: Bits = np.isin(self._codes, [CODES[state] for state in WELL])
        self._checked = states.checked
        self._owners = np.concatenate([np.arange(len(expected)), resolved.owners.astype(np.int64)])
        self._ends: dict[tuple[str, int, Transport], int] = {}
        self._end = states.by_target(
            lambda one: self._ends.setdefault(
                (one.destination, one.port, one.transport), len(self._ends)
            )
        )
        self._hosts: dict[str, int] = {}
        for host in (*(host for host, _, _ in self._ends), *expected.targets):
            self._hosts.setdefault(host, len(self._hosts))
        self._to = np.array([self._hosts[host] for host, _, _ in self._ends], np.int64)[self._end]
        sources = np.array([self._hosts[source] for source in expected.targets], np.int64)
        self._from = np.repeat(sources, expected.lengths)[self._owners]
        self._networks: dict[str | None, int] = {None: 0}
        far = states.by_target(lambda one: self._network(one.address))[: len(expected)]
        self._far = resolved.dialled(far, self._network)
        locals_, of_flows = np.unique(states.rows["local"], return_inverse=True)
        dialled_from = (flows.dialled_from(code) for code in locals_.tolist())
        self._near = np.array([*map(self._network, dialled_from)], np.int64)[of_flows]

    def _network(self, address: str | None) -> int:
        return self._networks.setdefault(network(address), len(self._networks))

    def acquit(self, first: Mapping[GroupName, float]) -> Mapping[GroupName, Acquitted]:
        """See `groups.Others`."""
        by_kind: dict[Kind, dict[str, float]] = defaultdict(dict)
        for (kind, name), begins in first.items():
            by_kind[kind][name] = begins
        away = self._well & (self._from != self._to)
        paths = away & (self._near > 0) & (self._far > 0) & (self._near != self._far)
        places = {place_of(*end): number for end, number in self._ends.items()}
        # No flow that is well shows a device or a name that does not resolve, or is another one.
        found: dict[GroupName, Acquitted] = {}
        for kind, numbers, codes, those in (
            (Kind.HOST_DOWN, self._hosts, self._to, self._well),
            (Kind.SERVICE_DOWN, places, self._end, self._well),
            (Kind.SOURCE, self._hosts, self._from, away),
            (Kind.PATH, self._paths(by_kind[Kind.PATH]), self._path(self._near, self._far), paths),
        ):
            for name, acquitted in self._count(by_kind[kind], numbers, codes, those):
                found[kind, name] = acquitted
        return found

    def _paths(self, names: Iterable[str]) -> dict[str, int]:
        """The numbers of pairs of networks."""
        ends = {name: parted(name) for name in names}
        return {
            name: int(self._path(np.int64(self._networks[near]), np.int64(self._networks[far])))
            for name, (near, far) in ends.items()
            if near in self._networks and far in self._networks
        }

    def _path(self, near: Number, far: Number) -> Number:
        return near * len(self._networks) + far

    def _count(
        self, first: Mapping[str, float], numbers: Mapping[str, int], codes: Codes, those: Bits
    ) -> Iterator[tuple[str, Acquitted]]:
        meant = sorted(
            (numbers[name], name, begins) for name, begins in first.items() if name in numbers
        )
        if not meant:
            return
        wanted = np.array([number for number, _, _ in meant])
        begins = np.array([begins for _, _, begins in meant])
        flows = np.flatnonzero(those)
        places = np.minimum(np.searchsorted(wanted, codes[flows]), len(wanted) - 1)
        is_meant = wanted[places] == codes[flows]
        flows, places = flows[is_meant], places[is_meant]
        later = self._checked[flows] < begins[places]
        home = ~later & (self._from[flows] == self._to[flows])
        well, at_home, not_yet = (
            np.bincount(places[some], minlength=len(wanted)).tolist()
            for some in (~later & ~home, home, later)
        )
        for place, (_, name, _) in enumerate(meant):
            yield name, Acquitted(well[place], at_home[place], not_yet[place])

    def ports(self, host: str) -> Collection[tuple[int, Transport]]:
        """See `groups.Others`."""
        known = [*self._ends]
        numbers = np.unique(self._end[self._well & (self._to == self._hosts.get(host, -1))])
        return {known[number][1:] for number in numbers.tolist()}

    def reached_from(self, host: str) -> Collection[str]:
        """See `groups.Others`."""
        known = [*self._hosts]
        numbers = np.unique(self._to[self._well & (self._from == self._hosts.get(host, -1))])
        return {known[number] for number in numbers.tolist()}

    def of(self, host: str) -> Iterator[Sight]:
        """See `groups.Others`."""
        if host not in self._hosts:
            return
        those = (self._codes != NOBODY) & (self._from == self._hosts[host])
        for number in np.flatnonzero(those).tolist():
            flow = self._expected[int(self._owners[number])]
            state, checked = STATES[self._codes[number]], float(self._checked[number])
            yield Sight(flow.key, str(flow.service), state, checked=checked)
