"""`reachmap serve`: the collector."""

import ipaddress
from pathlib import Path
from typing import Final

import click

from reachmap_collector import embedded
from reachmap_collector.app import ServeSettings
from reachmap_collector.app import serve as run_collector
from reachmap_collector.cli import access
from reachmap_collector.cli.options import NATS_VARIABLE, in_data
from reachmap_collector.embedded import Listening
from reachmap_collector.identity.servers import Tls
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
@click.option(
    "--nats-listen",
    metavar="ADDRESS",
    default=embedded.HOST,
    show_default=True,
    help="Where it listens; beyond loopback it speaks TLS alone. 0.0.0.0 is everywhere.",
)
@click.option(
    "--nats-name",
    "names",
    metavar="NAME",
    multiple=True,
    help="What agents know it by, a DNS name or an address (repeatable).  [default: ADDRESS, or "
    "this machine's own name]",
)
@click.option(
    "--nats-certificate",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    metavar="FILE",
    help="PEM of its certificate.  [default: by an authority of our own]",
)
@click.option(
    "--nats-key",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    metavar="FILE",
    help="PEM of the key for it.",
)
@access.accessed
@click.option("--verbose", is_flag=True, help="Log more.")
def serve(
    topology: Path,
    nats: str,
    nats_port: int,
    nats_listen: str,
    names: tuple[str, ...],
    nats_certificate: Path | None,
    nats_key: Path | None,
    data: Path,
    verbose: bool,
) -> None:
    """Run the collector in the foreground until SIGINT or SIGTERM.

    Its own NATS server lets in whom `reachmap enroll` gave credentials. With a server of yours,
    --creds and its like say what the collector shows to it, and --ca whom to believe.

    \b
    Examples:
      reachmap serve --topology topology.toml
      reachmap serve --topology topology.toml --nats-listen 0.0.0.0 --nats-name map.example
      reachmap serve --topology topology.toml --nats tls://nats-1.example:4222 --ca ca.pem
    """
    log.configure(verbose=verbose)
    urls = _urls(nats)
    given = access.given()
    tls = None
    if nats_certificate is not None and nats_key is not None:
        tls = Tls(nats_certificate, nats_key, given.ca if given else None)
    elif nats_certificate or nats_key:
        raise click.UsageError("--nats-certificate and --nats-key go together")
    listening = Listening(nats_port, _address(nats_listen), names, tls)
    settings = ServeSettings(topology, data, urls, listening, given if urls else None)
    run_until_signal(lambda: run_collector(settings))


def _address(text: str) -> str:
    try:
        return str(ipaddress.ip_address(text))
    except ValueError as error:
        raise click.UsageError(f"--nats-listen: {error}") from error
