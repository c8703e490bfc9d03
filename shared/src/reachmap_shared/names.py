"""Identifiers: hosts (which are also agents), roles and services. Pure.

A host's name is one token of a NATS subject, so that the server's permissions can hold it to
one sender: letters, digits, `_` and `-`.
"""

import re
from dataclasses import dataclass
from typing import Final, Self

from reachmap_shared.errors import InvalidName

MAX_NAME: Final = 63
"""Characters in a host or role name: a DNS label's length (RFC 1035, 2.3.4)."""

_HOST = re.compile(rf"[A-Za-z0-9_-]{{1,{MAX_NAME}}}")
_ROLE = re.compile(rf"[a-z0-9](?:[a-z0-9-]{{0,{MAX_NAME - 1}}})")


def host_name(text: str) -> str:
    """Return `text` if it can name a host or an agent; raise InvalidName with the reason."""
    if not _HOST.fullmatch(text):
        raise InvalidName(
            f"{text!r} cannot name a host: expected 1 to {MAX_NAME} of A-Z a-z 0-9 _ -"
        )
    return text


def role_name(text: str) -> str:
    """Return `text` if it can name a role; raise InvalidName with the reason."""
    if not _ROLE.fullmatch(text):
        raise InvalidName(
            f"{text!r} cannot name a role: expected 1 to {MAX_NAME} of a-z 0-9 -, "
            "beginning with a letter or digit"
        )
    return text


def port_number(value: int) -> int:
    """Return `value` if it is a port that one can dial; raise InvalidName if not."""
    if not 1 <= value <= 65535:
        raise InvalidName(f"{value} is not a port: expected 1 to 65535")
    return value


@dataclass(frozen=True, slots=True, order=True)
class ServiceName:
    """A port that a role listens on, named `ROLE:PORT` after its default port."""

    role: str
    port: int

    def __str__(self) -> str:
        return f"{self.role}:{self.port}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `ROLE:PORT`; raise InvalidName with the reason."""
        role, colon, port = text.rpartition(":")
        if not colon or not port.isascii() or not port.isdigit() or len(port) > 5:
            raise InvalidName(f"{text!r} is not a service: expected ROLE:PORT, as in web:8080")
        return cls(role_name(role), port_number(int(port)))
