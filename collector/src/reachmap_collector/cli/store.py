"""`reachmap store`: look after what a collector keeps, with or without one running."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from reachmap_collector.cli.groups import Group
from reachmap_collector.cli.options import stored
from reachmap_collector.errors import StoreError
from reachmap_collector.store import open_store

if TYPE_CHECKING:
    from reachmap_collector.store.sql import SqlStore


@click.group(cls=Group)
def store() -> None:
    """Look after what a collector keeps: history, roll-ups, what came from whom."""


@store.command()
@click.argument("file", type=click.Path(path_type=Path))
@stored
def backup(file: Path, url: str) -> None:
    """Write a copy of a SQLite store to FILE, while the collector goes on.

    The copy is of one moment, and a store itself: `reachmap store check --store sqlite:///FILE`.
    For PostgreSQL use pg_dump.
    """
    with _looked_at(url) as found:
        found.backup(file)
    click.echo(f"{file}: {file.stat().st_size:,} bytes")


@store.command()
@stored
def check(url: str) -> None:
    """Read all of a store; say what it holds, and what is damaged.

    Exit code 1 when something is.
    """
    with _looked_at(url) as found:
        size = found.size()
        click.echo(f"{found.shown}: schema {found.schema()}, {size.octets:,} bytes")
        for what, count in (
            ("transitions", size.transitions),
            ("flows", size.flows),
            ("agents", size.agents),
            ("boots", size.boots),
            ("roll-ups", size.rollups),
            ("plans", size.plans),
            ("dead letters", size.dead_letters),
        ):
            click.echo(f"  {what:13} {count:>15,}")
        flaws = found.flaws()
        if flaws:
            raise StoreError("\n".join(f"{found.shown}: {flaw}" for flaw in flaws))
        click.echo("  no damage found")


@contextmanager
def _looked_at(url: str) -> "Iterator[SqlStore]":
    """The store as it is: nothing is made or brought up to date, for a collector may be at it."""
    found = open_store(url, migrate=False)
    try:
        found.open()
        yield found
    finally:
        found.close()


COMMANDS: Final = (store,)
