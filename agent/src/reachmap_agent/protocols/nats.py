"""NATS: the server speaks first, in plain text even where TLS follows. Pure.

INFO alone proves a NATS server. But where TLS is required, the server takes leaving at that point
for a failed handshake and logs an error: so the check shakes hands. Where the server also wants a
certificate of its clients, it logs an error whatever a client without one does. One that is loaded
into the target's context is shown, and then all is well.
"""

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from reachmap_agent.wire.exchange import (
    MAX_READ,
    Exchange,
    Offer,
    StandIn,
    Target,
    Verdict,
    answered,
    challenged,
    shown,
    until,
    wrong_service,
)
from reachmap_agent.wire.tunnel import check_inside, shook_hands
from reachmap_shared.vocabulary import AnsweredBy, Outcome

_BEGINS: Final = b"INFO {"
_END: Final = b"\r\n"

_HELLO: Final = {
    "verbose": False,
    "pedantic": False,
    "name": "reachmap",
    "lang": "python",
    "version": "0",
    "protocol": 0,
}
"""CONNECT's options; protocol 0 gets no INFO unasked."""

_OURS: Final = "reachmap"
"""No server's id, which has 56 characters."""

_INFO: Final = {
    "server_id": _OURS,
    "server_name": "reachmap-listener",
    "version": "0.0.0",
    "proto": 1,
    "headers": False,
    "max_payload": 0,
}
_GREETING: Final = b"INFO " + json.dumps(_INFO).encode() + _END
"""A stand-in's."""


def check(target: Target) -> Exchange:
    """Read INFO, change to TLS where it is offered, and PING where nobody needs to log in."""
    line = yield from until(_END, begins=_BEGINS)
    if not line.startswith(_BEGINS):
        return wrong_service("a NATS INFO line", line)
    info = _options(line)
    if info.get("server_id") == _OURS and target.challenge is not None:
        asked = {**_HELLO, "name": target.challenge.text.decode()}
        return (yield from challenged(target, _connect_and_ping(asked), _END))
    greeted = answered("a NATS INFO line")
    open_to_all = _lets_anybody_in(info)
    if target.tls is not None and (info.get("tls_required") or info.get("tls_available")):
        verdict = yield from check_inside(
            target,
            lambda tunnel: _ping() if open_to_all else shook_hands(tunnel),
            waits=True,
            wants_certificate=bool(info.get("tls_verify")),
        )
    elif open_to_all and not info.get("tls_required"):
        verdict = yield from _ping()
    else:
        return greeted
    return replace(verdict, evidence=greeted.evidence + verdict.evidence)


def stand_in(offer: Offer) -> StandIn:
    """Say INFO as a server would; to who may ask, answer PING with an error that has the proof."""
    asked = yield from until(b"PING" + _END, _GREETING)
    proof = offer.prove_text(asked)
    return b"-ERR '" + proof + b"'" + _END if proof else b""


def _options(line: bytes) -> Mapping[str, Any]:
    try:
        options = json.loads(line.partition(_END)[0].removeprefix(b"INFO "))
    except (ValueError, RecursionError):
        return {}
    return options if isinstance(options, dict) else {}


def _lets_anybody_in(info: Mapping[str, Any]) -> bool:
    """Whether CONNECT without a login is right here.

    Only clients are told their address: a port for routes, gateways or leaf nodes is not for us.
    """
    return "client_ip" in info and not info.get("auth_required")


def _connect_and_ping(options: Mapping[str, Any]) -> bytes:
    return b"CONNECT " + json.dumps(options).encode() + _END + b"PING" + _END


def _ping() -> Exchange:
    """Be let in, and be answered."""
    received = b""
    sending = _connect_and_ping(_HELLO)
    lines = 0
    while len(received) < MAX_READ:
        chunk = yield sending
        sending = b""
        if not chunk:
            return wrong_service("a PONG", b"")
        received += chunk
        whole = received.split(_END)[:-1]
        for line in whole[lines:]:
            if line == b"PONG":
                return Verdict(Outcome.OPEN, ("answered PING with PONG",), AnsweredBy.SERVICE)
            if line.startswith(b"-ERR"):
                evidence = (f"answered PING with {shown(line)}",)
                return Verdict(Outcome.OPEN, evidence, AnsweredBy.SERVICE, healthy=False)
            if not line.startswith((b"PING", b"INFO ", b"+OK")):
                return wrong_service("a PONG", line)
        lines = len(whole)
    return wrong_service("a PONG", received)
