"""HTTP in plain text. Pure."""

from reachmap_agent.wire import web
from reachmap_agent.wire.exchange import Exchange, Target

stand_in = web.stand_in


def check(target: Target) -> Exchange:
    """Ask for `/`; which status is right only the service knows."""
    return web.get(target, "/")
