r"""How a protocol is written down: a generator of bytes, with no socket in sight. Pure.

A check is a generator that yields what to send next (b"" for nothing), is sent back the next chunk
received (b"" when the other side has closed), and returns its Verdict:

    def check(target):
        line = yield from until(b"\r\n", first=b"HELLO\r\n", begins=b"WELCOME")
        if not line.startswith(b"WELCOME"):
            return wrong_service("a WELCOME", line)
        return answered(target, line, "a WELCOME")

When the time is up while it waits, `Silence` is raised inside it; one that does not catch it is
taken for stalled. When the connection breaks, `Lost` is raised likewise. After either, and after
b"", no more can be said: it returns what it knows. A stand-in is the listener's side: the same
kind of generator, that returns the last bytes to send.
"""

import contextlib
import re
import ssl
from collections.abc import Generator
from dataclasses import dataclass
from typing import Final, TypeVar

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
    token: str
    """What the destination's own listener shows."""
    tls: ssl.SSLContext | None = None
    """For protocols that speak TLS; one with a certificate loaded shows it where it is wanted."""
    stand_in_certificate: bytes = b""
    """DER of the certificate that listeners use, to tell them from real TLS services."""
    transport: Transport = Transport.TCP
    """For protocols that have a form for each."""


@dataclass(frozen=True, slots=True)
class Offer:
    """What a stand-in needs to know."""

    token: str
    tls: ssl.SSLContext | None = None
    """Server side, for protocols that speak TLS."""
    transport: Transport = Transport.TCP
    """For protocols that have a form for each."""


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


Exchange = Generator[bytes, bytes, Verdict]
StandIn = Generator[bytes, bytes, bytes]

_TOKEN = re.compile(rb"reachmap[-_:]([0-9a-f]{16})(?![0-9a-f])")


def signature(token: str, separator: str = ":") -> bytes:
    """How a stand-in signs, in whatever place its protocol leaves for text."""
    return f"reachmap{separator}{token}".encode()


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


def answered(target: Target, answer: bytes, what: str) -> Verdict:
    """The verdict on an answer in the right protocol: whose is it?"""
    match = _TOKEN.search(answer)
    if match is None:
        return Verdict(Outcome.OPEN, (f"answered with {what}",), AnsweredBy.SERVICE)
    if match[1].decode() == target.token:
        return Verdict(
            Outcome.OPEN, ("the destination's own listener answered",), AnsweredBy.LISTENER
        )
    return Verdict(Outcome.WRONG_PEER, ("a listener answered, but not the destination's",))


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
