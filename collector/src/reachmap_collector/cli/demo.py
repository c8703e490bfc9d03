"""`reachmap demo`."""

import sys
from typing import Final

import click

from reachmap_collector.demo import story
from reachmap_shared import log
from reachmap_shared.lifecycle import run_until_signal

_INTERRUPTED: Final = 130
"""What a shell reports of a program that SIGINT ended."""


@click.command()
@click.option("--keep", is_flag=True, help="Leave it up once the map is green, until Ctrl-C.")
def demo(keep: bool) -> None:
    """Show a whole small deployment on this machine: its map, a fault, and the fault's cause.

    Eleven hosts of an OpenUEM deployment run on loopback addresses (127.77.0.N), each with an
    agent that really checks and listens. It takes less than a minute, needs no root, and leaves
    nothing behind.

    \b
    Examples:
      reachmap demo
      reachmap demo --keep        and try the commands that it prints
    """
    log.configure(quiet=True)
    if not run_until_signal(lambda: story.tell(keep=keep)):
        click.echo("\nStopped; all that ran is gone.")
        sys.exit(0 if keep else _INTERRUPTED)


COMMANDS: Final = (demo,)
