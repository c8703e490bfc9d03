"""`reachmap serve`: the collector."""

from pathlib import Path
from typing import Final

import click

from reachmap_collector import embedded
from reachmap_collector.app import ServeSettings
from reachmap_collector.app import serve as run_collector
from reachmap_collector.cli.options import NATS_VARIABLE, in_data
from reachmap_shared import log
from reachmap_shared.bus import DEFAULT_URL, is_nats_url, without_password
from reachmap_shared.lifecycle import run_until_signal

EMBEDDED: Final = "embedded"

_TOPOLOGY: Final = Path("/etc/reachmap/topology.toml")


def _urls(nats: str) -> tuple[str, ...] | None:
    """The servers that --nats names; None for one of our own."""
    if nats == EMBEDDED:
        return None
    urls = tuple(url.strip() for url in nats.split(","))
    for url in urls:
        if not is_nats_url(url):
            raise click.UsageError(
                f"--nats: {without_password(url)!r} is neither a NATS URL such as {DEFAULT_URL} "
                f"nor {EMBEDDED!r}"
            )
    return urls


@click.command()
@click.option(
    "--topology",
    type=click.Path(path_type=Path),
    default=_TOPOLOGY,
    show_default=True,
    help="The deployment: hosts, their roles, and profiles. SIGHUP reads it again.",
)
@click.option(
    "--nats",
    metavar="URL",
    default=EMBEDDED,
    envvar=NATS_VARIABLE,
    show_envvar=True,
    show_default=True,
    help="NATS server(s), separated by commas; or 'embedded' to start one on loopback.",
)
@click.option(
    "--nats-port",
    type=click.IntRange(1, 65535),
    default=embedded.DEFAULT_PORT,
    show_default=True,
    help="Port of the embedded NATS server.",
)
@in_data
@click.option("--verbose", is_flag=True, help="Log more.")
def serve(topology: Path, nats: str, nats_port: int, data: Path, verbose: bool) -> None:
    """Run the collector in the foreground until SIGINT or SIGTERM.

    \b
    Examples:
      reachmap serve --topology topology.toml
      reachmap serve --topology topology.toml --nats nats://nats-1.example:4222
    """
    log.configure(verbose=verbose)
    settings = ServeSettings(topology=topology, data=data, nats=_urls(nats), nats_port=nats_port)
    run_until_signal(lambda: run_collector(settings))
