"""SQLite: the store of those who run one collector, which needs nothing besides a file."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Connection, Engine, Table, create_engine, event, text

from reachmap_collector.errors import StoreUnavailable
from reachmap_collector.store.backend import Place

_PRAGMAS: Final = (
    # First, for the others to wait by.
    "busy_timeout = 5000",
    # Readers and the writer do not keep each other waiting, and a commit is one append.
    "journal_mode = wal",
    # The log reaches the disk before a commit returns: agents forget what was acknowledged, so
    # not even a power cut may undo it. Batches make it cheap. NORMAL would survive kill -9 alone.
    "synchronous = full",
    "foreign_keys = on",
    # In KiB when negative, and only as much as there is: the indexes that a burst of changes in a
    # large deployment goes to stay in memory.
    "cache_size = -262144",
    # After a burst the log gives its space back.
    "journal_size_limit = 67108864",
    # Pages in the log before they go to their places: fewer of them are written twice.
    "wal_autocheckpoint = 4000",
)

_Identity = tuple[int, int]
"""Of a file, whatever its name: device and inode."""


class Sqlite:
    """See `backend.Backend`."""

    def __init__(self, place: Place, path: Path) -> None:
        self.place = place
        self._path = path
        self._log = path.with_name(path.name + "-wal")
        self._opened: _Identity | None = None
        """Of the file that is open."""
        self._opened_log: _Identity | None = None
        """Of its log."""

    def engine(self) -> Engine:
        # The collector's worker is another thread than the one that opens.
        engine = create_engine(
            self.place.url, hide_parameters=True, connect_args={"check_same_thread": False}
        )
        event.listen(engine, "connect", _prepare)
        event.listen(engine, "begin", _begin)
        return engine

    def assure(self, *, create: bool) -> None:
        # SQLite would go on in a file that has lost its name, and lose all with it at the end.
        found = _identity(self._path)
        if found is None and self._opened is None and create:
            # For its owner only: it says which ports are open where.
            os.close(os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600))
            found = _identity(self._path)
        if found is None:
            reason = "there is no such file" if self._opened is None else "the file is gone"
            raise StoreUnavailable(f"store {self.place.shown}: {reason}")
        if self._opened not in (None, found):
            self._put_log_aside()
            self._opened = None
            raise StoreUnavailable(f"store {self.place.shown}: the file is another one now")
        self._opened, self._opened_log = found, _identity(self._log)

    def _put_log_aside(self) -> None:
        """SQLite would take the log of the file that was replaced for the new one's."""
        if self._opened_log is not None and _identity(self._log) == self._opened_log:
            self._log.rename(self._log.with_name(self._log.name + ".replaced"))
            self._path.with_name(self._path.name + "-shm").unlink(missing_ok=True)

    def insert_new(
        self, connection: Connection, table: Table, columns: Sequence[str], rows: Sequence[Any]
    ) -> None:
        # The driver's own executemany: SQLAlchemy's, which makes a dict of each row and looks at
        # every value, takes as long again as the database does.
        places = ", ".join("?" * len(columns))
        connection.exec_driver_sql(
            f"INSERT INTO {table.name} ({', '.join(columns)}) VALUES ({places}) "
            "ON CONFLICT DO NOTHING",
            rows,
        )

    def octets(self, connection: Connection) -> int:
        """Also of the write-ahead log."""
        return sum(file.stat().st_size for file in (self._path, self._log) if file.exists())

    def flaws(self, connection: Connection) -> Sequence[str]:
        found = connection.execute(text("PRAGMA integrity_check(20)")).scalars().all()
        strays = connection.execute(text("PRAGMA foreign_key_check")).all()
        return (
            *(line for line in found if line != "ok"),
            *(f"{row[0]} {row[1]} refers to a row of {row[2]} that is not there" for row in strays),
        )

    def backup(self, connection: Connection, path: Path) -> None:
        # Of one moment, however long it takes: the backup API would begin anew at each commit.
        connection.exec_driver_sql("COMMIT")  # VACUUM wants no transaction around it
        connection.exec_driver_sql("VACUUM INTO ?", (str(path),))


def _identity(path: Path) -> _Identity | None:
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


def _prepare(connection: Any, _record: object) -> None:
    """Tell each new connection how to work."""
    # Or the driver begins transactions by itself, and never before a read.
    connection.isolation_level = None
    for pragma in _PRAGMAS:
        connection.execute(f"PRAGMA {pragma}").close()


def _begin(connection: Connection) -> None:
    # A writer that begins as a reader may find that another one came in between.
    writes = connection.get_execution_options().get("writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
