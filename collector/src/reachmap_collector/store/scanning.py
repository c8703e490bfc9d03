"""Many transitions looked through where little of each matters: that takes a tenth of the time."""

from collections.abc import Callable, Iterator
from typing import Final

import numpy as np
from sqlalchemy import Connection, case, select

from reachmap_collector.planner import FlowKey
from reachmap_collector.store.api import Cursor, Entry, Selection, Standing
from reachmap_collector.store.naming import names
from reachmap_collector.store.packing import outcome, transport
from reachmap_collector.store.reading import (
    CHUNK,
    changed_in,
    entries_of,
    ids_of,
    in_columns,
    last_of_flow,
    newest_first,
    of_ends,
    with_last,
)
from reachmap_collector.store.shifts import NOTHING, OUTCOMES, Shifts
from reachmap_collector.store.tables import flows, hosts, services, transitions

_LOOKED_AT: Final = (
    transitions.c.id,
    transitions.c.at,
    flows.c.source,
    transitions.c.service,
)

_STANDING: Final = (
    flows.c.source,
    flows.c.destination,
    flows.c.address,
    flows.c.port,
    flows.c.transport,
    transitions.c.service,
    transitions.c.outcome,
    transitions.c.at,
)


def fitting(
    connection: Connection,
    fits: Callable[[str, str], bool],
    selection: Selection,
    look_at: int,
    limit: int,
    before: Cursor | None,
) -> tuple[list[Entry], Cursor | None]:
    """A part of history; see `api.Store.fitting`."""
    asked = newest_first(_LOOKED_AT, selection, look_at, before)
    rows = connection.execute(asked).all()
    sources, named = names(connection, hosts), names(connection, services)
    sources.meet(row[2] for row in rows)
    named.meet(row[3] for row in rows)
    verdicts: dict[tuple[int, int], bool] = {}
    found: list[int] = []
    last = before
    for id_, at, source, service in rows:
        if len(found) == limit:
            break
        verdict = verdicts.get((source, service))
        if verdict is None:
            verdict = verdicts[source, service] = fits(sources[source], named[service])
        if verdict:
            found.append(id_)
        last = Cursor(at, id_)
    is_all = len(rows) < look_at and len(found) < limit
    return entries_of(connection, found), None if is_all else last


def standings(connection: Connection, moment: float, selection: Selection) -> Iterator[Standing]:
    """How each flow stood at a moment; see `api.Store.standings`."""
    asked = of_ends(with_last(connection, _STANDING, moment), selection)
    named, serve = names(connection, hosts), names(connection, services)
    with connection.execution_options(yield_per=CHUNK).execute(asked) as result:
        for rows in result.partitions():
            named.meet(end for row in rows for end in row[:2])
            serve.meet(row[5] for row in rows)
            for source, destination, address, port, carried, service, saw, at in rows:
                key = FlowKey(named[source], named[destination], address, port, transport[carried])
                yield Standing(key, serve[service], outcome[saw], at / 1000)


def shifts(connection: Connection, since: float, until: float, selection: Selection) -> Shifts:
    """What changed in a span; see `api.Store.shifts`."""
    after, on_after = last_of_flow(connection, "after", until)
    before, on_before = last_of_flow(connection, "before", since)
    # A flow may have led to another service then: that one is no past of this.
    was = case((before.c.service == after.c.service, before.c.outcome))
    asked = select(
        flows.c.source,
        flows.c.destination,
        after.c.service,
        flows.c.address.contains(":"),
        was,
        after.c.outcome,
        after.c.at,
    )
    asked = asked.join_from(flows, after, on_after).outerjoin(before, on_before)
    asked = of_ends(asked.where(changed_in(since, until)), selection)
    if selection.services is not None:
        asked = asked.where(after.c.service.in_(ids_of(services, selection.services)))
    rows = [_NO_SHIFTS]
    for source, destination, service, by_ipv6, earlier, saw, at in in_columns(connection, asked):
        outcomes = (map(_PLACES.__getitem__, column) for column in (earlier, saw))
        columns = (source, destination, service, by_ipv6, *map(list, outcomes), at)
        rows.append(np.array(columns, np.int64))
    source, destination, service, by_ipv6, earlier, saw, at = np.concatenate(rows, axis=1)
    host_ids, ends = np.unique(np.concatenate([source, destination]), return_inverse=True)
    service_ids, service = np.unique(service, return_inverse=True)
    named, serve = names(connection, hosts), names(connection, services)
    named.meet(host_ids.tolist())
    serve.meet(service_ids.tolist())
    return Shifts(
        hosts=[named[id_] for id_ in host_ids.tolist()],
        services=[serve[id_] for id_ in service_ids.tolist()],
        source=ends[: len(at)],
        destination=ends[len(at) :],
        service=service,
        by_ipv6=by_ipv6.astype(bool),
        was=earlier,
        outcome=saw,
        since=at / 1000,
    )


class _Places(dict[int | None, int]):
    """Where the outcomes that numbers stand for are among all."""

    def __missing__(self, number: int | None) -> int:
        place = NOTHING if number is None else OUTCOMES.index(outcome[number])
        return self.setdefault(number, place)


_PLACES: Final = _Places()

_NO_SHIFTS: Final = np.zeros((7, 0), np.int64)
