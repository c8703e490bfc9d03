"""The map: every flow that the topology speaks of, and what was last seen of it. Pure.

Folding only remembers. What it means is asked of `reachmap_collector.judge`, at the time of the
question, so a flow that nobody reports on any more turns unknown without anyone touching it.
"""

from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from reachmap_collector.diagnose import Diagnosed
from reachmap_collector.flowmap import columns
from reachmap_collector.flowmap.beginning import Begun, begin
from reachmap_collector.flowmap.bulk import WellFlows
from reachmap_collector.flowmap.columns import Bits, Rows
from reachmap_collector.flowmap.index import Index, is_address
from reachmap_collector.flowmap.records import FlowRecord, Source, Told
from reachmap_collector.flowmap.resolved import Name, Resolved, is_said_by_a_row
from reachmap_collector.flowmap.sources import Sources
from reachmap_collector.flowmap.written import Written
from reachmap_collector.planner import NO_ADDRESS, ExpectedFlow, FlowKey, Flows, Target
from reachmap_shared.vocabulary import Expectation, Outcome

KEPT: Final = 250
"""Flows that have a record of their own though their row says enough: of the well and of the others
the latest so many each, some half a MB of them in all."""


class FlowMap:
    """All flows by key. Where the topology has a name, each address of it is a flow of its own.

    Every flow has a row of numbers. A record besides has what was looked into, and of the others
    those that were told of last. Of the rest one is made for whoever looks.
    """

    def __init__(self, kept: int = KEPT) -> None:
        """`kept` is how many flows have a record that could do without."""
        self.expected = Flows({})
        self.rows = columns.blank(0, 0.0)
        """One for each flow, in the order of their keys."""
        self.changes = 0
        """How often something was told that is new: who looked since then saw all of it."""
        self._kept = kept
        self._index = Index(self.expected)
        self._written = Written()
        self.resolved = Resolved(0)
        """The addresses of names, and the rows of those beyond each name's first."""
        self._records: dict[int, FlowRecord] = {}
        """By row."""
        self._names: dict[int, Name] = {}
        """By the row of the flow to the name; where a name is, there is no record."""
        self._spare: tuple[OrderedDict[int, None], ...] = (OrderedDict(), OrderedDict())
        """The rows of those of both that can be done without, what is not well apart; who was told
        of last stands last."""
        self._sources = Sources()

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
        before, rows = self.expected, self.rows
        after = flows if isinstance(flows, Flows) else Flows.of(flows)
        self.expected, self.rows = after, columns.blank(len(after), now)
        self._index = Index(after)
        self._sources.forget_plans()
        new: set[str] = set()
        to = np.full(len(before), -1)  # by row: its row from now on
        changes: dict[tuple[int, int], _Change] = {}  # by tuples of targets, which sources share
        for source, targets in after.targets.items():
            start, had = after.start(source), before.targets.get(source, ())
            old, end = before.start(source), start + len(targets)
            if had is targets:
                self.rows[start:end] = rows[old : old + len(had)]
                to[old : old + len(had)] = np.arange(start, end)
                continue
            pair = id(had), id(targets)
            if pair not in changes:
                changes[pair] = _Change.of(had, targets)
            change = changes[pair]
            self.rows[start + change.there] = rows[old + change.before]
            to[old + change.before] = start + change.there
            if change.new:
                new.add(source)
                for place in change.new if heirs else ():
                    was = heirs.get(targets[place].flow(source).key)
                    if was is not None and before[was].service == targets[place].service:
                        self.rows[start + place] = rows[was]
                        to[was] = start + place
            seen = self.rows["flags"][start:end] & ~np.uint8(_OF_TOPOLOGY)
            self.rows["flags"][start:end] = seen | change.flags
        self.resolved = self.resolved.moved(to, self.rows["flags"], _OF_TOPOLOGY)
        self._written.forget((self.rows, self.resolved.rows))
        self._take_along(to)
        self.changes += 1
        return new

    def _take_along(self, to: NDArray[np.int64]) -> None:
        """Let records and names go with their rows."""
        records, self._records = self._records, {}
        names, self._names = self._names, {}
        for spare in self._spare:
            spare.clear()
        for old, record in records.items():
            if (row := int(to[old])) >= 0:
                self._move(record, row, self.expected[row])
                self._keep(record)
        for old, name in names.items():
            if (row := int(to[old])) >= 0:
                self._move(name.own, row, self.expected[row])
                for address, record in name.records.items():
                    self._move(record, -1, _to(name.own.expected, address))
                self._keep_name(name)

    def _move(self, record: FlowRecord, row: int, expected: ExpectedFlow) -> None:
        record.row, record.expected = row, expected
        record.source = self.source(expected.key.source)

    def _renamed(self, current: Mapping[str, str]) -> dict[FlowKey, int]:
        """The rows of the flows of hosts that had another name, by what their keys are now."""
        if not current:
            return {}
        heirs: dict[FlowKey, int] = {}
        ends: dict[int, bool] = {}  # by tuple of targets: whether any leads to such a host
        for source, targets in self.expected.targets.items():
            if id(targets) not in ends:
                ends[id(targets)] = any(one.destination in current for one in targets)
            if source in current or ends[id(targets)]:
                for row, target in enumerate(targets, self.expected.start(source)):
                    key = target.flow(source).key
                    if (now := renamed(key, current)) != key:
                        heirs[now] = row
        return heirs

    def source(self, agent: str) -> Source:
        """What an agent says of all its flows at once."""
        return self._sources.of(agent)

    def tell(self, flow: FlowKey, service: str, told: Told) -> bool:
        """Fold in a change of one flow; returns False when it is none of the map's."""
        row = self._index.row(flow, service)
        if row is None:
            return False
        if not told.seen.resolved and not self._is_named(row):
            # No name, or one that never resolved: then none of its addresses is reached.
            self.changes += self._record(row).fold(told)
            return True
        name = self._names[row] = self._name(row)
        if told.seen.resolved:
            address = told.seen.address
            if address not in name.records:
                name.records[address] = self._address(name.own, address)
            self.changes += name.records[address].fold(told)
            name.forget_the_oldest()
        else:
            self.changes += name.own.fold(told)
        return True

    def begin(self, well: WellFlows) -> Begun:
        """Fill the rows of flows, with their services, of which nothing was told before."""
        places = self._index.rows(well)
        return begin(self.rows, self.resolved, well, places, self._written.codes)

    def has(self, flow: FlowKey, boot: str, number: int) -> bool:
        """Whether a change is what was told last of a flow, or of an address of a name."""
        row = self._index.row(flow)
        if row is not None:
            return self._written.has(self.rows[row], boot, number)
        return any(
            self._written.has(self._row(self.resolved.number(name, flow.address)), boot, number)
            for name in self._index.names(flow)
            if flow.address in self.resolved.of(name)
        )

    def _row(self, number: int) -> np.void:
        others = number - len(self.rows)
        row: np.void = self.rows[number] if others < 0 else self.resolved.rows[others]
        return row

    def unheard(self) -> set[str]:
        """The sources of flows that could be checked, and of which nothing was told."""
        rows = self.rows["outcome"] == columns.NOTHING
        rows &= self.rows["flags"] & columns.UNADDRESSED == 0
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
        row = self._index.row(flow, service)
        if row not in self._records and row not in self._names:
            return None  # it was not looked into, or all of it would be kept
        record = self._dialled(flow, service, told.seen.address)
        found = record.diagnosed if record is not None else None
        if record is None or found is None or told.at <= found.at:
            return None
        record.diagnosed = None
        self._keep(record)
        return found

    def _dialled(self, flow: FlowKey, service: str, address: str) -> FlowRecord | None:
        """The flow to an address, of those that a name has if it is one."""
        row = self._index.row(flow, service)
        if row is None or is_address(flow.address):
            return None if row is None else self._record(row)
        return self._name(row).records.get(address) if self._is_named(row) else None

    def names(self, flow: FlowKey) -> list[FlowKey]:
        """The flows to names that may have resolved to a flow's address."""
        return [self.expected[row].key for row in self._index.names(flow)]

    def of(self, source: str) -> Iterator[FlowRecord]:
        """The flows from one host, a name's in place of it."""
        start = self.expected.start(source)
        for row in range(start, start + len(self.expected.targets.get(source, ()))):
            yield from map(self.at, self.resolved.numbers(row))

    def __iter__(self) -> Iterator[FlowRecord]:
        """The flows, source by source."""
        for source in self.expected.targets:
            yield from self.of(source)

    def __len__(self) -> int:
        return len(self.expected) + len(self.resolved)

    def get(self, key: FlowKey) -> FlowRecord | None:
        """One flow; None when the topology speaks of no such."""
        number = self.number(key)
        return self.at(number) if number is not None else None

    def at(self, number: int) -> FlowRecord:
        """The flow of a number: that of its row, or of those behind them all."""
        row, place = self.resolved.owner(number)
        if not self._is_named(row):
            return self._record(row)
        name, addresses = self._name(row), self.resolved.of(row)
        return name.records[addresses[place]] if addresses else name.own

    def is_there(self, number: int) -> bool:
        """Whether any flow has a number."""
        return self.resolved.is_there(number)

    def key(self, number: int) -> FlowKey:
        """What makes a flow that flow, by its number."""
        row, place = self.resolved.owner(number)
        key, addresses = self.expected[row].key, self.resolved.of(row)
        return replace(key, address=addresses[place]) if addresses else key

    def in_rows(self, numbers: NDArray[np.int64]) -> Bits:
        """Which of some flows have all in their rows but what was found out about them.

        Those are all that lead to no name.
        """
        found = numbers < len(self.rows)
        rows = numbers[found]
        is_named = self.resolved.sets[rows] != 0
        if self._names:
            is_named |= np.isin(rows, np.fromiter(self._names, np.int64, len(self._names)))
        found[found] = ~is_named
        return found

    def looked_into(self, row: int) -> Diagnosed | None:
        """What was found out last about a flow that leads to no name."""
        record = self._records.get(row)
        return record.diagnosed if record is not None else None

    def number(self, key: FlowKey) -> int | None:
        """The number of a flow, by its own address or by what the topology calls it."""
        if (row := self._index.row(key)) is not None:
            return row
        pair = FlowKey(key.source, key.destination, NO_ADDRESS, -1, key.transport)
        targets, start = self.expected.targets.get(key.source, ()), self.expected.start(key.source)
        for place in range(self.expected.after(pair) - start, len(targets)):
            target, addresses = targets[place], self.resolved.of(start + place)
            if target.destination != key.destination:
                break
            if (target.port, target.transport) == (key.port, key.transport) and (
                key.address in addresses
            ):
                return self.resolved.number(start + place, key.address)
        return None

    def dialled_from(self, code: int) -> str | None:
        """The address that the number in the column `local` stands for."""
        return self._written.words.text(code).rpartition(":")[0].strip("[]") or None

    def every(self) -> Rows:
        """The rows of all flows, by their numbers; some are nobody's."""
        others = self.resolved.rows
        return np.concatenate([self.rows, others]) if len(others) else self.rows

    def checked(self) -> NDArray[np.float64]:
        """For each flow, when it was checked last, as far as is known; 0 if never."""
        spans = self._sources.checked(self.expected, self._index.row)
        rows = self.every()
        found = np.maximum(self.resolved.with_others(spans), rows["at"])
        return np.where(rows["outcome"] != columns.NOTHING, found, 0.0)

    def latencies(self) -> NDArray[np.uint8]:
        """For each flow, the times to connect of its agent's latest periods, by their octets."""
        return self._sources.latencies(self.expected, self.resolved)

    def flapping(self, least: int) -> Iterator[int]:
        """The flows with so many flips lately."""
        for flow, address in self._sources.flapping(self.expected, least):
            row = self._index.row(flow)
            if row is None:
                continue
            addresses = self.resolved.of(row)
            if address is None and not addresses:
                yield row
            elif address in addresses:
                yield self.resolved.number(row, address)

    def _is_named(self, row: int) -> bool:
        """Whether it is the row of a name that resolved."""
        return row in self._names or bool(self.resolved.sets[row])

    def _record(self, row: int) -> FlowRecord:
        return self._records.get(row) or self._made(row)

    def _made(self, row: int) -> FlowRecord:
        """A record of what its row has."""
        expected, mine = self.expected[row], self.rows[row]
        source = self.source(expected.key.source)
        record = FlowRecord(expected, float(mine["since"]), source, row=row, keep=self._keep)
        self._written.go_on(record, mine)
        return record

    def _name(self, row: int) -> Name:
        """What is known of a name, and of what is a name as it seems now."""
        if row in self._names:
            return self._names[row]
        if self.resolved.sets[row]:
            return self._made_name(row)
        return Name(self._records.pop(row) if row in self._records else self._made(row))

    def _made_name(self, row: int) -> Name:
        """A name of what its addresses' rows have."""
        addresses, numbers = self.resolved.of(row), self.resolved.numbers(row)
        expected, since = self.expected[row], float(self.rows["since"][row])
        source = self.source(expected.key.source)
        name = Name(FlowRecord(expected, since, source, row=row, keep=self._keep))
        for address, number in zip(addresses, numbers, strict=True):
            record = name.records[address] = self._address(name.own, address)
            record.row = number
            self._written.go_on(record, self._row(number), address, addresses)
        return name

    def _address(self, name: FlowRecord, address: str) -> FlowRecord:
        """The flow to an address of a name, of which nothing is known."""
        expected = _to(name.expected, address)
        return FlowRecord(expected, name.known_since, name.source, name, keep=self._keep)

    def _keep(self, record: FlowRecord) -> None:
        """Bring a record's row up to date, and decide whether it stays."""
        row = (record.name or record).row
        if record.name is not None or row in self._names:
            name = self._names.get(row) or self._made_name(row)
            if record.name is not None and record.name is not name.own:
                # It was made for somebody who looked, and now it is told of something.
                record.name = name.own
                name.records[record.key.address] = record
            self._keep_name(name)
            return
        self._records[row] = record
        if record.newest is not None:
            of_topology = int(self.rows["flags"][row]) & _OF_TOPOLOGY
            self.rows[row] = self._written.row(record, record.newest, of_topology)
        self._may_go(row, (record,), is_said=is_said_by_a_row(record))

    def _keep_name(self, name: Name) -> None:
        """Bring the rows of a name's addresses up to date, and decide whether it stays."""
        row, addresses = name.own.row, name.shown()
        of_topology = int(self.rows["flags"][row]) & _OF_TOPOLOGY
        self._names[row] = name
        for record in name.records.values():
            record.row = -1
        shown = [name.records[address] for address in addresses] or [name.own]
        for record, number in zip(shown, self.resolved.hold(row, addresses), strict=True):
            record.row = number
            others = number - len(self.rows)
            rows, place = (self.rows, number) if others < 0 else (self.resolved.rows, others)
            if (told := record.latest) is not None:
                rows[place] = self._written.row(record, told, of_topology)
        self._may_go(row, shown, is_said=bool(addresses) and name.is_said_by_rows())

    def _may_go(self, row: int, records: Sequence[FlowRecord], *, is_said: bool) -> None:
        """Decide whether what there is of a row beyond its numbers is kept; the latest few are."""
        for spare in self._spare:
            spare.pop(row, None)
        if not is_said:
            return
        spare = self._spare[all(map(_is_well, records))]
        spare[row] = None
        if len(spare) > self._kept:
            gone, _ = spare.popitem(last=False)
            self._records.pop(gone, None)
            self._names.pop(gone, None)


_OF_TOPOLOGY: Final = columns.FORBIDDEN | columns.UNADDRESSED


class _Change(NamedTuple):
    """What becomes of the flows of a source that has other targets from now on."""

    before: NDArray[np.int64]
    """The places of those that stay."""
    there: NDArray[np.int64]
    """Their places from now on."""
    new: Sequence[int]
    """The places of the others."""
    flags: NDArray[np.uint8]
    """What the topology wants of each."""

    @classmethod
    def of(cls, had: Sequence[Target], targets: Sequence[Target]) -> "_Change":
        known = {(one.place, one.service): place for place, one in enumerate(had)}
        were = [known.get((one.place, one.service), -1) for one in targets]
        before = np.array(were, np.int64)
        stay = before >= 0
        flags = np.array([*map(_flags, targets)], np.uint8)
        return cls(before[stay], np.flatnonzero(stay), np.flatnonzero(~stay).tolist(), flags)


def _flags(target: Target) -> int:
    forbidden = columns.FORBIDDEN * (target.expect is Expectation.BLOCKED)
    return forbidden | columns.UNADDRESSED * (target.address == NO_ADDRESS)


def _is_well(record: FlowRecord) -> bool:
    seen = record.last
    return seen is not None and seen.outcome is Outcome.OPEN and seen.healthy


def renamed(key: FlowKey, current: Mapping[str, str]) -> FlowKey:
    """A flow's key by what its hosts are called now."""
    source, destination = (current.get(name, name) for name in (key.source, key.destination))
    if (source, destination) == (key.source, key.destination):
        return key
    return replace(key, source=source, destination=destination)


def _to(flow: ExpectedFlow, address: str) -> ExpectedFlow:
    """The flow to one address of the name that another one has."""
    return replace(flow, key=replace(flow.key, address=address))
