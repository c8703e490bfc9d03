"""TLS, whatever may be inside. Pure."""

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
from reachmap_agent.wire.tunnel import Tunnel, check_inside, shook_hands, stand_in_inside

_END = b"\r\n"


def check(target: Target) -> Exchange:
    """Shake hands; only a listener, known by its certificate, is then waited for."""

    def inside(tunnel: Tunnel) -> Exchange:
        if tunnel.certificate != target.stand_in_certificate:
            return (yield from shook_hands(tunnel))
        token = yield from until(_END, begins=signature(""))
        if not token:
            return wrong_service("a listener's token", token)
        return answered(target, token, "a TLS handshake")

    return check_inside(target, inside, waits=True)


def stand_in(offer: Offer) -> StandIn:
    """Shake hands and show the token inside."""

    def inside() -> StandIn:
        yield from ()
        return signature(offer.token) + _END

    return stand_in_inside(offer, inside())
