"""What a scrape measures: all flows of the map, in groups, from its rows. Pure.

It comes every few seconds, so it judges no flow. What it says of one is what an export says of it.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from reachmap_collector.export.measuring import AS_IT_SHOULD_BE, Group
from reachmap_collector.flowmap import columns
from reachmap_collector.states import CODES, NOBODY, STATES, States
from reachmap_shared import logscale
from reachmap_shared.vocabulary import Outcome

_US: Final = np.array([logscale.us(octet) for octet in range(256)], float)
"""What each octet of a logarithm stands for."""


def of_states(states: States) -> list[Group]:
    """All flows of a map, in groups."""
    numbers: dict[tuple[tuple[str, ...], str], int] = {}
    of_rows = states.by_target(
        lambda one: numbers.setdefault((one.because, str(one.service)), len(numbers))
    )
    rows = np.flatnonzero(states.codes != NOBODY)
    rows = rows[np.argsort(of_rows[rows], kind="stable")]
    begins = np.searchsorted(of_rows[rows], np.arange(len(numbers) + 1))
    connect_s, ends = _connect_s(states), states.rows["certificate"]
    as_it_should_be = np.isin(states.codes, [CODES[state] for state in AS_IT_SHOULD_BE])
    groups: list[Group] = []
    for (roles, service), number in numbers.items():
        those = rows[begins[number] : begins[number + 1]]
        if not len(those):
            continue
        counts = np.bincount(states.codes[those], minlength=len(STATES)).tolist()
        times = connect_s[those[as_it_should_be[those]]]
        checks = states.checked[those]
        checks = checks[checks > 0]
        # One that ends when a row can no longer say, or never was, is the first of none.
        until = ends[those]
        until = until[(until > 0) & (until < columns.NO_CERTIFICATE - 1)]
        groups.append(
            Group(
                roles,
                service,
                dict(zip(STATES, counts, strict=True)),
                times[~np.isnan(times)].tolist(),
                float(checks.min()) if len(checks) else None,
                float(checks.max()) if len(checks) else None,
                float(until.min()) if len(until) else None,
            )
        )
    return groups


def _connect_s(states: States) -> NDArray[np.float64]:
    """For each flow: the latest periods' median time to connect, or the last check's; nan for none.

    It is what `FlowRecord.latency_ms` says of one.
    """
    octets = states.flows.latencies()
    octets.sort(axis=0)  # so that periods without a time come first
    periods, place = len(octets), np.arange(octets.shape[1])
    told = np.count_nonzero(octets, axis=0)
    low = octets[np.minimum(periods - told + np.maximum(told - 1, 0) // 2, periods - 1), place]
    high = octets[np.minimum(periods - told + told // 2, periods - 1), place]
    is_open = states.rows["outcome"] == columns.OUTCOME_CODES[Outcome.OPEN]
    last = np.where(is_open, states.rows["connect_us"].astype(float), np.nan)
    return np.where(told > 0, (_US[low] + _US[high]) / 2, last) / 1e6
