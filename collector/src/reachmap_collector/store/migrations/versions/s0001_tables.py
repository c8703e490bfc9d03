"""The first schema."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_ROW_ID = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    """Make all tables."""
    for name in ("hosts", "services"):
        op.create_table(
            name,
            sa.Column("id", sa.Integer, primary_key=True),
            sa.Column("name", sa.Text, nullable=False),
            sa.UniqueConstraint("name", name=f"{name}_uq"),
        )
    op.create_table(
        "boots",
        sa.Column("id", sa.Integer, primary_key=True),
        _refers("host", "hosts"),
        sa.Column("boot", sa.Text, nullable=False),
        sa.UniqueConstraint("host", "boot", name="boots_uq"),
    )
    op.create_table(
        "flows",
        sa.Column("id", sa.Integer, primary_key=True),
        _refers("source", "hosts"),
        _refers("destination", "hosts"),
        sa.Column("address", sa.Text, nullable=False),
        sa.Column("port", sa.Integer, nullable=False),
        sa.Column("transport", sa.SmallInteger, nullable=False),
        sa.UniqueConstraint(
            "source", "destination", "address", "port", "transport", name="flows_uq"
        ),
    )
    op.create_index("flows_destination_ix", "flows", ["destination"])
    op.create_table(
        "transitions",
        sa.Column("id", _ROW_ID, primary_key=True),
        _refers("flow", "flows"),
        sa.Column("at", sa.BigInteger, nullable=False),
        _refers("boot", "boots"),
        sa.Column("number", sa.BigInteger, nullable=False),
        _refers("service", "services"),
        sa.Column("outcome", sa.SmallInteger, nullable=False),
        sa.Column("is_open", sa.SmallInteger, nullable=False),
        sa.Column("detail", sa.LargeBinary, nullable=False),
        sa.UniqueConstraint("boot", "number", name="transitions_uq"),
    )
    op.create_index("transitions_flow_at_ix", "transitions", ["flow", "at"])
    op.create_index("transitions_at_ix", "transitions", ["at"])
    op.create_table(
        "plans",
        sa.Column("id", sa.Integer, primary_key=True),
        _refers("host", "hosts"),
        sa.Column("revision", sa.Text, nullable=False),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.Column("slots", sa.LargeBinary),
        sa.UniqueConstraint("host", "revision", name="plans_uq"),
    )
    op.create_table(
        "rollups",
        sa.Column("id", _ROW_ID, primary_key=True),
        _refers("boot", "boots"),
        sa.Column("sequence", sa.BigInteger, nullable=False),
        _refers("plan", "plans"),
        sa.Column("begins", sa.BigInteger, nullable=False),
        sa.Column("ends", sa.BigInteger, nullable=False),
        sa.Column("blob", sa.LargeBinary, nullable=False),
        sa.UniqueConstraint("boot", "sequence", name="rollups_uq"),
    )
    op.create_index("rollups_plan_begins_ix", "rollups", ["plan", "begins"])
    op.create_index("rollups_begins_ix", "rollups", ["begins"])
    op.create_table(
        "received",
        _refers("boot", "boots", key=True),
        sa.Column("ranges", sa.Text, nullable=False),
        sa.Column("observations", sa.BigInteger, nullable=False),
        sa.Column("heard", sa.BigInteger, nullable=False),
        sa.Column("last", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "dead_letters",
        sa.Column("id", _ROW_ID, primary_key=True),
        sa.Column("subject", sa.Text, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("payload", sa.LargeBinary, nullable=False),
        sa.Column("at", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "kept",
        sa.Column("area", sa.Text, primary_key=True),
        sa.Column("key", sa.Text, primary_key=True),
        sa.Column("value", sa.LargeBinary, nullable=False),
    )


def _refers(name: str, to: str, *, key: bool = False) -> "sa.Column[int]":
    there = sa.ForeignKey(f"{to}.id")
    return sa.Column(name, sa.Integer, there, nullable=False, primary_key=key, autoincrement=False)
