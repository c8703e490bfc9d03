"""`reachmap enroll`, `revoke` and `bus`: who may connect, and what its servers have to know."""

import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Final

import click
import tomli_w

from reachmap_collector import embedded
from reachmap_collector.cli import access
from reachmap_collector.cli.groups import Group
from reachmap_collector.errors import InvalidFile, Problem
from reachmap_collector.identity import servers
from reachmap_collector.identity.servers import Mode, Tls, User
from reachmap_collector.identity.store import Store
from reachmap_shared.access import write_secret
from reachmap_shared.bundle import Bundle
from reachmap_shared.names import host_name
from reachmap_shared.permissions import Party

_DAY_S: Final = 86_400

_SERVER_FILES: Final = Path("/etc/nats/reachmap")
"""Where a server's files are, unless somebody says else."""

_data = click.option(
    "--data",
    type=click.Path(path_type=Path, file_okay=False),
    default=access.default_data,
    help="The collector's data directory.  [default: this user's]",
)
_mode = click.option(
    "--mode",
    type=click.Choice([mode.value for mode in Mode]),
    help="By what the servers know who connects.  [default: what was used last, else jwt]",
)


@click.command()
@click.argument("host")
@_mode
@click.option(
    "--nats",
    metavar="URL",
    help="NATS server(s) for this host, separated by commas.  [default: the collector's]",
)
@click.option(
    "--ca",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    metavar="FILE",
    help="PEM of who vouches for them.  [default: the collector's]",
)
@click.option(
    "--days",
    type=click.IntRange(1),
    metavar="N",
    help="How long it is good (jwt).  [default: ever]",
)
@click.option(
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Write it there, for its owner alone.  [default: standard output]",
)
@click.option("--force", is_flag=True, help="Overwrite FILE; print the secret to a terminal.")
@_data
def enroll(
    host: str,
    mode: str | None,
    nats: str | None,
    ca: Path | None,
    days: int | None,
    output: Path | None,
    force: bool,
    data: Path,
) -> None:
    """Make credentials for one host's agent, and print the bundle that joins it to the bus.

    \b
    Examples:
      reachmap enroll pc-17 --output pc-17.toml      then, there: reachmap-agent join pc-17.toml
      reachmap enroll pc-17 | ssh root@pc-17 reachmap-agent join -
    """
    host_name(host)
    if output is None and _is_shown_to_people() and not force:
        raise click.UsageError(
            "a bundle is a secret: write it with --output FILE, pipe it, or insist with --force"
        )
    if output is not None and output.exists() and not force:
        raise click.UsageError(f"{output} is there already: --force overwrites it")
    store = _store(data)
    kind = Mode(mode) if mode else store.place.mode or Mode.JWT
    if days is not None and kind is not Mode.JWT:
        raise click.UsageError("--days: only in jwt mode do servers know an end")
    bundle = store.enroll(host, kind, int(time.time()) + days * _DAY_S if days else None)
    if nats:
        bundle = replace(bundle, nats=tuple(access.urls_of(nats, "--nats")))
    if ca is not None:
        bundle = replace(bundle, ca=ca.read_text())
    _warn_of_loopback(bundle, is_told=nats is not None)
    text = _text(bundle)
    if output is None:
        click.echo(text, nl=False)
    else:
        write_secret(output, text)
        click.echo(f"wrote {output}; on {host}: reachmap-agent join {output.name}")
    if kind is not Mode.JWT:
        click.echo(
            f"the servers have to know it too: reachmap bus config --mode {kind}, and reload them",
            err=True,
        )


@click.command()
@click.argument("host")
@click.option("--older", is_flag=True, help="Keep the newest: for after a host has joined anew.")
@_data
def revoke(host: str, older: bool, data: Path) -> None:
    """Void a host's credentials: whoever has them gets no further.

    \b
    Examples:
      reachmap revoke pc-17              it was stolen
      reachmap revoke pc-17 --older      it was enrolled anew, and has joined
    """
    store = _store(data)
    found = list(store.enrolled(host_name(host)))
    gone = found[:-1] if older else found
    if not gone:
        raise click.UsageError(f"{host} has no {'older ' if older else ''}credentials to revoke")
    store.revoke(gone)
    click.echo(f"revoked {len(gone)} of {len(found)} credentials of {host}")
    if embedded.reload(data):
        click.echo("our own NATS server knows, and has thrown them out")
    else:
        modes = sorted({one.mode.value for one in gone})
        for mode in modes:
            click.echo(
                f"the servers have to know: reachmap bus config --mode {mode}, and reload them "
                "(our own learns it when the collector starts)"
            )


@click.group(cls=Group)
def bus() -> None:
    """Prepare NATS servers of your own for reachmap."""


@bus.command("config")
@_mode
@click.option(
    "--users-only", is_flag=True, help="Only the entries, for a list of users that is there."
)
@click.option(
    "--agent",
    "agents",
    metavar="HOST=IDENTITY",
    multiple=True,
    help="A host that shows a certificate of yours: its DNS name or whole subject (repeatable).",
)
@click.option("--collector", metavar="IDENTITY", help="Likewise for the collector.")
@click.option("--operator", metavar="IDENTITY", help="Likewise for the command line.")
@click.option(
    "--server-files",
    type=click.Path(path_type=Path),
    default=_SERVER_FILES,
    show_default=True,
    help="Where the server has what `reachmap bus certificate` wrote (mtls).",
)
@_data
def config(
    mode: str | None,
    users_only: bool,
    agents: tuple[str, ...],
    collector: str | None,
    operator: str | None,
    server_files: Path,
    data: Path,
) -> None:
    """Print what a nats-server's configuration has to say, ready to include.

    \b
    Examples:
      reachmap bus config > /etc/nats/reachmap.conf     and: include "./reachmap.conf"
      reachmap bus config --mode nkey --users-only      into a list of users that is there
      reachmap bus config --mode mtls --agent "pc-17=CN=pc-17,OU=agent,O=Example"
    """
    store = Store(data)
    try:
        store.prepare()
    except OSError as error:
        raise InvalidFile(data, [Problem("", f"cannot keep keys: {error.strerror}")]) from error
    kind = Mode(mode) if mode else store.place.mode or Mode.JWT
    if not embedded.has_run(data):
        store.place = replace(store.place, mode=kind)
    if kind is Mode.JWT:
        if users_only:
            raise click.UsageError("--users-only: in jwt mode there is no list of users")
        text = servers.jwt_configuration(store.tokens())
    else:
        named = {Party.COLLECTOR: collector, Party.OPERATOR: operator}
        users = [*_users(store, kind, named), *map(_named_agent, agents)]
        text = servers.users_configuration(kind, users, entries_only=users_only)
        if kind is Mode.MTLS and not users_only:
            files = Tls(
                server_files / "server.pem", server_files / "server.key", server_files / "ca.pem"
            )
            text = servers.tls_configuration(files, maps=True) + text
    if not users_only:
        click.echo(_HEADS[kind], nl=False)
    click.echo(text, nl=False)


@bus.command()
@click.argument("names", nargs=-1, required=True)
@click.option(
    "--output",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="FOLDER",
    required=True,
    help="Where to write server.pem, server.key and ca.pem.",
)
@_data
def certificate(names: tuple[str, ...], output: Path, data: Path) -> None:
    """Make a certificate for a NATS server, by an authority of our own.

    \b
    Example:
      reachmap bus certificate nats-1.example 10.0.0.5 --output nats-1
    """
    store = Store(data)
    try:
        store.prepare()
        output.mkdir(parents=True, exist_ok=True)
        pair = store.new_server_pair(names)
        write_secret(output / "server.key", pair.key)
        (output / "server.pem").write_text(pair.certificate)
        (output / "ca.pem").write_text(store.ca.read_text())
        if not embedded.has_run(data):
            store.place = replace(store.place, ca=str(store.ca.absolute()))
    except OSError as error:
        raise InvalidFile(output, [Problem("", f"cannot be written: {error.strerror}")]) from error
    click.echo(f"wrote server.pem, server.key and ca.pem into {output}")


COMMANDS: Final = (enroll, revoke, bus)

_HEADS: Final = {
    Mode.JWT: (
        "# Lets in whom `reachmap enroll` gave credentials. The server needs besides:\n"
        '#   jetstream { store_dir: "/var/lib/nats" }\n'
        "#   tls { ... }, for all that is not loopback\n"
    ),
    Mode.NKEY: (
        "# Lets in whom `reachmap enroll` gave a key: print it again for each new one. The server\n"
        "# needs besides:\n"
        '#   jetstream { store_dir: "/var/lib/nats" }\n'
        "#   tls { ... }, for all that is not loopback\n"
    ),
    Mode.MTLS: (
        "# Lets in whom a certificate names: print it again for each new host. The server needs\n"
        "# besides:\n"
        '#   jetstream { store_dir: "/var/lib/nats" }\n'
    ),
}


def _is_shown_to_people() -> bool:
    return sys.stdout.isatty()


def _store(data: Path) -> Store:
    """The store of a bus that exists: new keys would open nothing."""
    store = Store(data)
    try:
        if store.place.mode is not None:
            return store
        (store.folder / "keys.json").stat()
    except PermissionError as error:
        reason = "is another user's: run this as the collector's user, or as root"
        raise InvalidFile(store.folder, [Problem("", reason)]) from error
    except OSError as error:
        reason = (
            "no bus is known there: start the collector first (reachmap serve), prepare a server "
            "(reachmap bus config), or say where with --data"
        )
        raise InvalidFile(store.folder, [Problem("", reason)]) from error
    return store


def _users(store: Store, mode: Mode, named: dict[Party, str | None]) -> list[User]:
    """Whom we gave keys or certificates, unless somebody shows a certificate of the site's."""
    known = [user for user in store.users(mode) if not named.get(user.party)]
    return [*(User(name, party) for party, name in named.items() if name), *known]


def _named_agent(text: str) -> User:
    name, equals, identity = text.partition("=")
    if not equals or not identity:
        raise click.UsageError(f"--agent: {text!r}: expected HOST=IDENTITY")
    return User(identity, Party.AGENT, host_name(name))


def _warn_of_loopback(bundle: Bundle, *, is_told: bool) -> None:
    if not bundle.nats:
        click.echo("no NATS server is known: say where with --nats, or on the host", err=True)
    elif not is_told and all("//127." in url or "//[::1]" in url for url in bundle.nats):
        click.echo(
            "the collector's NATS server listens on loopback alone: this bundle is of use on this "
            "machine only; start it with --nats-listen, or say where with --nats",
            err=True,
        )


def _text(bundle: Bundle) -> str:
    return (
        f"# Who {bundle.id} is on reachmap's bus: a secret, for `reachmap-agent join` there.\n"
        + tomli_w.dumps(bundle.document(), multiline_strings=True)
    )
