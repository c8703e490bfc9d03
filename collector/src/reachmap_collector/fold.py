"""The map: every flow that the topology speaks of, and what was last seen of it. Pure.

Folding only remembers. What it means is asked of `reachmap_collector.judge`, at the time of the
question, so a flow that nobody reports on any more turns unknown without anyone touching it.

What is kept is a function of the set of messages heard: in which order they come, and how often,
makes no difference. A pulse and a roll-up cost the same for one flow as for twenty thousand: what
they say of a flow is looked up when somebody asks.
"""

import ipaddress
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from statistics import median
from typing import Final

from reachmap_collector.diagnose import Diagnosed
from reachmap_collector.planner import ExpectedFlow, FlowKey
from reachmap_collector.slots import Slots
from reachmap_shared import logscale
from reachmap_shared.messages import NamedCount, Observation, RollUp
from reachmap_shared.vocabulary import Outcome

_PERIODS: Final = 4
"""Roll-ups of an agent that latency, flapping and counts are taken from: some four minutes by
default."""

_PAST: Final = 8
"""Changes of a flow that are kept in memory, so that one which comes late finds its place."""

_HIDDEN: Final = 32
"""Addresses of a name that are remembered, those that it has no more included."""


@dataclass(frozen=True, slots=True)
class Told:
    """One change of a flow. Those of one start are in the order of their numbers."""

    at: float
    """Seconds since the epoch."""
    boot: str
    number: int
    seen: Observation

    def is_newer(self, other: "Told") -> bool:
        """Whether this came about after the other."""
        if self.boot == other.boot:
            return self.number > other.number
        return (self.at, self.boot) > (other.at, other.boot)


@dataclass(frozen=True)
class Period:
    """A roll-up of one agent."""

    ends: float
    boot: str
    sequence: int
    slots: Slots
    counts: RollUp

    @cached_property
    def _named(self) -> dict[tuple[int, str], NamedCount]:
        return {(line.slot, line.address): line for line in self.counts.named}

    def of(self, flow: FlowKey, address: str | None) -> NamedCount | None:
        """What it says of a flow, or of one address of the name that the flow has."""
        slot = self.slots.places.get(flow)
        if slot is None:
            return None
        if address is not None:
            return self._named.get((slot, address))
        counts = self.counts
        columns = (counts.made, counts.failed, counts.local_errors, counts.flips, counts.latency)
        return NamedCount(slot, "", *(column[slot] if column else 0 for column in columns))


class Source:
    """What one agent says of all its flows at once."""

    def __init__(self) -> None:
        self._periods: list[Period] = []
        self._at = 0.0
        self._checked = 0.0
        self._slots: Slots | None = None
        self._behind: dict[FlowKey, float] = {}

    def pulse(self, at: float, span_s: float, slots: Slots, stale: bytes) -> None:
        """All flows of a plan but the stale ones were checked within a span, and are as told."""
        if at < self._at:
            return
        behind = [slots.flows[slot] for slot in _set_bits(stale) if slot < len(slots.flows)]
        # When those were checked, as far as pulses tell, an earlier one told.
        self._behind = {flow: self.checked(flow) for flow in behind}
        self._at, self._slots = at, slots
        self._checked = at - span_s

    def roll_up(self, period: Period) -> None:
        """Take up a period; only the latest few are kept."""
        if any((one.boot, one.sequence) == (period.boot, period.sequence) for one in self._periods):
            return
        self._periods.append(period)
        self._periods.sort(key=lambda one: (one.ends, one.boot, one.sequence))
        del self._periods[:-_PERIODS]

    def checked(self, flow: FlowKey) -> float:
        """Since when at the latest the flow was checked and found as told; 0 if nobody says so."""
        if self._slots is None or flow not in self._slots.places:
            return 0.0
        return self._behind.get(flow, self._checked)

    def counts(self, flow: FlowKey, address: str | None) -> list[NamedCount]:
        """What the latest periods say of a flow, those that do not speak of it left out."""
        found = (period.of(flow, address) for period in self._periods)
        return [line for line in found if line is not None]


@dataclass(slots=True)
class FlowRecord:
    """One flow's past, as far as it matters now. Times are seconds since the epoch."""

    expected: ExpectedFlow
    known_since: float
    source: Source = field(default_factory=Source)
    name: "FlowRecord | None" = None
    """The flow to the name whose address this one leads to."""
    diagnosed: Diagnosed | None = None
    """When it was looked into last, and what was found; it may be about an earlier fault."""
    _past: list[Told] = field(default_factory=list)
    """Oldest first."""
    _began: float | None = None
    """When it first was as the oldest of these says, if that was before."""

    @property
    def key(self) -> FlowKey:
        """What makes this flow this flow."""
        return self.expected.key

    @property
    def last(self) -> Observation | None:
        """What is known of it: the latest change."""
        told = self._latest()
        return told.seen if told is not None else None

    @property
    def checked(self) -> float:
        """When it was checked last, as far as is known."""
        told = self._latest()
        if told is None:
            return 0.0
        return max(told.at, self.source.checked((self.name or self).key))

    @property
    def changed(self) -> float:
        """When what the checks see last became something else."""
        past = self._past
        if self.name is not None and self.name._past:
            past = [*self._past]
            for told in self.name._past:
                _insert(past, told)
        if not past:
            return 0.0
        since = past[-1].at
        for told in reversed(past):
            if _face(told.seen) != _face(past[-1].seen):
                return since
            since = told.at
        return since if self._began is None else self._began

    @property
    def latency_ms(self) -> float | None:
        """Median time to connect over the latest periods' open checks."""
        codes = [line.latency for line in self._counts() if line.latency != logscale.NONE]
        if codes:
            return round(median(map(logscale.us, codes)) / 1000, 3)
        told = self._latest()
        if told is None or told.seen.outcome is not Outcome.OPEN:
            return None
        return round(max(0, told.seen.connect_us) / 1000, 3)

    @property
    def flips(self) -> int:
        """How often the latest periods' checks went from open to not open or back."""
        return sum(line.flips for line in self._counts())

    @property
    def checks_made(self) -> int:
        """How many checks the latest periods had: those that could not be made count too."""
        return sum(line.made for line in self._counts())

    @property
    def checks_open(self) -> int:
        """How many of them found it open."""
        return sum(max(0, one.made - one.failed - one.local_errors) for one in self._counts())

    @property
    def checks_failed_locally(self) -> int:
        """How many of them could not be made."""
        return sum(line.local_errors for line in self._counts())

    def fold(self, told: Told) -> bool:
        """Add a change where it belongs; returns False for one that is there already."""
        if not _insert(self._past, told):
            return False
        if len(self._past) <= _PAST:
            return True
        oldest, next_ = self._past[0], self._past[1]
        del self._past[0]
        same = _face(oldest.seen) == _face(next_.seen)
        self._began = (self._began if self._began is not None else oldest.at) if same else None
        return True

    def inherit(self, before: "FlowRecord") -> None:
        """Go on where a flow ended that was this one under other names."""
        self.known_since = before.known_since
        self._past = [*before._past]
        self._began = before._began
        self.diagnosed = before.diagnosed

    def _latest(self) -> Told | None:
        own = self._past[-1] if self._past else None
        above = self.name._latest() if self.name is not None else None
        if own is None or (above is not None and above.is_newer(own)):
            return above
        return own

    def _counts(self) -> list[NamedCount]:
        if self.name is not None:
            return self.source.counts(self.name.key, self.key.address)
        return self.source.counts(self.key, None)


class _Name:
    """The addresses of one name."""

    def __init__(self) -> None:
        self.records: dict[str, FlowRecord] = {}
        self.newest: Told | None = None
        """The change that says what the name resolved to last."""

    def shown(self) -> list[FlowRecord]:
        """The flows to the addresses that it has now, in their order."""
        resolved = self.newest.seen.resolved if self.newest is not None else ()
        return [self.records[one] for one in sorted(resolved) if one in self.records]


class FlowMap:
    """All flows by key. Where the topology has a name, each address of it is a flow of its own."""

    def __init__(self) -> None:
        self._records: dict[FlowKey, FlowRecord] = {}
        self._names: dict[FlowKey, _Name] = {}
        """By the flow to the name."""
        self._sources: dict[str, Source] = {}
        self.changes = 0
        """How often something was told that is new: who looked since then saw all of it."""

    def expect(
        self, flows: Iterable[ExpectedFlow], now: float, current: Mapping[str, str] | None = None
    ) -> set[str]:
        """Hold just these flows from now on; those known already keep their past.

        Args:
            flows: In the order of their keys.
            now: Seconds since the epoch.
            current: What hosts are called now that had another name; their past comes along.

        Returns:
            The sources of flows that were not known: what was said of those before is not here.
        """
        records: dict[FlowKey, FlowRecord] = {}
        names: dict[FlowKey, _Name] = {}
        new: set[str] = set()
        renamed = self._renamed(current or {})
        for flow in flows:
            record = self._records.get(flow.key)
            if record is None or record.expected.service != flow.service:
                record = FlowRecord(flow, known_since=now, source=self.source(flow.key.source))
                before = renamed.get(flow.key)
                if before is not None and before.expected.service == flow.service:
                    record.inherit(before)
                new.add(flow.key.source)
            elif flow.key in self._names:
                names[flow.key] = self._names[flow.key]
                for address, one in names[flow.key].records.items():
                    one.expected = _to(flow, address)
            record.expected = flow
            records[flow.key] = record
        self._records = records
        self._names = names
        self.changes += 1
        return new

    def _renamed(self, current: Mapping[str, str]) -> dict[FlowKey, FlowRecord]:
        """The flows of hosts that had another name, by what their keys are now."""
        if not current:
            return {}
        return {
            now: record
            for key, record in self._records.items()
            if (now := renamed(key, current)) != key
        }

    def source(self, agent: str) -> Source:
        """What an agent says of all its flows at once."""
        if agent not in self._sources:
            self._sources[agent] = Source()
        return self._sources[agent]

    def tell(self, flow: FlowKey, service: str, told: Told) -> bool:
        """Fold in a change of one flow; returns False when it is none of the map's."""
        record = self._records.get(flow)
        if record is None or str(record.expected.service) != service:
            return False
        if not told.seen.resolved:
            # No name, or one that does not resolve: then none of its addresses is reached.
            self.changes += record.fold(told)
            return True
        name = self._names.setdefault(flow, _Name())
        address = told.seen.address
        if address not in name.records:
            name.records[address] = FlowRecord(
                _to(record.expected, address), record.known_since, record.source, record
            )
        self.changes += name.records[address].fold(told)
        if name.newest is None or told.is_newer(name.newest):
            name.newest = told
        if len(name.records) > _HIDDEN:
            _forget_the_oldest(name)
        return True

    def diagnose(self, flow: FlowKey, service: str, diagnosed: Diagnosed) -> bool:
        """Keep what was found out about a flow last; returns False when it is none of the map's."""
        record = self._dialled(flow, service, diagnosed.diagnosis.address)
        if record is None:
            return False
        if record.diagnosed is None or diagnosed.at >= record.diagnosed.at:
            record.diagnosed = diagnosed
        return True

    def heal(self, flow: FlowKey, service: str, told: Told) -> Diagnosed | None:
        """Forget what was found out about a flow before it was well again; returns what it was."""
        record = self._dialled(flow, service, told.seen.address)
        found = record.diagnosed if record is not None else None
        if record is None or found is None or told.at <= found.at:
            return None
        record.diagnosed = None
        return found

    def _dialled(self, flow: FlowKey, service: str, address: str) -> FlowRecord | None:
        """The flow to an address, of those that a name has if it is one."""
        record = self._records.get(flow)
        if record is None or str(record.expected.service) != service:
            return None
        if _is_address(flow.address):
            return record
        return self._names[flow].records.get(address) if flow in self._names else None

    def names(self) -> dict[FlowKey, list[FlowKey]]:
        """The flows to names, by what they have in common with the flows to their addresses."""
        found: dict[FlowKey, list[FlowKey]] = {}
        for key in self._records:
            if not _is_address(key.address):
                found.setdefault(replace(key, address=""), []).append(key)
        return found

    def __iter__(self) -> Iterator[FlowRecord]:
        """The flows, in the order of their keys."""
        for key, record in self._records.items():
            if key in self._names:
                yield from self._names[key].shown()
            else:
                yield record

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def get(self, key: FlowKey) -> FlowRecord | None:
        """One flow; None when the topology speaks of no such."""
        return self._records.get(key)


def renamed(key: FlowKey, current: Mapping[str, str]) -> FlowKey:
    """A flow's key by what its hosts are called now."""
    source, destination = (current.get(name, name) for name in (key.source, key.destination))
    if (source, destination) == (key.source, key.destination):
        return key
    return replace(key, source=source, destination=destination)


def _insert(past: list[Told], told: Told) -> bool:
    """Put a change into its place among others; returns False when it is there already."""
    place = len(past)
    while place and past[place - 1].is_newer(told):
        place -= 1
    if place and (past[place - 1].boot, past[place - 1].number) == (told.boot, told.number):
        # Told again: it came about no later than any telling says, for delays only add.
        if told.at < past[place - 1].at:
            past[place - 1] = told
        return False
    past.insert(place, told)
    return True


def _forget_the_oldest(name: _Name) -> None:
    oldest = min(name.records, key=lambda address: name.records[address].changed)
    if name.newest is None or oldest not in name.newest.seen.resolved:
        del name.records[oldest]


def _set_bits(bits: bytes) -> Iterator[int]:
    """The numbers of the bits that are set, the lowest of each octet first."""
    for place, octet in enumerate(bits):
        if octet:
            yield from (place * 8 + bit for bit in range(8) if octet >> bit & 1)


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _to(flow: ExpectedFlow, address: str) -> ExpectedFlow:
    """The flow to one address of the name that another one has."""
    return replace(flow, key=replace(flow.key, address=address))


def _face(observation: Observation) -> tuple[object, ...]:
    return observation.outcome, observation.answered_by, observation.healthy
