"""What the store is asked, as one statement each, and rows as the objects that they stand for."""

from collections.abc import Collection, Iterator, Sequence
from typing import Any, Final

from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    FromClause,
    Select,
    Table,
    exists,
    func,
    select,
    true,
    tuple_,
)

from reachmap_collector.planner import FlowKey
from reachmap_collector.store import naming
from reachmap_collector.store.api import (
    EVERYTHING,
    Cursor,
    DeadLetter,
    Entry,
    Kept,
    PackedRollUp,
    Page,
    Received,
    Selection,
    Transition,
)
from reachmap_collector.store.interning import in_parts
from reachmap_collector.store.packing import (
    milliseconds,
    outcome,
    seconds,
    text,
    transport,
    unpack_ranges,
)
from reachmap_collector.store.tables import (
    boots,
    dead_letters,
    flows,
    hosts,
    kept,
    plans,
    received,
    rollups,
    services,
    transitions,
)

CHUNK: Final = 5000
"""Rows fetched at once, where there may be a million."""


def with_last(
    connection: Connection, columns: Sequence["Column[Any]"], moment: float | None = None
) -> "Select[Any]":
    """Each flow with its last transition, or the last at or before a moment: columns of both."""
    last, on = last_of_flow(connection, "last", moment)
    shown = [last.c[one.key] if one.table is transitions else one for one in columns]
    return select(*shown).join_from(flows, last, on)


def last_of_flow(
    connection: Connection, name: str, moment: float | None = None
) -> "tuple[FromClause, ColumnElement[bool]]":
    """A flow's last transition, or the last at or before a moment, and how flows are joined to it.

    One look into the index for each flow, however long their histories are.
    """
    older = transitions.alias(f"{name}_older")
    last = select(older).where(older.c.flow == flows.c.id)
    if moment is not None:
        last = last.where(older.c.at <= milliseconds(moment))
    last = last.order_by(older.c.at.desc(), older.c.id.desc()).limit(1)
    if connection.dialect.name == "postgresql":
        # In the other form it would read all of history for a table of its rows by id.
        return last.lateral(name), true()
    its = transitions.alias(name)
    return its, its.c.id == last.with_only_columns(older.c.id).scalar_subquery()


def last_of_each(
    connection: Connection,
    moment: float,
    changed: tuple[float, float] | None = None,
    selection: Selection = EVERYTHING,
) -> Iterator[Transition]:
    """Each flow's last transition at or before a moment; see `api.Store.at`."""
    asked = which_was_last(connection, _SHOWN, moment, changed, selection)
    directory = _Directory(connection)
    with connection.execution_options(yield_per=CHUNK).execute(asked) as result:
        for rows in result.partitions():
            yield from directory.transitions(rows)


def which_was_last(
    connection: Connection,
    columns: Sequence["Column[Any]"],
    moment: float,
    changed: tuple[float, float] | None,
    selection: Selection,
) -> "Select[Any]":
    """What the database is asked for that, with these columns of flows and transitions."""
    asked = of_ends(with_last(connection, columns, moment), selection)
    return asked if changed is None else asked.where(changed_in(*changed))


def changed_in(after: float, until: float) -> "ColumnElement[bool]":
    """That a flow has a transition after a moment, and at or before another."""
    meant = select(transitions.c.flow).where(transitions.c.at > milliseconds(after))
    return flows.c.id.in_(meant.where(transitions.c.at <= milliseconds(until)))


def history(
    connection: Connection,
    *,
    since: float | None,
    until: float | None,
    source: str | None,
    destination: str | None,
    service: str | None,
    limit: int,
    before: Cursor | None,
) -> Page:
    """Transitions, newest first."""
    selection = Selection(
        since,
        until,
        None if source is None else (source,),
        None if destination is None else (destination,),
        None if service is None else (service,),
    )
    asked = newest_first(_SHOWN, selection, limit + 1, before)
    rows = connection.execute(asked).all()
    more = len(rows) > limit
    found = tuple(_Directory(connection).transitions(rows[:limit]))
    ended = Cursor(rows[limit - 1].at, rows[limit - 1].id) if more else None
    return Page(found, ended)


def entries(
    connection: Connection, selection: Selection, limit: int, before: Cursor | None
) -> list[Entry]:
    """A part of history, newest first, with what was before each."""
    asked = newest_first(_SHOWN, selection, limit, before)
    return _with_before(connection, connection.execute(asked))


def entries_of(connection: Connection, ids: Collection[int]) -> list[Entry]:
    """Those of some numbers, newest first, with what was before each."""
    asked = select(*_SHOWN).join_from(transitions, flows).where(transitions.c.id.in_(ids))
    asked = asked.order_by(transitions.c.at.desc(), transitions.c.id.desc())
    return _with_before(connection, connection.execute(asked))


def entries_after(connection: Connection, sequence: int, limit: int) -> list[Entry]:
    """What was kept after an entry, with what was before each, in the order in which it was."""
    asked = select(*_SHOWN).join_from(transitions, flows).where(transitions.c.id > sequence)
    asked = asked.order_by(transitions.c.id).limit(limit)
    return _with_before(connection, connection.execute(asked))


def last_sequence(connection: Connection) -> int:
    """The highest; 0 when there is none."""
    return connection.execute(select(func.max(transitions.c.id))).scalar() or 0


def names(connection: Connection, table: Table) -> set[str]:
    """All that transitions or flows refer to."""
    if table is hosts:
        used = (flows.c.source == table.c.id) | (flows.c.destination == table.c.id)
        asked = select(table.c.name).where(exists().where(used))
    else:
        asked = select(table.c.name)
    return {row.name for row in connection.execute(asked)}


def newest_first(
    columns: Sequence[Any], selection: Selection, limit: int, before: Cursor | None
) -> "Select[Any]":
    """What the database is asked for a part of history, with these columns."""
    asked = of_ends(select(*columns).join_from(transitions, flows), selection)
    if selection.since is not None:
        asked = asked.where(transitions.c.at >= milliseconds(selection.since))
    if selection.until is not None:
        asked = asked.where(transitions.c.at < milliseconds(selection.until))
    if selection.services is not None:
        asked = asked.where(transitions.c.service.in_(ids_of(services, selection.services)))
    if before is not None:
        asked = asked.where(
            transitions.c.at <= before.at_ms,
            tuple_(transitions.c.at, transitions.c.id) < tuple_(before.at_ms, before.row),
        )
    return asked.order_by(transitions.c.at.desc(), transitions.c.id.desc()).limit(limit)


def of_ends(asked: "Select[Any]", selection: Selection) -> "Select[Any]":
    """Just flows from and to some hosts."""
    for column, meant in (
        (flows.c.source, selection.sources),
        (flows.c.destination, selection.destinations),
    ):
        if meant is not None:
            asked = asked.where(column.in_(ids_of(hosts, meant)))
    return asked


def _with_before(connection: Connection, found: Any) -> list[Entry]:
    rows = found.all()
    older, own = transitions.alias("older"), transitions.alias("own")
    # One look into the index for each, however long the flow's history is.
    one_before = (
        select(older.c.id)
        .where(
            older.c.flow == own.c.flow,
            older.c.at <= own.c.at,
            tuple_(older.c.at, older.c.id) < tuple_(own.c.at, own.c.id),
        )
        .order_by(older.c.at.desc(), older.c.id.desc())
        .limit(1)
        .scalar_subquery()
    )
    before: dict[int, int] = {}
    for some in in_parts(row.id for row in rows):
        pairs = connection.execute(select(own.c.id, one_before).where(own.c.id.in_(some)))
        before.update((id_, earlier) for id_, earlier in pairs if earlier is not None)
    directory = _Directory(connection)
    past: dict[int, Transition] = {}
    for some in in_parts(before.values()):
        asked = select(*_SHOWN).join_from(transitions, flows).where(transitions.c.id.in_(some))
        those = connection.execute(asked).all()
        past.update(zip((row.id for row in those), directory.transitions(those), strict=True))
    return [
        Entry(row.id, transition, past.get(before.get(row.id, 0)))
        for row, transition in zip(rows, directory.transitions(rows), strict=True)
    ]


def all_received(connection: Connection) -> Iterator[Received]:
    """What was taken of each boot."""
    asked = (
        select(
            hosts.c.name,
            boots.c.boot,
            received.c.ranges,
            received.c.observations,
            received.c.heard,
            received.c.last,
        )
        .join_from(received, boots)
        .join(hosts)
    )
    for agent, boot, ranges, observations, heard, last in _streamed(connection, asked):
        yield Received(agent, boot, unpack_ranges(ranges), observations, heard, seconds(last))


def rollups_of(
    connection: Connection, agent: str, since: float, until: float
) -> Iterator[PackedRollUp]:
    """An agent's, oldest first."""
    asked = (
        select(
            boots.c.boot,
            rollups.c.sequence,
            plans.c.revision,
            rollups.c.begins,
            rollups.c.ends,
            rollups.c.blob,
        )
        .join_from(rollups, plans, plans.c.id == rollups.c.plan)
        .join(boots, boots.c.id == rollups.c.boot)
        .where(
            plans.c.host == id_of(hosts, agent),
            rollups.c.begins >= milliseconds(since),
            rollups.c.begins < milliseconds(until),
        )
        .order_by(rollups.c.begins, rollups.c.id)
    )
    for boot, sequence, plan, begins, ends, blob in _streamed(connection, asked):
        yield PackedRollUp(agent, boot, sequence, plan, seconds(begins), seconds(ends), bytes(blob))


def latest_dead_letters(connection: Connection, limit: int) -> tuple[DeadLetter, ...]:
    """Newest first."""
    asked = select(dead_letters).order_by(dead_letters.c.id.desc()).limit(limit)
    return tuple(
        DeadLetter(row.subject, row.reason, bytes(row.payload), seconds(row.at))
        for row in connection.execute(asked)
    )


def kept_in(connection: Connection, area: str) -> Iterator[Kept]:
    """All of an area, by key."""
    asked = select(kept).where(kept.c.area == text(area)).order_by(kept.c.key)
    for row in _streamed(connection, asked):
        yield Kept(row.area, row.key, bytes(row.value))


_SHOWN: Final = (
    transitions.c.id,
    transitions.c.at,
    transitions.c.boot,
    transitions.c.number,
    transitions.c.service,
    transitions.c.outcome,
    transitions.c.is_open,
    transitions.c.detail,
    flows.c.source,
    flows.c.destination,
    flows.c.address,
    flows.c.port,
    flows.c.transport,
)

_BOOT, _SERVICE, _SOURCE, _DESTINATION = (
    [column.key for column in _SHOWN].index(name)
    for name in ("boot", "service", "source", "destination")
)


class _Directory:
    """All that rows of `_SHOWN` have numbers for."""

    def __init__(self, connection: Connection) -> None:
        self._hosts = naming.names(connection, hosts)
        self._services = naming.names(connection, services)
        self._boots = naming.named_boots(connection)
        self._addresses: dict[str, str] = {}

    def transitions(self, rows: Sequence[Any]) -> Iterator[Transition]:
        """What some rows of `_SHOWN` stand for."""
        self._meet(rows)
        named, serve, booted, once = self._hosts, self._services, self._boots, self._addresses
        for (
            _,
            at,
            boot,
            number,
            service,
            result,
            is_open,
            detail,
            source,
            destination,
            address,
            port,
            carried,
        ) in rows:
            agent, boot_name = booted[boot]
            where = once.setdefault(address, address)
            key = FlowKey(named[source], named[destination], where, port, transport[carried])
            yield Transition(
                agent,
                boot_name,
                number,
                key,
                serve[service],
                at / 1000,
                outcome[result],
                is_open != 0,
                detail,
            )

    def _meet(self, rows: Sequence[Any]) -> None:
        # By column, as they come: by name it takes several times as long.
        columns = tuple(zip(*rows, strict=True)) or ((),) * len(_SHOWN)
        self._boots.meet(columns[_BOOT])
        self._hosts.meet({*columns[_SOURCE], *columns[_DESTINATION]})
        self._services.meet(columns[_SERVICE])


def id_of(table: Any, name: str) -> Any:
    """The number of a name."""
    return select(table.c.id).where(table.c.name == name).scalar_subquery()


def ids_of(table: Any, meant: Collection[str]) -> Any:
    """The numbers of some names."""
    return select(table.c.id).where(table.c.name.in_(list(map(text, meant))))


def _streamed(connection: Connection, asked: "Select[Any]") -> Iterator[Any]:
    """Rows, as many at once as memory does not mind."""
    with connection.execution_options(yield_per=CHUNK).execute(asked) as result:
        yield from result


def in_columns(connection: Connection, asked: "Select[Any]") -> Iterator[tuple[Any, ...]]:
    """Rows by their columns, so many at once as the processor's own memory holds."""
    with connection.execution_options(yield_per=CHUNK).execute(asked) as result:
        for rows in result.partitions():
            yield tuple(zip(*rows, strict=True))
