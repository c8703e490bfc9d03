"""A spool's files: made, added to, marked, read and taken away. Failures are the caller's."""

import contextlib
import errno
import os
from pathlib import Path
from typing import Final

try:
    import fcntl
except ImportError:  # there an agent's folder is held by nothing but its name
    fcntl = None  # type: ignore[assignment]  # as the check above each use wants it

from reachmap_agent import segments
from reachmap_agent.account import Account
from reachmap_agent.backlog import Lane, Segment
from reachmap_agent.segments import Content, Header

_ACCOUNT: Final = ".account"
_LOCK: Final = "lock"
_BINARY: Final[int] = getattr(os, "O_BINARY", 0)


class SegmentFiles:
    """The files in one folder, which is made when it is needed, and ours alone from then on."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock: int | None = None
        self._open: dict[int, int] = {}
        """Descriptors of those that are written to, by segment."""

    def close(self) -> None:
        """Close all that are open."""
        for handle in self._open.values():
            os.close(handle)
        self._open.clear()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    @property
    def is_ours(self) -> bool:
        """Whether the folder is there, and nobody else at work in it."""
        return self._lock is not None

    def account(self, boot: str) -> Account:
        """That of a start. Raises OSError."""
        self._make_folder()
        return Account(self._account(boot))

    def keep_account(self, boot: str, account: Account) -> None:
        """Have a file for one that was in memory alone. Raises OSError."""
        self._make_folder()
        account.keep(self._account(boot))

    def remove_account(self, boot: str) -> None:
        """Take that of a start away, if it is there."""
        with contextlib.suppress(OSError):
            self._account(boot).unlink()

    def _account(self, boot: str) -> Path:
        return self._folder / f"{boot}{_ACCOUNT}"

    def accounts(self) -> list[str]:
        """The starts that have one."""
        return [path.stem for path in files(self._folder) if path.suffix == _ACCOUNT]

    def segments(self) -> list[tuple[Lane, int]]:
        """Lane and number of each there is, oldest first."""
        found = []
        for path in files(self._folder):
            with contextlib.suppress(ValueError):
                found.append((Lane(path.name[:1]), int(path.name[1:])))
        return sorted(found, key=lambda one: one[1])

    def create(self, segment: Segment, header: Header) -> None:
        """Make a segment's file. Raises OSError, and leaves none then."""
        self._make_folder()
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | _BINARY
        path = self._path(segment.lane, segment.number)
        self._open[segment.number] = os.open(path, flags, 0o600)
        try:
            content = segments.begin(header)
            self.add(segment, content)
        except OSError:
            self.remove(segment)
            raise
        segment.size = len(content)

    def add(self, segment: Segment, content: bytes) -> None:
        """Write behind what is there. Raises OSError.

        Then half of it may be there: no checksum fits, or the next is written over it.
        """
        _write(self._open[segment.number], content, segment.size)

    def mark(self, segment: Segment) -> None:
        """Write down how many of its records are delivered. Raises OSError."""
        handle = self._open.get(segment.number)
        content = segments.delivered(segment.prefix)
        if handle is not None:
            _write(handle, content, segments.PREFIX_AT)
            return
        handle = os.open(self._path(segment.lane, segment.number), os.O_WRONLY | _BINARY)
        try:
            _write(handle, content, segments.PREFIX_AT)
        finally:
            os.close(handle)

    def seal(self, segment: Segment) -> None:
        """Write no more to it."""
        if (handle := self._open.pop(segment.number, None)) is not None:
            os.close(handle)

    def remove(self, segment: Segment) -> None:
        """Take it away, if it is there."""
        self.seal(segment)
        with contextlib.suppress(OSError):
            self._path(segment.lane, segment.number).unlink()

    def read(self, lane: Lane, number: int) -> Content | None:
        """What is in it; None when it is none, or cannot be read."""
        return read(self._path(lane, number))

    def _path(self, lane: Lane, number: int) -> Path:
        return self._folder / f"{lane}{number:010}"

    def _make_folder(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if self._lock is not None:
            return
        handle = os.open(self._folder / _LOCK, os.O_RDWR | os.O_CREAT, 0o600)
        if fcntl is not None:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                os.close(handle)
                reason = "another agent is at work there"
                raise OSError(error.errno, reason, str(self._folder)) from error
        self._lock = handle


def _write(handle: int, content: bytes, at: int) -> None:
    os.lseek(handle, at, os.SEEK_SET)
    if os.write(handle, content) < len(content):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def files(folder: Path) -> list[Path]:
    """Every file in it; none where there is no such folder."""
    try:
        return [path for path in folder.iterdir() if path.is_file()]
    except OSError:
        return []


def read(path: Path) -> Content | None:
    """A segment's file; None when it is none, or cannot be read."""
    try:
        return segments.read(path.read_bytes())
    except OSError:
        return None
