r"""How a protocol is written down: a generator of bytes, with no socket in sight. Pure.

A check is a generator that yields what to send next (b"" for nothing), is sent back the next chunk
received (b"" when the other side has closed), and returns its Verdict:

    def check(target):
        line = yield from until(b"\r\n", first=b"HELLO\r\n", begins=b"WELCOME")
        if not line.startswith(b"WELCOME"):
            return wrong_service("a WELCOME", line)
        return answered("a WELCOME")

When the time is up while it waits, `Silence` is raised inside it; one that does not catch it is
taken for stalled. When the connection breaks, `Lost` is raised likewise. After either, and after
b"", no more can be said: it returns what it knows. A stand-in is the listener's side: the same
kind of generator, that returns the last bytes to send.

Who stands in proves who it is (see `reachmap_agent.wire.proof`): either the check's first words
hold the challenge, and those who may not ask get no answer; or, where the server speaks first, its
first words say that a listener is there, and `challenged` goes on from them.
"""

import contextlib
import functools
import ssl
from collections.abc import Generator
from dataclasses import dataclass
from typing import Final, TypeVar

from reachmap_agent.wire.proof import (
    SHORT_PROOF_SIZE,
    Challenge,
    Endpoint,
    Identity,
    Reached,
)
from reachmap_shared.vocabulary import AnsweredBy, Outcome, Transport

Result = TypeVar("Result")

MAX_READ: Final = 16_384
"""Bytes of an answer that a check looks at: more than any first answer needs."""

_SHOWN = 60


class Silence(Exception):
    """The time is up and nothing (more) was received."""


class Lost(Exception):
    """The connection broke: it was reset, or is no more."""


@dataclass(frozen=True, slots=True)
class Target:
    """What a check needs to know of whom it dials."""

    host: str
    """Name or address, as a protocol that names its server would write it."""
    challenge: Challenge | None = None
    """For the destination's own listener; None where no agent is."""
    tls: ssl.SSLContext | None = None
    """For protocols that speak TLS; one with a certificate loaded shows it where it is wanted."""
    stand_in_certificate: bytes = b""
    """DER of the certificate that listeners use, to tell them from real TLS services."""
    transport: Transport = Transport.TCP
    """For protocols that have a form for each."""


@dataclass(frozen=True, slots=True)
class Offer:
    """What a stand-in needs to know."""

    identity: Identity
    seen: Endpoint
    """Where the visitor comes from."""
    at: Endpoint | None = None
    """Where it arrived; None where that is not known."""
    tls: ssl.SSLContext | None = None
    """Server side, for protocols that speak TLS."""
    transport: Transport = Transport.TCP
    """For protocols that have a form for each."""

    def prove(self, challenge: bytes) -> bytes:
        """The proof for a challenge; nothing for a stranger."""
        return self.identity.prove(challenge, self.seen, self.at)

    def prove_short(self, challenge: bytes) -> bytes:
        """The proof without where the visitor arrived, for where room is short."""
        return self.identity.prove(challenge, self.seen, None)[:SHORT_PROOF_SIZE]

    def prove_text(self, asked: bytes) -> bytes:
        """The proof for the challenge that stands somewhere in a text; nothing for a stranger."""
        return self.identity.prove_text(asked, self.seen, self.at)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What an exchange has found out."""

    outcome: Outcome
    evidence: tuple[str, ...] = ()
    answered_by: AnsweredBy | None = None
    healthy: bool = True
    farewell: bytes = b""
    """What is still to be sent, for the server's sake: nothing that comes back is read."""
    certificate_until: int | None = None
    """When the certificate that was shown ends, in seconds since the epoch; None if none was."""
    reached: Reached | None = None
    """What the destination's listener told of the connection, where it proved to be that."""


Exchange = Generator[bytes, bytes, Verdict]
StandIn = Generator[bytes, bytes, bytes]


def until(mark: bytes, first: bytes = b"", begins: bytes = b"") -> Generator[bytes, bytes, bytes]:
    """Send `first`, then receive up to and with `mark`.

    Returns nothing when the other side closes before: a token may have been in what is missing.
    Returns what there is when MAX_READ bytes hold no mark, and as soon as it does not begin with
    `begins`: a stranger's greeting need not hold the mark, and the stranger then waits for us.
    """
    received = b""
    sending = first
    while mark not in received and len(received) < MAX_READ:
        chunk = yield sending
        sending = b""
        if not chunk:
            return b""
        received += chunk
        if received[: len(begins)] != begins[: len(received)]:
            break
    return received


def leave(last_words: bytes) -> Generator[bytes, bytes, bytes]:
    """Send the last words, and let the other side end the connection; returns what it still says.

    So it has nothing to complain of in its log. How it takes them does not matter any more.
    """
    received = b""
    with contextlib.suppress(Silence, Lost):
        while len(received) < MAX_READ and (chunk := (yield last_words)):
            received += chunk
            last_words = b""
    return received


def challenged(target: Target, question: bytes, mark: bytes) -> Generator[bytes, bytes, Verdict]:
    """Put the challenge, in the protocol's own form, to a listener whose first words were heard.

    The answer ends with `mark`.
    """
    try:
        answer = yield from until(mark, question)
    except Lost:
        answer = b""
    return proven_text(target, answer)


def proven_text(target: Target, answer: bytes) -> Verdict:
    """The verdict on a listener's answer in text."""
    return proven(target.challenge.check_text(answer) if target.challenge else None)


def proven(reached: Reached | None) -> Verdict:
    """The verdict on a listener, by what its proof told; None for one that was wrong or missing."""
    if reached is None:
        fact = "a listener answered, and did not prove to be the destination's"
        return Verdict(Outcome.WRONG_PEER, (fact,))
    fact = "the destination's own listener answered, and proved it"
    return Verdict(Outcome.OPEN, (fact,), AnsweredBy.LISTENER, reached=reached)


@functools.lru_cache(maxsize=256)
def answered(what: str) -> Verdict:
    """The verdict on a service's answer in the right protocol: one for all that are the same."""
    return Verdict(Outcome.OPEN, (f"answered with {what}",), AnsweredBy.SERVICE)


def wrong_service(expected: str, answer: bytes) -> Verdict:
    """The verdict on an answer that is not of the protocol."""
    if not answer:
        return Verdict(Outcome.RESET, (f"the connection was closed without {expected}",))
    return Verdict(Outcome.WRONG_SERVICE, (f"expected {expected}, got {shown(answer)}",))


def shown(answer: bytes) -> str:
    """The beginning of an answer, fit to print."""
    text = answer[:_SHOWN].decode("ascii", "backslashreplace")
    text = "".join(character if character.isprintable() else "." for character in text.strip())
    return f"'{text}'" + (" ..." if len(answer) > _SHOWN else "")
