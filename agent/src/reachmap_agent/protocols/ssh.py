"""SSH: both sides begin with an identification line (RFC 4253, 4.2). Pure."""

import struct

from reachmap_agent.wire.exchange import (
    Exchange,
    Offer,
    StandIn,
    Target,
    answered,
    challenged,
    leave,
    until,
    wrong_service,
)

_OURS = b"SSH-2.0-reachmap"
_LINE = b"\r\n"
_NO_LANGUAGE = bytes(4)
_END = _NO_LANGUAGE + bytes(4)
"""Of a goodbye: no language, and the least padding."""


def check(target: Target) -> Exchange:
    """Read the server's identification, and say goodbye before any key is exchanged."""
    line = yield from until(b"\n", begins=b"SSH-")
    if not line.startswith(b"SSH-"):
        return wrong_service("an SSH identification", line)
    if line == _OURS + _LINE and target.challenge is not None:
        return (yield from challenged(target, _identification(target.challenge.text), _END))
    yield from leave(_identification() + _goodbye(b"reachmap"))
    return answered("an SSH identification")


def stand_in(offer: Offer) -> StandIn:
    """Identify as a server whose software is reachmap, and say goodbye with the proof."""
    line = yield from until(b"\n", _identification(), begins=b"SSH-")
    proof = offer.prove_text(line)
    return _goodbye(b"reachmap " + proof) if proof else b""


def _identification(comment: bytes = b"") -> bytes:
    return _OURS + (b" " + comment if comment else b"") + _LINE


def _goodbye(words: bytes) -> bytes:
    """SSH_MSG_DISCONNECT, by application (11.1), in a packet of 8 octets times something (6)."""
    message = struct.pack("!BII", 1, 11, len(words)) + words + _NO_LANGUAGE
    padding = 4 + -(5 + len(message) + 4) % 8
    head = struct.pack("!IB", 1 + len(message) + padding, padding)
    return head + message + bytes(padding)
