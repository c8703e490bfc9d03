"""Older stores are brought up to date, newer ones and strangers' are left alone; on both."""

from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import create_engine, text

from reachmap_collector.errors import StoreRefused
from reachmap_collector.store import schema
from reachmap_collector.store.backend import place_of
from reachmap_collector.store.sql import SqlStore
from reachmap_collector.store.tables import METADATA


def do(url: str, *statements: str) -> None:
    engine = create_engine(place_of(url).url)
    with engine.begin() as connection:
        for statement in statements:
            connection.execute(text(statement))
    engine.dispose()


def test_the_steps_lead_to_the_tables_that_we_work_with(store: SqlStore, url: str) -> None:
    """Whoever changes `tables` writes a step, and the other way round."""
    engine = create_engine(place_of(url).url)
    with engine.connect() as connection:
        options = {"version_table": schema.VERSION_TABLE, "compare_type": True}
        context = MigrationContext.configure(connection, opts=options)
        assert compare_metadata(context, METADATA) == []
    engine.dispose()
    assert store.schema() == schema.latest()


def test_what_a_newer_version_wrote_is_refused(store: SqlStore, url: str, opened: Any) -> None:
    """With what to do about it, and untouched."""
    store.close()
    do(url, f"UPDATE {schema.VERSION_TABLE} SET version_num = '0999'")
    for migrate in (True, False):
        with pytest.raises(StoreRefused, match=r"schema 0999.*newer reachmap wrote it\. Upgrade"):
            opened(url, migrate=migrate)
    do(url, f"UPDATE {schema.VERSION_TABLE} SET version_num = '{schema.latest()}'")
    assert opened(url).schema() == schema.latest()


def test_tables_of_somebody_else_are_left_alone(url: str, opened: Any) -> None:
    """Where one is called as ours are; others do not matter."""
    do(url, "CREATE TABLE others (id INTEGER)", "CREATE TABLE hosts (id INTEGER)")
    with pytest.raises(StoreRefused, match=r"tables of somebody else \(hosts\)"):
        opened(url)
    do(url, "DROP TABLE hosts")
    assert opened(url).schema() == schema.latest()


def test_an_empty_store_is_not_made_by_whoever_only_looks(url: str, opened: Any) -> None:
    """Nothing is written there."""
    do(url, "CREATE TABLE others (id INTEGER)", "DROP TABLE others")
    with pytest.raises(StoreRefused, match="empty"):
        opened(url, migrate=False)


def test_a_step_that_fails_leaves_the_store_as_it_was(
    url: str, opened: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is all in one transaction, also in SQLite."""
    from alembic.operations import Operations

    makes = Operations.create_table

    def fails(self: Any, name: str, *columns: Any, **options: Any) -> Any:
        if name == "kept":
            raise RuntimeError("the power is off")
        return makes(self, name, *columns, **options)

    monkeypatch.setattr(Operations, "create_table", fails)
    with pytest.raises(RuntimeError, match="the power is off"):
        opened(url)
    monkeypatch.undo()
    engine = create_engine(place_of(url).url)
    with engine.connect() as connection:
        assert schema.revision(connection) is None
        schema.require_known(connection, url)  # no table of ours is there
    engine.dispose()
    assert opened(url).schema() == schema.latest()
