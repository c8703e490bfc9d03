"""Which roles of OpenUEM this host has, from the lines of OpenUEM's own settings. Pure.

The server's file holds the database's password and a signing key in clear. So no parser reads it
into an object: each line is looked at by itself, and only the values of the keys that are named
here are ever taken from it. Its formats and defaults are those of OpenUEM's sources.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final

from reachmap_shared.errors import InvalidName
from reachmap_shared.names import port_number

COMPONENTS: Final = {
    "nats": "nats-server",
    "ocsp": "ocsp-responder",
    "console": "console",
    "agentworker": "agent-worker",
    "certmanagerworker": "cert-manager-worker",
    "notificationworker": "notification-worker",
}
"""Roles by the server's keys in `[Components]`."""

ON_EVERY_SERVER: Final = "server-updater"
ON_EVERY_ENDPOINT: Final = ("agent", "agent-updater")

_SERVER_PORTS: Final = {
    ("nats", "natsport"): "nats-server:4433",
    ("nats", "natsclusterport"): "nats-server:4444",
    ("ocsp", "ocspport"): "ocsp-responder:8000",
    ("console", "port"): "console:1323",
    ("console", "authport"): "console:1324",
}
_AGENT_PORTS: Final = {
    ("agent", "sftpport"): "agent:2022",
    ("agent", "vncproxyport"): "agent:1443",
}
"""Services by the keys that say where they are."""

_TARGETS: Final = {
    ("nats", "natsserver"): "nats-server",
    ("nats", "natsservers"): "nats-server",
    ("nats", "natsotherservers"): "nats-server",
    ("db", "postgreshost"): "postgres",
}
"""Roles of other hosts by the keys that name these."""

_SWITCHED_OFF: Final = {("agent", "sftpdisabled"): "agent:2022"}
"""Services by the keys that turn them off."""

_LONGEST_NAME: Final = 253
"""Of DNS."""

_YES: Final = frozenset({"yes", "true", "1", "on"})
_SECTION: Final = re.compile(r"\s*\[([^\]]+)\]")
_LINE: Final = re.compile(r"\s*([A-Za-z]+)\s*[=:]")
_HOST: Final = re.compile(r"(?:[a-z]+://)?(?P<host>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::\d+)?")


@dataclass(frozen=True, slots=True)
class Found:
    """What the files say of this host."""

    roles: tuple[str, ...] = ()
    """Roles, by the names of the profile `openuem`."""
    ports: dict[str, int] = field(default_factory=dict)
    """Where its services listen, by the service's name; only what the files say."""
    targets: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Hosts that it is told to reach, by their role."""
    disabled: tuple[str, ...] = ()
    """Services that are switched off."""


def server(lines: Iterable[str]) -> Found:
    """What the file of the server's components says."""
    wanted = {("components", key) for key in COMPONENTS} | _SERVER_PORTS.keys() | _TARGETS.keys()
    values = dict(_values(lines, wanted))
    roles = [
        role
        for key, role in COMPONENTS.items()
        if values.get(("components", key), "").lower() in _YES
    ]
    if not roles:
        return Found()
    ports = _ports(values, _SERVER_PORTS)
    kept = {service: port for service, port in ports.items() if service.split(":")[0] in roles}
    return Found((*roles, ON_EVERY_SERVER), kept, _targets(values))


def agent(lines: Iterable[str]) -> Found:
    """What the file of OpenUEM's agent says."""
    wanted = _AGENT_PORTS.keys() | _SWITCHED_OFF.keys() | _TARGETS.keys()
    values = dict(_values(lines, wanted))
    off = [
        service for place, service in _SWITCHED_OFF.items() if values.get(place, "").lower() in _YES
    ]
    ports = {
        service: port
        for service, port in _ports(values, _AGENT_PORTS).items()
        if service not in off
    }
    return Found(ON_EVERY_ENDPOINT, ports, _targets(values), tuple(off))


def together(*parts: Found) -> Found:
    """What several files say of one host."""
    targets: dict[str, tuple[str, ...]] = {}
    for part in parts:
        for role, hosts in part.targets.items():
            targets[role] = tuple(dict.fromkeys((*targets.get(role, ()), *hosts)))
    return Found(
        tuple(dict.fromkeys(role for part in parts for role in part.roles)),
        {service: port for part in parts for service, port in part.ports.items()},
        targets,
        tuple(dict.fromkeys(service for part in parts for service in part.disabled)),
    )


Reader = Callable[[Iterable[str]], Found]

Place = tuple[str, str]
"""A section and a key, in small letters: OpenUEM's own parser tells none apart by case."""


def _values(lines: Iterable[str], wanted: set[Place]) -> Iterator[tuple[Place, str]]:
    """The values of keys that are wanted; the rest of a line that is not is never looked at."""
    section = ""
    for line in lines:
        if header := _SECTION.match(line):
            section = header[1].strip().lower()
        elif (key := _LINE.match(line)) and (place := (section, key[1].lower())) in wanted:
            yield place, _unquoted(line[key.end() :])


def _unquoted(text: str) -> str:
    text = text.strip()
    for quote in "\"'`":
        if text.startswith(quote):
            return text[1:].partition(quote)[0]
    return re.split(r"\s[;#]", text)[0].strip()


def _ports(values: dict[Place, str], services: dict[Place, str]) -> dict[str, int]:
    found = {}
    for place, service in services.items():
        try:
            found[service] = port_number(int(values[place]))
        except (KeyError, ValueError, InvalidName):  # not there, or no port: the default holds
            continue
    return found


def _targets(values: dict[Place, str]) -> dict[str, tuple[str, ...]]:
    """Hosts' names alone: a URL may have a user and a password before its host."""
    found: dict[str, tuple[str, ...]] = {}
    for place, role in _TARGETS.items():
        names = [
            match["host"].strip("[]")
            for part in values.get(place, "").split(",")
            if (match := _HOST.fullmatch(_without_user(part.strip())))
            and len(match["host"]) <= _LONGEST_NAME
        ]
        if names:
            found[role] = tuple(dict.fromkeys((*found.get(role, ()), *names)))
    return found


def _without_user(url: str) -> str:
    scheme, separator, rest = url.rpartition("://")
    return scheme + separator + rest.rpartition("@")[2]
