"""What metrics tell of flows, in groups of those that the same roles need of one service. Pure.

An export has flows as they are answered; a scrape takes them from the map's rows (`scrape`).
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Self

from reachmap_collector.export.snapshot import Json, seconds, source_roles
from reachmap_shared.vocabulary import State

AS_IT_SHOULD_BE: Final = frozenset({State.OK, State.DEGRADED})
"""States of flows that are as the topology wants them, well or not."""


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


def _seconds_or_none(timestamp: str | None) -> float | None:
    return None if timestamp is None else seconds(timestamp)
