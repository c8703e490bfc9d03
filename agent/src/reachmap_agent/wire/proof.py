"""Proof of identity: a challenge, and the answer that only the right listener can give. Pure.

    challenge   nonce (16 bytes), id of the source (8), tag (8)
    proof       MAC (16 bytes), whom the listener saw (18), where it was reached (18)

The tag shows that somebody of this deployment asks: others get no answer. The MAC, by the key of
this pair of hosts, is over the challenge, the listener's host, and both ends of the connection as
the listener has them, so address translation and proxies on the way show. Text protocols carry
either in base64 (RFC 4648, 5) in whatever place they have for text.
"""

import base64
import hmac
import ipaddress
import re
from dataclasses import dataclass
from typing import Final

from reachmap_shared.keys import SOURCE_ID_SIZE, pair_key

Endpoint = tuple[str, int]
"""An IP address, without a zone, and a port."""

NONCE_SIZE: Final = 16
_TAG_SIZE: Final = 8
CHALLENGE_SIZE: Final = NONCE_SIZE + SOURCE_ID_SIZE + _TAG_SIZE

_MAC_SIZE: Final = 16
_ENDPOINT_SIZE: Final = 18
PROOF_SIZE: Final = _MAC_SIZE + 2 * _ENDPOINT_SIZE
SHORT_PROOF_SIZE: Final = PROOF_SIZE - _ENDPOINT_SIZE
"""Without where the listener was reached, for where there is no room to say so."""

_UNKNOWN: Final = bytes(_ENDPOINT_SIZE)
_MAPPED: Final = bytes(10) + b"\xff\xff"
"""What makes an IPv6 address of an IPv4 address (RFC 4291, 2.5.5.2)."""


@dataclass(frozen=True, slots=True)
class Reached:
    """What a listener that proved itself says of the connection."""

    seen: Endpoint
    """Where it came from."""
    at: Endpoint | None
    """Where it arrived; None where that was not told."""


@dataclass(frozen=True, slots=True)
class Challenge:
    """One question to a listener: who are you?"""

    destination: str
    """The host that should answer."""
    key: bytes
    """Of the pair of hosts."""
    octets: bytes
    """What is sent."""

    @property
    def text(self) -> bytes:
        """What is sent, for protocols made of text."""
        return _to_text(self.octets)

    def check(self, proof: bytes) -> Reached | None:
        """What the proof tells; None when it is none, or another's."""
        mac, ends = proof[:_MAC_SIZE], proof[_MAC_SIZE:].ljust(2 * _ENDPOINT_SIZE, b"\0")
        if not hmac.compare_digest(mac, _mac(self.key, self.octets, self.destination, ends)):
            return None
        seen, at = _unpacked(ends[:_ENDPOINT_SIZE]), _unpacked(ends[_ENDPOINT_SIZE:])
        return None if seen is None else Reached(seen, at)

    def check_text(self, answer: bytes) -> Reached | None:
        """Likewise, wherever in a text it may stand."""
        for proof in _found(answer, PROOF_SIZE):
            if (reached := self.check(proof)) is not None:
                return reached
        return None


@dataclass(frozen=True, slots=True)
class Challenger:
    """Who asks, and whom."""

    source: bytes
    """The id of the host that asks."""
    deployment: bytes
    """The deployment's key."""
    destination: str
    key: bytes
    """Of the pair of hosts."""

    def challenge(self, nonce: bytes) -> Challenge:
        """Ask; `nonce` is new each time."""
        asked = nonce + self.source
        return Challenge(self.destination, self.key, asked + _tag(self.deployment, asked))


@dataclass(frozen=True, slots=True)
class Identity:
    """Who a listener is, and may prove to be."""

    host: str
    key: bytes
    """The host's."""
    deployment: bytes

    def prove(self, challenge: bytes, seen: Endpoint, at: Endpoint | None) -> bytes:
        """The answer to a challenge; nothing to whoever is not of this deployment."""
        asked, tag = challenge[:-_TAG_SIZE], challenge[-_TAG_SIZE:]
        if len(challenge) != CHALLENGE_SIZE or not hmac.compare_digest(
            tag, _tag(self.deployment, asked)
        ):
            return b""
        ends = _packed(seen) + (_packed(at) if at is not None and at[0] else _UNKNOWN)
        key = pair_key(self.key, asked[NONCE_SIZE:])
        return _mac(key, challenge, self.host, ends) + ends

    def prove_text(self, asked: bytes, seen: Endpoint, at: Endpoint | None) -> bytes:
        """Likewise, to a challenge wherever it may stand in a text."""
        for challenge in _found(asked, CHALLENGE_SIZE):
            if proof := self.prove(challenge, seen, at):
                return _to_text(proof)
        return b""


def _tag(deployment: bytes, asked: bytes) -> bytes:
    return hmac.digest(deployment, b"challenge" + asked, "sha256")[:_TAG_SIZE]


def _mac(key: bytes, challenge: bytes, host: str, ends: bytes) -> bytes:
    told = b"proof" + challenge + ends + host.encode()
    return hmac.digest(key, told, "sha256")[:_MAC_SIZE]


def _packed(endpoint: Endpoint) -> bytes:
    address = ipaddress.ip_address(endpoint[0].partition("%")[0])
    prefix = _MAPPED if address.version == 4 else b""
    return prefix + address.packed + endpoint[1].to_bytes(2, "big")


def _unpacked(octets: bytes) -> Endpoint | None:
    if octets == _UNKNOWN:
        return None
    address, port = octets[:16], int.from_bytes(octets[16:], "big")
    return str(ipaddress.ip_address(address.removeprefix(_MAPPED))), port


def _to_text(octets: bytes) -> bytes:
    return base64.urlsafe_b64encode(octets).rstrip(b"=")


def _found(text: bytes, size: int) -> list[bytes]:
    """All that stands in a text and has as many letters as so many bytes have in base64."""
    letters = -(-size * 4 // 3)
    pattern = rb"(?<![A-Za-z0-9_-])[A-Za-z0-9_-]{%d}(?![A-Za-z0-9_-])" % letters
    padding = b"=" * (-letters % 4)
    return [base64.urlsafe_b64decode(match + padding) for match in re.findall(pattern, text)]
