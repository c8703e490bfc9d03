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
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from reachmap_agent import segments
from reachmap_agent.account import Account, shown_lost
from reachmap_agent.backlog import (
    LANES,
    MAX_AGE_MS,
    MAX_BYTES,
    MAX_MEMORY,
    Backlog,
    Lane,
    Segment,
)
from reachmap_agent.clock import Clock
from reachmap_agent.segment_files import SegmentFiles, files, read
from reachmap_agent.segments import Entry, Header
from reachmap_agent.starts import Starts
from reachmap_shared import codec, log
from reachmap_shared.messages import Closed, Earlier, Report, ReportKind

RETRY_DISK_MS: Final = 60_000
"""Between two attempts to write to a disk that took nothing."""

_OLDEST_BELIEVED_MS: Final = MAX_AGE_MS - 86_400_000
"""A day is left to deliver it: a host may have started without any idea of the date."""

_log = log.get("spool")


@dataclass(frozen=True, slots=True)
class Record:
    """One report that waits for its delivery."""

    segment: Segment
    place: int
    entry: Entry

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
        self._files = SegmentFiles(folder)
        self._agent = agent
        self._boot = boot
        self._clock = clock
        self._backlog = Backlog(max_bytes, max_memory)
        self._active: dict[Lane, Segment] = {}
        self._in_memory: dict[int, list[Entry]] = {}
        self._cursors: dict[Lane, deque[Record]] = {lane: deque() for lane in Lane}
        self._read: dict[Lane, int] = dict.fromkeys(Lane, -1)
        """The segment that each cursor has read last."""
        self._retry_ms = 0
        self._starts = Starts(self._files, self._backlog, boot, clock)
        self.failure = ""
        """Why nothing is written to disk; empty when it is."""
        self.lost = 0
        """Observations of this start that had to be dropped."""
        self.changes_lost = 0
        """Changes of this start that had to be dropped."""
        self._recover()
        self.account.last_ms = clock.wall_ms()

    @property
    def account(self) -> Account:
        """The numbers of this start."""
        return self._starts.own

    @property
    def earlier(self) -> tuple[Earlier, ...]:
        """How the accounts of the starts before this one stand."""
        return self._starts.earlier()

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
        account.last_ms = self._clock.wall_ms()
        entry = Entry(account.sequence - 1, kind, made, changes, body)
        record = self._append(self._boot, entry)
        self._make_room()
        return record

    def report(self, record: Record) -> Report:
        """A record as it is sent now."""
        return Report(
            self._agent,
            record.segment.boot,
            record.entry.sequence,
            self._clock.steady_ms() - record.segment.shift_ms,
            self._clock.wall_ms(),
            record.entry.kind,
            record.entry.body,
        )

    def forget(self, record: Record) -> None:
        """A record is delivered."""
        segment = record.segment
        if segment.is_acked(record.place):
            return
        account = self._starts.get(segment.boot)
        before = segment.prefix
        made, changes = segment.ack(record.place)
        if segment.dropped:  # it had got away when its room was taken
            made, changes = record.entry.made, record.entry.changes
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
            self._starts.forget(segment.boot)

    def drop(self, record: Record) -> None:
        """A record will never be delivered: count what it bears as lost."""
        segment = record.segment
        if segment.dropped or segment.is_acked(record.place):
            return
        self._starts[segment.boot].closed_ms = 0
        segment.void(record.place)
        if segment.boot == self._boot:
            self._count_lost(record.entry.made, record.entry.changes)
        elif record.entry.made or record.entry.changes:
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
        self._files.close()
        self._starts.end()

    def _append(self, boot: str, entry: Entry) -> Record:
        lane = LANES[entry.kind]
        content = segments.record(entry)
        segment = self._writable(lane, boot)
        if segment.on_disk:
            try:
                self._files.add(segment, content)
            except OSError as error:
                self._failed(error)
                self._seal(segment)
                segment = self._writable(lane, boot)
        now_ms = self._clock.steady_ms()
        place = segment.add(len(content), entry.made, entry.changes, now_ms)
        if not segment.on_disk:
            self._in_memory[segment.number].append(entry)
        return Record(segment, place, entry)

    def _writable(self, lane: Lane, boot: str) -> Segment:
        """The lane's segment that is written to; in memory when the disk takes nothing."""
        now_ms = self._clock.steady_ms()
        tries_disk = not self.failure or now_ms >= self._retry_ms
        segment = self._active.get(lane)
        if segment is not None:
            fits = segment.takes_more(now_ms) and segment.boot == boot
            if fits and segment.on_disk is tries_disk:
                return segment
            self._seal(segment)
        segment = self._backlog.new(lane, boot, on_disk=tries_disk)
        if tries_disk:
            header = Header(boot, self._clock.os_boot, now_ms, self._clock.wall_ms())
            try:
                self._starts.keep()
                self._files.create(segment, header)
                self._works()
            except OSError as error:
                self._failed(error)
                self._backlog.remove(segment)
                segment = self._backlog.new(lane, boot, on_disk=False)
        if not segment.on_disk:
            self._in_memory[segment.number] = []
        self._active[lane] = segment
        return segment

    def _works(self) -> None:
        if self.failure:
            _log.info("disk takes reports again")
            self.failure = ""

    def _failed(self, error: OSError) -> None:
        if not self.failure:
            _log.warning("disk takes no reports, they are kept in memory", reason=str(error))
        self.failure = f"{error.strerror or error}: what waits is kept in memory"
        self._retry_ms = self._clock.steady_ms() + RETRY_DISK_MS

    def _seal(self, segment: Segment) -> None:
        """Write no more to a segment."""
        if self._active.get(segment.lane) is segment:
            del self._active[segment.lane]
        self._files.seal(segment)
        if not segment.records:
            self._files.remove(segment)
            self._backlog.remove(segment)

    def _give_up(self, segment: Segment) -> None:
        """See to it that a segment's prefix is never delivered again."""
        if segment.is_done:
            self._remove(segment)
            return
        if segment.on_disk:
            # On a disk that takes nothing they are delivered again after a crash: that is no loss.
            with contextlib.suppress(OSError):
                self._files.mark(segment)

    def _remove(self, segment: Segment) -> None:
        self._seal(segment)
        self._files.remove(segment)
        self._in_memory.pop(segment.number, None)
        self._backlog.remove(segment)

    def _make_room(self) -> None:
        """Drop what is too old or too much, and count it."""
        while (segment := self._backlog.next_to_go(self._clock.steady_ms())) is not None:
            made, changes = segment.made, segment.changes
            account = self._starts[segment.boot]
            if made or changes:
                account.closed_ms = 0  # a crash before it is closed anew must not leave it so
            # Those acknowledged out of their order are delivered all the same.
            account.note(segment.number, segment.records, *segment.beyond)
            segment.dropped = True
            self._remove(segment)
            account.settle()
            if segment.boot == self._boot:
                self._count_lost(made, changes)
            elif made or changes:
                self._close_account(segment.boot)
                self._starts.forget(segment.boot)

    def _open_account(self, boot: str) -> None:
        """That of a start, in memory where the disk takes nothing."""
        try:
            self._starts.open(boot)
        except OSError as error:
            self._failed(error)
            self._starts.open(boot, on_disk=False)

    def _recover(self) -> None:
        """Take over what the starts before have left, and close their accounts."""
        self._open_account(self._boot)
        if not self._files.is_ours:
            return
        for boot in self._files.accounts():
            if boot != self._boot:
                self._open_account(boot)
        accounts = [self._starts[boot] for boot in self._starts.boots()]
        notes = {account.noted[0]: account for account in accounts if account.noted}
        for lane, number in self._files.segments():
            segment = self._load(lane, number)
            self._backlog.add(segment)
            if self._starts.get(segment.boot) is None:
                self._open_account(segment.boot)
            if (noted := notes.pop(segment.number, None)) is not None:
                segment.skip(noted.noted[1] if noted.noted else 0)
                self._give_up(segment)
                noted.settle()
            elif segment.is_done:
                self._give_up(segment)
        for account in notes.values():
            account.settle()
        for boot in self._starts.boots():
            if boot != self._boot:
                if not self._starts[boot].is_closed:
                    self._close_account(boot)
                self._starts.forget(boot)
        self._make_room()

    def _close_account(self, boot: str) -> None:
        """Report what a start before this one has come to: what is nowhere any more is lost."""
        account, standing = self._starts[boot], self._starts.standing(boot)
        body = codec.pack(Closed(standing.made, standing.lost, standing.changes_lost))
        account.sequence += 1
        self._append(boot, Entry(account.sequence - 1, ReportKind.CLOSED, 0, 0, body))
        self._starts.close(boot)

    def _load(self, lane: Lane, number: int) -> Segment:
        """A segment as a start before has left it."""
        content = self._files.read(lane, number)
        if content is None:
            _log.warning("file of the spool is none", file=f"{lane}{number}")
            return Segment(lane, number, self._boot)
        header = content.header
        segment = Segment(lane, number, header.boot, size=content.begins)
        segment.shift_ms = self._shift_ms(header)
        at_ms = header.steady_ms + segment.shift_ms
        for size, entry in content.records:
            segment.add(size, entry.made, entry.changes, at_ms)
        segment.skip(content.prefix)
        return segment

    def _shift_ms(self, header: Header) -> int:
        """What our clock reads more than theirs did at the same moment.

        Of another start of the operating system only the wall clock can tell, as it was then and
        is now: if it says that the file is of the future, the file is of this moment; and it is
        not believed so far that what is there would be too old at once.
        """
        if header.os_boot and header.os_boot == self._clock.os_boot:
            return 0
        age_ms = min(max(0, self._clock.wall_ms() - header.wall_ms), _OLDEST_BELIEVED_MS)
        return self._clock.steady_ms() - age_ms - header.steady_ms

    def _records(self, segment: Segment) -> list[Record]:
        entries = self._in_memory.get(segment.number)
        if entries is None:
            content = self._files.read(segment.lane, segment.number)
            if content is None:
                _log.warning("spool cannot be read", file=f"{segment.lane}{segment.number}")
                return []
            # Behind those there may be one that could not be written whole, and is elsewhere now.
            entries = [entry for _, entry in content.records[: segment.records]]
        return [Record(segment, place, entry) for place, entry in enumerate(entries)]


@dataclass(frozen=True, slots=True)
class Found:
    """What a spool has on disk, seen from outside."""

    observations: int
    changes: int
    """Both: what waits there."""
    bytes: int
    lost: int
    changes_lost: int
    """Both: what the latest start had to drop."""


def examine(folder: Path) -> Found:
    """Look at a spool that an agent may be at work on, and change nothing."""
    observations = changes = size = lost = changes_lost = 0
    latest = 0.0
    for path in files(folder):
        try:
            size, written = size + path.stat().st_size, path.stat().st_mtime
            if path.suffix == ".account" and written >= latest:
                latest = written
                lost, changes_lost = shown_lost(path.read_bytes())
        except OSError:  # delivered meanwhile
            continue
        content = None if path.suffix else read(path)
        if content is not None:
            waiting = [entry for _, entry in content.records[content.prefix :]]
            observations += sum(entry.made for entry in waiting)
            changes += sum(entry.changes for entry in waiting)
    return Found(observations, changes, size, lost, changes_lost)
