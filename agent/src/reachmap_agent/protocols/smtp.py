"""SMTP: the server greets, the client says who it is, and may quit (RFC 5321, 3.1 and 3.2). Pure.

Quitting right after the greeting would do by the book, but some servers log an error then; and FTP
servers greet alike.
"""

import re
from collections.abc import Generator
from dataclasses import replace
from typing import Final

from reachmap_agent.wire.exchange import (
    Exchange,
    Offer,
    Silence,
    StandIn,
    Target,
    answered,
    challenged,
    leave,
    shown,
    until,
    wrong_service,
)

_LINE: Final = b"\r\n"
_OURS: Final = b"220 reachmap.invalid ESMTP reachmap" + _LINE
_DOMAIN: Final = b"reachmap.invalid"
_HELLO: Final = b"EHLO " + _DOMAIN + _LINE
_QUIT: Final = b"QUIT\r\n"
_LIMIT: Final = 4096

_UNFINISHED: Final = re.compile(rb"(?:[0-9]{3}-[^\n]*\n)*(?:[0-9]{0,3}|[0-9]{3}[- \r][^\n]*)")
"""A reply is lines with a hyphen after the code, and one without (4.2.1)."""
_FIRST_LINE: Final = re.compile(rb"(220|421|554)[- \r][^\n]*\n")
"""421 and 554 turn everybody away, for now or for good."""


def check(target: Target) -> Exchange:
    """Hear the greeting out, say hello, and quit."""
    greeting, whole = yield from _reply()
    first = _FIRST_LINE.match(greeting)
    if first is None:
        return wrong_service("an SMTP greeting", greeting)
    if greeting == _OURS and target.challenge is not None:
        hello = b"EHLO " + target.challenge.text + b"." + _DOMAIN + _LINE
        return (yield from challenged(target, hello, _LINE))
    verdict = answered("an SMTP greeting")
    if not whole:
        # Some wait between two lines, and take whoever speaks first for a spammer.
        return replace(verdict, evidence=("answered with the beginning of an SMTP greeting",))
    if first[1] != b"220":
        yield from leave(_QUIT)
        return replace(verdict, evidence=(f"answered with {shown(greeting)}",), healthy=False)
    try:
        reply, whole = yield from _reply(_HELLO)
    except Silence:
        evidence = (*verdict.evidence, "it says nothing to EHLO")
        return replace(verdict, evidence=evidence, healthy=False)
    if not reply.startswith(b"250") and b"SMTP" not in greeting.upper():
        return wrong_service("an SMTP server's answer to EHLO", reply)
    if whole:
        yield from leave(_QUIT)
    return verdict


def stand_in(offer: Offer) -> StandIn:
    """Greet, and turn away who says hello: a mail server keeps its mail and tries again."""
    proof = offer.prove_text((yield from until(_LINE, _OURS)))
    return b"421 " + _DOMAIN + b" " + proof + _LINE if proof else b""


def _reply(first: bytes = b"") -> Generator[bytes, bytes, tuple[bytes, bool]]:
    """Send `first`, then receive a reply, and tell whether it is whole.

    Some of its lines are a reply, too, when no more comes; half a line is none.
    """
    received = b""
    sending = first
    while _UNFINISHED.fullmatch(received) and len(received) < _LIMIT:
        try:
            chunk = yield sending
        except Silence:
            if b"\n" not in received:
                raise
            return received, False
        sending = b""
        if not chunk:
            lines, end, _ = received.rpartition(b"\n")
            return lines + end, False
        received += chunk
    return received, True
