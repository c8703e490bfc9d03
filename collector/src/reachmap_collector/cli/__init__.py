"""The command `reachmap`.

Exit codes: 0 done or answered, 1 it could not go on, 2 wrong usage or input, 3 nobody answered;
`status` has its own meaning for them.
"""

import contextlib
import errno
import importlib
import io
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final, TextIO

import click

from reachmap_collector.cli.groups import Group
from reachmap_collector.errors import InvalidFile, ServerError, StoreError, StoreRefused
from reachmap_shared import __version__
from reachmap_shared.errors import (
    AccessRefused,
    BusUnavailable,
    InvalidName,
    InvalidSettings,
    QueryRefused,
    ReachmapError,
)

_EXIT_CODES: Final[tuple[tuple[type[ReachmapError], int], ...]] = (
    (InvalidFile, 2),
    (InvalidName, 2),
    (StoreRefused, 2),
    (InvalidSettings, 2),
    (QueryRefused, 2),
    (BusUnavailable, 3),
    (ServerError, 1),
    (StoreError, 1),
)


_UNWRITTEN: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
"""Errors of a write to a file that cannot take it."""

_INTERRUPTED: Final = 130
"""What a shell reports of a program that SIGINT ended."""


_MODULES: Final[Mapping[str, str]] = {
    "agents": "query",
    "alerts": "alerts",
    "bus": "bus",
    "completion": "completion",
    "demo": "demo",
    "diff": "past",
    "enroll": "bus",
    "explain": "query",
    "export": "export",
    "flows": "query",
    "history": "past",
    "map": "query",
    "preflight": "preflight",
    "revoke": "bus",
    "schema": "schema",
    "serve": "serve",
    "status": "status",
    "store": "store",
    "topology": "topology",
    "trend": "past",
    "watch": "past",
}
"""Where each command is. A module is loaded when it is needed: a monitoring system that asks for
the status each minute has no use for web servers and templates."""


class _Commands(Group):
    """A group that tells people about our errors in a line, and about nothing else of them."""

    def list_commands(self, _context: click.Context) -> list[str]:
        """By name, in order."""
        return sorted(_MODULES)

    def get_command(self, _context: click.Context, name: str) -> click.Command | None:
        """The command of that name, of the COMMANDS of its module."""
        if name not in _MODULES:
            return None
        module = importlib.import_module(f"reachmap_collector.cli.{_MODULES[name]}")
        found: click.Command = next(one for one in module.COMMANDS if one.name == name)
        return found

    def main(self, *arguments: Any, **options: Any) -> Any:
        """As click has it, but for a standard output that takes no more."""
        with _written_whole():
            return super().main(*arguments, **options)

    def invoke(self, context: click.Context) -> Any:
        with _told_to_people():
            return super().invoke(context)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="reachmap")
def main() -> None:
    """Can the hosts that must talk to each other really talk, and if not, what is in the way?

    \b
    Try it:            reachmap demo
    Start a collector: reachmap serve --topology topology.toml
    Let a host join:   reachmap enroll HOST
    Ask it:            reachmap map, flows, explain, agents, status, alerts
    For programs:      reachmap export, --format json, reachmap serve --http
    """
    # What a terminal cannot show becomes a question mark, and never an error.
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")


@contextmanager
def _written_whole() -> Iterator[None]:
    """See that all output is out before the process ends, and say in a line if it cannot be."""
    try:
        try:
            yield
        finally:
            stdout: TextIO | None = sys.stdout  # there is none where it was closed
            if stdout is not None:
                stdout.flush()
    except BrokenPipeError:  # whoever read it has seen enough
        _give_up_stdout()
        sys.exit(1)
    except OSError as error:
        # Files that we open have a name, and their errors one of ours: the rest is a bug's.
        if error.errno not in _UNWRITTEN or error.filename is not None:
            raise
        _give_up_stdout()
        click.echo(f"reachmap: cannot write the output: {error.strerror}", err=True)
        sys.exit(1)


def _give_up_stdout() -> None:
    """Let what is still to be written go nowhere, or Python complains about it at the very end."""
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


@contextmanager
def _told_to_people() -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        sys.exit(_INTERRUPTED)
    except ReachmapError as error:
        _tell(error)
    except BaseExceptionGroup as group:
        ours = group.subgroup(ReachmapError)
        if ours is None:
            raise
        _tell(_first(ours))


def _tell(error: BaseException) -> None:
    for line in str(error).splitlines():
        click.echo(f"reachmap: {line}", err=True)
    if isinstance(error, AccessRefused):
        click.echo(
            "reachmap: run this as the collector's user, or say what to show with --creds or "
            "REACHMAP_NATS_CREDENTIALS (bus/operator.creds of its data directory); see docs/bus.md",
            err=True,
        )
    elif isinstance(error, BusUnavailable):
        click.echo(
            "reachmap: is the collector running (reachmap serve)? Say where its NATS server is "
            "with --nats URL or REACHMAP_NATS_URL.",
            err=True,
        )
    sys.exit(_exit_code(error))


def _exit_code(error: BaseException) -> int:
    if isinstance(error, QueryRefused) and error.code.startswith("5"):
        return 1  # the question was right, and the collector failed
    return next((code for kind, code in _EXIT_CODES if isinstance(error, kind)), 1)


def _first(error: BaseException) -> BaseException:
    return _first(error.exceptions[0]) if isinstance(error, BaseExceptionGroup) else error
