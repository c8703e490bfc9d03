"""What one start of the agent made and delivered, in a file that outlives a kill -9.

The file is mapped, so a count costs a store and no system call, and the kernel has it the moment
it is made. What must be true together with a change to the spool's files is written down before
that change and taken over after it: who finds such a note does the rest.
"""

import errno
import mmap
import os
from pathlib import Path
from typing import Final

_MAGIC: Final = 0x31544343414D5243
"""Ours, of this version and this machine's byte order."""

_SIZE: Final = 4096
"""The whole page is written before it is mapped: a page without a block kills who stores in it
when the disk is full."""

(
    _OURS,
    _MADE,
    _DELIVERED,
    _TOLD,
    _CHANGES_DELIVERED,
    _SEQUENCE,
    _CLOSED,
    _NOTED,
    _NOTED_DELIVERED,
    _NOTED_CHANGES,
    _NOTED_PREFIX,
    _LOST,
    _CHANGES_LOST,
    _LAST,
) = range(14)


class Account:
    """The numbers of one start.

    Args:
        path: Where it is kept; None keeps it in memory alone.
    """

    def __init__(self, path: Path | None) -> None:
        self._map: mmap.mmap | None = None
        if path is None:
            self._numbers = memoryview(bytearray(_SIZE)).cast("Q")
        else:
            self._map = _mapped(path)
            self._numbers = memoryview(self._map).cast("Q")
        if self._numbers[_OURS] != _MAGIC:
            for place in range(1, len(self._numbers)):
                self._numbers[place] = 0
            self._numbers[_OURS] = _MAGIC

    @property
    def is_kept(self) -> bool:
        """Whether there is a file of it."""
        return self._map is not None

    def keep(self, path: Path) -> None:
        """Go on in a file, after all. Raises OSError, and is as it was then."""
        numbers, self._map = self._numbers, _mapped(path)
        self._numbers = memoryview(self._map).cast("Q")
        self._numbers[:] = numbers
        numbers.release()

    def close(self) -> None:
        """Let go of it."""
        self._numbers.release()
        if self._map is not None:
            self._map.close()

    @property
    def made(self) -> int:
        """Observations."""
        return self._numbers[_MADE]

    @made.setter
    def made(self, count: int) -> None:
        self._numbers[_MADE] = count

    @property
    def told(self) -> int:
        """Changes."""
        return self._numbers[_TOLD]

    @told.setter
    def told(self, count: int) -> None:
        self._numbers[_TOLD] = count

    @property
    def delivered(self) -> int:
        """Observations in roll-ups that were acknowledged."""
        return self._numbers[_DELIVERED]

    @property
    def changes_delivered(self) -> int:
        """Changes that were acknowledged."""
        return self._numbers[_CHANGES_DELIVERED]

    @property
    def sequence(self) -> int:
        """The next report's."""
        return self._numbers[_SEQUENCE]

    @sequence.setter
    def sequence(self, number: int) -> None:
        self._numbers[_SEQUENCE] = number

    @property
    def is_closed(self) -> bool:
        """Whether a later start has closed it."""
        return bool(self.closed_ms)

    @property
    def closed_ms(self) -> int:
        """When a later start closed it, by the wall clock; 0 while none has."""
        return self._numbers[_CLOSED]

    @closed_ms.setter
    def closed_ms(self, wall_ms: int) -> None:
        self._numbers[_CLOSED] = wall_ms

    @property
    def last_ms(self) -> int:
        """When the start began or made its last report, by the wall clock."""
        return self._numbers[_LAST]

    @last_ms.setter
    def last_ms(self, wall_ms: int) -> None:
        self._numbers[_LAST] = max(0, wall_ms)

    def show_lost(self, made: int, changes: int) -> None:
        """What had to be dropped so far: for whoever looks from outside."""
        self._numbers[_LOST], self._numbers[_CHANGES_LOST] = made, changes

    def note(self, segment: int, prefix: int, made: int, changes: int) -> None:
        """Write down that so much more is delivered, and a segment's first records with it."""
        numbers = self._numbers
        numbers[_NOTED_PREFIX] = prefix
        numbers[_NOTED_DELIVERED] = numbers[_DELIVERED] + made
        numbers[_NOTED_CHANGES] = numbers[_CHANGES_DELIVERED] + changes
        numbers[_NOTED] = segment + 1  # last: only now the note holds

    def settle(self) -> None:
        """Take over what was noted, now that the spool's files say so too."""
        numbers = self._numbers
        numbers[_DELIVERED] = numbers[_NOTED_DELIVERED]
        numbers[_CHANGES_DELIVERED] = numbers[_NOTED_CHANGES]
        numbers[_NOTED] = 0

    @property
    def noted(self) -> tuple[int, int] | None:
        """The segment, and how many of its records, of a note that nobody has settled."""
        numbers = self._numbers
        return (numbers[_NOTED] - 1, numbers[_NOTED_PREFIX]) if numbers[_NOTED] else None


def shown_lost(content: bytes) -> tuple[int, int]:
    """Observations and changes that had to be dropped, by an account's file."""
    if len(content) != _SIZE:
        return 0, 0
    numbers = memoryview(content).cast("Q")
    return numbers[_LOST], numbers[_CHANGES_LOST]


def _mapped(path: Path) -> mmap.mmap:
    handle = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o600)
    try:
        if os.fstat(handle).st_size < _SIZE:
            os.lseek(handle, 0, os.SEEK_SET)
            if os.write(handle, bytes(_SIZE)) < _SIZE:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return mmap.mmap(handle, _SIZE)
    finally:
        os.close(handle)
