"""Many transitions looked through where little of each matters: that takes a tenth of the time."""

from collections.abc import Callable, Iterator
from typing import Final

from sqlalchemy import Connection

from reachmap_collector.planner import FlowKey
from reachmap_collector.store.api import Cursor, Entry, Selection, Standing
from reachmap_collector.store.naming import names
from reachmap_collector.store.packing import outcome, transport
from reachmap_collector.store.reading import CHUNK, entries_of, newest_first, which_was_last
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


def standings(
    connection: Connection,
    moment: float,
    changed: tuple[float, float] | None,
    selection: Selection,
) -> Iterator[Standing]:
    """How each flow stood at a moment; see `api.Store.standings`."""
    asked = which_was_last(connection, _STANDING, moment, changed, selection)
    named, serve = names(connection, hosts), names(connection, services)
    with connection.execution_options(yield_per=CHUNK).execute(asked) as result:
        for rows in result.partitions():
            named.meet(end for row in rows for end in row[:2])
            serve.meet(row[5] for row in rows)
            for source, destination, address, port, carried, service, saw, at in rows:
                key = FlowKey(named[source], named[destination], address, port, transport[carried])
                yield Standing(key, serve[service], outcome[saw], at / 1000)
