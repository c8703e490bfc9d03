"""NATS's own keys and tokens: who vouches for whom. Pure.

    operator     signs accounts; the server trusts it
    └── account  signs its scopes: for each party a signing key, and what its bearers may do
        └── a signing key  signs users, who get the scope's permissions with their name filled in

So a server learns of a new agent from the agent's own token alone, whatever their number. The
claims are those of NATS's JWT format, version 2.
"""

import base64
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import nkeys

from reachmap_shared.permissions import TABLE, Party, Permissions

SEED_SIZE: Final = 32
"""Octets of randomness in a key (Ed25519)."""

OPERATOR: Final[int] = nkeys.PREFIX_BYTE_OPERATOR
ACCOUNT: Final[int] = nkeys.PREFIX_BYTE_ACCOUNT
USER: Final[int] = nkeys.PREFIX_BYTE_USER

_UNLIMITED: Final = dict.fromkeys(
    ("subs", "data", "payload", "imports", "exports", "conn", "leaf"), -1
)
_JETSTREAM: Final = dict.fromkeys(("mem_storage", "disk_storage", "streams", "consumer"), -1)
_NAME: Final = "{{name()}}"
"""What the server replaces by the name in a user's token."""

_MAX_SUBSCRIPTIONS: Final = 64
"""Of one agent: it has half a dozen."""


def new_seed(kind: int, entropy: bytes) -> str:
    """A new key's seed, of so many octets of randomness."""
    seed: bytes = nkeys.encode_seed(entropy, kind)
    return seed.decode()


def public_key(seed: str) -> str:
    """What a key is known by."""
    public: bytes = nkeys.from_seed(bytearray(seed.encode())).public_key
    return public.decode()


@dataclass(frozen=True, slots=True)
class Seeds:
    """The keys of a deployment's bus."""

    operator: str
    account: str
    system: str
    """The account of the server's own matters; nobody ever gets in there."""
    scopes: Mapping[Party, str]
    """The key that signs each party's users."""
    made: int
    """When, in Unix seconds."""


def operator_token(seeds: Seeds) -> str:
    """What a server trusts; never another, or a running one would take no new configuration."""
    claims = {"type": "operator", "system_account": public_key(seeds.system)}
    return _signed(seeds.operator, public_key(seeds.operator), "reachmap", claims, seeds.made)


def system_token(seeds: Seeds) -> str:
    """The account that a server wants for its own matters; JetStream must not be in there."""
    claims = {"type": "account", "limits": _UNLIMITED}
    return _signed(seeds.operator, public_key(seeds.system), "system", claims, seeds.made)


def account_token(seeds: Seeds, revoked: Mapping[str, int], issued: int) -> str:
    """The account that all of reachmap is in.

    Args:
        seeds: The deployment's keys.
        revoked: Users' keys, and the time in Unix seconds up to which their tokens are void.
        issued: Unix seconds.
    """
    claims = {
        "type": "account",
        "limits": {**_UNLIMITED, **_JETSTREAM, "wildcards": True},
        "signing_keys": [
            _scope(party, public_key(seed)) for party, seed in sorted(seeds.scopes.items())
        ],
        "revocations": dict(sorted(revoked.items())),
    }
    return _signed(seeds.operator, public_key(seeds.account), "reachmap", claims, issued)


def user_token(
    seeds: Seeds, party: Party, name: str, public: str, issued: int, expires: int | None = None
) -> str:
    """What one user shows; it says whose it is, and not what it may do."""
    claims = {"type": "user", "issuer_account": public_key(seeds.account)}
    return _signed(seeds.scopes[party], public, name, claims, issued, expires)


def credentials(token: str, seed: str) -> str:
    """A credentials file, as all NATS clients read it."""
    return (
        f"-----BEGIN NATS USER JWT-----\n{token}\n------END NATS USER JWT------\n\n"
        f"-----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n"
    )


def _scope(party: Party, public: str) -> dict[str, Any]:
    allowed: Permissions = TABLE[party].of(_NAME)
    return {
        "kind": "user_scope",
        "key": public,
        "role": str(party),
        "template": {
            "pub": {"allow": list(allowed.publish)},
            "sub": {"allow": list(allowed.subscribe)},
            "subs": _MAX_SUBSCRIPTIONS if party is Party.AGENT else -1,
            "data": -1,
            "payload": -1,
        },
    }


def _signed(
    seed: str,
    subject: str,
    name: str,
    nats: Mapping[str, Any],
    issued: int,
    expires: int | None = None,
) -> str:
    pair = nkeys.from_seed(bytearray(seed.encode()))
    claims: dict[str, Any] = {
        "iat": issued,
        "iss": pair.public_key.decode(),
        "name": name,
        "sub": subject,
        "nats": {**nats, "version": 2},
    }
    if expires is not None:
        claims["exp"] = expires
    digest = hashlib.sha256(_json(claims)).digest()
    claims["jti"] = base64.b32encode(digest).rstrip(b"=").decode()
    head = _base64(_json({"typ": "JWT", "alg": "ed25519-nkey"}))
    body = head + b"." + _base64(_json(claims))
    return (body + b"." + _base64(pair.sign(body))).decode()


def _json(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":"), sort_keys=True).encode()


def _base64(octets: bytes) -> bytes:
    return base64.urlsafe_b64encode(octets).rstrip(b"=")
