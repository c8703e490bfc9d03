"""Where a command finds the bus, and how it connects.

By --nats and files, by a context of the nats command line, or by what this user's collector keeps.
"""

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

import click
from click.core import ParameterSource

from reachmap_collector.identity.store import Store
from reachmap_shared.access import ANYBODY, Access
from reachmap_shared.permissions import INBOX, Party
from reachmap_shared.urls import DEFAULT_URL, is_nats_url, without_password

Command = TypeVar("Command", bound=Callable[..., Any])

NATS_VARIABLE: Final = "REACHMAP_NATS_URL"

_GIVEN: Final = "reachmap_collector.cli.access"
"""Where a command's invocation keeps what its options say."""

_OPTIONS: Final = {
    "credentials": ("--creds", "REACHMAP_NATS_CREDENTIALS", "NATS credentials to show."),
    "nkey": ("--nkey", "REACHMAP_NATS_NKEY", "The seed of a key that the server knows, instead."),
    "ca": ("--ca", "REACHMAP_NATS_CA", "PEM of who vouches for the server; demands TLS."),
    "certificate": ("--certificate", "REACHMAP_NATS_CERTIFICATE", "PEM to show (mutual TLS)."),
    "key": ("--key", "REACHMAP_NATS_KEY", "The key for it, if in a file of its own."),
}

_CONTEXT_FILES: Final = {
    "creds": "credentials",
    "nkey": "nkey",
    "ca": "ca",
    "cert": "certificate",
    "key": "key",
}
_CONTEXT_WORDS: Final = {
    "user": "user",
    "password": "password",
    "token": "token",
    "inbox_prefix": "inbox",
}


@dataclass(frozen=True, slots=True)
class Server:
    """Where the bus is, and how to connect to it."""

    urls: list[str]
    access: Access


def default_data() -> Path:
    """Where this user's collector keeps its state; as a service, where systemd says."""
    if given := os.environ.get("STATE_DIRECTORY"):
        return Path(given.partition(":")[0])
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        return Path("/var/lib/reachmap-collector")
    state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(state) / "reachmap"


def accessed(command: Command) -> Command:
    """How to connect: --creds, --nkey, --ca, --certificate, --key; `given` returns them."""

    def keep(context: click.Context, parameter: click.Parameter, value: Path | None) -> None:
        if value is not None and parameter.name is not None:
            context.meta.setdefault(_GIVEN, {})[parameter.name] = value

    for name, (option, variable, what) in reversed(_OPTIONS.items()):
        command = click.option(
            option,
            name,
            type=click.Path(path_type=Path, dir_okay=False),
            metavar="FILE",
            envvar=variable,
            show_envvar=True,
            expose_value=False,
            callback=keep,
            help=what,
        )(command)
    return command


def given() -> Access | None:
    """What the command's options say; None when they are silent."""
    invocation = click.get_current_context(silent=True)
    found = invocation.meta.get(_GIVEN) if invocation else None
    return Access(**found) if found else None


def server(nats: str | None, context: str | None) -> Server:
    """The servers that the options mean, and how to connect to them."""
    if nats and context and is_typed("nats"):
        raise click.UsageError("--nats and --context both say where the bus is: give one")
    files = given()
    if context:
        found = _of_context(context)
        return Server(found.urls, files) if files else found
    urls = urls_of(nats, "--nats" if is_typed("nats") else NATS_VARIABLE) if nats else None
    if files is None and (kept := _kept_here(urls)):
        return kept
    return Server(urls or [DEFAULT_URL], files or ANYBODY)


def urls_of(text: str, origin: str, *, or_else: str = "") -> list[str]:
    """The servers that a text of `origin` names; `or_else` is what it might have said instead."""
    urls = [url.strip() for url in text.split(",")]
    for url in urls:
        if not is_nats_url(url):
            said = f"{origin}: {without_password(url)!r} is "
            such = f"a NATS URL such as {DEFAULT_URL}"
            known = f"neither {such} nor {or_else!r}" if or_else else f"not {such}"
            raise click.UsageError(said + known)
    return urls


def _of_context(name: str) -> Server:
    """A context as the nats command line keeps it (NATS architecture record 21)."""
    base = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    path = Path(base) / "nats" / "context" / f"{name}.json"
    try:
        said = json.loads(path.read_text())
        url = said["url"]
        if not url:
            raise ValueError("the url is empty")
    except OSError as error:
        raise click.UsageError(f"no context {name!r}: {path}: {error.strerror}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise click.UsageError(f"context {name!r} names no server: {path}") from error
    for key in (*_CONTEXT_FILES, *_CONTEXT_WORDS):
        if not isinstance(said.get(key, ""), str):
            raise click.UsageError(f"context {name!r}: {key}: expected a string: {path}")
    files = {
        field: Path(said[key]).expanduser()
        for key, field in _CONTEXT_FILES.items()
        if said.get(key)
    }
    words = {field: said[key] for key, field in _CONTEXT_WORDS.items() if said.get(key)}
    return Server(urls_of(str(url), f"context {name!r}: {path}"), _access(files, words))


def _access(files: Mapping[str, Path], words: Mapping[str, str]) -> Access:
    return Access(**files, **{"inbox": INBOX, **words})  # type: ignore[arg-type]  # strings go to strings, files to files


def _kept_here(urls: list[str] | None) -> Server | None:
    """What this user's collector keeps of its bus, if it is the bus that is meant."""
    store = Store(default_data())
    place = store.place
    if place.mode is None or not place.urls or (urls is not None and set(urls) - set(place.urls)):
        return None
    return Server(urls or list(place.urls), store.access(Party.OPERATOR, place.mode))


def is_typed(option: str) -> bool:
    """Whether an option stands on the command line, and not just in the environment."""
    invocation = click.get_current_context(silent=True)
    return (
        invocation is None or invocation.get_parameter_source(option) is ParameterSource.COMMANDLINE
    )
