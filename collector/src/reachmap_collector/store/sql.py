"""The store on any database that SQLAlchemy's Core and a `Backend` cover."""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Table, delete

from reachmap_collector.errors import StoreRefused
from reachmap_collector.store import beginning, reading, rows, scanning, schema, upkeep
from reachmap_collector.store.api import (
    EVERYTHING,
    Batch,
    Beginning,
    Cursor,
    DeadLetter,
    Entry,
    Keep,
    Kept,
    PackedRollUp,
    Page,
    PlanSlots,
    Received,
    Selection,
    Standing,
    StoreSize,
    Transition,
)
from reachmap_collector.store.backend import WRITES, Backend, upsert
from reachmap_collector.store.failures import told_as_ours
from reachmap_collector.store.interning import Names
from reachmap_collector.store.packing import text
from reachmap_collector.store.shifts import Shifts
from reachmap_collector.store.tables import (
    dead_letters,
    hosts,
    kept,
    plans,
    received,
    rollups,
    services,
    transitions,
)


class SqlStore:
    """See `api.Store`. Connects when it is first needed, and anew whenever it has to."""

    def __init__(self, backend: Backend, *, migrate: bool = True) -> None:
        """Make one.

        Args:
            backend: The database.
            migrate: Whether to make what is missing, the file included. Without, an empty store
                is refused: for whoever looks at another process's.
        """
        self._backend = backend
        self._migrate = migrate
        self._ready = False
        self._engine = backend.engine()
        self._names = Names(backend)
        self._pruner = upkeep.Pruner()

    @property
    def shown(self) -> str:
        """Where it is, fit for a log."""
        return self._backend.place.shown

    def open(self) -> None:
        """Connect, and bring the schema up to date; every other call does it where need be.

        Raises:
            StoreUnavailable: It cannot be reached.
            StoreRefused: It is none of ours, or a newer reachmap's.
        """
        with self._reading():
            pass

    def commit(self, batch: Batch) -> None:
        try:
            with self._writing() as connection:
                try:
                    # Most batches name nothing new, and then looking first costs as much again.
                    made = self._rows(batch)
                except KeyError:
                    self._names.learn(connection, batch)
                    made = self._rows(batch)
                for table, columns, new in made.new:
                    if new:
                        self._backend.insert_new(connection, table, columns, new)
                for table, key, replacing in made.replacing:
                    upsert(connection, table, key, replacing)
                _keep(connection, batch.kept)
        except BaseException:
            self._names.forget()  # they may have been of this transaction
            raise

    def _rows(self, batch: Batch) -> "_Rows":
        names = self._names
        return _Rows(
            new=(
                (transitions, rows.TRANSITION, rows.of_transitions(batch.transitions, names)),
                (rollups, rows.ROLLUP, rows.of_rollups(batch.rollups, names)),
                (dead_letters, rows.DEAD_LETTER, rows.of_dead_letters(batch.dead_letters)),
            ),
            replacing=(
                (plans, ("host", "revision"), rows.of_plans(batch.plans, names)),
                (received, ("boot",), rows.of_received(batch.received, names)),
            ),
        )

    def beginning(self, plans: int = 4) -> Beginning:
        with self._reading() as connection:
            return beginning.beginning(connection, plans)

    def at(
        self,
        moment: float,
        *,
        changed: tuple[float, float] | None = None,
        selection: Selection = EVERYTHING,
    ) -> Iterator[Transition]:
        with self._reading() as connection:
            yield from reading.last_of_each(connection, moment, changed, selection)

    def standings(self, moment: float, *, selection: Selection = EVERYTHING) -> Iterator[Standing]:
        with self._reading() as connection:
            yield from scanning.standings(connection, moment, selection)

    def shifts(self, since: float, until: float, selection: Selection = EVERYTHING) -> Shifts:
        with self._reading() as connection:
            return scanning.shifts(connection, since, until, selection)

    def received(self) -> Iterator[Received]:
        with self._reading() as connection:
            yield from reading.all_received(connection)

    def plans(self, agent: str) -> list[PlanSlots]:
        with self._reading() as connection:
            return beginning.plans_of(connection, agent)

    def history(
        self,
        *,
        since: float | None = None,
        until: float | None = None,
        source: str | None = None,
        destination: str | None = None,
        service: str | None = None,
        limit: int = 1000,
        before: Cursor | None = None,
    ) -> Page:
        with self._reading() as connection:
            return reading.history(
                connection,
                since=since,
                until=until,
                source=source,
                destination=destination,
                service=service,
                limit=limit,
                before=before,
            )

    def entries(
        self, selection: Selection = EVERYTHING, *, limit: int = 1000, before: Cursor | None = None
    ) -> list[Entry]:
        with self._reading() as connection:
            return reading.entries(connection, selection, limit, before)

    def fitting(
        self,
        fits: Callable[[str, str], bool],
        selection: Selection = EVERYTHING,
        *,
        look_at: int,
        limit: int,
        before: Cursor | None = None,
    ) -> tuple[list[Entry], Cursor | None]:
        with self._reading() as connection:
            return scanning.fitting(connection, fits, selection, look_at, limit, before)

    def entries_after(self, sequence: int, limit: int = 1000) -> list[Entry]:
        with self._reading() as connection:
            return reading.entries_after(connection, sequence, limit)

    def last_sequence(self) -> int:
        with self._reading() as connection:
            return reading.last_sequence(connection)

    def hosts(self) -> set[str]:
        with self._reading() as connection:
            return reading.names(connection, hosts)

    def services(self) -> set[str]:
        with self._reading() as connection:
            return reading.names(connection, services)

    def rollups(self, agent: str, since: float, until: float) -> Iterator[PackedRollUp]:
        with self._reading() as connection:
            yield from reading.rollups_of(connection, agent, since, until)

    def dead_letters(self, limit: int = 100) -> tuple[DeadLetter, ...]:
        with self._reading() as connection:
            return reading.latest_dead_letters(connection, limit)

    def kept(self, area: str) -> Iterator[Kept]:
        with self._reading() as connection:
            yield from reading.kept_in(connection, area)

    def prune(self, now: float, keep: Keep) -> bool:
        try:
            with self._writing() as connection:
                return self._pruner.step(connection, now, keep)
        finally:
            self._names.plans.clear()  # some of them may be gone

    def backup(self, path: Path) -> None:
        draft = path.with_name(path.name + ".new")
        if path.exists():
            raise StoreRefused(f"{path} exists already: a backup overwrites nothing")
        with self._reading() as connection:
            draft.unlink(missing_ok=True)
            # For its owner only, as the store is.
            os.close(os.open(draft, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
            try:
                self._backend.backup(connection, draft)
                with draft.open("rb") as file:
                    os.fsync(file.fileno())
                draft.rename(path)
            finally:
                draft.unlink(missing_ok=True)

    def size(self) -> StoreSize:
        with self._reading() as connection:
            return upkeep.size(connection, self._backend.octets(connection))

    def schema(self) -> str:
        """Which form its tables have."""
        with self._reading() as connection:
            return schema.revision(connection) or ""

    def flaws(self) -> Sequence[str]:
        """What is damaged; empty when nothing is. Reads all of it."""
        with self._reading() as connection:
            return self._backend.flaws(connection)

    def close(self) -> None:
        self._engine.dispose()
        self._ready = False

    @contextmanager
    def _reading(self) -> Iterator[Connection]:
        with told_as_ours(self.shown):
            self._prepare()
            with self._engine.connect() as connection:
                yield connection

    @contextmanager
    def _writing(self) -> Iterator[Connection]:
        with told_as_ours(self.shown):
            self._prepare()
            with self._engine.connect() as connection:
                writer = connection.execution_options(**WRITES)
                with writer.begin():
                    yield writer

    def _prepare(self) -> None:
        """Have a store there that is ours, with all its tables."""
        try:
            self._backend.assure(create=self._migrate)
        except BaseException:
            # Whatever comes back may be another one.
            self._engine.dispose()
            self._names.forget()
            self._ready = False
            raise
        if self._ready:
            return
        with self._engine.connect() as connection:
            if self._migrate:
                writer = connection.execution_options(**WRITES)
                with writer.begin():
                    schema.upgrade(writer, self.shown)
            elif schema.require_known(connection, self.shown) is None:
                raise StoreRefused(f"store {self.shown}: it is empty: no collector used it yet")
        self._backend.assure(create=False)  # it has all its files now
        self._ready = True


@dataclass(frozen=True, slots=True)
class _Rows:
    """What a batch comes to."""

    new: tuple[tuple[Table, tuple[str, ...], list[Any]], ...]
    """By table, its columns and rows: those that are there already are passed over."""
    replacing: tuple[tuple[Table, tuple[str, ...], list[Any]], ...]
    """By table, its key and rows: those that are there already are replaced."""


def _keep(connection: Connection, given: Sequence[Kept]) -> None:
    for one in given:
        area, key = text(one.area), text(one.key)
        if one.value is None:
            here = (kept.c.area == area) & (kept.c.key == key)
            connection.execute(delete(kept).where(here))
        else:
            upsert(
                connection, kept, ("area", "key"), [{"area": area, "key": key, "value": one.value}]
            )
