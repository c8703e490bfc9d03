"""NATS: the server speaks first, in plain text even where TLS follows. Pure.

The INFO line alone proves a NATS server, and a server notes nobody who leaves after it.
"""

import json

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

_BEGINS = b"INFO {"


def check(target: Target) -> Exchange:
    """Read the INFO line."""
    line = yield from until(b"\r\n", begins=_BEGINS)
    if not line.startswith(_BEGINS):
        return wrong_service("a NATS INFO line", line)
    return answered(target, line, "a NATS INFO line")


def stand_in(offer: Offer) -> StandIn:
    """Say INFO as a server would, and hear out nobody."""
    info = {
        "server_id": signature(offer.token).decode(),
        "server_name": "reachmap-listener",
        "version": "0.0.0",
        "proto": 1,
        "headers": False,
        "max_payload": 0,
    }
    yield from ()
    return b"INFO " + json.dumps(info).encode() + b"\r\n"
