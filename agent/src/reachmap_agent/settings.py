"""The agent's settings, from defaults, a TOML file, the environment and the command line.

Later ones win, key by key. A setting that cannot be used stops the agent with the reason.
"""

import ipaddress
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from reachmap_agent import discovery, paths
from reachmap_agent.identity import hostname
from reachmap_agent.limits import RANGES, ListenerLimits
from reachmap_agent.openuem import Found
from reachmap_shared.access import Access
from reachmap_shared.errors import InvalidName, InvalidSettings
from reachmap_shared.names import host_name, role_name
from reachmap_shared.permissions import inbox
from reachmap_shared.urls import DEFAULT_URL, is_nats_url, without_password

DEFAULT_PATH: Final = paths.config()

AUTO: Final = "auto"
"""Among the roles: what OpenUEM's own settings say."""

ENVIRONMENT: Final = {
    "nats": "REACHMAP_NATS_URL",
    "id": "REACHMAP_ID",
    "roles": "REACHMAP_ROLES",
    "addresses": "REACHMAP_ADDRESSES",
    "state": "REACHMAP_STATE",
    "certificate": "REACHMAP_CERTIFICATE",
    "key": "REACHMAP_KEY",
    "nats_credentials": "REACHMAP_NATS_CREDENTIALS",
    "nats_nkey": "REACHMAP_NATS_NKEY",
    "nats_ca": "REACHMAP_NATS_CA",
    "nats_certificate": "REACHMAP_NATS_CERTIFICATE",
    "nats_key": "REACHMAP_NATS_KEY",
}
ARGUMENTS: Final = {
    "nats": "--nats",
    "id": "--id",
    "roles": "--roles",
    "addresses": "--address",
    "state": "--state",
    "certificate": "--certificate",
    "key": "--key",
    "nats_credentials": "--nats-credentials",
    "nats_nkey": "--nats-nkey",
    "nats_ca": "--nats-ca",
    "nats_certificate": "--nats-certificate",
    "nats_key": "--nats-key",
}
"""Where else a setting may stand, by its key in the file."""

_LISTENERS: Final = "listeners"
"""The file's table of limits, which neither the environment nor the command line has."""

_DIAGNOSIS: Final = "diagnosis"
"""Whether broken flows are looked into: in the file alone, where its reason can stand beside it."""

_PATHS: Final = (
    *("state", "certificate", "key"),
    *("nats_credentials", "nats_nkey", "nats_ca", "nats_certificate", "nats_key"),
)


@dataclass(frozen=True, slots=True)
class Settings:
    """What an agent is told on its own host; all else comes with the plan."""

    nats: tuple[str, ...] = (DEFAULT_URL,)
    """URLs of NATS servers of one cluster; any will do."""
    id: str = ""
    """The host's name in the topology; empty for the first label of its own hostname."""
    roles: tuple[str, ...] = ()
    """What the host says it is, where the topology leaves it to say. `auto` among them stands for
    those that OpenUEM's own settings on this host tell of."""
    addresses: tuple[str, ...] = ()
    """Where others reach this host, and where listeners bind; empty finds out, binds everywhere."""
    state: Path = Path()
    """Directory for what must survive a restart; empty for the system's usual place."""
    certificate: Path | None = None
    """PEM that checks show to servers that ask for a certificate (mutual TLS); empty shows none."""
    key: Path | None = None
    """PEM of the key for it; empty when it stands in the same file."""
    nats_credentials: Path | None = None
    """What this host shows to the NATS server: credentials, as `reachmap enroll` makes them."""
    nats_nkey: Path | None = None
    """The seed of a key, which a server that knows it wants instead."""
    nats_ca: Path | None = None
    """PEM of who vouches for the NATS server; demands TLS. None for whom the system believes."""
    nats_certificate: Path | None = None
    """PEM, shown to a NATS server that asks for a certificate (mutual TLS)."""
    nats_key: Path | None = None
    """PEM of the key for it; None when it stands in the same file."""
    listeners: ListenerLimits = field(default_factory=ListenerLimits)
    """What strangers may take of the host's listeners."""
    diagnosis: bool = True
    """Whether to look into broken flows: off where a network takes a walk for a scan."""
    found: Found = field(default_factory=Found)
    """What OpenUEM's own settings on this host say, where `auto` is among the roles."""
    origins: Mapping[str, str] = field(default_factory=dict, compare=False)
    """Where each setting came from, for error messages."""

    @property
    def access(self) -> Access:
        """How this host connects to the bus."""
        return Access(
            credentials=self.nats_credentials,
            nkey=self.nats_nkey,
            ca=self.nats_ca,
            certificate=self.nats_certificate,
            key=self.nats_key,
            inbox=inbox(self.id),
        )


def load(
    path: Path | None, environment: Mapping[str, str], arguments: Mapping[str, Any]
) -> Settings:
    """Put the settings together.

    Args:
        path: A file that must exist, or None for /etc/reachmap/agent.toml if it does.
        environment: As os.environ.
        arguments: Settings from the command line; None where it is silent.

    Raises:
        InvalidSettings: Naming the setting, where it came from, and what was expected.
    """
    file = path or DEFAULT_PATH
    content = _file(path)
    limits = _limits(content.pop(_LISTENERS, {}), f"{file}: {_LISTENERS}")
    diagnosis = content.pop(_DIAGNOSIS, True)
    if not isinstance(diagnosis, bool):
        raise InvalidSettings(f"{file}: {_DIAGNOSIS}: expected true or false, got {diagnosis!r}")
    layers = (
        (content, {key: f"{file}: {key}" for key in ENVIRONMENT}),
        ({key: environment.get(name) for key, name in ENVIRONMENT.items()}, ENVIRONMENT),
        (arguments, ARGUMENTS),
    )
    values: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for layer, names in layers:
        for key, value in layer.items():
            if value not in (None, "", []):
                values[key] = _typed(key, value, names[key])
                origins[key] = names[key]
    found = Found()
    if AUTO in (roles := values.get("roles", ())):
        found = _found_out(origins["roles"])
        named = (role for role in roles if role != AUTO)
        values["roles"] = tuple(dict.fromkeys((*named, *found.roles)))
    settings = Settings(
        **values, listeners=limits, diagnosis=diagnosis, found=found, origins=origins
    )
    if settings.state == Path():
        settings = replace(settings, state=paths.state(environment))
    if not settings.id:
        settings = replace(settings, id=hostname().partition(".")[0])
    _check(settings)
    return settings


def _file(path: Path | None) -> dict[str, Any]:
    must_exist = path is not None
    path = path or DEFAULT_PATH
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        if isinstance(error, FileNotFoundError) and not must_exist:
            return {}
        raise InvalidSettings(f"{path}: cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:  # tomllib's own errors are ValueErrors
        raise InvalidSettings(f"{path}: not TOML: {error}") from error
    for key in content:
        if key not in (*ENVIRONMENT, _LISTENERS, _DIAGNOSIS):
            known = ", ".join((*ENVIRONMENT, _LISTENERS, _DIAGNOSIS))
            raise InvalidSettings(f"{path}: unknown key {key}: expected one of {known}")
    return content


def _limits(table: Any, origin: str) -> ListenerLimits:
    if not isinstance(table, dict):
        raise InvalidSettings(f"{origin}: expected a table")
    usual = ListenerLimits()
    for key, value in table.items():
        if key not in RANGES:
            raise InvalidSettings(
                f"{origin}: unknown key {key}: expected one of {', '.join(RANGES)}"
            )
        whole = isinstance(getattr(usual, key), int)
        least, most = RANGES[key]
        # To Python true is a 1, and 5.0 no whole number though it equals one.
        is_number = type(value) is int or (type(value) is float and not whole)
        if not (is_number and least <= value <= most):
            what = "a whole number" if whole else "a number of seconds"
            raise InvalidSettings(
                f"{origin}.{key}: expected {what} from {least} to {most}, got {value!r}"
            )
    return ListenerLimits(**table)


def _found_out(origin: str) -> Found:
    """What `auto` stands for."""
    try:
        return discovery.look()
    except OSError as error:
        raise InvalidSettings(
            f"{origin}: {AUTO}: {error.filename} cannot be read: {error.strerror}; let the agent's "
            "group read it, or name the roles"
        ) from error


def _typed(key: str, value: Any, origin: str) -> Any:
    if key in ("id", *_PATHS):
        if not isinstance(value, str):
            raise InvalidSettings(f"{origin}: expected a string")
        return Path(value) if key in _PATHS else value
    items = value.split(",") if isinstance(value, str) else value
    if not isinstance(items, list) or not all(isinstance(item, str) for item in items):
        raise InvalidSettings(f"{origin}: expected a string or a list of strings")
    return tuple(item.strip() for item in items if item.strip())


def _check(settings: Settings) -> None:
    """What the types do not say."""
    try:
        host_name(settings.id)
    except InvalidName as error:
        origin = settings.origins.get("id", "this machine's hostname")
        raise InvalidSettings(f"{origin}: {error}; choose one with --id") from error
    if settings.key is not None and settings.certificate is None:
        raise InvalidSettings(f"{settings.origins['key']}: a key is of no use without certificate")
    for role in settings.roles:
        try:
            role_name(role)
        except InvalidName as error:
            raise InvalidSettings(f"{settings.origins['roles']}: {error}") from error
    for address in settings.addresses:
        try:
            ipaddress.ip_address(address)
        except ValueError as error:
            raise InvalidSettings(f"{settings.origins['addresses']}: {error}") from error
    if not settings.nats:
        raise InvalidSettings(f"{settings.origins['nats']}: expected at least one NATS URL")
    for url in settings.nats:
        if not is_nats_url(url):
            origin = settings.origins["nats"]
            raise InvalidSettings(
                f"{origin}: {without_password(url)!r} is not a NATS URL such as {DEFAULT_URL}"
            )
