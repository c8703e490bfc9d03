"""URLs of NATS servers: what is one, and what of it may be shown. Pure."""

import re
from typing import Final
from urllib.parse import urlsplit

DEFAULT_URL: Final = "nats://127.0.0.1:4222"

_SCHEMES: Final = ("nats", "tls", "ws", "wss")
_BLANK: Final = re.compile(r"\s")


def is_nats_url(url: str) -> bool:
    """Whether the client can make sense of it; the scheme may be left out."""
    if _BLANK.search(url):
        return False
    try:
        parts = urlsplit(url if "://" in url else f"nats://{url}")
        return parts.scheme in _SCHEMES and bool(parts.hostname) and parts.port != 0
    except ValueError:  # its port is none, or its brackets do not match
        return False


def host_of(url: str) -> str | None:
    """The host that a server's URL names."""
    return urlsplit(url if "://" in url else f"nats://{url}").hostname


def without_password(url: str) -> str:
    """A server's URL, fit for a log: without the user and password that it may bear."""
    scheme, separator, rest = url.rpartition("://")
    return scheme + separator + rest.rpartition("@")[2]
