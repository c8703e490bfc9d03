"""The spool through crashes, full disks and kills: each start's account is exact, whenever it ends."""

import errno
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from examples import examples
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from spools import Clocks, closed, waiting

from reachmap_agent import backlog
from reachmap_agent.account import Account
from reachmap_agent.backlog import Segment
from reachmap_agent.clock import Clock
from reachmap_agent.segment_files import SegmentFiles
from reachmap_agent.spool import RETRY_DISK_MS, Record, Spool
from reachmap_shared import codec
from reachmap_shared.messages import Closed, ReportKind

CHANGES, ROLL_UP, CLOSED = ReportKind.CHANGES, ReportKind.ROLL_UP, ReportKind.CLOSED
DAY_MS = 86_400_000


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


def test_killed_at_any_moment(tmp_path: Path) -> None:
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
    system = Clock(lambda: 1, lambda: Clocks().wall, "")
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
