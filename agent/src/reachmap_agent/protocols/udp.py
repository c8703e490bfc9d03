"""UDP: only an answer proves anything, and only our own listener is sure to give one. Pure."""

from reachmap_agent.wire.exchange import (
    Exchange,
    Offer,
    Silence,
    StandIn,
    Target,
    Verdict,
    answered,
    signature,
)
from reachmap_shared.vocabulary import Outcome

_QUESTION = b"reachmap?".ljust(64, b".")
"""As long as any answer of ours, so that a forged source address amplifies nothing."""


def check(target: Target) -> Exchange:
    """Ask once. Silence may be a firewall, or a service that has nothing to say to strangers."""
    try:
        answer = yield _QUESTION
    except Silence:
        return Verdict(Outcome.TIMEOUT, ("no answer to a datagram",))
    return answered(target, answer, "a datagram")


def stand_in(offer: Offer) -> StandIn:
    """Answer our own question with the token, anything else with nothing."""
    question = yield b""
    return signature(offer.token) if question == _QUESTION else b""
