"""What metrics tell of flows, in groups of those that the same roles need of one service. Pure.

A scrape comes every few seconds and is about all flows, so it takes them from the map's rows, and
judges only those to names. An export has flows as they are answered, and comes to the same.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from reachmap_collector import columns
from reachmap_collector.export.snapshot import Json, seconds, source_roles
from reachmap_collector.fold import FlowMap
from reachmap_collector.judge import Judgement
from reachmap_collector.states import CODES, NAMED, STATES, States
from reachmap_collector.views import END_OF_TIME
from reachmap_shared import logscale
from reachmap_shared.vocabulary import Outcome, State

AS_IT_SHOULD_BE: Final = frozenset({State.OK, State.DEGRADED})
"""States of flows that are as the topology wants them, well or not."""

_US: Final = np.array([logscale.us(octet) for octet in range(256)], float)
"""What each octet of a logarithm stands for."""


@dataclass(frozen=True, slots=True)
class Measured:
    """What all metrics but those of single flows need of a flow. Times are in seconds."""

    roles: tuple[str, ...]
    service: str
    state: State
    connect_s: float | None
    checked: float | None
    certificate_until: float | None

    @classmethod
    def from_flow(cls, flow: Json) -> Self:
        """From a flow as it is answered."""
        return cls(
            roles=tuple(source_roles(flow)),
            service=flow["service"],
            state=State(flow["state"]),
            connect_s=None if flow["latency_ms"] is None else flow["latency_ms"] / 1000,
            checked=seconds(flow["checked"]) if flow["checked"] else None,
            certificate_until=_seconds_or_none(flow["certificate_until"]),
        )

    @classmethod
    def from_judgement(cls, judgement: Judgement) -> Self:
        """From what answers are made of: a fifth of the work, which each scrape costs."""
        record, seen = judgement.record, judgement.seen
        because = record.expected.connections or record.expected.denies
        until = seen.certificate_until if seen else None
        connect_ms = record.latency_ms
        return cls(
            roles=tuple(dict.fromkeys(reason.role for reason in because)),
            service=str(record.expected.service),
            state=judgement.state,
            connect_s=None if connect_ms is None else connect_ms / 1000,
            checked=record.checked if seen else None,
            certificate_until=until if until is not None and 0 <= until <= END_OF_TIME else None,
        )


@dataclass(frozen=True, slots=True)
class Group:
    """The flows to one service that the same roles need. Times are in seconds."""

    roles: tuple[str, ...]
    service: str
    states: Mapping[State, int]
    connect_s: Sequence[float]
    """Of those that are as they should be, and open."""
    oldest: float | None
    """When that was checked whose check is longest ago; None where none was checked."""
    newest: float | None
    certificate_until: float | None
    """When the first of their certificates ends."""

    @classmethod
    def of(cls, measured: Sequence[Measured]) -> Self:
        """Flows of the same roles and service; there is at least one."""
        checks = [one.checked for one in measured if one.checked is not None]
        ends = [one.certificate_until for one in measured if one.certificate_until is not None]
        return cls(
            measured[0].roles,
            measured[0].service,
            Counter(one.state for one in measured),
            [
                one.connect_s
                for one in measured
                if one.connect_s is not None and one.state in AS_IT_SHOULD_BE
            ],
            min(checks, default=None),
            max(checks, default=None),
            min(ends, default=None),
        )


def grouped(measured: Iterable[Measured]) -> list[Group]:
    """Flows one by one, in groups."""
    found: dict[tuple[tuple[str, ...], str], list[Measured]] = {}
    for one in measured:
        found.setdefault((one.roles, one.service), []).append(one)
    return [Group.of(those) for those in found.values()]


def of_states(states: States) -> list[Group]:
    """All flows of a map, in groups; one of names apart, so that some may be there twice."""
    numbers: dict[tuple[tuple[str, ...], str], int] = {}
    of_rows = states.by_target(
        lambda one: numbers.setdefault((one.because, str(one.service)), len(numbers))
    )
    rows = np.flatnonzero(states.codes != NAMED)
    rows = rows[np.argsort(of_rows[rows], kind="stable")]
    begins = np.searchsorted(of_rows[rows], np.arange(len(numbers) + 1))
    connect_s, ends = _connect_s(states.flows), states.flows.rows["certificate"]
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
    named = (Measured.from_judgement(one) for those in states.named.values() for one in those)
    return groups + grouped(named)


def _connect_s(flows: FlowMap) -> NDArray[np.float64]:
    """For each row: the latest periods' median time to connect, or the last check's; nan for none.

    It is what `FlowRecord.latency_ms` says of one.
    """
    octets = flows.latencies()
    octets.sort(axis=0)  # so that periods without a time come first
    periods, place = len(octets), np.arange(octets.shape[1])
    told = np.count_nonzero(octets, axis=0)
    low = octets[np.minimum(periods - told + np.maximum(told - 1, 0) // 2, periods - 1), place]
    high = octets[np.minimum(periods - told + told // 2, periods - 1), place]
    is_open = flows.rows["outcome"] == columns.OUTCOME_CODES[Outcome.OPEN]
    last = np.where(is_open, flows.rows["connect_us"].astype(float), np.nan)
    return np.where(told > 0, (_US[low] + _US[high]) / 2, last) / 1e6


def _seconds_or_none(timestamp: str | None) -> float | None:
    return None if timestamp is None else seconds(timestamp)
