"""A websocket at `/`, inside TLS. Pure."""

from reachmap_agent.wire import upgrade
from reachmap_agent.wire.exchange import Exchange, Offer, StandIn, Target
from reachmap_agent.wire.tunnel import check_inside, stand_in_inside


def check(target: Target) -> Exchange:
    """Shake hands, and ask for a websocket."""
    return check_inside(target, lambda _: upgrade.check(target), waits=True)


def stand_in(offer: Offer) -> StandIn:
    """Open one inside TLS, and close it at once."""
    return stand_in_inside(offer, upgrade.stand_in(offer))
