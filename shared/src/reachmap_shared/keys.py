"""The keys by which a listener proves who it is: each derived from the one above. Pure.

    the deployment's secret            never leaves the collector
    ├── the deployment's key           every agent: "I belong here"
    └── a host's key                   that host's agent alone
        └── a pair's key               and the agent of one source

So whoever takes over an endpoint can answer for that endpoint, and for no other. Derivation is
HMAC-SHA-256 with a label (as in RFC 5869, 2.3, with one block).
"""

import base64
import hashlib
import hmac
from typing import Final

PAIR_KEY_SIZE: Final = 16
"""A plan holds one for each check, and 128 bits are enough for a MAC of 128."""
SOURCE_ID_SIZE: Final = 8


def deployment_key(secret: bytes) -> bytes:
    """What every agent of a deployment shares; it opens nothing but a listener's mouth."""
    return _derived(secret, b"deployment")


def host_key(secret: bytes, host: str) -> bytes:
    """What a host's own listeners answer by."""
    return _derived(secret, b"host/" + host.encode())


def pair_key(key_of_host: bytes, source: bytes) -> bytes:
    """What one source, by its id, expects that host's listeners to answer by."""
    return _derived(key_of_host, b"source/" + source)[:PAIR_KEY_SIZE]


def source_id(source: str) -> bytes:
    """A host's name for the wire: short, and telling nothing to those who do not know it."""
    return hashlib.blake2b(source.encode(), digest_size=SOURCE_ID_SIZE, person=b"reachmap").digest()


def request_mac(key_of_pair: bytes, *said: str | int) -> str:
    """Proves that who says this to a pair's destination has the pair's key from its plan."""
    label = "request/" + "/".join(map(str, said))
    return to_text(_derived(key_of_pair, label.encode())[:PAIR_KEY_SIZE])


def to_text(key: bytes) -> str:
    """A key as plans have it: base64 for URLs, without padding (RFC 4648, 5)."""
    return base64.urlsafe_b64encode(key).rstrip(b"=").decode()


def from_text(text: str) -> bytes:
    """Back again; raises ValueError when it is no such text."""
    return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)


def _derived(key: bytes, label: bytes) -> bytes:
    return hmac.digest(key, label, "sha256")
