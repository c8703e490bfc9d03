"""UDP: only an answer proves anything, and only our own listener is sure to give one. Pure."""

from typing import Final

from reachmap_agent.wire.exchange import (
    Exchange,
    Offer,
    Silence,
    StandIn,
    Target,
    Verdict,
    answered,
    proven,
)
from reachmap_agent.wire.proof import CHALLENGE_SIZE, PROOF_SIZE
from reachmap_shared.vocabulary import Outcome

_QUESTION: Final = b"reachmap?"
_ANSWER: Final = b"reachmap!"
_SIZE: Final = 64
"""Of a question; no answer of ours is longer, so a forged source address amplifies nothing."""


def check(target: Target) -> Exchange:
    """Ask once. Silence may be a firewall, or a service that has nothing to say to strangers."""
    asked = target.challenge.octets if target.challenge else b""
    try:
        answer = yield (_QUESTION + asked).ljust(_SIZE, b".")
    except Silence:
        return Verdict(Outcome.TIMEOUT, ("no answer to a datagram",))
    if target.challenge is not None and answer.startswith(_ANSWER):
        return proven(target.challenge.check(answer[len(_ANSWER) :]))
    return answered("a datagram")


def stand_in(offer: Offer) -> StandIn:
    """Answer a question that bears a challenge, and anything else with nothing."""
    question = yield b""
    if len(question) != _SIZE or not question.startswith(_QUESTION):
        return b""
    proof = offer.prove(question[len(_QUESTION) :][:CHALLENGE_SIZE])
    return _ANSWER + proof if proof else b""


assert len(_ANSWER) + PROOF_SIZE <= _SIZE
