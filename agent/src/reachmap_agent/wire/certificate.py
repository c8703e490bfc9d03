"""Whose certificate it is, for which names, and until when (RFC 5280). Pure.

Nothing is verified: a check asks what is there, not whether to trust it. The certificate comes
from whoever answered, so what cannot be read is an error, and always the same one.
"""

import ipaddress
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from reachmap_agent.wire.der import (
    OCTET_STRING,
    OID,
    SEQUENCE,
    SET,
    Element,
    MalformedDer,
    elements,
    expect,
)

MAX_SIZE: Final = 65_536
"""Bytes: many times what a real certificate has, and still read in a moment."""

_COMMON_NAME: Final = bytes.fromhex("550403")
_ALTERNATIVE_NAMES: Final = bytes.fromhex("551d11")
"""OIDs 2.5.4.3 and 2.5.29.17."""

_VERSION: Final = 0xA0
_EXTENSIONS: Final = 0xA3
_DNS_NAME: Final = 0x82
_IP_ADDRESS: Final = 0x87

_ENCODINGS: Final = {
    0x0C: "utf-8",
    0x13: "ascii",
    0x14: "latin-1",
    0x16: "ascii",
    0x1C: "utf-32-be",
    0x1E: "utf-16-be",
}
"""Of UTF8String, PrintableString, TeletexString, IA5String, UniversalString and BMPString."""

_YEAR_DIGITS: Final = {0x17: 2, 0x18: 4}
"""Of UTCTime and GeneralizedTime."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)

_SHOWN_NAMES: Final = 4
_SHOWN: Final = 60


class MalformedCertificate(ValueError):
    """The bytes are no certificate that can be read."""


@dataclass(frozen=True, slots=True)
class Certificate:
    """What a check tells of one."""

    subject: str
    """The common name; empty when there is none."""
    names: tuple[str, ...]
    """DNS names that it is for, in lower case."""
    addresses: tuple[str, ...]
    """IP addresses that it is for."""
    not_before: int
    """Seconds since the epoch, as is the next."""
    not_after: int

    def is_for(self, host: str) -> bool:
        """Whether clients take it for that DNS name; none looks at the subject (RFC 9525, 6.3)."""
        host = host.rstrip(".").lower()
        _, dot, parent = host.partition(".")
        return host in self.names or (dot != "" and f"*.{parent}" in self.names)


def read(der: bytes) -> Certificate:
    """Read one; raises MalformedCertificate, and nothing else."""
    if len(der) > MAX_SIZE:
        raise MalformedCertificate("it is too large")
    try:
        return _read(der)
    except MalformedDer as error:
        raise MalformedCertificate(str(error)) from None


def facts(certificate: Certificate, dialled: str) -> tuple[str, ...]:
    """What a check says of it.

    Whether it is for `dialled` is said of a DNS name only: an address is hardly ever in one, and
    who dials by address does not ask.
    """
    holder = [certificate.subject, *certificate.names, *certificate.addresses, "nobody"]
    until = (_EPOCH + timedelta(seconds=certificate.not_after)).date()
    told = f"certificate of {_shown(next(filter(None, holder)))}, valid until {until}"
    if _is_address(dialled) or certificate.is_for(dialled):
        return (told,)
    if not certificate.names:
        return told, f"the certificate is not for {dialled}: it names no host"
    names = ", ".join(map(_shown, certificate.names[:_SHOWN_NAMES]))
    more = len(certificate.names) - _SHOWN_NAMES
    rest = f" and {more} more" if more > 0 else ""
    return told, f"the certificate is not for {dialled}, but for {names}{rest}"


def _read(der: bytes) -> Certificate:
    fields = elements(expect(SEQUENCE, expect(SEQUENCE, der)))
    # The version may be left out; serial number, signature algorithm and issuer never are.
    for _ in range(3 if _next(fields).tag == _VERSION else 2):
        _next(fields)
    validity = elements(_content(fields, SEQUENCE))
    not_before, not_after = _time(_next(validity)), _time(_next(validity))
    subject = _common_name(_content(fields, SEQUENCE))
    names: list[str] = []
    addresses: list[str] = []
    for name in _alternative_names(fields):
        if name.tag == _DNS_NAME:
            names.append(name.content.decode("ascii", "backslashreplace").lower())
        elif name.tag == _IP_ADDRESS and len(name.content) in (4, 16):
            addresses.append(str(ipaddress.ip_address(name.content)))
    return Certificate(subject, tuple(names), tuple(addresses), not_before, not_after)


def _time(element: Element) -> int:
    """Seconds since the epoch, from YYMMDDHHMMSSZ or YYYYMMDDHHMMSSZ (RFC 5280, 4.1.2.5)."""
    digits = _YEAR_DIGITS.get(element.tag, 0)
    if not digits or not re.fullmatch(rb"[0-9]{%d}Z" % (digits + 10), element.content):
        raise MalformedCertificate("a time is missing")
    text = element.content.decode()
    year = int(text[:digits])
    if digits == 2:
        year += 1900 if year >= 50 else 2000
    month, day, hour, minute, second = (
        int(text[at : at + 2]) for at in range(digits, digits + 10, 2)
    )
    try:
        moment = datetime(year, month, day, hour, minute, second, tzinfo=UTC)
    except ValueError:
        raise MalformedCertificate("a time does not exist") from None
    return int((moment - _EPOCH).total_seconds())


def _common_name(name: bytes) -> str:
    """The last of them, which is the most specific."""
    found = ""
    for part in elements(name):
        if part.tag != SET:
            raise MalformedCertificate("a name is not made of sets")
        for pair in elements(part.content):
            fields = elements(pair.content)
            if _content(fields, OID) == _COMMON_NAME:
                value = _next(fields)
                encoding = _ENCODINGS.get(value.tag, "ascii")
                found = value.content.decode(encoding, "backslashreplace")
    return found


def _alternative_names(fields: Iterator[Element]) -> Iterator[Element]:
    for field in fields:
        if field.tag != _EXTENSIONS:
            continue
        for extension in elements(expect(SEQUENCE, field.content)):
            parts = elements(extension.content)
            if _content(parts, OID) != _ALTERNATIVE_NAMES:
                continue
            for part in parts:  # a Boolean may stand first, which says that it is critical
                if part.tag == OCTET_STRING:
                    yield from elements(expect(SEQUENCE, part.content))


def _next(fields: Iterator[Element]) -> Element:
    element = next(fields, None)
    if element is None:
        raise MalformedCertificate("a field is missing")
    return element


def _content(fields: Iterator[Element], tag: int) -> bytes:
    element = _next(fields)
    if element.tag != tag:
        raise MalformedCertificate(f"expected tag {tag:#04x}, found {element.tag:#04x}")
    return element.content


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _shown(name: str) -> str:
    """A name out of somebody else's certificate, fit to print."""
    text = "".join(character if character.isprintable() else "." for character in name)
    return text[:_SHOWN] + (" ..." if len(text) > _SHOWN else "")
