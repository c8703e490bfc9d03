"""A spool's segment file: its bytes, and what they say. Pure.

    magic | records delivered | header | record | record | ...

Header and records are framed by length and checksum, so what a crash tore is recognised: whatever
is behind the first frame that is not whole was never written.
"""

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import msgpack

from reachmap_shared.messages import MAX_BODY, ReportKind

_MAGIC: Final = b"rmspool1"
_PREFIX: Final = struct.Struct("<II")
"""How many records are delivered, and the same with every bit turned: half of it is none."""
_TURNED: Final = 0xFFFFFFFF
_FRAME: Final = struct.Struct("<II")
"""Length and checksum."""
_MAX_FRAME: Final = MAX_BODY + 1024

_KINDS: Final = frozenset(kind.value for kind in ReportKind)

PREFIX_AT: Final = len(_MAGIC)
"""Where in the file it says how many are delivered."""


@dataclass(frozen=True, slots=True)
class Header:
    """Whose records a segment has, and what the clocks read when it was begun."""

    boot: str
    os_boot: str
    steady_ms: int
    wall_ms: int


@dataclass(frozen=True, slots=True)
class Entry:
    """One record."""

    sequence: int
    kind: ReportKind
    made: int
    """Observations that are delivered with it."""
    changes: int
    """Changes that are delivered with it."""
    body: bytes


@dataclass(frozen=True, slots=True)
class Content:
    """A segment's file, as far as it is whole."""

    header: Header
    begins: int
    """Where the records do."""
    prefix: int
    """How many of them are delivered."""
    records: tuple[tuple[int, Entry], ...]
    """Each with its size in the file."""


def begin(header: Header) -> bytes:
    """The beginning of a segment's file."""
    facts = [header.boot, header.os_boot, header.steady_ms, header.wall_ms]
    return _MAGIC + delivered(0) + _framed(facts)


def delivered(prefix: int) -> bytes:
    """What stands at PREFIX_AT when so many are delivered."""
    return _PREFIX.pack(prefix, prefix ^ _TURNED)


def record(entry: Entry) -> bytes:
    """What is added to the file for a record."""
    return _framed([entry.sequence, entry.kind.value, entry.made, entry.changes, entry.body])


def read(content: bytes) -> Content | None:
    """Read a segment's file; None when not even its header is whole."""
    frames = _frames(content, PREFIX_AT + _PREFIX.size)
    match next(frames, None) if content.startswith(_MAGIC) else None:
        case (int(size), [str(boot), str(os_boot), int(steady_ms), int(wall_ms)]):
            header = Header(boot, os_boot, steady_ms, wall_ms)
        case _:
            return None
    prefix, turned = _PREFIX.unpack_from(content, PREFIX_AT)
    records = []
    for its_size, row in frames:
        match row:
            case [int(sequence), str(kind), int(made), int(changes), bytes(body)] if kind in _KINDS:
                entry = Entry(sequence, ReportKind(kind), made, changes, body)
                records.append((its_size, entry))
            case _:
                break
    begins = PREFIX_AT + _PREFIX.size + size
    return Content(header, begins, prefix if prefix ^ turned == _TURNED else 0, tuple(records))


def _framed(row: list[object]) -> bytes:
    packed: bytes = msgpack.packb(row)
    return _FRAME.pack(len(packed), zlib.crc32(packed)) + packed


def _frames(content: bytes, start: int) -> Iterator[tuple[int, object]]:
    while start + _FRAME.size <= len(content):
        length, checksum = _FRAME.unpack_from(content, start)
        end = start + _FRAME.size + length
        packed = content[start + _FRAME.size : end]
        if length > _MAX_FRAME or end > len(content) or zlib.crc32(packed) != checksum:
            return
        try:
            row = msgpack.unpackb(packed)
        except (ValueError, msgpack.exceptions.UnpackException):  # zeros have that checksum too
            return
        yield end - start, row
        start = end
