"""What databases say when they cannot, as our own errors.

They say the reason and no more: never the URL, which may bear a password, nor values.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolExhausted

from reachmap_collector.errors import StoreError, StoreRefused, StoreUnavailable

_REFUSED: Final = (
    "SQLITE_NOTADB",
    "SQLITE_CORRUPT",
    "42501",  # no permission
    "42P01",  # a table of ours is gone
)
"""What somebody has to mend: SQLite's names and PostgreSQL's codes, by their beginnings."""

_UNAVAILABLE: Final = (
    "SQLITE_BUSY",
    "SQLITE_CANTOPEN",
    "SQLITE_FULL",
    "SQLITE_IOERR",
    "SQLITE_LOCKED",
    "SQLITE_PERM",
    "SQLITE_PROTOCOL",
    "SQLITE_READONLY",
    "08",  # the connection
    "25006",  # only for reading now
    "40",  # in another's way
    "53",  # out of disk, memory or connections
    "55",  # locked
    "57",  # shut down, cancelled
    "58",  # the system below
)
"""What may pass by itself. Every other error of a database is a mistake of ours."""


@contextmanager
def told_as_ours(shown: str) -> Iterator[None]:
    """Raise StoreUnavailable or StoreRefused where the database `shown` is the reason."""
    try:
        yield
    except PoolExhausted as error:
        raise StoreUnavailable(f"store {shown}: all connections are taken") from error
    except DBAPIError as error:
        ours = _translated(error, shown)
        if ours is None:
            raise
        # Without the original: its text may hold more than ours does.
        raise ours from None
    except OSError as error:
        raise StoreUnavailable(f"store {shown}: {error.strerror or error}") from error


def _translated(error: DBAPIError, shown: str) -> StoreError | None:
    code = _code(error)
    said = str(error.orig).strip().splitlines()
    reason = f"store {shown}: {said[0] if said else type(error.orig).__name__}"
    if code.startswith(_REFUSED):
        return StoreRefused(reason)
    if error.connection_invalidated or code.startswith(_UNAVAILABLE):
        return StoreUnavailable(reason)
    if code:
        return None
    # psycopg has none where it did not get as far as a server's answer.
    if type(error.orig).__name__ == "OperationalError":
        return StoreUnavailable(reason)
    return StoreRefused(reason) if error.statement is None else None  # it never connected


def _code(error: DBAPIError) -> str:
    original = error.orig
    return str(
        getattr(original, "sqlite_errorname", None) or getattr(original, "sqlstate", None) or ""
    )
