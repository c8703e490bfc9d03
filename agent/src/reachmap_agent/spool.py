"""What was seen and is not delivered yet, on disk: it survives a crash, an outage and a full disk.

Append-only segment files (`reachmap_agent.backlog` keeps the account of them), each with a header
that says whose records it has and what the clocks read, and how many of its records are delivered
already. A record has its length and a checksum, so what a crash tore is recognised.

Nothing is synced to the disk: what the kernel was given survives the process, whatever kills it.
A power cut costs the kernel's last half minute, of an outage's reports alone, and the map does not
depend on them: every start tells all that holds anew. In return what is delivered within seconds
never makes a disk turn.
"""

import contextlib
import errno
import os
import struct
import zlib
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgpack

from reachmap_agent.account import Account
from reachmap_agent.backlog import (
    LANES,
    MAX_BYTES,
    MAX_MEMORY,
    SEGMENT_BYTES,
    Backlog,
    Lane,
    Segment,
)
from reachmap_agent.clock import Clock
from reachmap_shared import codec, log
from reachmap_shared.messages import MAX_BODY, Closed, Report, ReportKind

RETRY_DISK_MS: Final = 60_000
"""Between two attempts to write to a disk that took nothing."""

_MAGIC: Final = b"rmspool1"
_PREFIX: Final = struct.Struct("<II")
"""How many records are delivered, and the same with every bit turned: half of it is none."""
_FRAME: Final = struct.Struct("<II")
"""A record's length and checksum."""
_MAX_RECORD: Final = MAX_BODY + 1024

_log = log.get("spool")


@dataclass(frozen=True, slots=True)
class Record:
    """One report that waits for its delivery."""

    segment: Segment
    place: int
    sequence: int
    kind: ReportKind
    body: bytes
    made: int
    """Observations that are delivered with it."""
    changes: int
    """Changes that are delivered with it."""

    @property
    def key(self) -> tuple[int, int]:
        """Which one it is."""
        return self.segment.number, self.place


class Spool:
    """The records of this start, and of those before it that are not delivered yet.

    Args:
        folder: Where the files are; made when it is not there.
        agent: Whose reports they are.
        boot: This start.
        clock: What ages are taken from.
        max_bytes: The room on disk.
        max_memory: The room in memory, where the disk takes nothing.
    """

    def __init__(
        self,
        folder: Path,
        agent: str,
        boot: str,
        clock: Clock,
        max_bytes: int = MAX_BYTES,
        max_memory: int = MAX_MEMORY,
    ) -> None:
        self._folder = folder
        self._agent = agent
        self._boot = boot
        self._clock = clock
        self._backlog = Backlog(max_bytes, max_memory)
        self._active: dict[Lane, Segment] = {}
        self._handle: dict[int, int] = {}
        """Open files, by segment: those that are written to."""
        self._in_memory: dict[int, list[Record]] = {}
        self._cursors: dict[Lane, deque[Record]] = {lane: deque() for lane in Lane}
        self._read: dict[Lane, int] = dict.fromkeys(Lane, -1)
        """The segment that each cursor has read last."""
        self._retry_ms = 0
        self._accounts: dict[str, Account] = {}
        self.failure = ""
        """Why nothing is written to disk; empty when it is."""
        self.lost = 0
        """Observations of this start that had to be dropped."""
        self.changes_lost = 0
        """Changes of this start that had to be dropped."""
        self._recover()

    @property
    def account(self) -> Account:
        """The numbers of this start."""
        return self._accounts[self._boot]

    @property
    def waiting(self) -> int:
        """Observations of this start that are not delivered yet."""
        return self._backlog.waiting(self._boot)[0]

    @property
    def waiting_in_all(self) -> tuple[int, int]:
        """Observations and changes of all starts that are not delivered yet."""
        return self._backlog.waiting()

    def put(self, kind: ReportKind, body: bytes, made: int = 0, changes: int = 0) -> Record:
        """Keep a report until it is delivered or there is no room for it any more."""
        account = self.account
        # First the next one's number: a crash in between leaves a gap, and no number twice.
        account.sequence += 1
        record = self._append(self._boot, kind, account.sequence - 1, body, made, changes)
        self._make_room()
        return record

    def report(self, record: Record) -> Report:
        """A record as it is sent now."""
        return Report(
            self._agent,
            record.segment.boot,
            record.sequence,
            self._clock.steady_ms() - record.segment.shift_ms,
            self._clock.wall_ms(),
            record.kind,
            record.body,
        )

    def forget(self, record: Record) -> None:
        """A record is delivered."""
        segment = record.segment
        if segment.is_acked(record.place):
            return
        account = self._accounts.get(segment.boot)
        before = segment.prefix
        made, changes = segment.ack(record.place)
        if segment.dropped:  # it had got away when its room was taken
            made, changes = record.made, record.changes
            if segment.boot == self._boot:
                self._count_lost(-made, -changes)
        elif segment.prefix == before:
            return
        if account is not None:
            account.note(segment.number, segment.prefix, made, changes)
        if not segment.dropped:
            self._give_up(segment)
        if account is not None:
            account.settle()
            self._forget_account(segment.boot)

    def drop(self, record: Record) -> None:
        """A record will never be delivered: count what it bears as lost."""
        segment = record.segment
        if segment.dropped or segment.is_acked(record.place):
            return
        segment.void(record.place)
        if segment.boot == self._boot:
            self._count_lost(record.made, record.changes)
        elif record.made or record.changes:
            self._close_account(segment.boot)
        self.forget(record)

    def _count_lost(self, made: int, changes: int) -> None:
        self.lost += made
        self.changes_lost += changes
        self.account.show_lost(self.lost, self.changes_lost)

    def history(self, lane: Lane) -> Record | None:
        """The next record of a lane that waits, from the oldest on; None when there is no more."""
        cursor = self._cursors[lane]
        while True:
            while cursor:
                record = cursor.popleft()
                segment = record.segment
                if not (segment.dropped or segment.is_acked(record.place)):
                    return record
            after = self._read[lane]
            following = (one for one in self._backlog if one.lane is lane and one.number > after)
            unread = next(following, None)
            if unread is None:
                return None
            self._read[lane] = unread.number
            cursor.extend(self._records(unread))

    def rewind(self) -> None:
        """Let `history` begin again."""
        for lane in Lane:
            self._cursors[lane].clear()
            self._read[lane] = -1

    def close(self) -> None:
        """Close the files; what they hold is for the next start."""
        for handle in self._handle.values():
            os.close(handle)
        self._handle.clear()
        for account in self._accounts.values():
            account.close()

    def _append(
        self, boot: str, kind: ReportKind, sequence: int, body: bytes, made: int, changes: int
    ) -> Record:
        lane = LANES[kind]
        content = msgpack.packb([sequence, kind.value, made, changes, body])
        frame = _FRAME.pack(len(content), zlib.crc32(content)) + content
        segment = self._writable(lane, boot)
        if segment.on_disk and not self._write(segment, frame):
            self._seal(segment)
            segment = self._writable(lane, boot)
        place = segment.add(len(frame), made, changes, self._clock.steady_ms())
        record = Record(segment, place, sequence, kind, body, made, changes)
        if not segment.on_disk:
            self._in_memory[segment.number].append(record)
        return record

    def _writable(self, lane: Lane, boot: str) -> Segment:
        """The lane's segment that is written to; in memory when the disk takes nothing."""
        now_ms = self._clock.steady_ms()
        tries_disk = not self.failure or now_ms >= self._retry_ms
        segment = self._active.get(lane)
        if segment is not None:
            fits = segment.size < SEGMENT_BYTES and segment.boot == boot
            if fits and segment.on_disk is tries_disk:
                return segment
            self._seal(segment)
        segment = self._backlog.new(lane, boot, on_disk=tries_disk)
        if tries_disk and not self._create(segment, now_ms):
            self._backlog.remove(segment)
            segment = self._backlog.new(lane, boot, on_disk=False)
        if not segment.on_disk:
            self._in_memory[segment.number] = []
        self._active[lane] = segment
        return segment

    def _create(self, segment: Segment, now_ms: int) -> bool:
        facts = [segment.boot, self._clock.os_boot, now_ms, self._clock.wall_ms()]
        content = msgpack.packb(facts)
        frame = _FRAME.pack(len(content), zlib.crc32(content)) + content
        try:
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            flags = os.O_RDWR | os.O_CREAT | os.O_TRUNC
            self._handle[segment.number] = os.open(self._path(segment), flags, 0o600)
        except OSError as error:
            self._failed(error)
            return False
        if not self._write(segment, _MAGIC + _PREFIX.pack(0, 0xFFFFFFFF) + frame):
            self._unlink(segment)
            return False
        segment.size = len(_MAGIC) + _PREFIX.size + len(frame)
        if self.failure:
            _log.info("disk takes reports again")
            self.failure = ""
        return True

    def _write(self, segment: Segment, content: bytes) -> bool:
        """Add to a segment's file, all or nothing."""
        try:
            if os.pwrite(self._handle[segment.number], content, segment.size) == len(content):
                return True
            error = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as raised:
            error = raised
        # Half a record stays half: its checksum is wrong, or the next one is written over it.
        self._failed(error)
        return False

    def _failed(self, error: OSError) -> None:
        if not self.failure:
            _log.warning("disk takes no reports, they are kept in memory", reason=str(error))
        self.failure = f"{error.strerror or error}: what waits is kept in memory"
        self._retry_ms = self._clock.steady_ms() + RETRY_DISK_MS

    def _seal(self, segment: Segment) -> None:
        """Write no more to a segment."""
        if self._active.get(segment.lane) is segment:
            del self._active[segment.lane]
        if (handle := self._handle.pop(segment.number, None)) is not None:
            os.close(handle)
        if not segment.records:
            self._unlink(segment)
            self._backlog.remove(segment)

    def _give_up(self, segment: Segment) -> None:
        """See to it that a segment's prefix is never delivered again."""
        if segment.is_done:
            self._remove(segment)
            return
        if segment.number in self._in_memory:
            return
        mark = _PREFIX.pack(segment.prefix, segment.prefix ^ 0xFFFFFFFF)
        # On a disk that takes nothing they are delivered once more after a crash, which is no loss.
        with contextlib.suppress(OSError):
            handle = self._handle.get(segment.number)
            if handle is not None:
                os.pwrite(handle, mark, len(_MAGIC))
                return
            handle = os.open(self._path(segment), os.O_WRONLY)
            try:
                os.pwrite(handle, mark, len(_MAGIC))
            finally:
                os.close(handle)

    def _remove(self, segment: Segment) -> None:
        self._seal(segment)
        self._unlink(segment)
        self._in_memory.pop(segment.number, None)
        self._backlog.remove(segment)

    def _unlink(self, segment: Segment) -> None:
        if (handle := self._handle.pop(segment.number, None)) is not None:
            os.close(handle)
        if segment.on_disk:
            with contextlib.suppress(OSError):
                self._path(segment).unlink()

    def _make_room(self) -> None:
        """Drop what is too old or too much, and count it."""
        while (segment := self._backlog.next_to_go(self._clock.steady_ms())) is not None:
            made, changes = segment.made, segment.changes
            account = self._accounts[segment.boot]
            # Those acknowledged out of their order are delivered all the same.
            account.note(segment.number, segment.records, *segment.drop())
            self._remove(segment)
            account.settle()
            if segment.boot == self._boot:
                self._count_lost(made, changes)
            elif made or changes:
                self._close_account(segment.boot)
                self._forget_account(segment.boot)

    def _path(self, segment: Segment) -> Path:
        return self._folder / f"{segment.lane}{segment.number:010}"

    def _account_path(self, boot: str) -> Path:
        return self._folder / f"{boot}.account"

    def _open_account(self, boot: str) -> Account:
        """That of a start, in memory where the disk takes nothing."""
        try:
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            account = Account(self._account_path(boot))
        except OSError as error:
            self._failed(error)
            account = Account(None)
        self._accounts[boot] = account
        return account

    def _recover(self) -> None:
        """Take over what the starts before have left, and close their accounts."""
        self._open_account(self._boot)
        paths = list(_files(self._folder))
        for path in sorted(path for path in paths if path.suffix == ".account"):
            if path.stem != self._boot:
                self._open_account(path.stem)
        notes = {account.noted[0]: account for account in self._accounts.values() if account.noted}
        for path in sorted(paths, key=lambda one: one.name[1:]):
            if path.suffix:
                continue
            segment = self._load(path)
            if segment is None:
                continue
            self._backlog.add(segment)
            if segment.boot not in self._accounts:
                self._open_account(segment.boot)
            if (noted := notes.pop(segment.number, None)) is not None:
                segment.skip(noted.noted[1] if noted.noted else 0)
                self._give_up(segment)
                noted.settle()
            elif segment.is_done:
                self._give_up(segment)
        for account in notes.values():
            account.settle()
        for boot, account in list(self._accounts.items()):
            if boot != self._boot:
                if not account.is_closed:
                    self._close_account(boot)
                self._forget_account(boot)
        self._make_room()

    def _close_account(self, boot: str) -> None:
        """Report what a start before this one has come to: what is nowhere any more is lost."""
        account = self._accounts[boot]
        waiting, changes_waiting = self._backlog.waiting(boot)
        # Of an account that the disk did not take, at least what is left is known.
        account.made = max(account.made, account.delivered + waiting)
        account.told = max(account.told, account.changes_delivered + changes_waiting)
        lost = account.made - account.delivered - waiting
        changes_lost = account.told - account.changes_delivered - changes_waiting
        body = codec.pack(Closed(account.made, lost, changes_lost))
        account.sequence += 1
        self._append(boot, ReportKind.CLOSED, account.sequence - 1, body, 0, 0)
        account.is_closed = True

    def _forget_account(self, boot: str) -> None:
        if boot != self._boot and not self._backlog.has(boot):
            self._accounts.pop(boot).close(remove=True)

    def _load(self, path: Path) -> Segment | None:
        """A segment as a start before has left it; None when there is nothing in it."""
        try:
            content = path.read_bytes()
            lane, number = Lane(path.name[0]), int(path.name[1:])
        except (OSError, ValueError):
            return None
        header = _header(content)
        if header is None:
            _log.warning("spool file is none", path=str(path))
            with contextlib.suppress(OSError):
                path.unlink()
            return None
        (boot, os_boot, steady_ms, wall_ms), start, prefix = header
        segment = Segment(lane, number, boot, size=start)
        segment.shift_ms = self._shift_ms(os_boot, steady_ms, wall_ms)
        at_ms = steady_ms + segment.shift_ms
        for size, (_, _, made, changes, _) in _frames(content, start):
            segment.add(size, made, changes, at_ms)
        segment.skip(prefix)
        return segment

    def _shift_ms(self, os_boot: str, steady_ms: int, wall_ms: int) -> int:
        """What our clock reads more than theirs did at the same moment.

        Of another start of the operating system only the wall clock can tell, as it was then and
        is now: if it says that the file is of the future, the file is of this moment.
        """
        if os_boot and os_boot == self._clock.os_boot:
            return 0
        age_ms = max(0, self._clock.wall_ms() - wall_ms)
        return self._clock.steady_ms() - age_ms - steady_ms

    def _records(self, segment: Segment) -> Iterator[Record]:
        if segment.number in self._in_memory:
            yield from list(self._in_memory[segment.number])
            return
        try:
            content = self._path(segment).read_bytes()[: segment.size]
        except OSError as error:
            _log.warning("spool cannot be read", reason=str(error))
            return
        header = _header(content)
        if header is None:
            return
        for place, (_, row) in enumerate(_frames(content, header[1])):
            sequence, kind, made, changes, body = row
            yield Record(segment, place, sequence, ReportKind(kind), body, made, changes)


def _files(folder: Path) -> list[Path]:
    try:
        return [path for path in folder.iterdir() if path.is_file()]
    except OSError:
        return []


def _header(content: bytes) -> tuple[tuple[str, str, int, int], int, int] | None:
    """What a segment's header says, where its records begin, how many of them are delivered."""
    start = len(_MAGIC) + _PREFIX.size
    if len(content) < start or content[: len(_MAGIC)] != _MAGIC:
        return None
    prefix, turned = _PREFIX.unpack_from(content, len(_MAGIC))
    framed = next(_raw_frames(content, start), None)
    if framed is None:
        return None
    size, facts = framed
    match facts:
        case [str(boot), str(os_boot), int(steady_ms), int(wall_ms)]:
            delivered = prefix if prefix ^ turned == 0xFFFFFFFF else 0
            return (boot, os_boot, steady_ms, wall_ms), start + size, delivered
    return None


def _frames(content: bytes, start: int) -> Iterator[tuple[int, tuple[int, str, int, int, bytes]]]:
    """The records from `start` on, with their sizes, as far as they are whole."""
    for size, row in _raw_frames(content, start):
        match row:
            case [int(sequence), str(kind), int(made), int(changes), bytes(body)]:
                yield size, (sequence, kind, made, changes, body)
            case _:
                return


def _raw_frames(content: bytes, start: int) -> Iterator[tuple[int, object]]:
    while start + _FRAME.size <= len(content):
        length, checksum = _FRAME.unpack_from(content, start)
        end = start + _FRAME.size + length
        if length > _MAX_RECORD or end > len(content):
            return
        packed = content[start + _FRAME.size : end]
        if zlib.crc32(packed) != checksum:
            return
        try:
            row = msgpack.unpackb(packed)
        except (ValueError, msgpack.exceptions.UnpackException):
            return
        yield end - start, row
        start = end
