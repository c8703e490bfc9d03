"""TLS, whatever may be inside. Pure."""

from reachmap_agent.wire.exchange import (
    Exchange,
    Offer,
    StandIn,
    Target,
    challenged,
    until,
)
from reachmap_agent.wire.tunnel import Tunnel, check_inside, shook_hands, stand_in_inside

_END = b"\r\n"


def check(target: Target) -> Exchange:
    """Shake hands; only a listener, known by its certificate, is then challenged."""

    def inside(tunnel: Tunnel) -> Exchange:
        if tunnel.certificate != target.stand_in_certificate or target.challenge is None:
            return (yield from shook_hands(tunnel))
        return (yield from challenged(target, target.challenge.text + _END, _END))

    return check_inside(target, inside, waits=True)


def stand_in(offer: Offer) -> StandIn:
    """Shake hands, and prove inside."""

    def inside() -> StandIn:
        proof = offer.prove_text((yield from until(_END)))
        return proof + _END if proof else b""

    return stand_in_inside(offer, inside())
