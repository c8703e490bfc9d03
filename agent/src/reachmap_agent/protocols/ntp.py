"""NTP, over UDP: a client's packet and the server's reply (RFC 5905). Pure.

The clock plays no part: what a client says its time is comes back as it was sent, so a number of
our own does, and tells the reply to this packet from any other (RFC 9109). Where a listener may
stand in, that number is the challenge's end; the rest stands in the three times before, at which
no server looks.
"""

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
    proven,
    shown,
    wrong_service,
)
from reachmap_shared.vocabulary import Outcome

_SIZE: Final = 48
_VERSION: Final = 4 << 3
_MODE: Final = 0x07
_CLIENT: Final = 3
_SERVER: Final = 4
_HEAD: Final = bytes([_VERSION | _CLIENT]) + bytes(15)
"""Of our packet, before its four times."""
_NUMBER: Final = b"reachmap"
"""In place of a time, where there is nobody to challenge."""
_UNSYNCHRONIZED: Final = 3 << 6
"""The leap indicator of a clock that is not set."""
_STRATA: Final = range(1, 16)

_REFERENCE_ID: Final = slice(12, 16)
_ORIGIN: Final = slice(24, 32)
_TRANSMIT: Final = slice(40, 48)
_PROOF: Final = (slice(32, 48), slice(16, 24), slice(2, 12))
"""Where a stand-in has it: the times of receipt and transmission, of reference, and before those
how often to ask, how exact it is, and how far from the source."""

_OURS: Final = b"XRMP"
"""A kiss code, of those that begin with X and mean nothing to anybody else (7.4)."""


def check(target: Target) -> Exchange:
    """Ask for the time."""
    asked = target.challenge.octets if target.challenge else _NUMBER.rjust(32, b"\0")
    try:
        reply = yield _HEAD + asked
    except Silence:
        return Verdict(Outcome.TIMEOUT, ("no answer to an NTP packet",))
    if len(reply) < _SIZE or reply[0] & _MODE != _SERVER or reply[_ORIGIN] != asked[-8:]:
        return wrong_service("an NTP server's reply", reply)
    stratum = reply[1]
    if target.challenge is not None and stratum == 0 and reply[_REFERENCE_ID] == _OURS:
        proof = b"".join(reply[place] for place in _PROOF)
        return proven(target.challenge.check(proof))
    verdict = answered(f"an NTP reply, stratum {stratum}")
    if stratum in _STRATA and reply[0] & _UNSYNCHRONIZED != _UNSYNCHRONIZED:
        return verdict
    words = "it does not know the time"
    if stratum == 0 and any(reply[_REFERENCE_ID]):
        words += f", and says {shown(reply[_REFERENCE_ID])}"
    return replace(verdict, evidence=(*verdict.evidence, words), healthy=False)


def stand_in(offer: Offer) -> StandIn:
    """Reply to our own packet, as a server does that knows no time; to others not at all.

    The proof takes the places of what such a server could not know either.
    """
    packet = yield b""
    if len(packet) != _SIZE or not packet.startswith(_HEAD):
        return b""
    proof = offer.prove_short(packet[len(_HEAD) :])
    if not proof:
        return b""
    reply = bytearray(_SIZE)
    reply[0] = _UNSYNCHRONIZED | _VERSION | _SERVER
    reply[_REFERENCE_ID] = _OURS
    reply[_ORIGIN] = packet[_TRANSMIT]
    for place in _PROOF:
        size = place.stop - place.start
        reply[place], proof = proof[:size], proof[size:]
    return bytes(reply)
