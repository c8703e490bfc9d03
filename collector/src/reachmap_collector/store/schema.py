"""Brings a store's tables to this version's form, and refuses those of a newer one."""

from functools import cache
from pathlib import Path
from typing import Final

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, inspect

from reachmap_collector.errors import StoreRefused
from reachmap_collector.store.tables import METADATA
from reachmap_shared import __version__

VERSION_TABLE: Final = "reachmap_schema"
"""Not alembic's own default, for a database may have other tenants."""


def revision(connection: Connection) -> str | None:
    """Which schema the store has; None before its first."""
    options = {"version_table": VERSION_TABLE}
    return MigrationContext.configure(connection, opts=options).get_current_revision()


def latest() -> str:
    """The schema that this version works with."""
    return _steps()[0]


def require_known(connection: Connection, shown: str) -> str | None:
    """The store's schema, None when it is empty; raises StoreRefused when it is not ours."""
    found = revision(connection)
    if found is None:
        strangers = METADATA.tables.keys() & set(inspect(connection).get_table_names())
        if strangers:
            raise StoreRefused(
                f"store {shown}: has tables of somebody else ({', '.join(sorted(strangers))}): "
                "give reachmap a database of its own"
            )
    elif found not in _steps():
        raise StoreRefused(
            f"store {shown}: has schema {found}, which reachmap {__version__} does not know "
            f"(its latest is {latest()}): a newer reachmap wrote it. Upgrade, or restore a backup "
            "from before"
        )
    return found


def upgrade(connection: Connection, shown: str) -> None:
    """Take the steps that are missing, in the connection's transaction: all of them or none."""
    if require_known(connection, shown) == latest():
        return
    config = _config()
    config.attributes["connection"] = connection
    config.attributes["version_table"] = VERSION_TABLE
    command.upgrade(config, "head")


@cache
def _steps() -> tuple[str, ...]:
    """All schemas there ever were, the latest first."""
    walk = ScriptDirectory.from_config(_config()).walk_revisions()
    return tuple(step.revision for step in walk)


def _config() -> Config:
    config = Config()
    # By its place in the file system: the package is never run from an archive.
    folder = str(Path(__file__).parent / "migrations")
    config.set_main_option("script_location", folder.replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config
