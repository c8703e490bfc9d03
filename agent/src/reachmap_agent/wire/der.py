"""DER, as far as reading goes (X.690): elements with one-byte tags and definite lengths. Pure."""

from collections.abc import Iterator
from typing import Final, NamedTuple

OCTET_STRING: Final = 0x04
OID: Final = 0x06
ENUMERATED: Final = 0x0A
SEQUENCE: Final = 0x30
SET: Final = 0x31


class MalformedDer(ValueError):
    """The bytes are no DER, or not of the shape that was expected."""


class Element(NamedTuple):
    """One element; what is inside a constructed one is read by `elements`."""

    tag: int
    content: bytes


def elements(data: bytes) -> Iterator[Element]:
    """One element after the other, as far as `data` goes."""
    at = 0
    while at < len(data):
        element, at = _read(data, at)
        yield element


def expect(tag: int, data: bytes) -> bytes:
    """The content of the element with that tag that `data` begins with."""
    element, _ = _read(data, 0)
    if element.tag != tag:
        raise MalformedDer(f"expected tag {tag:#04x}, found {element.tag:#04x}")
    return element.content


def _read(data: bytes, at: int) -> tuple[Element, int]:
    """The element at a place, and the place after it."""
    if len(data) < at + 2 or data[at] & 0x1F == 0x1F:
        raise MalformedDer("no element with a one-byte tag")
    length, start = data[at + 1], at + 2
    if length >= 0x80:
        size = length & 0x7F
        # None is the indefinite form; four bytes are enough for gigabytes.
        if not 1 <= size <= 4 or len(data) < start + size:
            raise MalformedDer("no definite length")
        length = int.from_bytes(data[start : start + size], "big")
        start += size
    if len(data) < start + length:
        raise MalformedDer("an element is cut short")
    return Element(data[at], data[start : start + length]), start + length
