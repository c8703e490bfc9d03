"""What can happen to a server, and what becomes of the store then."""

from collections.abc import Callable
from typing import Any

import pytest

from reachmap_collector.errors import StoreRefused, StoreUnavailable
from reachmap_collector.store import open_store
from reachmap_collector.store.api import Batch, Transition
from reachmap_collector.store.sql import SqlStore

Make = Callable[..., Transition]


def test_a_server_that_restarts_is_found_again(
    postgres: Any, database: str, opened: Any, transition: Make
) -> None:
    """Every call while it is away says so; what was committed before is there."""
    store: SqlStore = opened(postgres.url(database))
    store.commit(Batch((transition(0),)))
    postgres.stop()
    try:
        for call in (
            lambda: store.commit(Batch((transition(1),))),
            lambda: list(store.beginning().latest),
        ):
            with pytest.raises(
                StoreUnavailable, match=f"store postgresql://127.0.0.1:{postgres.port}/"
            ):
                call()
    finally:
        postgres.start()
    store.commit(Batch((transition(1),)))
    assert store.size().transitions == 2


def test_a_server_that_comes_later_is_waited_for_by_whoever_asks(
    postgres: Any, database: str, transition: Make
) -> None:
    """The store may be opened while there is none."""
    store = open_store(postgres.url(database))
    postgres.stop()
    try:
        with pytest.raises(StoreUnavailable):
            store.open()
    finally:
        postgres.start()
    store.commit(Batch((transition(),)))
    assert list(store.beginning().latest) == [transition()]
    store.close()


def test_no_error_shows_a_password(postgres: Any, database: str) -> None:
    """Neither ours nor what hangs on it, as a traceback would print it."""
    wrong = "gar-nicht-geheim"
    store = open_store(postgres.url(database, wrong))
    with pytest.raises(StoreUnavailable, match="password authentication failed") as failed:
        store.open()
    error: BaseException | None = failed.value
    while error is not None:
        assert wrong not in repr(error) + str(error)
        error = None if error.__suppress_context__ else error.__cause__ or error.__context__
    store.close()
    bad_option = open_store(postgres.url(database, wrong) + f"?password={wrong}&colour=blue")
    with pytest.raises(StoreRefused, match="colour") as refused:
        bad_option.open()
    assert wrong not in str(refused.value)


def test_a_database_that_is_not_there_is_told(postgres: Any) -> None:
    """It may be made any time."""
    store = open_store(postgres.url("nobodys"))
    with pytest.raises(StoreUnavailable, match='database "nobodys" does not exist'):
        store.open()


def test_a_store_that_is_only_for_reading_is_told_and_outlived(
    postgres: Any, database: str, opened: Any, transition: Make
) -> None:
    """As a standby is, until it is promoted."""
    store: SqlStore = opened(postgres.url(database))
    store.commit(Batch((transition(0),)))
    postgres.do(f"ALTER DATABASE {database} SET default_transaction_read_only = on")
    store.close()  # what the server says holds for new connections
    with pytest.raises(StoreUnavailable, match="read-only transaction"):
        store.commit(Batch((transition(1),)))
    assert list(store.beginning().latest) == [transition(0)]
    postgres.do(f"ALTER DATABASE {database} RESET default_transaction_read_only")
    store.close()
    store.commit(Batch((transition(1),)))


def test_what_the_user_may_not_is_told(
    postgres: Any, database: str, opened: Any, transition: Make
) -> None:
    """Somebody has to give the permission."""
    opened(postgres.url(database)).close()
    password = "other"
    postgres.do(f"CREATE USER {database} PASSWORD '{password}'")
    try:
        url = f"postgresql://{database}:{password}@127.0.0.1:{postgres.port}/{database}"
        store = open_store(url)
        with pytest.raises(StoreRefused, match="permission denied"):
            store.commit(Batch((transition(),)))
        store.close()
    finally:
        postgres.do(f"DROP USER {database}")


def test_a_database_in_no_encoding_takes_our_names(
    postgres: Any, database: str, opened: Any, transition: Make
) -> None:
    """SQL_ASCII, as old servers have it."""
    plain = f"{database}_plain"
    postgres.do(f"CREATE DATABASE {plain} ENCODING 'SQL_ASCII' TEMPLATE template0 LOCALE 'C'")
    try:
        store: SqlStore = opened(postgres.url(plain))
        store.commit(Batch((transition(service="dienst-ä:1"),)))
        assert [one.service for one in store.beginning().latest] == ["dienst-ä:1"]
        store.close()
    finally:
        postgres.do(f"DROP DATABASE {plain} WITH (FORCE)")
