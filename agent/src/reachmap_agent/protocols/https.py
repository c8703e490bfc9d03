"""HTTP inside TLS. Pure."""

from reachmap_agent.wire import web
from reachmap_agent.wire.exchange import Exchange, Offer, StandIn, Target
from reachmap_agent.wire.tunnel import check_inside, stand_in_inside


def check(target: Target) -> Exchange:
    """Shake hands and ask for `/`."""
    return check_inside(target, lambda _: web.get(target, "/"))


def stand_in(offer: Offer) -> StandIn:
    """Answer one request inside TLS."""
    return stand_in_inside(offer, web.stand_in(offer))
