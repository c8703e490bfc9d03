"""An OCSP responder: HTTP with a health page. Pure."""

from reachmap_agent.wire import web
from reachmap_agent.wire.exchange import Exchange, Target

stand_in = web.stand_in


def check(target: Target) -> Exchange:
    """Ask for its health: 200, 500 while its database is away, 400 from those with no such page."""
    return web.get(target, "/health")
