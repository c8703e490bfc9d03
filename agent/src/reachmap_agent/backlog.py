"""What waits for delivery, in segments of two lanes, and what has to go when it is too much. Pure.

A segment is a run of records of one start in one lane. It goes as a whole: when all of its records
are acknowledged, or when there is no room for it any more.
"""

from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from reachmap_shared.messages import ReportKind

MAX_BYTES: Final = 16 << 20
"""On disk: weeks of an ordinary host's roll-ups, and no harm to the smallest system partition."""

MAX_MEMORY: Final = 2 << 20
"""Where there is no disk to be had."""

MAX_AGE_MS: Final = 7 * 86_400_000
"""What a week-old roll-up says, nobody asks any more."""

SEGMENT_BYTES: Final = 256 << 10
"""A sixty-fourth of the room: as much goes at once when it is full."""

SEGMENT_AGE_MS: Final = 86_400_000
"""What goes for its age goes by the day."""

_LEAST_BYTES: Final = 4096
"""What a file takes at least: a thousand starts in a row must not fill the disk either."""


class Lane(StrEnum):
    """What is delivered and dropped apart: the name is the first letter of the files'."""

    CHANGES = "c"
    ROLL_UPS = "r"


LANES: Final = {
    ReportKind.CHANGES: Lane.CHANGES,
    ReportKind.CLOSED: Lane.CHANGES,
    ReportKind.DIAGNOSIS: Lane.CHANGES,
    ReportKind.ROLL_UP: Lane.ROLL_UPS,
}


@dataclass(slots=True, eq=False)
class Segment:
    """A run of records, and what of them still waits."""

    lane: Lane
    number: int
    """Grows with each segment, whatever its lane."""
    boot: str
    shift_ms: int = 0
    """What its records' clock was behind ours: zero but after a start of the operating system."""
    on_disk: bool = True
    size: int = 0
    records: int = 0
    prefix: int = 0
    """Records at its beginning that are acknowledged."""
    acked: set[int] = field(default_factory=set)
    """Those behind the prefix that are acknowledged too."""
    made: int = 0
    """Observations that wait in it."""
    changes: int = 0
    """Changes that wait in it."""
    begun_ms: int = 0
    """When its first record was written, by our clock."""
    last_ms: int = 0
    """When its last record was written, by our clock."""
    dropped: bool = False
    _made: "array[int]" = field(default_factory=lambda: array("I"))
    _changes: "array[int]" = field(default_factory=lambda: array("I"))
    """Of each record."""

    @property
    def is_done(self) -> bool:
        """Whether nothing in it waits."""
        return self.prefix == self.records

    @property
    def cost(self) -> int:
        """Bytes that it takes of the room."""
        return max(self.size, _LEAST_BYTES) if self.on_disk else self.size

    def takes_more(self, now_ms: int) -> bool:
        """Whether another record belongs into it."""
        if not self.records:
            return True
        return self.size < SEGMENT_BYTES and now_ms - self.begun_ms < SEGMENT_AGE_MS

    def add(self, size: int, made: int, changes: int, at_ms: int) -> int:
        """Count one more record, and return its place."""
        if not self.records:
            self.begun_ms = at_ms
        self._made.append(made)
        self._changes.append(changes)
        self.made += made
        self.changes += changes
        self.records += 1
        self.size += size
        self.last_ms = at_ms
        return self.records - 1

    def ack(self, place: int) -> tuple[int, int]:
        """One that waited is acknowledged.

        Returns:
            How many observations and changes the prefix grew by.
        """
        self.acked.add(place)
        self.made -= self._made[place]
        self.changes -= self._changes[place]
        made = changes = 0
        while self.prefix in self.acked:
            self.acked.discard(self.prefix)
            made += self._made[self.prefix]
            changes += self._changes[self.prefix]
            self.prefix += 1
        return made, changes

    def void(self, place: int) -> None:
        """What one bears is lost."""
        self.made -= self._made[place]
        self.changes -= self._changes[place]
        self._made[place] = self._changes[place] = 0

    def skip(self, prefix: int) -> None:
        """So many records at its beginning were acknowledged before."""
        for place in range(self.prefix, min(prefix, self.records)):
            self.ack(place)

    @property
    def beyond(self) -> tuple[int, int]:
        """Observations and changes that are acknowledged behind the prefix."""
        those = self.acked
        return sum(self._made[one] for one in those), sum(self._changes[one] for one in those)

    def is_acked(self, place: int) -> bool:
        """Whether a record is acknowledged."""
        return place < self.prefix or place in self.acked


class Backlog:
    """All segments there are."""

    def __init__(self, max_bytes: int = MAX_BYTES, max_memory: int = MAX_MEMORY) -> None:
        self._rooms = {True: max_bytes, False: max_memory}
        self._segments: dict[int, Segment] = {}
        self._next = 0

    def __iter__(self) -> Iterator[Segment]:
        """Oldest first."""
        return iter(list(self._segments.values()))

    def get(self, number: int) -> Segment | None:
        """A segment by its number."""
        return self._segments.get(number)

    def add(self, segment: Segment) -> Segment:
        """Take one in: newer than all that were before."""
        self._segments[segment.number] = segment
        self._next = max(self._next, segment.number + 1)
        return segment

    def new(self, lane: Lane, boot: str, *, on_disk: bool) -> Segment:
        """An empty one."""
        return self.add(Segment(lane, self._next, boot, on_disk=on_disk))

    def remove(self, segment: Segment) -> None:
        """Forget one."""
        self._segments.pop(segment.number, None)

    def used(self, *, on_disk: bool) -> int:
        """Bytes, on disk or in memory."""
        return sum(one.cost for one in self._segments.values() if one.on_disk is on_disk)

    def waiting(self, boot: str | None = None) -> tuple[int, int]:
        """Observations and changes that wait, of one start or of all."""
        those = [one for one in self._segments.values() if boot in (None, one.boot)]
        return sum(one.made for one in those), sum(one.changes for one in those)

    def beyond(self, boot: str) -> tuple[int, int]:
        """Observations and changes of a start that are acknowledged behind prefixes."""
        those = [one.beyond for one in self._segments.values() if one.boot == boot]
        return sum(made for made, _ in those), sum(changes for _, changes in those)

    def has(self, boot: str) -> bool:
        """Whether anything of a start waits."""
        return any(one.boot == boot for one in self._segments.values())

    def next_to_go(self, now_ms: int) -> Segment | None:
        """What must be dropped, if anything: too old, or the oldest where there is too much.

        Roll-ups go first: a change is worth more than all the counts of its day.
        """
        for segment in self._segments.values():
            if now_ms - segment.last_ms > MAX_AGE_MS and segment.records:
                return segment
        for on_disk, room in self._rooms.items():
            if self.used(on_disk=on_disk) > room:
                those = [one for one in self._segments.values() if one.on_disk is on_disk]
                return min(those, key=lambda one: (one.lane is Lane.CHANGES, one.number))
        return None
