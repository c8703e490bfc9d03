"""Names to the numbers that rows have for them; new ones are written down on the way."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, Final, TypeVar

from sqlalchemy import Column, Connection, Table, select, tuple_

from reachmap_collector.planner import FlowKey
from reachmap_collector.slots import Place, SlotFlows, place_of
from reachmap_collector.store.api import Batch
from reachmap_collector.store.backend import Backend
from reachmap_collector.store.packing import TRANSPORTS, milliseconds, text, transport
from reachmap_collector.store.tables import boots, flows, hosts, plans, services

Item = TypeVar("Item")
_Pair = tuple[str, str]
"""An agent, and a name of its boots' or plans'."""

_MOST_FLOWS: Final = 2_000_000
"""Remembered at once, some 150 octets each, and twice that where no two lead to one place; beyond,
all is looked up anew."""

_AT_ONCE: Final = 1000
"""Names in one question: far below what any database takes."""


class Names:
    """What the store has numbers for. Forget it when a transaction failed: its numbers may too."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self.forget()

    def forget(self) -> None:
        """Look everything up anew."""
        self.hosts: dict[str, int] = {}
        self.services: dict[str, int] = {}
        self.boots: dict[_Pair, int] = {}
        self.plans: dict[_Pair, int] = {}
        self.flows: dict[str, dict[Place, int]] = {}
        """By their sources, and where they lead: a tuple is found sooner than a key."""
        self._places: dict[Place, Place] = {}
        """Each once, whoever dials it; those that are asked with, or they would be compared."""
        self._flows_held = 0

    def learn(self, connection: Connection, batch: Batch) -> None:
        """Have a number for everything that a batch names."""
        if self._flows_held > _MOST_FLOWS:
            self.forget()
        named = self._named(batch)
        reports: tuple[Sequence[Any], ...] = (batch.transitions, batch.rollups, batch.received)
        named_boots = {(one.agent, one.boot) for kind in reports for one in kind}
        named_plans = {(one.agent, one.plan): one.begins for one in batch.rollups}
        named_plans |= {(one.agent, one.revision): one.at for one in batch.plans}
        agents = {agent for pairs in (named_boots, named_plans) for agent, _ in pairs}
        ends = {place[0] for places in named.values() for place in places}
        used = {one.service for one in batch.transitions}
        used.update(service for plan in batch.plans for service in plan.services)

        self._learn_names(connection, hosts, self.hosts, agents | ends | named.keys())
        self._learn_names(connection, services, self.services, used)
        self._learn_boots(connection, named_boots)
        self._learn_plans(connection, named_plans)
        self._learn_flows(connection, named)

    def _learn_names(
        self, connection: Connection, table: Table, known: dict[str, int], named: set[str]
    ) -> None:
        if missing := sorted(named - known.keys()):
            kept = {name: text(name) for name in missing}
            rows = [(name,) for name in kept.values()]
            self._backend.insert_new(connection, table, ("name",), rows)
            found: dict[str, int] = {}
            for some in in_parts(kept.values()):
                asked = select(table.c.name, table.c.id).where(table.c.name.in_(some))
                found.update({row.name: row.id for row in connection.execute(asked)})
            known.update((name, found[as_kept]) for name, as_kept in kept.items())

    def _learn_boots(self, connection: Connection, named: Iterable[_Pair]) -> None:
        pairs = self._pairs(named, self.boots)
        if pairs:
            self._backend.insert_new(connection, boots, ("host", "boot"), list(pairs.values()))
            found = _numbers(connection, boots.c.host, boots.c.boot, pairs.values())
            self.boots.update((pair, found[as_kept]) for pair, as_kept in pairs.items())

    def _learn_plans(self, connection: Connection, named: Mapping[_Pair, float]) -> None:
        pairs = self._pairs(named, self.plans)
        if pairs:
            rows = [(*as_kept, milliseconds(named[pair])) for pair, as_kept in pairs.items()]
            self._backend.insert_new(connection, plans, ("host", "revision", "at"), rows)
            found = _numbers(connection, plans.c.host, plans.c.revision, pairs.values())
            self.plans.update((pair, found[as_kept]) for pair, as_kept in pairs.items())

    def _pairs(
        self, named: Iterable[_Pair], known: Mapping[_Pair, int]
    ) -> dict[_Pair, tuple[int, str]]:
        """Those that are new, as they are kept."""
        return {
            (agent, name): (self.hosts[agent], text(name))
            for agent, name in named
            if (agent, name) not in known
        }

    def _named(self, batch: Batch) -> dict[str, set[Place]]:
        """Where the flows of a batch lead, by their sources."""
        named: defaultdict[str, set[Place]] = defaultdict(set)
        for one in batch.transitions:
            named[one.flow.source].add(place_of(one.flow))
        for plan in batch.plans:
            for source, places in by_source(plan.flows):
                named[source].update(places)
        once = self._places.setdefault
        return {source: {once(one, one) for one in places} for source, places in named.items()}

    def _learn_flows(self, connection: Connection, named: Mapping[str, set[Place]]) -> None:
        # All of a source's at once: a plan names them all, and a source's are few.
        self._load_flows(connection, named.keys() - self.flows.keys())
        missing = [
            (source, place)
            # Together in the index, and the same on every run.
            for source in sorted(named)
            for place in sorted(named[source] - self.flows[source].keys())
        ]
        if missing:
            columns = ("source", "destination", "address", "port", "transport")
            rows = [
                (
                    self.hosts[source],
                    self.hosts[destination],
                    text(address),
                    port,
                    TRANSPORTS[carried],
                )
                for source, (destination, address, port, carried) in missing
            ]
            self._backend.insert_new(connection, flows, columns, rows)
            self._load_flows(connection, {source for source, _ in missing})
            for source, place in missing:
                held = self.flows[source]
                if place not in held:
                    destination, address, port, carried = place
                    held[place] = held[destination, text(address), port, carried]

    def _load_flows(self, connection: Connection, sources: Iterable[str]) -> None:
        by_id = {id_: name for name, id_ in self.hosts.items()}
        once = self._places.setdefault
        for some in in_parts(sources):
            for source in some:
                self._flows_held -= len(self.flows.get(source, ()))
                self.flows[source] = {}
            ids = [self.hosts[source] for source in some]
            for id_, source_id, place in _read_flows(connection, ids, by_id):
                self.flows[by_id[source_id]][once(place, place)] = id_
                self._flows_held += 1


def by_source(keys: Sequence[FlowKey]) -> Iterable[tuple[str, Iterable[Place]]]:
    """Where flows lead, with their source, in their order."""
    if isinstance(keys, SlotFlows):
        return ((keys.source, keys.places),)
    return ((key.source, (place_of(key),)) for key in keys)


def _read_flows(
    connection: Connection, sources: Sequence[int], names: dict[int, str]
) -> Iterator[tuple[int, int, Place]]:
    """The flows from some hosts: id, source and place; hosts that `names` lacks are added."""
    found = (
        select(
            flows.c.id,
            flows.c.source,
            flows.c.destination,
            flows.c.address,
            flows.c.port,
            flows.c.transport,
            hosts.c.name,
        )
        .join(hosts, hosts.c.id == flows.c.destination)
        .where(flows.c.source.in_(sources))
    )
    for id_, source, destination, address, port, carried, name in connection.execute(found).all():
        known = names.setdefault(destination, name)
        yield id_, source, (known, address, port, transport[carried])


def _numbers(
    connection: Connection,
    host: "Column[Any]",
    name: "Column[Any]",
    pairs: Collection[tuple[int, str]],
) -> dict[tuple[int, str], int]:
    """The ids of rows that a host and a name make unique."""
    found: dict[tuple[int, str], int] = {}
    for some in in_parts(pairs):
        rows = select(host, name, host.table.c.id).where(tuple_(host, name).in_(some))
        found.update(((host_id, text_), id_) for host_id, text_, id_ in connection.execute(rows))
    return found


def in_parts(items: Iterable[Item]) -> Iterator[list[Item]]:
    """So many as one question may ask for, and again."""
    remaining = iter(items)
    while some := list(islice(remaining, _AT_ONCE)):
        yield some
