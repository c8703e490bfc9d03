"""PostgreSQL: a client may ask for TLS before anything else, and gets one byte. Pure.

Asking, shaking hands and leaving is what a client does that dislikes the certificate; the server
logs nothing.
"""

import struct
from collections.abc import Generator
from dataclasses import replace
from typing import Final

from reachmap_agent.wire.exchange import (
    Exchange,
    Offer,
    StandIn,
    Target,
    answered,
    challenged,
    wrong_service,
)
from reachmap_agent.wire.tunnel import check_inside, shook_hands

_WORD: Final = struct.Struct("!I")
_LIMIT: Final = 1024
"""Of what a client says before it has logged in: ours is a tenth of that."""

SSL_REQUEST: Final = struct.pack("!II", 8, 80877103)
"""Message formats, SSLRequest: length, then 1234 and 5679 in the two halves."""

_PROTOCOL: Final = 3 << 16

_ANSWERS: Final = {b"S": "willing", b"N": "unwilling"}

_END: Final = b"\n\0\0"
"""Of an error of ours: its last field's, and its own."""


def check(target: Target) -> Exchange:
    """Ask for TLS: N (unwilling) proves a PostgreSQL server, and S (willing) begins a handshake."""
    answer = yield SSL_REQUEST
    if answer in _ANSWERS:
        verdict = answered(f"PostgreSQL's answer to SSLRequest ({_ANSWERS[answer]})")
        if answer != b"S" or target.tls is None:
            return verdict
        inside = yield from check_inside(target, shook_hands, waits=True)
        return replace(inside, evidence=verdict.evidence + inside.evidence)
    while answer and answer != _GREETING and _GREETING.startswith(answer):
        more = yield b""
        answer = answer + more if more else b""
    if answer != _GREETING or target.challenge is None:
        return wrong_service("an answer to SSLRequest", answer)
    return (yield from challenged(target, _startup(target.challenge.text), _END))


def stand_in(offer: Offer) -> StandIn:
    """Be unwilling to use TLS, and say at once that there is no database.

    Any client can show that to its user. A check goes on with a StartupMessage.
    """
    if (yield from _message()) != SSL_REQUEST:
        return b""
    proof = offer.prove_text((yield from _message(_GREETING)))
    return _error(b"reachmap " + proof) if proof else b""


def _startup(challenge: bytes) -> bytes:
    """StartupMessage, with the challenge where a client has its name."""
    parameters = b"user\0reachmap\0application_name\0" + challenge + b"\0\0"
    return struct.pack("!II", 8 + len(parameters), _PROTOCOL) + parameters


def _error(message: bytes) -> bytes:
    """ErrorResponse: cannot connect now."""
    fields = b"SFATAL\0VFATAL\0C57P03\0M" + message + _END
    return b"E" + _WORD.pack(_WORD.size + len(fields)) + fields


_GREETING: Final = b"N" + _error(b"no database is here, but a listener of reachmap's")
"""What a stand-in says to SSLRequest, in one piece: N alone is a server's whole answer."""


def _message(first: bytes = b"") -> Generator[bytes, bytes, bytes]:
    """Send `first`, then receive what begins with its own length; nothing when it does not come."""
    received = b""
    sending = first
    while len(received) < (size := _size(received)) <= _LIMIT:
        chunk = yield sending
        sending = b""
        if not chunk:
            return b""
        received += chunk
    return received if len(received) == size else b""


def _size(received: bytes) -> int:
    return max(8, _WORD.unpack_from(received)[0]) if len(received) >= _WORD.size else 8
