"""What is looked at, and what each step leaves to those after it."""

import contextlib
import ssl
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final
from urllib.parse import urlsplit

from reachmap_agent.settings import Settings
from reachmap_shared.bus import Bus
from reachmap_shared.messages import Plan

_PORTS: Final = {"ws": 80, "wss": 443}
_NATS_PORT: Final = 4222


@dataclass(frozen=True, slots=True)
class Server:
    """A server of the bus, by its URL."""

    url: str
    scheme: str
    host: str
    port: int

    @classmethod
    def of(cls, url: str) -> "Server":
        """Its parts; the settings have seen to it that there are any."""
        parts = urlsplit(url if "://" in url else f"nats://{url}")
        port = parts.port or _PORTS.get(parts.scheme, _NATS_PORT)
        return cls(url, parts.scheme, parts.hostname or "", port)

    @property
    def is_websocket(self) -> bool:
        """Whether HTTP is spoken first."""
        return self.scheme in _PORTS


@dataclass(frozen=True, slots=True)
class Told:
    """Somebody else's time."""

    who: str
    skew: timedelta
    """How far this host's clock is ahead of it."""
    least: bool = False
    """Whether it is a time that has been: then only a clock behind it is known to be wrong."""


@dataclass(slots=True)
class Patient:
    """One host, and one way to the bus; None and empty until the step that finds it was taken."""

    settings: Settings
    leaving: contextlib.AsyncExitStack
    """Ends what steps leave open."""
    server: Server
    addresses: tuple[str, ...] = ()
    """What its name resolved to and has a route to."""
    address: str = ""
    """Where its port is open."""
    greeting: bytes = b""
    """Its first line."""
    info: dict[str, Any] = field(default_factory=dict)
    """What that says."""
    context: ssl.SSLContext | None = None
    """By which its certificate was believed."""
    chain: tuple[bytes, ...] = ()
    """DER of its certificate and of those that vouch for it, as far as they were shown."""
    connection: Bus | None = None
    times: list[Told] = field(default_factory=list)
    """The best first."""
    plan_on_bus: bool | None = None
    """Whether the bus has a plan for this host."""
    plan: Plan | None = None
