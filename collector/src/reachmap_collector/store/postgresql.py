"""PostgreSQL: the store of those who have one anyway, or who outgrow a file."""

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final, cast

from sqlalchemy import Connection, Engine, Table, create_engine, text

from reachmap_collector.errors import StoreRefused
from reachmap_collector.store.backend import Place
from reachmap_collector.store.tables import METADATA


class Postgresql:
    """See `backend.Backend`."""

    def __init__(self, place: Place) -> None:
        if find_spec("psycopg") is None:
            raise StoreRefused(
                f"store {place.shown}: its driver is not installed: "
                "pip install 'reachmap-collector[postgres]'"
            )
        self.place = place

    def engine(self) -> Engine:
        return create_engine(
            self.place.url,
            hide_parameters=True,
            pool_pre_ping=True,  # a server that was restarted is found by the next call
            connect_args={
                "connect_timeout": 10,
                "application_name": "reachmap collector",
                # A database in SQL_ASCII would else give octets for text.
                "client_encoding": "utf8",
            },
        )

    def assure(self, *, create: bool) -> None:
        """Nothing is known without asking it."""

    def insert_new(
        self, connection: Connection, table: Table, columns: Sequence[str], rows: Sequence[Any]
    ) -> None:
        # COPY takes rows several times as fast as INSERT, but stops at the first that is there
        # already: so they go by way of a table that this connection has for itself.
        names = ", ".join(columns)
        stage = f"new_{table.name}"
        connection.exec_driver_sql(
            f"CREATE TEMPORARY TABLE IF NOT EXISTS {stage} ON COMMIT DELETE ROWS "
            f"AS SELECT {names} FROM {table.name} WITH NO DATA"
        )
        cursor = cast("Any", connection.connection).cursor()
        try:
            with cursor.copy(f"COPY {stage} ({names}) FROM STDIN (FORMAT BINARY)") as copy:
                copy.set_types([_TYPES[str(table.c[name].type)] for name in columns])
                for row in rows:
                    copy.write_row(row)
        finally:
            cursor.close()
        connection.exec_driver_sql(
            f"INSERT INTO {table.name} ({names}) SELECT {names} FROM {stage} ON CONFLICT DO NOTHING"
        )

    def octets(self, connection: Connection) -> int:
        """Of our own tables, their indexes included."""
        size = text("SELECT pg_total_relation_size(to_regclass(:name))")
        return sum(
            connection.execute(size, {"name": name}).scalar() or 0 for name in METADATA.tables
        )

    def flaws(self, connection: Connection) -> Sequence[str]:
        """It keeps its promises by itself, and has tools of its own (pg_amcheck) to look."""
        return ()

    def backup(self, connection: Connection, path: Path) -> None:
        raise StoreRefused(f"store {self.place.shown}: use pg_dump, PostgreSQL's own backup")


_TYPES: Final = {
    "INTEGER": "int4",
    "BIGINT": "int8",
    "SMALLINT": "int2",
    "TEXT": "text",
    "BLOB": "bytea",
}
"""What SQLAlchemy calls a column, as PostgreSQL does: binary COPY converts nothing by itself."""
