"""Run by alembic for each upgrade: takes the steps in the transaction that it is given."""

from alembic import context

from reachmap_collector.store.tables import METADATA

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=METADATA,
    version_table=context.config.attributes["version_table"],
)
context.run_migrations()
