"""The map: every flow that the topology speaks of, and what was last seen of it. Pure.

Folding only remembers. What it means is asked of `reachmap_collector.judge`, at the time of the
question, so a flow that nobody reports on any more turns unknown without anyone touching it.
"""

import ipaddress
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from reachmap_collector import columns
from reachmap_collector.bulk import WellFlows
from reachmap_collector.columns import Bits
from reachmap_collector.diagnose import Diagnosed
from reachmap_collector.planner import NO_ADDRESS, ExpectedFlow, FlowKey, Flows, Target
from reachmap_collector.records import PERIODS, FlowRecord, Source, Told
from reachmap_collector.slots import Ends, Place, place_of
from reachmap_shared.messages import Observation
from reachmap_shared.vocabulary import Expectation, Outcome

KEPT: Final = 2_000
"""Well flows that have a record of their own: some 2 MB of them."""

_WORDS: Final = 10_000
"""Above so many, and twice those in use, the words that no row has any more are forgotten."""

_HIDDEN: Final = 32
"""Addresses of a name that are remembered, those that it has no more included."""


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
    """All flows by key. Where the topology has a name, each address of it is a flow of its own.

    Every flow has a row of numbers. A record besides has whatever is not well, or leads to a name;
    and of the well ones those that were told of last. Of the rest one is made for whoever looks.
    """

    def __init__(self, kept: int = KEPT) -> None:
        """`kept` is how many well flows have a record."""
        self.expected = Flows({})
        self.rows = columns.blank(0, 0.0)
        """One for each flow, in the order of their keys."""
        self.changes = 0
        """How often something was told that is new: who looked since then saw all of it."""
        self._kept = kept
        self._words = columns.Words()
        self._most_words = _WORDS
        self._indexes: dict[int, tuple[tuple[Target, ...], dict[Place, int], tuple[str, ...]]] = {}
        """By the identity of a tuple of targets: where each place stands in it, and its service."""
        self._covers: dict[tuple[int, int], tuple[object, object, Bits | None]] = {}
        self._records: dict[int, FlowRecord] = {}
        """By row."""
        self._well: OrderedDict[int, None] = OrderedDict()
        """Those of them that can be done without; who was told of last stands last."""
        self._names: dict[FlowKey, _Name] = {}
        """By the flow to the name."""
        self._sources: dict[str, Source] = {}

    def expect(
        self, flows: Iterable[ExpectedFlow], now: float, current: Mapping[str, str] | None = None
    ) -> set[str]:
        """Hold just these flows from now on; those known already keep their past.

        Args:
            flows: What `planner.expected_flows` gives, or any others.
            now: Seconds since the epoch.
            current: What hosts are called now that had another name; their past comes along.

        Returns:
            The sources of flows that were not known: what was said of those before is not here.
        """
        heirs = self._renamed(current or {})
        before, rows, records = self.expected, self.rows, self._records
        after = flows if isinstance(flows, Flows) else Flows.of(flows)
        self.expected, self.rows = after, columns.blank(len(after), now)
        self._records, self._indexes, self._covers = {}, {}, {}
        self._well.clear()
        new: set[str] = set()
        moved: dict[int, int] = {}
        wanted: dict[int, NDArray[np.uint8]] = {}  # by tuple of targets, which sources share
        for source, targets in after.targets.items():
            start, had = after.start(source), before.targets.get(source, ())
            if had is targets:
                old = before.start(source)
                self.rows[start : start + len(had)] = rows[old : old + len(had)]
                continue
            if id(targets) not in wanted:
                wanted[id(targets)] = np.array([*map(_flags, targets)], np.uint8)
            self.rows["flags"][start : start + len(targets)] = wanted[id(targets)]
            if not had:
                new.add(source)
                continue
            known = self._index(had)
            for row, target in enumerate(targets, start):
                at = known.get(target.place)
                if at is None or had[at].service != target.service:
                    new.add(source)
                    continue
                flags = int(self.rows["flags"][row]) & _OF_TOPOLOGY
                self.rows[row] = rows[before.start(source) + at]
                self.rows["flags"][row] = flags | int(self.rows["flags"][row]) & ~_OF_TOPOLOGY
                moved[before.start(source) + at] = row
        if len(self._words) > self._most_words:  # each start of an agent brought one
            self._words = self._words.in_use(self.rows, ("boot", "local"))
            self._most_words = _WORDS + 2 * len(self._words)
        self._take_along(before, records, moved)
        self._inherit(heirs, new)
        self.changes += 1
        return new

    def _take_along(
        self, before: Flows, records: Mapping[int, FlowRecord], moved: Mapping[int, int]
    ) -> None:
        """Let the records go with their rows, and names with their flows."""
        names, self._names = self._names, {}
        for old, record in records.items():
            source = record.key.source
            if (had := before.targets.get(source)) and had is self.expected.targets.get(source):
                row = old - before.start(source) + self.expected.start(source)
            elif old in moved:
                row = moved[old]
            else:
                continue
            record.row, record.expected = row, self.expected[row]
            self._keep(record)
            if (name := names.get(record.key)) is not None:
                self._names[record.key] = name
                for address, one in name.records.items():
                    one.expected = _to(record.expected, address)

    def _renamed(self, current: Mapping[str, str]) -> dict[FlowKey, FlowRecord]:
        """The flows of hosts that had another name, by what their keys are now."""
        if not current:
            return {}
        heirs: dict[FlowKey, FlowRecord] = {}
        ends: dict[int, bool] = {}  # by tuple of targets: whether any leads to such a host
        for source, targets in self.expected.targets.items():
            if id(targets) not in ends:
                ends[id(targets)] = any(one.destination in current for one in targets)
            if source in current or ends[id(targets)]:
                for record in self._of_rows(source):
                    if (now := renamed(record.key, current)) != record.key:
                        heirs[now] = record
        return heirs

    def _inherit(self, heirs: Mapping[FlowKey, FlowRecord], new: set[str]) -> None:
        for key, before in heirs.items():
            if key.source in new and (row := self._row(key)) is not None:
                record = self._record(row)
                if record.newest is None and record.expected.service == before.expected.service:
                    record.inherit(before)
                    self.rows["since"][row] = record.changed or before.known_since

    def source(self, agent: str) -> Source:
        """What an agent says of all its flows at once."""
        if agent not in self._sources:
            self._sources[agent] = Source()
        return self._sources[agent]

    def tell(self, flow: FlowKey, service: str, told: Told) -> bool:
        """Fold in a change of one flow; returns False when it is none of the map's."""
        record = self._find(flow, service)
        if record is None:
            return False
        if not told.seen.resolved:
            # No name, or one that does not resolve: then none of its addresses is reached.
            self.changes += record.fold(told)
            return True
        name = self._names.setdefault(flow, _Name())
        self._keep(record)
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

    def begin(self, well: WellFlows) -> None:
        """Fill the rows of flows, with their services, of which nothing was told before."""
        places = self._places(well)
        known = places >= 0
        places, rows = places[known], well.rows[known]
        rows["boot"] = self._words.codes(well.boots)[rows["boot"]]
        rows["local"] = self._words.codes(well.locals)[rows["local"]]
        if np.bincount(places).max(initial=0) > 1:
            # Told of under two names of its hosts: the later one counts.
            order = np.argsort(rows["at"], kind="stable")
            places, rows = places[order], rows[order]
        rows["flags"] |= self.rows["flags"][places]
        self.rows[places] = rows

    def _places(self, well: WellFlows) -> NDArray[np.int64]:
        """The row of each flow; -1 where it is none of the map's."""
        keys, services = well.keys, well.services
        groups: dict[int, tuple[int, tuple[Target, ...]]] = {}  # by identity: many share theirs
        of_source = [self.expected.targets.get(source, ()) for source in keys.sources]
        for targets in of_source:
            groups.setdefault(id(targets), (len(groups), targets))
        group = np.array([groups[id(targets)][0] for targets in of_source], np.int64)
        # What leads to one place from sources with the same targets stands at one place of them.
        kinds = (group[keys.source] * len(keys.places) + keys.place) * len(services) + well.service
        distinct, kind = np.unique(kinds, return_inverse=True)
        members = [targets for _, targets in groups.values()]
        found = []
        for one in distinct.tolist():
            rest, service = divmod(one, len(services))
            number, place = divmod(rest, len(keys.places))
            targets = members[number]
            at = self._index(targets).get(keys.places[place], -1)
            fits = at >= 0 and self._indexes[id(targets)][2][at] == services[service]
            found.append(at if fits else -1)
        within = np.array(found, np.int64)[kind]
        starts = np.array([*map(self.expected.start, keys.sources)], np.int64)
        return np.where(within >= 0, starts[keys.source] + within, -1)

    def has(self, flow: FlowKey, boot: str, number: int) -> bool:
        """Whether a change is what was told last of a flow."""
        row = self._row(flow)
        if row is None or self.rows["outcome"][row] == columns.NOTHING:
            return False
        mine = self.rows[row]
        return bool(mine["number"] == number and self._words.text(mine["boot"]) == boot)

    def unheard(self) -> set[str]:
        """The sources of flows that could be checked, and of which nothing was told."""
        rows = self.rows["outcome"] == columns.NOTHING
        rows &= self.rows["flags"] & columns.UNADDRESSED == 0
        rows[[row for row, shown in self.resolved().items() if shown]] = False
        ends = np.cumsum(self.expected.lengths)
        found = np.unique(np.searchsorted(ends, np.flatnonzero(rows), side="right"))
        sources = (*self.expected.targets,)
        return {sources[place] for place in found.tolist()}

    def diagnose(self, flow: FlowKey, service: str, diagnosed: Diagnosed) -> bool:
        """Keep what was found out about a flow last; returns False when it is none of the map's."""
        record = self._dialled(flow, service, diagnosed.diagnosis.address)
        if record is None:
            return False
        if record.diagnosed is None or diagnosed.at >= record.diagnosed.at:
            record.diagnosed = diagnosed
            self._keep(record)
        return True

    def heal(self, flow: FlowKey, service: str, told: Told) -> Diagnosed | None:
        """Forget what was found out about a flow before it was well again; returns what it was."""
        record = self._dialled(flow, service, told.seen.address)
        found = record.diagnosed if record is not None else None
        if record is None or found is None or told.at <= found.at:
            return None
        record.diagnosed = None
        self._keep(record)
        return found

    def _find(self, flow: FlowKey, service: str) -> FlowRecord | None:
        row = self._row(flow)
        record = self._record(row) if row is not None else None
        return record if record is not None and str(record.expected.service) == service else None

    def _dialled(self, flow: FlowKey, service: str, address: str) -> FlowRecord | None:
        """The flow to an address, of those that a name has if it is one."""
        record = self._find(flow, service)
        if record is None or is_address(flow.address):
            return record
        return self._names[flow].records.get(address) if flow in self._names else None

    def names(self) -> dict[FlowKey, list[FlowKey]]:
        """The flows to names, by what they have in common with the flows to their addresses."""
        found: dict[FlowKey, list[FlowKey]] = {}
        named: dict[int, list[Target]] = {}
        for source, targets in self.expected.targets.items():
            if id(targets) not in named:
                named[id(targets)] = [one for one in targets if not is_address(one.address)]
            for target in named[id(targets)]:
                key = target.flow(source).key
                found.setdefault(replace(key, address=""), []).append(key)
        return found

    def resolved(self) -> dict[int, list[FlowRecord]]:
        """The flows to the addresses of names, by the name's row."""
        rows = {key: self._row(key) for key in self._names}
        return {row: self._names[key].shown() for key, row in rows.items() if row is not None}

    def of(self, source: str) -> Iterator[FlowRecord]:
        """The flows from one host, in the order of their keys."""
        for record in self._of_rows(source):
            if record.key in self._names:
                yield from self._names[record.key].shown()
            else:
                yield record

    def _of_rows(self, source: str) -> Iterator[FlowRecord]:
        start = self.expected.start(source)
        return map(self._record, range(start, start + len(self.expected.targets.get(source, ()))))

    def __iter__(self) -> Iterator[FlowRecord]:
        """The flows, in the order of their keys."""
        for source in self.expected.targets:
            yield from self.of(source)

    def __len__(self) -> int:
        named = sum(len(name.shown()) - 1 for name in self._names.values())
        return len(self.expected) + named

    def get(self, key: FlowKey) -> FlowRecord | None:
        """One flow; None when the topology speaks of no such."""
        row = self._row(key)
        return self._record(row) if row is not None else None

    def lacks(self, record: FlowRecord) -> bool:
        """Whether all that the map has of a flow is its row."""
        return record.row >= 0 and record.newest is not None and record.row not in self._records

    def at(self, row: int) -> FlowRecord:
        """The flow of a row."""
        return self._record(row)

    def checked(self) -> NDArray[np.float64]:
        """For each row, when its flow was checked last, as far as is known; 0 if never."""
        spans = np.zeros(len(self.expected.targets))
        apart: list[tuple[str, Source, Bits | None]] = []
        for number, (agent, targets) in enumerate(self.expected.targets.items()):
            source = self._sources.get(agent)
            span, slots = source.pulsed if source is not None else (0.0, None)
            if source is not None and slots is not None:
                spans[number] = span
                cover = self._cover(slots.ends, targets)
                if cover is not None or source.behind:
                    apart.append((agent, source, cover))
        found: NDArray[np.float64] = np.repeat(spans, self.expected.lengths)
        for agent, source, cover in apart:
            start = self.expected.start(agent)
            if cover is not None:
                found[start : start + len(cover)][~cover] = 0.0
            for flow, moment in source.behind.items():
                if (row := self._row(flow)) is not None:
                    found[row] = moment
        is_known = self.rows["outcome"] != columns.NOTHING
        return np.where(is_known, np.maximum(found, self.rows["at"]), 0.0)

    def latencies(self) -> NDArray[np.uint8]:
        """For each row, the times to connect of its agent's latest periods, by their octets."""
        found = np.zeros((PERIODS, len(self.expected)), np.uint8)
        places: dict[tuple[int, int], NDArray[np.int64]] = {}
        for agent, targets in self.expected.targets.items():
            source, start = self._sources.get(agent), self.expected.start(agent)
            for number, period in enumerate(source.periods if source is not None else ()):
                if not period.counts.latency:
                    continue
                pair = id(period.slots.ends), id(targets)
                if pair not in places:
                    slots = period.slots.ends.slots
                    held = (slots.get(one.place, -1) for one in targets)
                    places[pair] = np.fromiter(held, np.int64, len(targets))
                # The last one, for a flow that has no slot, is no time at all.
                told = np.frombuffer(period.counts.latency + bytes(1), np.uint8)
                found[number, start : start + len(targets)] = told[places[pair]]
        return found

    def flapping(self, least: int) -> Iterator[int]:
        """The rows of flows with so many flips lately."""
        for agent, source in self._sources.items():
            if agent in self.expected.targets:
                rows = (self._row(flow) for flow in source.flapping(least))
                yield from (row for row in rows if row is not None)

    def _cover(self, ends: Ends, targets: tuple[Target, ...]) -> Bits | None:
        """Which targets a plan's slots lead to; None for all that have an address."""
        held = self._covers.get((id(ends), id(targets)))
        if held is None:
            bits = np.fromiter((one.place in ends.slots for one in targets), bool, len(targets))
            needed = np.fromiter((one.address != NO_ADDRESS for one in targets), bool, len(targets))
            held = ends, targets, None if (bits | ~needed).all() else bits
            self._covers[id(ends), id(targets)] = held
        return held[2]

    def _row(self, flow: FlowKey) -> int | None:
        targets = self.expected.targets.get(flow.source)
        if targets is None:
            return None
        place = self._index(targets).get(place_of(flow))
        return None if place is None else self.expected.start(flow.source) + place

    def _index(self, targets: tuple[Target, ...]) -> dict[Place, int]:
        held = self._indexes.get(id(targets))
        if held is None:
            index = {one.place: number for number, one in enumerate(targets)}
            services = tuple(str(one.service) for one in targets)
            held = self._indexes[id(targets)] = targets, index, services
        return held[1]

    def _record(self, row: int) -> FlowRecord:
        return self._records.get(row) or self._made(row)

    def _made(self, row: int) -> FlowRecord:
        """A record of what its row has."""
        expected = self.expected[row]
        at, since, number, boot, local, connect_us, ends, outcome, answered, flags = self.rows[
            row
        ].item()
        source = self.source(expected.key.source)
        record = FlowRecord(expected, since, source, row=row, keep=self._keep)
        if outcome != columns.NOTHING:
            seen = Observation(
                slot=0,
                at_ms=0,
                outcome=columns.OUTCOMES[outcome],
                answered_by=columns.ANSWERS[answered],
                healthy=bool(flags & columns.HEALTHY),
                name_us=0,
                connect_us=connect_us,
                answer_us=0,
                local=self._words.text(local),
                evidence=(),
                window=bool(flags & columns.WINDOW),
                certificate_until=None if ends == columns.NO_CERTIFICATE else ends,
            )
            record.go_on(Told(at, self._words.text(boot), number, seen), since)
        return record

    def _keep(self, record: FlowRecord) -> None:
        """Bring a record's row up to date, and decide whether it stays."""
        row, told = record.row, record.newest
        self._records[row] = record
        self._well.pop(row, None)
        if told is None:
            return
        seen = told.seen
        flags = columns.HEALTHY * seen.healthy | columns.WINDOW * seen.window
        self.rows[row] = (
            told.at,
            record.changed,
            min(told.number, columns.MOST),
            self._words.code(told.boot),
            self._words.code(_without_port(seen.local)),
            min(max(0, seen.connect_us), columns.MOST),
            columns.certificate(seen.certificate_until),
            columns.OUTCOME_CODES[seen.outcome],
            columns.ANSWER_CODES[seen.answered_by],
            int(self.rows["flags"][row]) & _OF_TOPOLOGY | flags,
        )
        is_well = seen.outcome is Outcome.OPEN and seen.healthy and record.diagnosed is None
        if is_well and told.number < columns.MOST and record.key not in self._names:
            self._well[row] = None
            if len(self._well) > self._kept:
                del self._records[self._well.popitem(last=False)[0]]


_OF_TOPOLOGY: Final = columns.FORBIDDEN | columns.UNADDRESSED


def _flags(target: Target) -> int:
    forbidden = columns.FORBIDDEN * (target.expect is Expectation.BLOCKED)
    return forbidden | columns.UNADDRESSED * (target.address == NO_ADDRESS)


def _without_port(local: str) -> str:
    """All that many flows have in common of where a check came from."""
    host, colon, _ = local.rpartition(":")
    return f"{host}:0" if colon else ""


def renamed(key: FlowKey, current: Mapping[str, str]) -> FlowKey:
    """A flow's key by what its hosts are called now."""
    source, destination = (current.get(name, name) for name in (key.source, key.destination))
    if (source, destination) == (key.source, key.destination):
        return key
    return replace(key, source=source, destination=destination)


def _forget_the_oldest(name: _Name) -> None:
    oldest = min(name.records, key=lambda address: name.records[address].changed)
    if name.newest is None or oldest not in name.newest.seen.resolved:
        del name.records[oldest]


def is_address(text: str) -> bool:
    """Whether a flow's address is one, and no name."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _to(flow: ExpectedFlow, address: str) -> ExpectedFlow:
    """The flow to one address of the name that another one has."""
    return replace(flow, key=replace(flow.key, address=address))
