"""The spool: nothing is lost without being counted, whatever dies, fills up or jumps, and when."""

import errno
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from examples import examples
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from reachmap_agent import backlog
from reachmap_agent.account import Account
from reachmap_agent.backlog import MAX_AGE_MS, Lane, Segment
from reachmap_agent.clock import Clock
from reachmap_agent.segment_files import SegmentFiles
from reachmap_agent.spool import RETRY_DISK_MS, Found, Record, Spool, examine
from reachmap_shared import codec
from reachmap_shared.messages import MAX_EARLIER, Closed, Earlier, ReportKind

CHANGES, ROLL_UP, CLOSED = ReportKind.CHANGES, ReportKind.ROLL_UP, ReportKind.CLOSED
DAY_MS = 86_400_000


class Clocks:
    """Clocks that go when the test says so."""

    def __init__(self) -> None:
        self.steady = 1_000_000
        self.wall = 1_800_000_000_000
        self.os_boot = "os-1"

    def clock(self) -> Clock:
        return Clock(lambda: self.steady, lambda: self.wall, self.os_boot)

    def go(self, ms: int) -> None:
        self.steady += ms
        self.wall += ms


@pytest.fixture
def clocks() -> Clocks:
    return Clocks()


@pytest.fixture
def begin(tmp_path: Path, clocks: Clocks) -> Iterator[Callable[..., Spool]]:
    """Start with what is there; the start before is gone, as if killed."""
    spools: list[Spool] = []

    def start(boot: str = "boot", **its: int) -> Spool:
        for before in spools:
            before._files.close()
        spools.append(Spool(tmp_path / "spool", "pc-17", boot, clocks.clock(), **its))
        return spools[-1]

    yield start
    for one in spools:
        one._files.close()


def put(spool: Spool, made: int = 10, body: bytes = b"roll-up") -> Record:
    spool.account.made += made
    return spool.put(ROLL_UP, body, made=made)


def waiting(spool: Spool) -> list[Record]:
    spool.rewind()
    found = []
    for lane in Lane:
        while (record := spool.history(lane)) is not None:
            found.append(record)
    return found


def closed(spool: Spool) -> dict[str, Closed]:
    """The latest account of each start that is closed."""
    return {
        record.segment.boot: codec.decode(Closed, record.entry.body)
        for record in waiting(spool)
        if record.entry.kind is CLOSED
    }


def test_what_is_put_waits_in_order_until_it_is_delivered(begin: Any) -> None:
    """Changes apart from roll-ups; numbered through both."""
    spool = begin()
    records = [put(spool), spool.put(CHANGES, b"change", changes=2), put(spool, 7)]
    assert [record.entry.sequence for record in records] == [0, 1, 2]
    assert [record.entry.body for record in waiting(spool)] == [b"change", b"roll-up", b"roll-up"]
    assert (spool.waiting, spool.waiting_in_all) == (17, (17, 2))
    spool.forget(records[0])
    spool.forget(records[0])
    assert [record.entry.sequence for record in waiting(spool)] == [1, 2]
    assert (spool.waiting, spool.account.delivered) == (7, 10)


def test_what_is_delivered_at_once_leaves_nothing_on_disk(begin: Any, tmp_path: Path) -> None:
    """Neither files nor room: only the lock and the account."""
    spool = begin()
    for _ in range(50):
        spool.forget(put(spool))
        spool.forget(spool.put(CHANGES, b"change", changes=1))
    names = {path.name for path in (tmp_path / "spool").iterdir()}
    assert names == {"lock", "boot.account"}


def test_the_next_start_delivers_it(begin: Any) -> None:
    """Under its own start and number; and closes that start's account."""
    before = begin("one")
    put(before)
    before.put(CHANGES, b"change", changes=1)
    before.account.made += 5  # in a period that was never closed
    before.account.told = 4  # one of them in the spool
    after = begin("two")
    records = waiting(after)
    found = [(r.segment.boot, r.entry.sequence, r.entry.kind) for r in records]
    assert found == [("one", 1, CHANGES), ("one", 2, CLOSED), ("one", 0, ROLL_UP)]
    assert closed(after) == {"one": Closed(made=15, lost=5, changes_lost=3)}
    assert after.waiting == 0, "it is another start's"
    for record in records:
        after.forget(record)
    third = begin("three")
    assert waiting(third) == [] or set(closed(third)) == {"two"}


def test_an_account_is_closed_once(begin: Any, tmp_path: Path, clocks: Clocks) -> None:
    """However many starts follow; and is told for a week after all of it is delivered."""
    put(begin("one"))
    for number in range(3):
        clocks.go(1000)
        last = begin(f"later-{number}")
    assert [r.segment.boot for r in waiting(last) if r.entry.kind is CLOSED].count("one") == 1
    for record in waiting(last):
        last.forget(record)
    names = {path.name for path in (tmp_path / "spool").iterdir()}
    accounts = {f"{boot}.account" for boot in ("one", "later-0", "later-1", "later-2")}
    assert names == {"lock", *accounts}
    assert [one.boot for one in last.earlier] == ["one", "later-0", "later-1"]
    assert last.earlier[0] == Earlier("one", made=10, lost=0, waiting=0, changes_lost=0)
    clocks.go(MAX_AGE_MS)
    put(last)
    assert last.earlier == ()
    after = begin("after")
    assert [one.boot for one in after.earlier] == ["later-2"]
    names = {path.name for path in (tmp_path / "spool").iterdir() if path.suffix}
    assert names == {"later-2.account", "after.account"}


def test_a_start_of_long_ago_is_not_told_of(begin: Any, clocks: Clocks) -> None:
    """However late it was closed: the collector may have forgotten what came from it."""
    spool = begin("one")
    spool.forget(put(spool))
    clocks.go(MAX_AGE_MS + 1)
    spool = begin("two")
    for record in waiting(spool):
        spool.forget(record)
    assert spool.earlier == ()


def test_as_many_starts_are_told_of_as_a_hello_holds(
    begin: Any, tmp_path: Path, clocks: Clocks
) -> None:
    """The latest, and no file is left of the others."""
    for number in range(MAX_EARLIER + 8):
        clocks.go(1000)
        spool = begin(f"boot-{number:02}")
        spool.account.made = number
        for record in waiting(spool):
            spool.forget(record)
    told = spool.earlier
    assert [one.made for one in told] == [one.lost for one in told] == [*range(7, 39)]
    assert len(list((tmp_path / "spool").glob("*.account"))) == MAX_EARLIER + 1


def test_what_the_bus_has_is_never_told_as_lost(begin: Any) -> None:
    """Though it came out of its order, and what was before it had to go."""
    before = begin("one")
    for _ in range(12):
        put(before, 10, bytes(100_000))
    after = begin("two", max_bytes=1_000_000)
    records = [record for record in waiting(after) if record.entry.kind is ROLL_UP]
    after.forget(records[-1])
    (told,) = after.earlier
    assert (told.made, told.lost + told.waiting) == (120, 110)
    while after.earlier[0].lost == told.lost:
        put(after, 1, bytes(100_000))
    (told,) = after.earlier
    assert (told.made, told.lost + told.waiting) == (120, 110)
    assert closed(after)["one"].lost == told.lost


def test_what_was_delivered_before_a_crash_is_not_again(begin: Any) -> None:
    """As far as it was in order; what was out of it is, and the collector knows it by its number."""
    spool = begin("one")
    records = [put(spool, 1 << place) for place in range(6)]
    for place in (0, 1, 4):
        spool.forget(records[place])
    assert spool.waiting == 0b101100
    after = begin("two")
    assert [r.entry.sequence for r in waiting(after) if r.entry.kind is ROLL_UP] == [2, 3, 4, 5]
    assert closed(after)["one"] == Closed(made=63, lost=0, changes_lost=0)


def test_ages_go_on_over_a_restart_of_the_agent(begin: Any, clocks: Clocks) -> None:
    """By the clock that never jumps, whatever the wall clock does meanwhile."""
    put(begin("one"))
    clocks.go(60_000)
    clocks.wall += DAY_MS
    after = begin("two")
    (record,) = [r for r in waiting(after) if r.entry.kind is ROLL_UP]
    report = after.report(record)
    assert (report.boot, report.sequence, report.sent_ms) == ("one", 0, 1_060_000)
    assert report.wall_ms == clocks.wall


@pytest.mark.parametrize(
    ("jump_ms", "age_ms"),
    [
        (0, 3_600_000),
        (-DAY_MS, 0),  # nobody is younger than now
        (DAY_MS, DAY_MS + 3_600_000),  # nobody can know
        (400 * DAY_MS, 6 * DAY_MS),  # but that is not believed
    ],
)
def test_ages_over_a_restart_of_the_system(
    begin: Any, clocks: Clocks, jump_ms: int, age_ms: int
) -> None:
    """The clock begins anew, so only the wall clock can tell; nothing goes because it is wrong."""
    put(begin("one"))
    clocks.go(3_600_000)
    clocks.steady, clocks.os_boot = 5_000, "os-2"
    clocks.wall += jump_ms
    after = begin("two")
    (record,) = [r for r in waiting(after) if r.entry.kind is ROLL_UP]
    assert after.report(record).sent_ms == 1_000_000 + age_ms
    clocks.go(1_000)
    assert after.report(record).sent_ms == 1_001_000 + age_ms


def test_a_full_spool_drops_the_oldest_roll_ups_and_counts_them(begin: Any) -> None:
    """A segment at a time; changes stay."""
    spool = begin(max_bytes=1 << 20)
    spool.account.told = 1
    spool.put(CHANGES, b"change", changes=1)
    for number in range(20):
        put(spool, 1 << number, bytes(100_000))
    kinds = [record.entry.kind for record in waiting(spool)]
    assert kinds.count(CHANGES) == 1 and 5 <= kinds.count(ROLL_UP) <= 10
    assert 0 < spool.lost == (1 << 20) - 1 - spool.waiting
    assert spool.lost < spool.waiting, "the oldest went"
    assert (spool.changes_lost, spool.account.delivered) == (0, 0)


def test_what_is_a_week_old_goes(begin: Any, clocks: Clocks) -> None:
    """And is counted."""
    spool = begin()
    put(spool)
    clocks.go(DAY_MS)
    put(spool, 3)
    clocks.go(MAX_AGE_MS - DAY_MS)
    put(spool, 5)
    assert spool.lost == 0
    clocks.go(1)
    put(spool, 7)
    assert (spool.lost, spool.waiting) == (10, 15)


def test_what_was_under_way_when_its_room_was_taken(begin: Any) -> None:
    """If it arrives all the same, it was not lost."""
    spool = begin(max_bytes=1 << 20)
    first = put(spool)
    while not spool.lost:
        put(spool, 1, bytes(200_000))
    lost = spool.lost
    spool.forget(first)
    spool.forget(first)
    assert spool.lost == lost - 10
    assert spool.account.made == spool.account.delivered + spool.waiting + spool.lost


def test_dropping_what_an_earlier_start_left_is_told_of_that_start(begin: Any) -> None:
    """Its account is closed anew, with what it lost since."""
    before = begin("one")
    put(before, 10, bytes(100_000))
    after = begin("two", max_bytes=150_000)
    assert closed(after) == {"one": Closed(10, 0, 0)}
    put(after, 1, bytes(100_000))
    assert closed(after) == {"one": Closed(10, 10, 0)}
    assert (after.lost, after.waiting) == (0, 1)


def test_a_report_that_the_stream_never_takes_is_lost(begin: Any) -> None:
    """And no other with it."""
    spool = begin()
    first, second = put(spool), put(spool, 3)
    spool.drop(first)
    spool.drop(first)
    assert (spool.lost, spool.waiting, spool.account.delivered) == (10, 3, 0)
    spool.forget(second)
    assert (spool.lost, spool.waiting, spool.account.delivered) == (10, 0, 3)


def test_a_disk_that_takes_nothing(begin: Any, tmp_path: Path, clocks: Clocks) -> None:
    """A file stands where the folder should be: it goes on in memory, says why, and recovers."""
    (tmp_path / "spool").write_bytes(b"")
    spool = begin()
    records = [put(spool), put(spool, 3)]
    assert "kept in memory" in spool.failure
    assert [r.entry for r in waiting(spool)] == [r.entry for r in records]
    spool.forget(records[0])
    assert (spool.waiting, spool.account.delivered) == (3, 10)
    (tmp_path / "spool").unlink()
    put(spool)
    assert spool.failure, "it does not try at each report"
    clocks.go(RETRY_DISK_MS)
    put(spool, 5)
    assert not spool.failure
    assert list((tmp_path / "spool").glob("r*"))
    assert [r.entry.made for r in waiting(spool)] == [3, 10, 5]
    spool.account.made += 4
    after = begin("after")
    assert closed(after)["boot"] == Closed(made=32, lost=17, changes_lost=0), "3, 10 and 4"


def test_memory_is_bounded_too(begin: Any, tmp_path: Path) -> None:
    """What there is no room for is counted."""
    (tmp_path / "spool").write_bytes(b"")
    spool = begin(max_memory=1 << 20)
    for _ in range(30):
        put(spool, 1, bytes(100_000))
    assert spool.lost > 0
    assert spool.lost + spool.waiting == 30


def test_a_disk_that_fills_up_in_the_middle_of_a_record(begin: Any, tmp_path: Path) -> None:
    """The half is nothing, the whole is in memory, and what was before it is safe."""
    import resource

    spool = begin("one")
    put(spool, 1)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8_000, before[1]))
    try:
        put(spool, 2, bytes(20_000))
        assert "memory" in spool.failure
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert [r.entry.made for r in waiting(spool)] == [1, 2]
    after = begin("two")
    assert [r.entry.made for r in waiting(after) if r.entry.kind is ROLL_UP] == [1]
    assert closed(after) == {"one": Closed(made=3, lost=2, changes_lost=0)}


def test_two_agents_do_not_share_a_folder(tmp_path: Path, clocks: Clocks) -> None:
    """The second leaves the first one's files alone, and keeps its own in memory."""
    first = Spool(tmp_path / "spool", "pc-17", "one", clocks.clock())
    put(first)
    second = Spool(tmp_path / "spool", "pc-17", "two", clocks.clock())
    put(second, 3)
    assert "another agent is at work there" in second.failure
    assert [r.entry.made for r in waiting(second)] == [3]
    assert [r.entry.made for r in waiting(first)] == [10]
    second.close()
    first.close()


@pytest.mark.parametrize("content", [b"", b"garbage", b"rmspool1" + bytes(50)])
def test_a_file_that_is_no_segment_is_taken_away(
    begin: Any, tmp_path: Path, content: bytes
) -> None:
    """As a crash right after its making leaves it."""
    (tmp_path / "spool").mkdir()
    (tmp_path / "spool" / "r0000000000").write_bytes(content)
    (tmp_path / "spool" / "readme").write_bytes(content)
    spool = begin()
    assert waiting(spool) == []
    names = {path.name for path in (tmp_path / "spool").iterdir()}
    assert names == {"lock", "boot.account", "readme"}


def test_what_a_crash_damaged_is_lost_and_counted(begin: Any, tmp_path: Path) -> None:
    """Behind the damage nothing can be trusted."""
    spool = begin("one")
    for made in (1, 2, 4):
        put(spool, made, b"x" * 100)
    (path,) = (tmp_path / "spool").glob("r*")
    content = bytearray(path.read_bytes())
    content[-150] ^= 1
    path.write_bytes(content)
    assert closed(begin("two")) == {"one": Closed(made=7, lost=6, changes_lost=0)}


def test_an_account_that_is_gone_claims_no_more_than_is_known(begin: Any, tmp_path: Path) -> None:
    """Somebody has taken the file away."""
    put(begin("one"))
    (tmp_path / "spool" / "one.account").unlink()
    assert closed(begin("two")) == {"one": Closed(made=10, lost=0, changes_lost=0)}


def test_what_it_looks_like_from_outside(begin: Any, tmp_path: Path) -> None:
    """For the doctor, while the agent is at work."""
    assert examine(tmp_path / "spool") == Found(0, 0, 0, 0, 0)
    spool = begin(max_bytes=1 << 20)
    first = put(spool)
    put(spool, 3)
    spool.put(CHANGES, b"change", changes=2)
    spool.forget(first)
    found = examine(tmp_path / "spool")
    assert (found.observations, found.changes, found.lost) == (3, 2, 0)
    assert found.bytes > 4096
    while not spool.lost:
        put(spool, 1, bytes(200_000))
    found = examine(tmp_path / "spool")
    assert (found.lost, found.observations) == (spool.lost, spool.waiting)


def test_a_roll_up_costs_less_than_an_octet_for_each_observation(
    begin: Any, tmp_path: Path
) -> None:
    """On disk, frame and all, where there are 50 flows."""
    from reachmap_shared.messages import RollUp

    spool = begin()
    for _ in range(100):
        latency = bytes(random.Random(7).choices(range(60, 90), k=50))
        put(spool, 300, codec.pack(RollUp("0123456789abcdef", 1, 60_001, bytes([6] * 50), latency=latency)))  # fmt: skip
    size = sum(path.stat().st_size for path in (tmp_path / "spool").glob("r*"))
    assert size / 30_000 < 1


class Killed(BaseException):
    """The process is no more."""


class Life(RuleBasedStateMachine):
    """An agent's life with crashes between any two steps, a small and sometimes full disk, and a
    collector that takes each report once."""

    STEPS = (
        (SegmentFiles, "create"),
        (SegmentFiles, "add"),
        (SegmentFiles, "mark"),
        (SegmentFiles, "remove"),
        (Account, "note"),
        (Account, "settle"),
    )

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.clocks = Clocks()
        self.steps_left: int | None = None
        self.full = False
        self.opened: list[SegmentFiles] = []
        self.issued: dict[str, int] = {}
        """The last account of each that was closed."""
        self.close = Spool._close_account

        def close(spool: Spool, boot: str) -> None:
            self.issued[boot] = spool._starts[boot].sequence
            self.close(spool, boot)

        Spool._close_account = close  # type: ignore[method-assign]
        self.begin = SegmentFiles.__init__

        def begin(files: SegmentFiles, folder: Path) -> None:
            self.begin(files, folder)
            self.opened.append(files)

        SegmentFiles.__init__ = begin  # type: ignore[method-assign]
        self.undo = [(kind, name, getattr(kind, name)) for kind, name in self.STEPS]
        for kind, name, step in self.undo:
            setattr(kind, name, self.watched(step, writes=name in ("create", "add")))
        self.segment_bytes, backlog.SEGMENT_BYTES = backlog.SEGMENT_BYTES, 200
        self.made: dict[str, int] = {}
        self.told: dict[str, int] = {}
        self.taken: dict[tuple[str, int], tuple[int, int]] = {}
        """By the collector: observations and changes in each report."""
        self.refused: set[tuple[str, int]] = set()
        self.closed: dict[str, tuple[int, Closed]] = {}
        self.unsure: dict[str, tuple[int, int]] = {}
        """What was taken, while the agent was killed before it knew."""
        self.start()

    def watched(self, step: Any, *, writes: bool) -> Any:
        def watch(*arguments: Any) -> Any:
            if self.steps_left is not None:
                self.steps_left -= 1
                if self.steps_left < 0:
                    raise Killed
            if writes and self.full:
                raise OSError(errno.ENOSPC, "full")
            return step(*arguments)

        return watch

    def start(self) -> None:
        self.boot = f"boot-{len(self.made)}"
        self.made[self.boot] = self.told[self.boot] = 0
        for _ in range(5):  # it may be killed while it starts, too
            try:
                self.spool = Spool(
                    self.folder / "spool",
                    "pc-17",
                    self.boot,
                    self.clocks.clock(),
                    max_bytes=6 * 4096,
                    max_memory=400,
                )
            except Killed:
                self.release()
                self.steps_left = None
            else:
                self.steps_left = None
                return
        raise AssertionError

    def release(self) -> None:
        """As the kernel does with a process that was killed."""
        for one in self.opened:
            one.close()
        self.opened.clear()

    def kill(self, after: int | None) -> None:
        for segment in self.spool._backlog:
            self.be_unsure(segment, segment.acked)  # out of its order: that is not on disk
        self.release()
        self.full = False  # a start on a full disk has no account, and promises nothing
        self.clocks.go(RETRY_DISK_MS)
        self.steps_left = after
        self.start()

    def attempt(self, step: Callable[[], None], after: int | None) -> None:
        self.steps_left = after
        try:
            step()
        except Killed:
            self.kill(None)
        self.steps_left = None

    some_steps = st.none() | st.integers(0, 6)

    @rule(made=st.integers(1, 9), size=st.integers(0, 150), after=some_steps)
    def put_roll_up(self, made: int, size: int, after: int | None) -> None:
        self.made[self.boot] += made
        self.spool.account.made = self.made[self.boot]
        self.attempt(lambda: self.put_one(ROLL_UP, bytes(size), made=made), after)

    @rule(changes=st.integers(1, 3), after=some_steps)
    def put_changes(self, changes: int, after: int | None) -> None:
        self.told[self.boot] += changes
        self.spool.account.told = self.told[self.boot]
        self.attempt(lambda: self.put_one(CHANGES, b"changes", changes=changes), after)

    def put_one(self, kind: ReportKind, body: bytes, **counts: int) -> None:
        self.spool.put(kind, body, **counts)

    @rule(choice=st.randoms(use_true_random=False), some=st.integers(1, 5), after=some_steps)
    def deliver(self, choice: random.Random, some: int, after: int | None) -> None:
        spool = self.spool
        records = waiting(spool)
        for record in choice.sample(records, min(some, len(records))):
            self.take(record, after)
            if self.spool is not spool:
                return  # killed: the others are the dead process's, and no other's to forget

    def take(self, record: Record, after: int | None = None) -> None:
        boot, entry = record.segment.boot, record.entry
        if (boot, entry.sequence) in self.refused:
            self.spool.drop(record)  # after a crash it is sent again, and refused again
            return
        if entry.kind is CLOSED:
            known = self.closed.get(boot)
            if known is None or known[0] < entry.sequence:
                self.closed[boot] = entry.sequence, codec.decode(Closed, entry.body)
        else:
            counts = entry.made, entry.changes
            assert self.taken.setdefault((boot, entry.sequence), counts) == counts
        spool, segment = self.spool, record.segment
        settling = segment.acked | {record.place}  # those behind it may be settled with it
        self.attempt(lambda: self.spool.forget(record), after)
        if self.spool is not spool:
            self.be_unsure(segment, settling - segment.acked)

    def be_unsure(self, segment: Segment, places: Iterable[int]) -> None:
        """They were taken, and may be dropped later as if they had not been."""
        for place in places:
            made, changes = self.unsure.get(segment.boot, (0, 0))
            made, changes = made + segment._made[place], changes + segment._changes[place]
            self.unsure[segment.boot] = made, changes

    @rule(choice=st.randoms(use_true_random=False))
    def refuse(self, choice: random.Random) -> None:
        records = [
            one
            for one in waiting(self.spool)
            if one.entry.kind is not CLOSED
            and (one.segment.boot, one.entry.sequence) not in self.taken
        ]
        if records:
            record = choice.choice(records)
            self.refused.add((record.segment.boot, record.entry.sequence))
            self.spool.drop(record)

    @rule(after=some_steps)
    def crash(self, after: int | None) -> None:
        self.kill(after)

    @rule()
    def stop(self) -> None:
        self.spool.close()
        self.kill(None)

    @rule(days=st.integers(1, 8), after=some_steps)
    def time_passes(self, days: int, after: int | None) -> None:
        """The next report has to make room for those that are too old."""
        self.clocks.go(days * DAY_MS)
        self.put_changes(1, after)

    @rule(wall_jumps_ms=st.sampled_from([0, -DAY_MS, 30 * DAY_MS]), after=some_steps)
    def restart_the_system(self, wall_jumps_ms: int, after: int | None) -> None:
        self.clocks.os_boot += "'"
        self.clocks.steady = 1_000
        self.clocks.wall += wall_jumps_ms
        self.kill(after)

    @rule()
    @precondition(lambda self: not self.full)
    def fill_the_disk(self) -> None:
        self.full = True

    @rule()
    @precondition(lambda self: self.full)
    def mend_the_disk(self) -> None:
        self.full = False
        self.clocks.go(RETRY_DISK_MS)

    @invariant()
    def nothing_is_unaccounted_for(self) -> None:
        """Of the start at work: made is delivered, waiting or lost."""
        taken = sum(made for (boot, _), (made, _) in self.taken.items() if boot == self.boot)
        assert self.made[self.boot] == taken + self.spool.waiting + self.spool.lost

    @invariant()
    def earlier_starts_are_told_exactly(self) -> None:
        """What is taken of them, waits or is lost comes to what they made."""
        told = {one.boot: one for one in self.spool.earlier}
        assert self.boot not in told
        for boot, one in told.items():
            if boot in self.made:
                of_it = [made for (its, _), (made, _) in self.taken.items() if its == boot]
                unsure, _ = self.unsure.get(boot, (0, 0))
                assert one.made == self.made[boot]
                assert one.made <= sum(of_it) + one.waiting + one.lost <= one.made + unsure

    def teardown(self) -> None:
        try:
            self.full = False
            self.kill(None)
            for _ in range(3):
                for record in waiting(self.spool):
                    self.take(record)
            for boot, made in self.made.items():
                if boot == self.boot or not (made or self.told[boot] or boot in self.closed):
                    continue
                sequence, last = self.closed.get(boot, (-1, None))
                if last is None or sequence != self.issued[boot]:
                    continue  # there was no room for its account itself
                counts = [its for (its_boot, _), its in self.taken.items() if its_boot == boot]
                unsure, changes_unsure = self.unsure.get(boot, (0, 0))
                assert last.made == made
                found = sum(one for one, _ in counts) + last.lost
                assert made <= found <= made + unsure
                changes_found = sum(one for _, one in counts) + last.changes_lost
                told = self.told[boot]
                assert told <= changes_found <= told + changes_unsure
        finally:
            backlog.SEGMENT_BYTES = self.segment_bytes
            SegmentFiles.__init__ = self.begin  # type: ignore[method-assign]
            Spool._close_account = self.close  # type: ignore[method-assign]
            for kind, name, step in self.undo:
                setattr(kind, name, step)
            self.release()
            shutil.rmtree(self.folder)


Life.TestCase.settings = examples(50, stateful_step_count=25)
TestLife = Life.TestCase


WORKER = """
import sys, time
from pathlib import Path
from reachmap_agent import clock
from reachmap_agent.backlog import Lane
from reachmap_agent.spool import Spool
from reachmap_shared.messages import ReportKind

spool = Spool(Path(sys.argv[1]), "pc-17", sys.argv[2], clock.system())
print("begun", flush=True)
account, number = spool.account, 0
while True:
    spool_made = 1 + number % 5
    for _ in range(spool_made):
        account.made += 1
    record = spool.put(ReportKind.ROLL_UP, b"x" * (number % 300), made=spool_made)
    number += 1
    if number % 3 == 0:
        spool.rewind()
        for _ in range(number % 4):
            waits = spool.history(Lane.ROLL_UPS)
            while waits is not None and waits.segment.boot != sys.argv[2]:
                waits = spool.history(Lane.ROLL_UPS)
            if waits is not None:
                print(waits.entry.sequence, flush=True)
                spool.forget(waits)
"""


def test_killed_at_any_moment(tmp_path: Path, clocks: Clocks) -> None:
    """A process that puts and delivers as fast as it can, killed again and again: the account of
    each is exact to the observation."""
    dice = random.Random(11)
    folder = tmp_path / "spool"
    heard: dict[str, set[int]] = {}
    for round_ in range(25):
        boot = f"boot-{round_:02}"
        command = [sys.executable, "-c", WORKER, str(folder), boot]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "begun\n"
            # As far as it has come, not as long as it took: on a busy machine that is nothing.
            lines = [process.stdout.readline()[:-1] for _ in range(dice.randrange(8))]
            time.sleep(dice.uniform(0, 0.02))
            process.send_signal(signal.SIGKILL)
            lines += process.stdout.read().split("\n")
            heard[boot] = {int(line) for line in lines[:-1]}
    system = Clock(lambda: 1, lambda: clocks.wall, "")
    spool = Spool(folder, "pc-17", "last", system)
    left: dict[str, set[int]] = {boot: set() for boot in heard}
    for record in waiting(spool):
        if record.entry.kind is ROLL_UP:
            assert record.entry.made == 1 + record.entry.sequence % 5
            left[record.segment.boot].add(record.entry.sequence)
    accounts = closed(spool)
    assert set(accounts) == set(heard)
    for boot, delivered in heard.items():
        kept = delivered | left[boot]
        assert kept == set(range(len(kept))), "none is missing, whatever it was in the middle of"
        account = accounts[boot]
        assert account.made - account.lost == sum(1 + number % 5 for number in kept)
        assert account.lost <= 5, "no more than was being put"
    assert sum(len(delivered) for delivered in heard.values()) > 50
    spool.close()


def test_nothing_is_left_open(begin: Any) -> None:
    """Thousands of reports take no more descriptors than one."""
    spool = begin()
    before = len(os.listdir("/proc/self/fd"))
    for number in range(3_000):
        record = put(spool, 1, bytes(200))
        if number % 2:
            spool.forget(record)
    assert len(os.listdir("/proc/self/fd")) <= before + 2
