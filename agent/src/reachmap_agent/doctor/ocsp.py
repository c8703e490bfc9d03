"""Questions of whether a certificate was revoked, and their answers (RFC 6960). Pure.

Who signed an answer is not checked: what is looked for is a responder that is away or says no, as
who stands between could only make things look worse or better than they are to this command.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from reachmap_agent.wire.der import (
    ENUMERATED,
    OCTET_STRING,
    OID,
    SEQUENCE,
    Element,
    MalformedDer,
    elements,
    expect,
)

_INTEGER: Final = 0x02
_BIT_STRING: Final = 0x03
_GENERALIZED_TIME: Final = 0x18
_EXPLICIT: Final = 0xA0, 0xA1, 0xA2, 0xA3
"""Fields that are tagged by their number."""
_URI: Final = 0x86

_AUTHORITY_INFORMATION: Final = bytes.fromhex("2b06010505070101")
_OCSP: Final = bytes.fromhex("2b06010505073001")
_SHA1: Final = bytes.fromhex("300906052b0e03021a0500")
"""OIDs 1.3.6.1.5.5.7.1.1 and 1.3.6.1.5.5.7.48.1; AlgorithmIdentifier of 1.3.14.3.2.26."""

_STATUSES: Final = {0x80: "good", 0xA1: "revoked", 0x82: "unknown"}
_REFUSALS: Final = {
    1: "it calls the question malformed",
    2: "it has an internal error",
    3: "it asks to try later",
    5: "it wants signed questions",
    6: "it does not answer us",
}
"""OCSPResponseStatus, where it is no success."""


class NoAnswer(ValueError):
    """What came is no answer to the question; says why."""


@dataclass(frozen=True, slots=True)
class Identified:
    """What of a certificate questions are made of."""

    serial: bytes
    issuer: bytes
    """DER of a name, as is the next."""
    subject: bytes
    key: bytes
    """The public key's bits."""
    responders: tuple[str, ...]
    """URLs of who answers for it."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a responder says of a certificate."""

    status: str
    """good, revoked or unknown."""
    produced: datetime
    until: datetime | None
    """When there will be news; None where it says nothing of that."""


def identify(der: bytes) -> Identified:
    """Read a certificate (RFC 5280, 4.1). Raises MalformedDer."""
    fields = elements(expect(SEQUENCE, expect(SEQUENCE, der)))
    first = _next(fields)
    serial = _next(fields) if first.tag == _EXPLICIT[0] else first
    _, issuer, _, subject = (_next(fields) for _ in range(4))
    key = list(elements(_next(fields).content))
    if len(key) != 2 or key[1].tag != _BIT_STRING:
        raise MalformedDer("a public key is missing")
    responders = tuple(url for field in fields for url in _responders(field))
    return Identified(
        serial.content, encoded(*issuer), encoded(*subject), key[1].content[1:], responders
    )


def question(of: Identified, issuer: Identified) -> bytes:
    """An OCSPRequest for one certificate."""
    sha1 = (hashlib.sha1(part, usedforsecurity=False).digest() for part in (of.issuer, issuer.key))
    names = b"".join(encoded(OCTET_STRING, digest) for digest in sha1)
    inner = _SHA1 + names + encoded(_INTEGER, of.serial)
    for _ in range(5):  # CertID, Request, requestList, TBSRequest, OCSPRequest
        inner = encoded(SEQUENCE, inner)
    return inner


def answer(response: bytes, of: Identified) -> Answer:
    """What a response says of a certificate. Raises NoAnswer."""
    try:
        return _answer(response, of)
    except MalformedDer as error:
        raise NoAnswer(f"what it says is no OCSP response: {error}") from None


def encoded(tag: int, content: bytes) -> bytes:
    """One element of DER."""
    size = len(content)
    if size < 0x80:
        return bytes((tag, size)) + content
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes((tag, 0x80 | len(length))) + length + content


def _answer(response: bytes, of: Identified) -> Answer:
    fields = elements(expect(SEQUENCE, response))
    status = _next(fields)
    if status.tag != ENUMERATED or len(status.content) != 1:
        raise MalformedDer("a status is missing")
    if (number := status.content[0]) != 0:
        raise NoAnswer(_REFUSALS.get(number, f"its status is {number}"))
    parts = elements(expect(SEQUENCE, _next(fields).content))
    _, basic = _next(parts), _next(parts)
    data = [
        field
        for field in elements(expect(SEQUENCE, expect(SEQUENCE, basic.content)))
        if field.tag not in _EXPLICIT  # version, who it is, extensions
    ]
    if [field.tag for field in data[:2]] != [_GENERALIZED_TIME, SEQUENCE]:
        raise MalformedDer("its answers are missing")
    for single in elements(data[1].content):
        said = list(elements(single.content))
        if len(said) < 3:
            raise MalformedDer("an answer is cut short")
        if [*elements(said[0].content)][-1:] != [Element(_INTEGER, of.serial)]:
            continue
        until = [
            _time(expect(_GENERALIZED_TIME, part.content))
            for part in said[3:4]
            if part.tag == _EXPLICIT[0]
        ]
        return Answer(
            _STATUSES.get(said[1].tag, "unknown"),
            _time(data[0].content),
            until[0] if until else None,
        )
    raise NoAnswer("it speaks of another certificate")


def _responders(field: Element) -> Iterator[str]:
    if field.tag != _EXPLICIT[3]:
        return
    for extension in elements(expect(SEQUENCE, field.content)):
        if expect(OID, extension.content) != _AUTHORITY_INFORMATION:
            continue
        *_, value = elements(extension.content)
        for description in elements(expect(SEQUENCE, value.content)):
            match [*elements(description.content)]:
                case [Element(_, method), Element(tag, location), *_]:
                    if method == _OCSP and tag == _URI:
                        yield location.decode("ascii", "backslashreplace")


def _time(text: bytes) -> datetime:
    try:
        return datetime.strptime(text.decode("ascii"), "%Y%m%d%H%M%SZ").replace(tzinfo=UTC)
    except ValueError:
        raise MalformedDer("a time does not exist") from None


def _next(fields: Iterator[Element]) -> Element:
    element = next(fields, None)
    if element is None:
        raise MalformedDer("a field is missing")
    return element
