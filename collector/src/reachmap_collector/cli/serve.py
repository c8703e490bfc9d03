"""`reachmap serve`: the collector."""

import ipaddress
import os
from pathlib import Path
from typing import Final

import click

from reachmap_collector import embedded
from reachmap_collector.app import ServeSettings
from reachmap_collector.app import serve as run_collector
from reachmap_collector.cli import access
from reachmap_collector.cli.access import NATS_VARIABLE
from reachmap_collector.cli.options import STORE_VARIABLE, in_data
from reachmap_collector.embedded import Listening
from reachmap_collector.http import HttpSettings, http_settings
from reachmap_collector.identity.servers import Tls
from reachmap_collector.streams import StreamSettings
from reachmap_shared import log
from reachmap_shared.errors import InvalidSettings
from reachmap_shared.lifecycle import run_until_signal

EMBEDDED: Final = "embedded"

_TOPOLOGY: Final = Path("/etc/reachmap/topology.toml")
_CONFIG: Final = "collector.toml"


def _urls(nats: str) -> tuple[str, ...] | None:
    """The servers that --nats names; None for one of our own."""
    if nats == EMBEDDED:
        return None
    return tuple(access.urls_of(nats, "--nats", or_else=EMBEDDED))


def _http(listen: str | None, *files: Path | None) -> HttpSettings | None:
    if listen is None:
        if any(files):
            raise click.UsageError("--http-...: expected --http ADDRESS:PORT too")
        return None
    try:
        return http_settings(listen, *files)
    except InvalidSettings as error:
        raise click.UsageError(str(error)) from error


@click.command()
@click.option(
    "--topology",
    type=click.Path(path_type=Path),
    default=_TOPOLOGY,
    show_default=True,
    help="The deployment: hosts, their roles, and profiles. SIGHUP reads it again.",
)
@click.option(
    "--config",
    type=click.Path(path_type=Path),
    help="Rules and outlets for alerts. SIGHUP reads it again.  "
    f"[default: {_CONFIG} beside the topology, if it is there]",
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
    "--store",
    metavar="URL",
    envvar=STORE_VARIABLE,
    show_envvar=True,
    help="Where history is kept: sqlite:///PATH or postgresql://USER@HOST/DATABASE.  [default: "
    "reachmap.sqlite in the data directory]",
)
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
@click.option(
    "--nats-replicas",
    "replicas",
    type=click.IntRange(1, 5),
    metavar="N",
    help="How many servers of a cluster keep reports and plans: 3 bears the loss of one.",
)
@click.option(
    "--http",
    "listen",
    metavar="ADDRESS:PORT",
    help="Serve the HTTP API and metrics here. Beyond loopback it needs a token and a certificate."
    "  [default: off]",
)
@click.option(
    "--http-token-file",
    type=click.Path(path_type=Path),
    help="File with the token that clients of the HTTP API have to show.",
)
@click.option(
    "--http-certificate",
    type=click.Path(path_type=Path),
    help="PEM file with the HTTP API's certificate and its chain: it speaks TLS then.",
)
@click.option(
    "--http-key",
    type=click.Path(path_type=Path),
    help="PEM file with the certificate's key.  [default: in the certificate's file]",
)
@access.accessed
@click.option("--verbose", is_flag=True, help="Log more.")
def serve(
    topology: Path,
    config: Path | None,
    nats: str,
    nats_port: int,
    nats_listen: str,
    names: tuple[str, ...],
    nats_certificate: Path | None,
    nats_key: Path | None,
    replicas: int | None,
    data: Path,
    store: str | None,
    listen: str | None,
    http_token_file: Path | None,
    http_certificate: Path | None,
    http_key: Path | None,
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
      reachmap serve --topology topology.toml --http 127.0.0.1:8686
    """
    api = _http(listen, http_token_file, http_certificate, http_key)
    log.configure(verbose=verbose)
    # Beside the topology: a trial of another one must not ring where the real one does.
    if config is None and os.path.lexists(topology.parent / _CONFIG):
        config = topology.parent / _CONFIG
    urls = _urls(nats)
    given = access.given()
    tls = None
    if nats_certificate is not None and nats_key is not None:
        tls = Tls(nats_certificate, nats_key, given.ca if given else None)
    elif nats_certificate or nats_key:
        raise click.UsageError("--nats-certificate and --nats-key go together")
    listening = Listening(nats_port, _address(nats_listen), names, tls)
    settings = ServeSettings(
        topology,
        data,
        urls,
        listening,
        given if urls else None,
        store,
        api,
        config,
        StreamSettings(replicas=replicas),
    )
    run_until_signal(lambda: run_collector(settings))


def _address(text: str) -> str:
    try:
        return str(ipaddress.ip_address(text))
    except ValueError as error:
        raise click.UsageError(f"--nats-listen: {error}") from error


COMMANDS: Final = (serve,)
