"""PostgreSQL: a client may ask for TLS before anything else, and gets one byte. Pure.

Asking and leaving is what every client with `sslmode=prefer` may do; the server logs nothing.
"""

import struct

from reachmap_agent.wire.exchange import (
    Exchange,
    Offer,
    StandIn,
    Target,
    answered,
    signature,
    wrong_service,
)

SSL_REQUEST = struct.pack("!II", 8, 80877103)
"""Message formats, SSLRequest: length, then 1234 and 5679 in the two halves."""


def check(target: Target) -> Exchange:
    """Ask for TLS; S (willing) and N (unwilling) both prove a PostgreSQL server."""
    answer = yield SSL_REQUEST
    if answer[:1] not in (b"S", b"N") or (len(answer) > 1 and answer[1:2] != b"N"):
        return wrong_service("an answer to SSLRequest", answer)
    willing = "willing" if answer[:1] == b"S" else "unwilling"
    return answered(target, answer, f"PostgreSQL's answer to SSLRequest ({willing})")


def stand_in(offer: Offer) -> StandIn:
    """Decline TLS, and bear the token in a NoticeResponse, which a server may send at any time."""
    asked = b""
    while len(asked) < len(SSL_REQUEST):
        chunk = yield b""
        if not chunk:
            return b""
        asked += chunk
    if asked != SSL_REQUEST:
        return b""
    fields = b"SNOTICE\0C00000\0M" + signature(offer.token) + b"\0\0"
    return b"N" + b"N" + struct.pack("!I", 4 + len(fields)) + fields
