"""DNS, over UDP and over TCP: any response to our question proves a server. Pure.

The question is for localhost, which a server answers or refuses by itself (RFC 6761, 6.3), and
without recursion, so that it asks no other. The server's own name (RFC 4892) would be the better
one, were it not that BIND answers it to no more than three clients of a network a second.
"""

import struct
from collections.abc import Generator
from typing import Final

from reachmap_agent.wire.exchange import (
    MAX_READ,
    Exchange,
    Offer,
    Silence,
    StandIn,
    Target,
    Verdict,
    answered,
    proven,
    wrong_service,
)
from reachmap_agent.wire.proof import CHALLENGE_SIZE
from reachmap_shared.vocabulary import Outcome, Transport

_HEADER: Final = struct.Struct("!2s5H")
"""Id, flags, numbers of questions, answers, authorities and additions (RFC 1035, 4.1.1)."""
_RECORD: Final = struct.Struct("!HHIH")
"""Type, class, time to live, length (4.1.3)."""
_LENGTH: Final = struct.Struct("!H")
"""What stands before each message over TCP (4.2.2)."""

_RESPONSE: Final = 0x8000
_OPCODE: Final = 0x7800
_CODE: Final = 0x000F
_CODES: Final = ("NOERROR", "FORMERR", "SERVFAIL", "NXDOMAIN", "NOTIMP", "REFUSED")

_A: Final = 1
_TXT: Final = 16
_OPT: Final = 41
_INTERNET: Final = 1

_QUESTION: Final = b"\x09localhost\x00" + struct.pack("!HH", _A, _INTERNET)
_SAME_NAME: Final = b"\xc0\x0c"
"""A pointer to the question's."""

_UDP_SIZE: Final = 1232
_PADDING: Final = 12
_PADDED: Final = 128
"""As RFC 8467 has it, and more than a stand-in's answer: so a forged source amplifies nothing."""
_BEFORE: Final = _HEADER.size + len(_QUESTION) + 1 + _RECORD.size + 4
"""What stands before the padding's content: that, the root's name, and the option's head."""
_CHALLENGE: Final = slice(_BEFORE, _BEFORE + CHALLENGE_SIZE)
_OURS: Final = b"reachmap"
"""What a stand-in's TXT record begins with."""


def check(target: Target) -> Exchange:
    """Ask once."""
    query = _query(target.challenge.octets if target.challenge else b"")
    if target.transport is Transport.TCP:
        received = yield from _message(_framed(query), begins=query[:2])
        answer = received[_LENGTH.size :]
    else:
        try:
            received = answer = yield query
        except Silence:
            return Verdict(Outcome.TIMEOUT, ("no answer to a DNS question",))
    code = _code_of_response(query, answer)
    if code is None:
        return wrong_service("a DNS response", received)
    if target.challenge is not None and (proof := _proof_in(answer)):
        return proven(target.challenge.check(proof))
    word = _CODES[code] if code < len(_CODES) else str(code)
    return answered(f"a DNS response ({word})")


def stand_in(offer: Offer) -> StandIn:
    """Answer our own question, with the proof in a TXT record; say nothing to any other."""
    if offer.transport is Transport.UDP:
        return _answer((yield b""), offer)
    received = yield from _message()
    answer = _answer(received[_LENGTH.size :], offer)
    return _framed(answer) if answer else b""


def _query(challenge: bytes) -> bytes:
    """The question, with the challenge in its padding; its first octets are the id, too.

    The id need be no secret: a socket asks once, and hears nobody but whom it asks.
    """
    asked = _HEADER.pack(challenge[:2].rjust(2, b"\1"), 0, 1, 0, 0, 1) + _QUESTION
    room = _PADDED - _BEFORE
    padding = struct.pack("!HH", _PADDING, room) + challenge.ljust(room, b"\0")
    return asked + b"\0" + _RECORD.pack(_OPT, _UDP_SIZE, 0, len(padding)) + padding


def _answer(query: bytes, offer: Offer) -> bytes:
    challenge = query[_CHALLENGE]
    proof = offer.prove(challenge) if query == _query(challenge) else b""
    if not proof:
        return b""
    text = _OURS + proof
    record = _RECORD.pack(_TXT, _INTERNET, 0, 1 + len(text)) + bytes([len(text)]) + text
    return _HEADER.pack(query[:2], _RESPONSE, 1, 1, 0, 0) + _QUESTION + _SAME_NAME + record


def _proof_in(answer: bytes) -> bytes:
    """What stands behind our mark; nothing when it is not there."""
    return answer.partition(_OURS)[2]


def _code_of_response(query: bytes, answer: bytes) -> int | None:
    """The code in a response to just this query; None when it is none."""
    if len(answer) < _HEADER.size:
        return None
    number, flags, questions, *_ = _HEADER.unpack_from(answer)
    if number != query[:2] or not flags & _RESPONSE or flags & _OPCODE:
        return None
    # A server that could not read the question need not repeat it.
    asked = answer[_HEADER.size :][: len(_QUESTION)].lower()
    return flags & _CODE if asked == _QUESTION or not questions else None


def _framed(message: bytes) -> bytes:
    return _LENGTH.pack(len(message)) + message


def _message(first: bytes = b"", begins: bytes = b"") -> Generator[bytes, bytes, bytes]:
    """Send `first`, then receive a message with its length before it, over TCP.

    Returns nothing when the other side closes before its end, and what there is when it is too
    long, or does not begin with `begins`.
    """
    received = b""
    sending = first
    while len(received) < _whole(received):
        chunk = yield sending
        sending = b""
        if not chunk:
            return b""
        received += chunk
        message = received[_LENGTH.size :]
        if message[: len(begins)] != begins[: len(message)] or _whole(received) > MAX_READ:
            break
    return received


def _whole(received: bytes) -> int:
    """How many bytes there are in all, as far as is known."""
    if len(received) < _LENGTH.size:
        return _LENGTH.size
    (length,) = _LENGTH.unpack_from(received)
    return _LENGTH.size + int(length)
