"""The reporter: what is told when, by a clock that the host's date cannot move."""

import asyncio
import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from reachmap_agent import reporter
from reachmap_agent.backlog import Lane
from reachmap_agent.clock import Clock
from reachmap_agent.reporter import BATCH_S, COMPANY_S, Reporter
from reachmap_agent.spool import Spool
from reachmap_shared import codec
from reachmap_shared.diagnosis import (
    Diagnosis,
    Met,
    PathEvidence,
    Recheck,
    Sight,
    Silenced,
    TapState,
)
from reachmap_shared.messages import (
    MAX_BODY,
    Changes,
    CheckSpec,
    Observation,
    Plan,
    Report,
    ReportKind,
    RollUp,
)
from reachmap_shared.vocabulary import Outcome, Transport

DAY_MS = 86_400_000
SPEC = CheckSpec("b", "web:80", "10.0.0.5", 80, Transport.TCP, "tcp", "")
SEEN = Observation(0, 0, Outcome.OPEN, None, True, 0, 200, 90, "10.0.0.7:40001", ("a",))
DIAGNOSIS = Diagnosis(
    *("c", 1, "r1", "a", "b", "10.0.0.5", 80, Transport.TCP),
    PathEvidence(
        "10.0.0.7",
        Recheck(Outcome.TIMEOUT, Met.SILENCE, 40_001),
        *(None, (), (), (), ()),
        Sight(None, TapState.NONE),
    ),
    None,
    Silenced.NO_AGENT,
)


class Desk:
    """A reporter, and what it has put into the spool."""

    def __init__(self, folder: Path) -> None:
        self.now = self.wall = 1_000_000
        clock = Clock(lambda: self.now, lambda: self.wall, "os")
        self.spool = Spool(folder / "spool", "a", "boot", clock)
        self.reporter = Reporter("a", "boot", self.spool, clock)

    def begin(self, slots: int = 3, revision: str = "r1") -> None:
        plan = Plan("a", revision, 10.0, 3.0, "", "", "", (), (SPEC,) * slots)
        self.reporter.take_up(plan, ())

    def see(
        self, slot: int = 0, *, confirmed: bool = True, revision: str = "r1", **its: Any
    ) -> None:
        seen = replace(SEEN, slot=slot, at_ms=self.now, **its)
        self.reporter.see(revision, seen, confirmed)

    def put(self, kind: Any) -> list[Any]:
        self.spool.rewind()
        name = {
            Changes: ReportKind.CHANGES,
            RollUp: ReportKind.ROLL_UP,
            Diagnosis: ReportKind.DIAGNOSIS,
        }[kind]
        found = []
        for lane in Lane:
            while (record := self.spool.history(lane)) is not None:
                if record.entry.kind is name:
                    found.append(codec.decode(kind, record.entry.body))
        return found


@pytest.fixture
async def desk(tmp_path: Path) -> Any:
    made = Desk(tmp_path)
    yield made
    made.spool.close()


@pytest.mark.parametrize("jump_ms", [0, DAY_MS, -DAY_MS])
async def test_periods_go_by_the_clock_that_never_jumps(desk: Desk, jump_ms: int) -> None:
    """A day forth or back on the wall clock begins none, and ends none."""
    desk.begin()
    desk.see()
    desk.wall += jump_ms
    desk.now += 59_999
    desk.reporter.put_due()
    assert desk.put(RollUp) == []
    desk.wall -= 2 * jump_ms
    desk.now += 1
    desk.reporter.put_due()
    [roll_up] = desk.put(RollUp)
    assert (roll_up.begins_ms, roll_up.ends_ms) == (1_000_000, 1_060_000)
    assert desk.reporter.standing().span_ms == 0, "two of three flows were never checked"
    assert desk.reporter.standing().stale == b"\x07"


async def test_changes_are_told_at_the_next_turn_and_once(desk: Desk) -> None:
    """Those of a turn together."""
    desk.begin()
    desk.see(0)
    desk.see(1)
    desk.see(1)
    assert desk.put(Changes) == []
    desk.reporter.put_due()
    desk.reporter.put_due()
    [body] = desk.put(Changes)
    assert (body.plan, [one.seen.slot for one in body.changes]) == ("r1", [0, 1])
    assert (desk.reporter.told, desk.reporter.made, desk.reporter.waiting) == (2, 3, 3)


class Sleeper:
    """Virtual time: whoever sleeps says for how long, and goes on when told."""

    def __init__(self) -> None:
        self.asked: asyncio.Queue[float] = asyncio.Queue()
        self._go = asyncio.Semaphore(0)

    async def sleep(self, delay_s: float) -> None:
        self.asked.put_nowait(delay_s)
        await self._go.acquire()

    async def next(self) -> float:
        """How long the sleep is that was begun."""
        return await self.asked.get()

    def wake(self) -> None:
        """Let it end."""
        self._go.release()


async def test_the_first_change_goes_at_once_and_others_wait_for_company(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So the map is right at once where little happens, and reports are few where much does."""
    sleeper = Sleeper()
    monkeypatch.setattr(reporter.asyncio, "sleep", sleeper.sleep)
    desk.begin()
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(desk.reporter.run())
        desk.see(0)
        assert await sleeper.next() == COMPANY_S
        desk.see(1)
        sleeper.wake()
        assert await sleeper.next() == BATCH_S
        assert [len(body.changes) for body in desk.put(Changes)] == [2]
        desk.see(2)
        assert sleeper.asked.empty(), "it does not wake up before its time"
        sleeper.wake()
        assert await sleeper.next() == COMPANY_S
        sleeper.wake()
        assert await sleeper.next() == BATCH_S
        assert [len(body.changes) for body in desk.put(Changes)] == [2, 1]
        running.cancel()


async def test_it_wakes_for_the_end_of_a_period(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where nothing changes, and no bus is there to beat for."""
    sleeper = Sleeper()
    monkeypatch.setattr(reporter.asyncio, "sleep", sleeper.sleep)
    desk.begin()
    desk.see(0)
    desk.reporter.put_due()
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(desk.reporter.run())
        desk.now += 59_000
        assert await sleeper.next() == COMPANY_S  # for the change, which is put already
        sleeper.wake()
        assert await sleeper.next() == BATCH_S
        assert desk.put(RollUp) == []
        desk.now += 1_000
        sleeper.wake()
        assert await sleeper.next() == BATCH_S
        assert [sum(body.made) for body in desk.put(RollUp)] == [1]
        running.cancel()


async def test_a_diagnosis_waits_like_a_change_and_counts_as_nothing_seen(desk: Desk) -> None:
    """Behind the change that it is about."""
    desk.begin()
    desk.see(1)
    desk.reporter.diagnosed(DIAGNOSIS)
    assert desk.put(Diagnosis) == [DIAGNOSIS]
    assert [len(body.changes) for body in desk.put(Changes)] == [1]
    assert (desk.reporter.told, desk.reporter.made, desk.reporter.waiting) == (1, 1, 1)
    assert (desk.spool.account.sequence, desk.spool.changes_lost) == (2, 0)


async def test_another_plan_closes_what_was_seen_by_the_one_before(desk: Desk) -> None:
    """Under its own revision; what still flew is nobody's, and is not counted either."""
    desk.begin()
    desk.see(2)
    desk.begin(1, "r2")
    desk.see(2)
    desk.see(0, revision="r2")
    desk.reporter.put_all()
    assert [(one.plan, sum(one.made)) for one in desk.put(RollUp)] == [("r1", 1), ("r2", 1)]
    assert [one.plan for one in desk.put(Changes)] == ["r1", "r2"]
    assert desk.reporter.made == desk.spool.account.made == desk.spool.waiting == 2


async def test_a_full_octet_is_no_end(desk: Desk) -> None:
    """A roll-up goes before its period is over."""
    desk.begin(1)
    for _ in range(600):
        desk.see(0, confirmed=False)
    desk.reporter.put_all()
    assert [sum(one.made) for one in desk.put(RollUp)] == [255, 255, 90]


async def test_the_longest_evidence_fits(desk: Desk) -> None:
    """However much there is to tell, each report is one that the bus takes."""
    longest = tuple("\N{GRINNING FACE}" * 300 for _ in range(16))
    desk.begin(300)
    for slot in range(300):
        desk.see(slot, evidence=longest)
    desk.reporter.put_due()
    told = desk.put(Changes)
    assert sum(len(one.changes) for one in told) == 300
    assert all(len(codec.encode(one)) <= MAX_BODY for one in told)
    published: list[Report] = []

    class Bus:
        async def publish(self, _subject: str, payload: bytes) -> None:
            published.append(codec.decode(Report, payload))

    await desk.reporter.tell_whole(Bus())  # type: ignore[arg-type]
    parts = [codec.decode(Changes, report.body) for report in published]
    assert [(one.part, one.parts) for one in parts] == [(n, len(parts)) for n in range(len(parts))]
    assert len(parts) > 1 and {one.told for one in parts} == {300}
    slots = itertools.chain.from_iterable(one.changes for one in parts)
    assert sorted(one.seen.slot for one in slots) == list(range(300))
