"""The store on any database that SQLAlchemy's Core and a `Backend` cover."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, delete

from reachmap_collector.errors import StoreRefused
from reachmap_collector.store import reading, schema, upkeep
from reachmap_collector.store.api import (
    Batch,
    Cursor,
    DeadLetter,
    Keep,
    Kept,
    PackedRollUp,
    Page,
    PlanSlots,
    Received,
    StoreSize,
    Transition,
)
from reachmap_collector.store.backend import WRITES, Backend, upsert
from reachmap_collector.store.failures import told_as_ours
from reachmap_collector.store.interning import Names
from reachmap_collector.store.packing import (
    OUTCOMES,
    milliseconds,
    pack_ranges,
    pack_slots,
    text,
)
from reachmap_collector.store.tables import (
    dead_letters,
    kept,
    plans,
    received,
    rollups,
    transitions,
)

_TRANSITION = ("flow", "at", "boot", "number", "service", "outcome", "is_open", "detail")
_ROLLUP = ("boot", "sequence", "plan", "begins", "ends", "blob")
_DEAD_LETTER = ("subject", "reason", "payload", "at")


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
                self._names.learn(connection, batch)
                self._insert(connection, batch)
        except BaseException:
            self._names.forget()  # they may have been of this transaction
            raise

    def _insert(self, connection: Connection, batch: Batch) -> None:
        names = self._names
        if batch.plans:
            upsert(connection, plans, ("host", "revision"), self._plan_rows(batch.plans))
        for table, columns, rows in (
            (transitions, _TRANSITION, self._transition_rows(batch.transitions)),
            (rollups, _ROLLUP, self._rollup_rows(batch.rollups)),
            (dead_letters, _DEAD_LETTER, _dead_letter_rows(batch.dead_letters)),
        ):
            if rows:
                self._backend.insert_new(connection, table, columns, rows)
        taken = {
            names.boots[one.agent, one.boot]: {
                "boot": names.boots[one.agent, one.boot],
                "ranges": pack_ranges(one.ranges),
                "observations": one.observations,
                "heard": one.heard,
                "last": milliseconds(one.last),
            }
            for one in batch.received
        }
        upsert(connection, received, ("boot",), list(taken.values()))
        for one in batch.kept:
            area, key = text(one.area), text(one.key)
            if one.value is None:
                here = (kept.c.area == area) & (kept.c.key == key)
                connection.execute(delete(kept).where(here))
            else:
                row = {"area": area, "key": key, "value": one.value}
                upsert(connection, kept, ("area", "key"), [row])

    def _transition_rows(self, given: Sequence[Transition]) -> list[tuple[Any, ...]]:
        flows, boots, services = self._names.flows, self._names.boots, self._names.services
        return [
            (
                flows[one.flow.source][one.flow],
                milliseconds(one.at),
                boots[one.agent, one.boot],
                one.number,
                services[one.service],
                OUTCOMES[one.outcome],
                int(one.is_open),
                one.detail,
            )
            for one in given
        ]

    def _rollup_rows(self, given: Sequence[PackedRollUp]) -> list[tuple[Any, ...]]:
        return [
            (
                self._names.boots[one.agent, one.boot],
                one.sequence,
                self._names.plans[one.agent, one.plan],
                milliseconds(one.begins),
                milliseconds(one.ends),
                one.blob,
            )
            for one in given
        ]

    def _plan_rows(self, given: Sequence[PlanSlots]) -> list[dict[str, Any]]:
        names = self._names
        return [
            {
                "host": names.hosts[one.agent],
                "revision": text(one.revision),
                "at": milliseconds(one.at),
                "slots": pack_slots(
                    [names.flows[key.source][key] for key in one.flows],
                    [names.services[service] for service in one.services],
                ),
            }
            for one in given
        ]

    def latest(self) -> Iterator[Transition]:
        with self._reading() as connection:
            yield from reading.last_of_each(connection, None)

    def at(self, moment: float) -> Iterator[Transition]:
        with self._reading() as connection:
            yield from reading.last_of_each(connection, moment)

    def received(self) -> Iterator[Received]:
        with self._reading() as connection:
            yield from reading.all_received(connection)

    def plans(self, each: int = 4) -> Iterator[PlanSlots]:
        with self._reading() as connection:
            yield from reading.latest_plans(connection, each)

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
        self._ready = True


def _dead_letter_rows(given: Sequence[DeadLetter]) -> list[tuple[Any, ...]]:
    return [
        (text(one.subject), text(one.reason), one.payload, milliseconds(one.at)) for one in given
    ]
