"""What must survive the collector: alerts, acknowledgements, silences, what waits to be told."""

import contextlib
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Protocol

from reachmap_collector.errors import InvalidFile, Problem

ALERTS: Final = "alerts"
TOLD: Final = "alerts-told"
ACKS: Final = "alerts-acknowledged"
SILENCES: Final = "alerts-silences"
QUEUE: Final = "alerts-queue"


class Memory(Protocol):
    """Small things under names, in areas."""

    def kept(self, area: str) -> Mapping[str, bytes]:
        """All that is kept in an area, by key."""

    def keep(self, area: str, key: str, value: bytes | None) -> None:
        """Keep something from now on; None forgets it."""


class FileMemory:
    """A memory in an SQLite file of its own."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def kept(self, area: str) -> Mapping[str, bytes]:
        """All that is kept in an area, by key."""
        rows = self._connection.execute(
            "SELECT key, value FROM kept WHERE area = ? ORDER BY key", (area,)
        )
        return {key: bytes(value) for key, value in rows}

    def keep(self, area: str, key: str, value: bytes | None) -> None:
        """Keep something from now on; None forgets it."""
        if value is None:
            self._connection.execute("DELETE FROM kept WHERE area = ? AND key = ?", (area, key))
        else:
            self._connection.execute("REPLACE INTO kept VALUES (?, ?, ?)", (area, key, value))


@contextmanager
def file_memory(path: Path) -> Iterator[FileMemory]:
    """Open a memory, made if there is none; raises InvalidFile when that cannot be."""
    try:
        connection = sqlite3.connect(path, isolation_level=None)
        with contextlib.closing(connection):
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = NORMAL")
            connection.execute(
                "CREATE TABLE IF NOT EXISTS kept "
                "(area TEXT, key TEXT, value BLOB NOT NULL, PRIMARY KEY (area, key)) WITHOUT ROWID"
            )
            yield FileMemory(connection)
    except sqlite3.Error as error:
        raise InvalidFile(path, [Problem("", f"cannot keep alerts in it: {error}")]) from error
