"""Plain TCP: a connection says that something listens, and nothing more. Pure."""

from reachmap_agent.wire.exchange import (
    Exchange,
    Offer,
    Silence,
    StandIn,
    Target,
    Verdict,
    answered,
    challenged,
    until,
)
from reachmap_shared.vocabulary import Outcome

_END = b"\r\n"
_OURS = b"reachmap" + _END

# Made once: most services say nothing at every check.
_SILENT = Verdict(Outcome.OPEN, ("connected; it says nothing unasked",))
_CLOSED = Verdict(Outcome.OPEN, ("connected; it closed the connection",))


def check(target: Target) -> Exchange:
    """Connect, and give a listener a moment to greet; a service may well say nothing."""
    try:
        greeting = yield from until(_END, begins=_OURS)
    except Silence:
        return _SILENT
    if not greeting:
        return _CLOSED
    if greeting == _OURS and target.challenge is not None:
        return (yield from challenged(target, target.challenge.text + _END, _END))
    return answered("a greeting")


def stand_in(offer: Offer) -> StandIn:
    """Greet at once, and prove."""
    proof = offer.prove_text((yield from until(_END, _OURS)))
    return proof + _END if proof else b""
