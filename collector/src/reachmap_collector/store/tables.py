"""The tables as they are now. How older ones become these is in `migrations`.

Names stand once, and rows refer to them by number, so rows are narrow: a transition is its detail
and some hundred octets, indexes included.
"""

from typing import Final

from sqlalchemy import (
    BigInteger,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
)

METADATA: Final = MetaData(
    naming_convention={
        "pk": "%(table_name)s_pk",
        "fk": "%(table_name)s_%(column_0_name)s_fk",
        "uq": "%(table_name)s_uq",
        "ix": "%(table_name)s_%(column_0_N_name)s_ix",
    }
)

ROW_ID: Final = BigInteger().with_variant(Integer, "sqlite")
"""SQLite numbers rows only where the type is just INTEGER."""


def _refers(name: str, to: str, *, key: bool = False) -> Column[int]:
    return Column(name, ForeignKey(f"{to}.id"), nullable=False, primary_key=key)


hosts = Table(
    "hosts",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("name", Text, nullable=False, unique=True),
)
"""Agents' hosts, and all others that are an end of a flow."""

services = Table(
    "services",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("name", Text, nullable=False, unique=True),
)

boots = Table(
    "boots",
    METADATA,
    Column("id", Integer, primary_key=True),
    _refers("host", "hosts"),
    Column("boot", Text, nullable=False),
    UniqueConstraint("host", "boot"),
)

flows = Table(
    "flows",
    METADATA,
    Column("id", Integer, primary_key=True),
    _refers("source", "hosts"),
    _refers("destination", "hosts"),
    Column("address", Text, nullable=False),
    Column("port", Integer, nullable=False),
    Column("transport", SmallInteger, nullable=False),
    # A source's stand together: they are looked up by it.
    UniqueConstraint("source", "destination", "address", "port", "transport"),
    Index(None, "destination"),
)

transitions = Table(
    "transitions",
    METADATA,
    Column("id", ROW_ID, primary_key=True),
    _refers("flow", "flows"),
    Column("at", BigInteger, nullable=False),
    _refers("boot", "boots"),
    Column("number", BigInteger, nullable=False),
    _refers("service", "services"),
    Column("outcome", SmallInteger, nullable=False),
    Column("is_open", SmallInteger, nullable=False),
    Column("detail", LargeBinary, nullable=False),
    UniqueConstraint("boot", "number"),
    Index(None, "flow", "at"),
    Index(None, "at"),
)

plans = Table(
    "plans",
    METADATA,
    Column("id", Integer, primary_key=True),
    _refers("host", "hosts"),
    Column("revision", Text, nullable=False),
    Column("at", BigInteger, nullable=False),
    Column("slots", LargeBinary),  # none of a plan that a roll-up names and nobody brought
    UniqueConstraint("host", "revision"),
)

rollups = Table(
    "rollups",
    METADATA,
    Column("id", ROW_ID, primary_key=True),
    _refers("boot", "boots"),
    Column("sequence", BigInteger, nullable=False),
    _refers("plan", "plans"),
    Column("begins", BigInteger, nullable=False),
    Column("ends", BigInteger, nullable=False),
    Column("blob", LargeBinary, nullable=False),
    UniqueConstraint("boot", "sequence"),
    Index(None, "plan", "begins"),  # an agent's, by way of its plans
    Index(None, "begins"),  # the oldest, to be pruned
)

received = Table(
    "received",
    METADATA,
    _refers("boot", "boots", key=True),
    Column("ranges", Text, nullable=False),
    Column("observations", BigInteger, nullable=False),
    Column("heard", BigInteger, nullable=False),
    Column("last", BigInteger, nullable=False),
)

dead_letters = Table(
    "dead_letters",
    METADATA,
    Column("id", ROW_ID, primary_key=True),
    Column("subject", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("payload", LargeBinary, nullable=False),
    Column("at", BigInteger, nullable=False),
)

kept = Table(
    "kept",
    METADATA,
    Column("area", Text, primary_key=True),
    Column("key", Text, primary_key=True),
    Column("value", LargeBinary, nullable=False),
)
