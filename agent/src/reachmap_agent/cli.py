"""The command `reachmap-agent`."""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from reachmap_agent import app, settings
from reachmap_shared import __version__, log
from reachmap_shared.errors import InvalidSettings
from reachmap_shared.lifecycle import run_until_signal

EXIT_USAGE: Final = 2
"""Wrong usage or settings: starting again will not help."""

_EXAMPLES = """\
examples:
  reachmap-agent run --nats nats://nats-1.example:4222
        join as this machine's hostname; the collector's topology says what to do
  reachmap-agent run --id pc-17 --roles agent,agent-updater
        join under a name of your own, and say which roles this host has
  reachmap-agent run --id nats-1 --address 10.0.0.5 --address fd00::5
        say at which addresses others reach this host, and listen only there

Settings come from --config (/etc/reachmap/agent.toml when it exists), then the environment
(REACHMAP_NATS_URL, REACHMAP_ID, REACHMAP_ROLES, REACHMAP_ADDRESSES), then these options.
"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; exits 0 when told to stop, 2 on wrong usage or settings."""
    options = _parser().parse_args(arguments)
    log.configure(verbose=options.verbose)
    try:
        loaded = settings.load(
            options.config,
            os.environ,
            {
                "nats": options.nats,
                "id": options.id,
                "roles": options.roles,
                "addresses": options.address,
            },
        )
    except InvalidSettings as error:
        print(f"reachmap-agent: {error}", file=sys.stderr)  # noqa: T201  for whoever started it
        sys.exit(EXIT_USAGE)
    run_until_signal(lambda: app.run(loaded))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="reachmap-agent",
        description="Check from this host what it must reach, and stand in for what it must offer.",
    )
    parser.add_argument("--version", action="version", version=f"reachmap-agent {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    run = commands.add_parser(
        "run",
        help="run the agent in the foreground",
        description="Run the agent in the foreground until SIGINT or SIGTERM.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    run.add_argument("--config", type=Path, metavar="FILE", help="settings, as TOML")
    run.add_argument("--nats", metavar="URL", help="NATS server; several, separated by commas")
    run.add_argument("--id", metavar="NAME", help="this host's name in the topology")
    run.add_argument(
        "--roles", metavar="A,B", help="what this host is, where the topology leaves it open"
    )
    run.add_argument(
        "--address",
        action="append",
        metavar="ADDR",
        help="where others reach this host; listen only there (repeatable)",
    )
    run.add_argument("--verbose", action="store_true", help="log more")
    return parser
