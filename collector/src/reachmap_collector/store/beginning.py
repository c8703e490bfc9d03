"""Plans, and the last transition of every flow, by columns: a map begins with a million at once."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, Select, func, select

from reachmap_collector.flowmap.bulk import FlowKeys, Numbering, Numbers
from reachmap_collector.slots import Place, SlotFlows
from reachmap_collector.store.api import Beginning, Latest, PlanSlots
from reachmap_collector.store.naming import named_boots, names
from reachmap_collector.store.packing import outcome, seconds, transport, unpack_slots
from reachmap_collector.store.reading import id_of, in_columns, with_last
from reachmap_collector.store.tables import flows, hosts, plans, services, transitions

_NONE: Final[Numbers] = np.zeros(0, np.int64)

_NUMBERS, _VALUES = (
    [transitions.c[name] for name in names]
    for names in (
        ("flow", "at", "boot", "number", "service"),
        ("outcome", "is_open", "detail"),
    )
)


def beginning(connection: Connection, each: int) -> Beginning:
    """So many plans of each agent, and the last transition of each flow."""
    place = (
        func.row_number()
        .over(partition_by=plans.c.host, order_by=(plans.c.at.desc(), plans.c.id.desc()))
        .label("place")
    )
    ranked = select(plans.c.id, place).where(plans.c.slots.is_not(None)).subquery()
    late = plans.c.id.in_(select(ranked.c.id).where(ranked.c.place <= each))
    wanted = connection.execute(_plans().where(late)).all()
    latest = _Latest(connection)
    # After what refers to them, for others may write meanwhile; none of them ever goes.
    known = _Flows(connection)
    return Beginning([*_unpacked(connection, wanted, known)], latest.of(connection, known))


def plans_of(connection: Connection, agent: str) -> list[PlanSlots]:
    """All of an agent's, the oldest first."""
    wanted = connection.execute(_plans().where(hosts.c.name == agent)).all()
    return [*_unpacked(connection, wanted, _Flows(connection, agent))]


class _Flows:
    """All flows, or those of one source, by their ids."""

    def __init__(self, connection: Connection, source: str | None = None) -> None:
        asked = select(
            flows.c.id,
            flows.c.source,
            flows.c.destination,
            flows.c.address,
            flows.c.port,
            flows.c.transport,
        ).order_by(flows.c.id)
        if source is not None:
            asked = asked.where(flows.c.source == id_of(hosts, source))
        sources, ends = Numbering[int](), Numbering[tuple[int, str, int, int]]()
        parts = [(_NONE, _NONE, _NONE)]
        for ids, of, *ends_of in in_columns(connection, asked):
            parts.append((_numbers(ids), sources.of(of), ends.of(zip(*ends_of, strict=True))))
        self._ids, source_of, place_of = map(np.concatenate, zip(*parts, strict=True))
        named = names(connection, hosts)
        named.meet({*sources, *(host for host, *_ in ends)})
        places: list[Place] = [
            (named[host], address, port, transport[carried])
            for host, address, port, carried in ends
        ]
        self.keys = FlowKeys([named[id_] for id_ in sources], places, source_of, place_of)

    def find(self, ids: NDArray[np.integer[Any]]) -> Numbers:
        """Where flows stand among the keys."""
        return np.searchsorted(self._ids, ids)


class _Latest:
    """The last transition of each flow, as its row is."""

    def __init__(self, connection: Connection) -> None:
        # In the order in which their histories stand in the index: in that of another index,
        # which SQLite would choose, each look goes to another page, and it takes twice as long.
        asked = with_last(connection, (*_NUMBERS, *_VALUES)).order_by(flows.c.id)
        parts = [(_NONE,) * len(_NUMBERS)]
        self._outcome: list[int] = []
        self._is_open: list[bool] = []
        self._detail: list[bytes] = []
        for *columns, results, is_open, detail in in_columns(connection, asked):
            parts.append(tuple(map(_numbers, columns)))
            self._outcome += results
            self._is_open += map(bool, is_open)
            self._detail += detail
        self._numbers = [*map(np.concatenate, zip(*parts, strict=True))]

    def of(self, connection: Connection, known: _Flows) -> Latest:
        """With the names that they have numbers for."""
        flow, at, boot, number, service = self._numbers
        boot_ids, boot = np.unique(boot, return_inverse=True)
        service_ids, service = np.unique(service, return_inverse=True)
        booted, serve = named_boots(connection), names(connection, services)
        booted.meet(boot_ids.tolist())
        serve.meet(service_ids.tolist())
        return Latest(
            flows=known.keys.at(known.find(flow)),
            boots=[booted[id_] for id_ in boot_ids.tolist()],
            services=[serve[id_] for id_ in service_ids.tolist()],
            boot=boot,
            number=number,
            service=service,
            at=at / 1000,
            outcome=[*map(outcome.__getitem__, self._outcome)],
            is_open=self._is_open,
            detail=self._detail,
        )


def _plans() -> "Select[Any]":
    return (
        select(hosts.c.name, plans.c.revision, plans.c.at, plans.c.slots)
        .join_from(plans, hosts)
        .where(plans.c.slots.is_not(None))
        .order_by(plans.c.host, plans.c.at, plans.c.id)
    )


def _unpacked(connection: Connection, rows: Sequence[Any], known: _Flows) -> Iterator[PlanSlots]:
    serve = names(connection, services)
    shared: dict[tuple[bytes, bytes], tuple[tuple[Place, ...], tuple[str, ...]]] = {}
    for agent, revision, at, slots in rows:
        of_flows, of_services = unpack_slots(slots)
        places = known.keys.place[known.find(of_flows)]
        # Agents of the same roles dial the same, and many are of the same roles.
        alike = places.tobytes(), of_services.tobytes()
        if alike not in shared:
            serve.meet(of_services.tolist())
            shared[alike] = (
                tuple(known.keys.places[place] for place in places.tolist()),
                tuple(serve[id_] for id_ in of_services.tolist()),
            )
        ends, its_services = shared[alike]
        yield PlanSlots(agent, revision, SlotFlows(agent, ends), its_services, seconds(at))


def _numbers(column: Iterable[int]) -> Numbers:
    return np.array(column, np.int64)
