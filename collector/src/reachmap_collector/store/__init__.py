"""What the collector keeps over restarts: transitions, roll-ups, and what came from whom.

`api` says what a store does, `sql` does it on SQLite (`sqlite`) or PostgreSQL (`postgresql`),
`schema` and `migrations` bring an older one up to date.
"""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from reachmap_collector.store.sql import SqlStore


def default_url(data: Path) -> str:
    """The store of those who name none: a file in the data directory."""
    return f"sqlite:///{data / 'reachmap.sqlite'}"


def open_store(url: str, *, migrate: bool = True) -> "SqlStore":
    """The store at a URL: `sqlite:///PATH` or `postgresql://USER@HOST/DATABASE`.

    It is not asked for anything yet, so one that is away may come later: see `SqlStore.open`.

    Args:
        url: Where it is. No error or log shows its password.
        migrate: Whether to make it, or bring it up to date, where need be. Without, an empty one
            is refused: for whoever looks at a running collector's.

    Raises:
        StoreRefused: The URL is wrong, or the database's driver is not installed.
    """
    # Here, for they take a quarter of a second to load, and most commands need no store.
    from reachmap_collector.store.backend import place_of
    from reachmap_collector.store.postgresql import Postgresql
    from reachmap_collector.store.sql import SqlStore
    from reachmap_collector.store.sqlite import Sqlite

    place = place_of(url)
    backend = Postgresql(place) if place.path is None else Sqlite(place, place.path)
    return SqlStore(backend, migrate=migrate)
