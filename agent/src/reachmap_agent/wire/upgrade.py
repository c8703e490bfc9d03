"""HTTP that becomes a websocket, as far as its first and last words go (RFC 6455). Pure."""

import base64
import hashlib
from dataclasses import replace
from typing import Final

from reachmap_agent.wire import web
from reachmap_agent.wire.exchange import (
    Exchange,
    Offer,
    StandIn,
    Target,
    answered,
    leave,
    until,
    wrong_service,
)

_GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"

_NONCE: Final = b"a reachmap check"

_CLOSE: Final = 0x88
_MASKED: Final = 0x80
_NORMAL: Final = (1000).to_bytes(2, "big")
_GOING_AWAY: Final = (1001).to_bytes(2, "big")

_GUARDED: Final = frozenset({401, 403})
"""It lets only some become a websocket, and the check is nobody."""

_UPGRADE_MISSED: Final = frozenset({400, 426})


def check(target: Target) -> Exchange:
    """Ask for a websocket at `/`, and leave it in good order.

    Only 101 proves one. A guarded one and one that is not well are open, too. With any other
    status there is none for those who come this way, whatever else the server may have: that is
    the wrong service.
    """
    # Neither need be a secret, or new each time, for a connection that carries nothing.
    key = base64.b64encode(_NONCE)
    headers = {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": key.decode(),
    }
    response = yield from web.beginning(web.request(target, "/", headers))
    code = response.code
    if code is None:
        return wrong_service("an HTTP response", response.head)
    if (listener := web.by_listener(target, response)) is not None:
        return listener
    is_one = code == 101 and web.header(response.head, "Sec-WebSocket-Accept") == _accept(key)
    verdict = answered("a websocket" if is_one else f"HTTP status {code}")
    if code in _GUARDED:
        return verdict
    if is_one:
        yield from leave(_close(mask=_NONCE[:4]))
        return verdict
    if code >= 500:
        return replace(verdict, healthy=False)
    verdict = wrong_service("a websocket at /", response.head)
    if code in _UPGRADE_MISSED:
        hint = "a proxy on the way may have removed what asks for it"
        return replace(verdict, evidence=(*verdict.evidence, hint))
    return verdict


def stand_in(offer: Offer) -> StandIn:
    """Become a websocket for who may ask, and close it at once."""
    head = yield from until(web.END)
    key = web.header(head, "Sec-WebSocket-Key").encode("latin-1")
    proof = offer.prove_text(head)
    if web.END not in head or not proof:
        return b""
    if not key:
        return web.empty_response(proof)
    return (
        b"HTTP/1.1 101 Switching Protocols\r\nServer: reachmap\r\n"
        + web.proof_line(proof)
        + b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: "
        + _accept(key).encode()
        + web.END
        + bytes([_CLOSE, len(_GOING_AWAY)])
        + _GOING_AWAY
    )


def _accept(key: bytes) -> str:
    digest = hashlib.sha1(key + _GUID, usedforsecurity=False).digest()
    return base64.b64encode(digest).decode()


def _close(mask: bytes) -> bytes:
    """A frame that says so, masked as a client's has to be."""
    payload = bytes(byte ^ key for byte, key in zip(_NORMAL, mask, strict=False))
    return bytes([_CLOSE, _MASKED | len(payload)]) + mask + payload
