"""SSH: both sides begin with an identification line (RFC 4253, 4.2). Pure."""

import struct

from reachmap_agent.wire.exchange import (
    Exchange,
    Offer,
    StandIn,
    Target,
    answered,
    leave,
    signature,
    until,
    wrong_service,
)

# SSH_MSG_DISCONNECT, by application (11.1), in a packet of 8 bytes times 4 (6).
_GOODBYE = b"SSH-2.0-reachmap\r\n" + struct.pack("!IBBII8s10x", 28, 6, 1, 11, 8, b"reachmap")


def check(target: Target) -> Exchange:
    """Read the server's identification, and say goodbye before any key is exchanged."""
    line = yield from until(b"\n", begins=b"SSH-")
    if not line.startswith(b"SSH-"):
        return wrong_service("an SSH identification", line)
    yield from leave(_GOODBYE)
    return answered(target, line, "an SSH identification")


def stand_in(offer: Offer) -> StandIn:
    """Identify as an SSH server whose software is reachmap."""
    yield from ()
    return b"SSH-2.0-" + signature(offer.token, "_") + b"\r\n"
