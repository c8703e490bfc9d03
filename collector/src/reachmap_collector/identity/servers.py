"""What a nats-server's configuration must say, for each way to run the bus. Pure.

The server's syntax is JSON's, without its escapes by number, with comments.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

from reachmap_shared.permissions import TABLE, Party, Permissions


class Mode(StrEnum):
    """A way to run the bus: by what a server knows who connects."""

    JWT = "jwt"
    NKEY = "nkey"
    MTLS = "mtls"


@dataclass(frozen=True, slots=True)
class Tls:
    """A server's certificate."""

    certificate: Path
    key: Path
    ca: Path | None = None
    """Who vouches for clients, where they must show a certificate."""


@dataclass(frozen=True, slots=True)
class Tokens:
    """What a server is told in the way of JWTs."""

    operator: str
    system: str
    """The system account's public key."""
    accounts: tuple[tuple[str, str], ...]
    """Public keys and tokens of all accounts."""


@dataclass(frozen=True, slots=True)
class User:
    """One line of a server's list of users."""

    identity: str
    """A public nkey, or what stands in a certificate: a DNS name, or its whole subject."""
    party: Party
    agent: str = ""
    """Whose subjects it may use, if it is an agent."""


def quoted(text: object) -> str:
    """A string as the server reads it."""
    return json.dumps(str(text), ensure_ascii=False)


def jwt_configuration(tokens: Tokens) -> str:
    """Trust an operator, and hold its accounts in memory."""
    preloaded = "".join(f"  {key}: {token}\n" for key, token in tokens.accounts)
    return (
        "# Who may do what stands in the account's token; each agent's own token says who it is.\n"
        "# So this part changes when somebody is revoked, and never for a new agent.\n"
        f"operator: {tokens.operator}\n"
        f"system_account: {tokens.system}\n"
        f"resolver: MEMORY\n"
        f"resolver_preload {{\n{preloaded}}}\n"
    )


def users_configuration(mode: Mode, users: Iterable[User], *, entries_only: bool = False) -> str:
    """List every user with what it may do; `entries_only` fits into a list that is there."""
    key = "nkey" if mode is Mode.NKEY else "user"
    entries = "".join(_entry(key, user) for user in users)
    if entries_only:
        return entries
    return f"authorization {{\n  users: [\n{entries}  ]\n}}\n"


def tls_configuration(tls: Tls, *, maps: bool = False) -> str:
    """Speak TLS alone; with `maps` the certificate that a client shows says who it is."""
    lines = [f"  cert_file: {quoted(tls.certificate)}", f"  key_file: {quoted(tls.key)}"]
    if tls.ca is not None:
        lines.append(f"  ca_file: {quoted(tls.ca)}")
    if maps:
        lines.append("  verify_and_map: true")
    return "tls {\n" + "\n".join(lines) + "\n}\n"


_COMMENTS: Final = {
    Party.AGENT: "the agent on {agent}",
    Party.COLLECTOR: "the collector",
    Party.OPERATOR: "the command line",
}


def _entry(key: str, user: User) -> str:
    allowed: Permissions = TABLE[user.party]
    if user.party is Party.AGENT:
        allowed = allowed.of(user.agent)
    comment = _COMMENTS[user.party].format(agent=user.agent)
    return (
        f"    # {comment}\n"
        f"    {{ {key}: {quoted(user.identity)}, permissions: {{\n"
        f"      publish: {{ allow: [{', '.join(map(quoted, allowed.publish))}] }}\n"
        f"      subscribe: {{ allow: [{', '.join(map(quoted, allowed.subscribe))}] }} }} }}\n"
    )
