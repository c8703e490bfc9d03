"""The bytes of a segment's file: what is whole is read, what is torn was never written."""

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reachmap_agent import segments
from reachmap_agent.segments import Entry, Header
from reachmap_shared.messages import MAX_BODY, ReportKind

HEADER = Header("00ff", "os", 5_000, 1_800_000_000_000)
ENTRIES = [
    Entry(0, ReportKind.CHANGES, 0, 3, b"three changes"),
    Entry(1, ReportKind.ROLL_UP, 600, 0, bytes(range(256))),
    Entry(2, ReportKind.CLOSED, 0, 0, b""),
]
FILE = segments.begin(HEADER) + b"".join(map(segments.record, ENTRIES))
ENDS = [len(segments.begin(HEADER) + b"".join(map(segments.record, ENTRIES[:n]))) for n in range(4)]


def test_what_was_written_is_read() -> None:
    """Header, records and their sizes."""
    content = segments.read(FILE)
    assert content is not None
    assert (content.header, content.prefix, content.begins) == (HEADER, 0, ENDS[0])
    assert [entry for _, entry in content.records] == ENTRIES
    assert content.begins + sum(size for size, _ in content.records) == len(FILE)


def test_the_largest_body_fits() -> None:
    """A report's body may be as large as the message allows."""
    entry = Entry(0, ReportKind.ROLL_UP, 1, 0, bytes(MAX_BODY))
    content = segments.read(segments.begin(HEADER) + segments.record(entry))
    assert content is not None and content.records[0][1] == entry


@pytest.mark.parametrize("size", range(len(FILE)))
def test_a_torn_tail_was_never_written(size: int) -> None:
    """Wherever the file ends, the records that are whole are all there."""
    content = segments.read(FILE[:size])
    if size < ENDS[0]:
        assert content is None
    else:
        assert content is not None
        assert len(content.records) == sum(end <= size for end in ENDS) - 1


@given(st.integers(0, len(FILE) - 1), st.integers(1, 255))
def test_damage_never_gets_in(place: int, turned: int) -> None:
    """Whatever bit turns: each record is as it was written, or is not read."""
    damaged = bytearray(FILE)
    damaged[place] ^= turned
    content = segments.read(bytes(damaged))
    if content is not None:
        assert content.header == HEADER
        assert content.prefix == 0
        read = [entry for _, entry in content.records]
        assert read == ENTRIES[: len(read)]


@pytest.mark.parametrize("tail", [bytes(100), b"\xff" * 100, b"\x00" * 7])
def test_blocks_that_were_never_filled_are_no_records(tail: bytes) -> None:
    """As some file systems leave them after a power cut: zeros fit their own checksum."""
    content = segments.read(FILE + tail)
    assert content is not None and [entry for _, entry in content.records] == ENTRIES


@pytest.mark.parametrize(
    "row", [[], [0, "no such kind", 0, 0, b""], [0, "changes", 0, 0, "text"], 7, None]
)
def test_a_record_of_another_version_ends_it(row: object) -> None:
    """What is not understood is not guessed at."""
    framed = segments._framed(row)  # type: ignore[arg-type]
    assert msgpack.unpackb(framed[8:]) == row
    content = segments.read(segments.begin(HEADER) + framed + segments.record(ENTRIES[0]))
    assert content is not None and content.records == ()


@pytest.mark.parametrize("prefix", [0, 1, 3, 70_000])
def test_how_many_are_delivered(prefix: int) -> None:
    """It is written over in its place; a half-written number is none."""
    mark = segments.delivered(prefix)
    start = segments.PREFIX_AT
    marked = FILE[:start] + mark + FILE[start + len(mark) :]
    content = segments.read(marked)
    assert content is not None and content.prefix == prefix
    half = FILE[:start] + mark[:4] + FILE[start + 4 :]
    content = segments.read(half)
    assert content is not None and content.prefix == 0
