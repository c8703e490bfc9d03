"""NTP, over UDP: a client's packet and the server's reply (RFC 5905). Pure.

The clock plays no part: what a client says its time is comes back as it was sent, so a number of
our own does, and tells the reply to this packet from any other (RFC 9109).
"""

import hashlib
from dataclasses import replace
from typing import Final

from reachmap_agent.wire.exchange import (
    Exchange,
    Offer,
    Silence,
    StandIn,
    Target,
    Verdict,
    answered,
    shown,
    signature,
    wrong_service,
)
from reachmap_shared.vocabulary import Outcome

_SIZE: Final = 48
_VERSION: Final = 4 << 3
_MODE: Final = 0x07
_CLIENT: Final = 3
_SERVER: Final = 4
_QUESTION: Final = bytes([_VERSION | _CLIENT]) + bytes(39)
"""All but the time of transmission, which is where our number goes."""
_UNSYNCHRONIZED: Final = 3 << 6
"""The leap indicator of a clock that is not set."""
_STRATA: Final = range(1, 16)

_REFERENCE_ID: Final = slice(12, 16)
_REFERENCE_TIME: Final = slice(16, 24)
_ORIGIN: Final = slice(24, 32)
_TRANSMIT: Final = slice(40, 48)

_OURS: Final = b"XRMP"
"""A kiss code, of those that begin with X and mean nothing to anybody else (7.4)."""


def check(target: Target) -> Exchange:
    """Ask for the time."""
    number = hashlib.sha256(target.token.encode()).digest()[:8]
    try:
        reply = yield _QUESTION + number
    except Silence:
        return Verdict(Outcome.TIMEOUT, ("no answer to an NTP packet",))
    if len(reply) < _SIZE or reply[0] & _MODE != _SERVER or reply[_ORIGIN] != number:
        return wrong_service("an NTP server's reply", reply)
    stratum = reply[1]
    if stratum == 0 and reply[_REFERENCE_ID] == _OURS:
        return answered(target, signature(reply[_REFERENCE_TIME].hex()), "an NTP reply")
    verdict = answered(target, b"", f"an NTP reply, stratum {stratum}")
    if stratum in _STRATA and reply[0] & _UNSYNCHRONIZED != _UNSYNCHRONIZED:
        return verdict
    words = "it does not know the time"
    if stratum == 0 and any(reply[_REFERENCE_ID]):
        words += f", and says {shown(reply[_REFERENCE_ID])}"
    return replace(verdict, evidence=(*verdict.evidence, words), healthy=False)


def stand_in(offer: Offer) -> StandIn:
    """Reply to our own packet, as a server does that knows no time; to others not at all.

    The token takes the place of a time of 8 bytes.
    """
    packet = yield b""
    if len(packet) != _SIZE or not packet.startswith(_QUESTION):
        return b""
    head = bytes([_UNSYNCHRONIZED | _VERSION | _SERVER]) + bytes(11)
    return head + _OURS + bytes.fromhex(offer.token) + packet[_TRANSMIT] + bytes(16)
