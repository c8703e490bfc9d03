"""The map: every flow that the topology speaks of, and what was last seen of it. Pure.

Folding only remembers. What it means is asked of `reachmap_collector.judge`, at the time of the
question, so a flow that nobody reports on any more turns unknown without anyone touching it.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from enum import Enum
from itertools import pairwise
from statistics import median
from typing import Final

from reachmap_collector.planner import ExpectedFlow, FlowKey
from reachmap_shared.messages import Observation
from reachmap_shared.vocabulary import Outcome

_WINDOW: Final = 20
"""Checks that latency, flapping and counts are taken from: some three minutes by default."""


class Sight(Enum):
    """What one check comes to, where checks are counted."""

    OPEN = "open"
    NOT_OPEN = "not-open"
    LOCAL_ERROR = "local-error"
    """It could not be made: no loss of the network's, and yet a check that says nothing."""


@dataclass(slots=True)
class FlowRecord:
    """One flow's past, as far as it matters now. Times are seconds since the epoch."""

    expected: ExpectedFlow
    known_since: float
    last: Observation | None = None
    checked: float = 0.0
    """When the last check ended."""
    changed: float = 0.0
    """When what the checks see last became something else."""
    connect_us: deque[int] = field(default_factory=lambda: deque(maxlen=_WINDOW))
    sights: deque[Sight] = field(default_factory=lambda: deque(maxlen=_WINDOW))
    """What each of the latest checks came to, one that could not be made included."""

    @property
    def key(self) -> FlowKey:
        """What makes this flow this flow."""
        return self.expected.key

    @property
    def latency_ms(self) -> float | None:
        """Median time to connect over the latest open checks."""
        return round(median(self.connect_us) / 1000, 3) if self.connect_us else None

    @property
    def flips(self) -> int:
        """How often the latest checks went from open to not open or back."""
        told = [sight for sight in self.sights if sight is not Sight.LOCAL_ERROR]
        return sum(one != other for one, other in pairwise(told))

    @property
    def checks_made(self) -> int:
        """How many of the latest checks there are: those that could not be made count too."""
        return len(self.sights)

    @property
    def checks_open(self) -> int:
        """How many of them found it open."""
        return self.sights.count(Sight.OPEN)

    @property
    def checks_failed_locally(self) -> int:
        """How many of them could not be made."""
        return self.sights.count(Sight.LOCAL_ERROR)

    def fold(self, observation: Observation, at: float) -> bool:
        """Add what a check saw at time `at`; one older than the last is passed over.

        Returns:
            Whether the flow looks different now.
        """
        if self.last is not None and at < self.checked:
            return False
        sight = _SIGHTS.get(observation.outcome, Sight.NOT_OPEN)
        self.sights.append(sight)
        self.checked = at
        if not observation.confirmed and self.last is not None:
            return False  # perhaps a lost packet: it counts as one, and changes nothing
        is_new = self.last is None or _face(self.last) != _face(observation)
        if is_new:
            self.changed = at
        self.last = observation
        if sight is Sight.OPEN:
            self.connect_us.append(observation.connect_us)
        return is_new


class FlowMap:
    """All flows by key. Where the topology has a name, each address of it is a flow of its own."""

    def __init__(self) -> None:
        self._records: dict[FlowKey, FlowRecord] = {}
        self._resolved: dict[FlowKey, dict[str, FlowRecord]] = {}
        """By the flow to the name: those to its addresses, as the source resolved it last."""
        self.changes = 0
        """How often a flow came to look different: who looked since then has nothing to look at."""

    def expect(self, flows: Iterable[ExpectedFlow], now: float) -> None:
        """Hold just these flows from now on; those known already keep their past."""
        records: dict[FlowKey, FlowRecord] = {}
        resolved: dict[FlowKey, dict[str, FlowRecord]] = {}
        for flow in flows:
            record = self._records.get(flow.key)
            if record is None or record.expected.service != flow.service:
                record = FlowRecord(flow, known_since=now)
            elif flow.key in self._resolved:
                resolved[flow.key] = self._resolved[flow.key]
                for address, one in resolved[flow.key].items():
                    one.expected = _to(flow, address)
            record.expected = flow
            records[flow.key] = record
        self._records = records
        self._resolved = resolved
        self.changes += 1

    def observe(self, key: FlowKey, observation: Observation, at: float) -> bool:
        """Fold in what was seen of one flow; returns False when it is none of the map's."""
        record = self._records.get(key)
        if record is None:
            return False
        if observation.resolved:
            self.changes += self._flow_to(record, observation).fold(observation, at)
            return True
        # Without addresses it is no name, or one that does not resolve: then none is reached.
        for one in self._resolved.get(key, {"": record}).values():
            self.changes += one.fold(observation, at)
        return True

    def _flow_to(self, record: FlowRecord, observation: Observation) -> FlowRecord:
        """The flow to one of a name's addresses; those that it has no more are forgotten."""
        known = self._resolved.setdefault(record.key, {})
        for gone in known.keys() - set(observation.resolved):
            del known[gone]
        if observation.address not in known:
            expected = _to(record.expected, observation.address)
            known[observation.address] = FlowRecord(expected, record.known_since)
        return known[observation.address]

    def __iter__(self) -> Iterator[FlowRecord]:
        """The flows, in the order of their keys."""
        for key, record in self._records.items():
            if key in self._resolved:
                yield from (one for _, one in sorted(self._resolved[key].items()))
            else:
                yield record

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def get(self, key: FlowKey) -> FlowRecord | None:
        """One flow; None when the topology speaks of no such."""
        return self._records.get(key)


def _to(flow: ExpectedFlow, address: str) -> ExpectedFlow:
    """The flow to one address of the name that another one has."""
    return replace(flow, key=replace(flow.key, address=address))


_SIGHTS: Final = {Outcome.OPEN: Sight.OPEN, Outcome.LOCAL_ERROR: Sight.LOCAL_ERROR}
"""Outcomes that are counted for themselves; every other is just not open."""


def _face(observation: Observation) -> tuple[object, ...]:
    return observation.outcome, observation.answered_by, observation.healthy
