"""Plain TCP: a connection says that something listens, and nothing more. Pure."""

from reachmap_agent.wire.exchange import (
    Exchange,
    Offer,
    Silence,
    StandIn,
    Target,
    Verdict,
    answered,
    signature,
    until,
)
from reachmap_shared.vocabulary import Outcome

_SIGNATURE = signature("")
_END = b"\r\n"


def check(target: Target) -> Exchange:
    """Connect, and give a listener a moment to show its token; a service may well say nothing."""
    try:
        greeting = yield from until(_END, begins=_SIGNATURE)
    except Silence:
        return Verdict(Outcome.OPEN, ("connected; it says nothing unasked",))
    if not greeting:
        return Verdict(Outcome.OPEN, ("connected; it closed the connection",))
    return answered(target, greeting, "a greeting")


def stand_in(offer: Offer) -> StandIn:
    """Show the token at once."""
    yield from ()
    return signature(offer.token) + _END
