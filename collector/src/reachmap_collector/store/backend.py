"""What differs between the databases that a store may be made of."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Final, Protocol

from sqlalchemy import Connection, Engine, Insert, Table
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from reachmap_collector.errors import StoreRefused

WRITES: Final = {"writes": True}
"""Execution options of a connection that will write."""

_EXPECTED: Final = "expected sqlite:///PATH or postgresql://USER@HOST/DATABASE"
_UNREADABLE: Final = (
    f"the store's URL cannot be read: {_EXPECTED}; in a password, write @ as %40, / as %2F, : as "
    "%3A and % as %25"
)
_SQLITE: Final = "sqlite:///"


@dataclass(frozen=True, slots=True)
class Place:
    """Where a store is."""

    url: URL = field(repr=False)
    """As SQLAlchemy wants it, password included: never to be shown."""
    shown: str
    """For people: without user, password and options."""
    path: Path | None
    """The file, where it is one."""


class Backend(Protocol):
    """One kind of database."""

    place: Place

    def engine(self) -> Engine:
        """Connections to it. None is made yet."""

    def assure(self, *, create: bool) -> None:
        """Raise StoreUnavailable where it is known, without asking it, to be gone or replaced."""

    def insert_new(
        self, connection: Connection, table: Table, columns: Sequence[str], rows: Sequence[Any]
    ) -> None:
        """Insert many rows, passing over those that are there already by any unique key."""

    def octets(self, connection: Connection) -> int:
        """How much disk it takes."""

    def flaws(self, connection: Connection) -> Sequence[str]:
        """What is damaged."""

    def backup(self, connection: Connection, path: Path) -> None:
        """Write a copy, as of now, into a file that is empty; StoreRefused if not our business."""


def place_of(text: str) -> Place:
    """Read a store's URL; raises StoreRefused when it is none. No message shows a password."""
    if text.startswith("sqlite:"):
        path = text.removeprefix(_SQLITE)
        if path == text or not path or path.startswith(":") or "?" in path:
            raise StoreRefused(f"store {text!r}: {_EXPECTED}")
        return Place(URL.create("sqlite", database=path), text, Path(path))
    try:
        url = make_url(text)
        if url.drivername not in ("postgresql", "postgresql+psycopg"):
            raise StoreRefused(f"store of the kind {url.drivername!r}: {_EXPECTED}")
    except (ArgumentError, ValueError):
        # Nothing of it is shown, for nobody knows which part is the password.
        raise StoreRefused(_UNREADABLE) from None
    if "@" in (url.host or ""):  # a part of the password, which would be shown
        raise StoreRefused(_UNREADABLE)
    host = f"[{url.host}]" if url.host and ":" in url.host else url.host or ""
    port = f":{url.port}" if url.port else ""
    shown = f"postgresql://{host}{port}/{url.database or ''}"
    return Place(url.set(drivername="postgresql+psycopg"), shown, None)


def upsert(connection: Connection, table: Table, key: tuple[str, ...], rows: Sequence[Any]) -> None:
    """Insert rows, or replace those that have the same key."""
    if rows:
        columns = tuple(rows[0])
        connection.execute(_upsert(connection.dialect.name, table, key, columns), rows)


@cache
def _upsert(dialect: str, table: Table, key: tuple[str, ...], columns: tuple[str, ...]) -> Insert:
    # Once for each table: to make the statement takes longer than to run it.
    insert = postgresql.insert if dialect == "postgresql" else sqlite.insert
    statement = insert(table)
    fresh = {name: statement.excluded[name] for name in columns if name not in key}
    return statement.on_conflict_do_update(index_elements=key, set_=fresh)
