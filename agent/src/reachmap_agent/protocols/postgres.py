"""PostgreSQL: a client may ask for TLS before anything else, and gets one byte. Pure.

Asking, shaking hands and leaving is what a client does that dislikes the certificate; the server
logs nothing.
"""

import struct
from dataclasses import replace

from reachmap_agent.wire.exchange import (
    Exchange,
    Offer,
    StandIn,
    Target,
    answered,
    signature,
    until,
    wrong_service,
)
from reachmap_agent.wire.tunnel import check_inside, shook_hands

SSL_REQUEST = struct.pack("!II", 8, 80877103)
"""Message formats, SSLRequest: length, then 1234 and 5679 in the two halves."""

_ANSWERS = {b"S": "willing", b"N": "unwilling"}

_BEGINS = b"E\0\0"
_END = b"\n\0\0"
"""Of the error that a stand-in answers with: its kind and length, and its last field's end."""


def check(target: Target) -> Exchange:
    """Ask for TLS: N (unwilling) proves a PostgreSQL server, and S (willing) begins a handshake."""
    answer = yield from until(_END, SSL_REQUEST, begins=_BEGINS)
    if answer in _ANSWERS:
        words = f"PostgreSQL's answer to SSLRequest ({_ANSWERS[answer]})"
        verdict = answered(target, answer, words)
        if answer != b"S" or target.tls is None:
            return verdict
        inside = yield from check_inside(target, shook_hands, waits=True)
        return replace(inside, evidence=verdict.evidence + inside.evidence)
    if not answer.startswith(_BEGINS):
        return wrong_service("an answer to SSLRequest", answer)
    return answered(target, answer, "a PostgreSQL error")


def stand_in(offer: Offer) -> StandIn:
    """Answer with an ErrorResponse that bears the token.

    A client must be ready for one here (Message Flow, SSL Session Encryption), and unlike S and N
    it says where it ends.
    """
    asked = b""
    while len(asked) < len(SSL_REQUEST):
        chunk = yield b""
        if not chunk:
            return b""
        asked += chunk
    if asked != SSL_REQUEST:
        return b""
    fields = b"SFATAL\0VFATAL\0C57P03\0M" + signature(offer.token) + _END
    return b"E" + struct.pack("!I", 4 + len(fields)) + fields
