"""TLS, whatever may be inside. Pure."""

from reachmap_agent.wire.exchange import (
    Exchange,
    Offer,
    StandIn,
    Target,
    Verdict,
    answered,
    signature,
    until,
)
from reachmap_agent.wire.tunnel import Tunnel, check_inside, stand_in_inside
from reachmap_shared.vocabulary import AnsweredBy, Outcome


def check(target: Target) -> Exchange:
    """Shake hands; only a listener, known by its certificate, is then waited for."""

    def inside(tunnel: Tunnel) -> Exchange:
        if tunnel.certificate != target.stand_in_certificate:
            evidence = (f"shook hands over {tunnel.session.version()}",)
            return Verdict(Outcome.OPEN, evidence, AnsweredBy.SERVICE)
        token = yield from until(b"\r\n")
        return answered(target, token, "a TLS handshake")

    return check_inside(target, inside)


def stand_in(offer: Offer) -> StandIn:
    """Shake hands and show the token inside."""

    def inside() -> StandIn:
        yield from ()
        return signature(offer.token) + b"\r\n"

    return stand_in_inside(offer, inside())
