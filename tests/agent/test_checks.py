"""The plan at work: what is started when, never too much of it, and how it ends.

In virtual time, but for the one that is on real sockets.
"""

import asyncio
import contextlib
import gc
import random
import resource
import socket
import struct
import weakref
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from virtual_time import VirtualLoop, in_virtual_time

from reachmap_agent import checks, clock, prober
from reachmap_agent.checks import Checks
from reachmap_agent.clock import Clock
from reachmap_agent.credentials import Contexts
from reachmap_agent.diagnosis.diagnoser import Diagnoser
from reachmap_agent.diagnosis.runner import Runner
from reachmap_agent.engine.attempt import Attempt
from reachmap_agent.engine.engine import Engine
from reachmap_agent.ledger import Ledger
from reachmap_agent.prober import Found, Job
from reachmap_agent.schedule import phase
from reachmap_agent.wire.exchange import Verdict
from reachmap_shared.messages import Change, CheckSpec, Observation, Plan, WindowReply
from reachmap_shared.vocabulary import AnsweredBy, ListenerState, Outcome, Transport

pytestmark = pytest.mark.usefixtures("garbage_stays")

AGENT = "a"
CONTEXTS = Contexts.from_pem("")


def now() -> float:
    return asyncio.get_running_loop().time()


def specs(count: int, *, window: bool = False) -> tuple[CheckSpec, ...]:
    return tuple(
        CheckSpec("b", "web:80", "127.0.0.1", 1000 + place, Transport.TCP, "tcp", "", window)
        for place in range(count)
    )


def early_spec(*, window: bool = False) -> CheckSpec:
    """One whose place in the interval is at its very beginning."""
    for spec in specs(5000, window=window):
        if phase(f"{AGENT}>{spec.address}:{spec.port}/{spec.transport}") < 0.01:
            return spec
    raise AssertionError


def plan(
    checked: tuple[CheckSpec, ...],
    revision: str = "one",
    interval_s: float = 0.2,
    timeout_s: float = 1.0,
) -> Plan:
    return Plan(AGENT, revision, interval_s, timeout_s, "", "", "", (), checked)


class FakeProber:
    """Starts nothing: the test says when and how each check ends."""

    def __init__(self, engine: Engine, _clock: Clock) -> None:
        self.engine = engine
        self.flying: list[tuple[Job, Callable[[Observation], None]]] = []
        self.started: list[tuple[float, int]] = []
        self.most = 0
        self.dialled: list[str] = []
        self.names: dict[str, tuple[str, ...]] = {}

    async def resolve(self, job: Job, timeout_s: float) -> list[Found] | Observation:
        assert timeout_s == 1.0
        addresses = self.names[job.spec.address]
        if not addresses:
            return Observation(job.slot, 0, Outcome.NAME_FAILURE, None, True, 7, 0, 0, "", ())
        return [Found((address, 80), addresses, 7, ("found",)) for address in addresses]

    def start(
        self,
        job: Job,
        timeout_s: float,
        done: Callable[[Observation], None],
        found: Found | None = None,
        as_before: None = None,
    ) -> None:
        assert timeout_s == 1.0
        if found is not None:
            address, ended = found.address[0], done
            self.dialled.append(address)

            def done(seen: Observation) -> None:
                ended(replace(seen, address=address, evidence=found.facts))

        self.flying.append((job, done))
        self.started.append((now(), job.slot))
        self.most = max(self.most, len(self.flying))

    def end(self, outcome: Outcome = Outcome.OPEN, by: AnsweredBy | None = None) -> None:
        """End the check that was started first."""
        job, done = self.flying.pop(0)
        done(Observation(job.slot, 0, outcome, by, True, 0, 0, 0, "", ()))

    def end_all(self) -> None:
        for _ in range(len(self.flying)):
            self.end()


class Stage:
    """Checks on a fake prober, and what they report."""

    def __init__(self, tasks: asyncio.TaskGroup) -> None:
        self.seen: list[tuple[str, Observation]] = []
        self.asked: list[tuple[int, float]] = []
        self.reply: WindowReply | None = None
        self.checks = Checks(AGENT, tasks, self.ask, self.see, clock.system())
        self.prober: Any = self.checks._prober
        self.confirmed: list[bool] = []

    def see(self, revision: str, one: Observation, confirmed: bool) -> None:
        self.seen.append((revision, one))
        self.confirmed.append(confirmed)

    async def ask(self, spec: CheckSpec, seconds: float) -> WindowReply | None:
        self.asked.append((spec.port, seconds))
        return self.reply

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(5):
            while not condition():
                await asyncio.sleep(0.005)


@contextlib.asynccontextmanager
async def staged(
    monkeypatch: pytest.MonkeyPatch, room: int = 100, prober: Any = FakeProber
) -> AsyncIterator[Stage]:
    monkeypatch.setattr(checks, "Prober", prober)
    monkeypatch.setattr(checks, "_room", lambda _: room)
    async with asyncio.TaskGroup() as tasks:
        stage = Stage(tasks)
        yield stage
        await stage.checks.stop(0)


@in_virtual_time
async def test_every_check_has_its_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    """In each interval each is started once, and what it saw is told with the plan's revision."""
    async with staged(monkeypatch) as stage:
        stage.checks.apply(plan(specs(20)), CONTEXTS)
        await stage.until(lambda: len(stage.prober.started) == 20)
        assert sorted(slot for _, slot in stage.prober.started) == list(range(20))
        stage.prober.end_all()
        assert sorted(one.slot for _, one in stage.seen) == list(range(20))
        assert {revision for revision, _ in stage.seen} == {"one"}
        await stage.until(lambda: len(stage.prober.started) == 40)


@in_virtual_time
async def test_no_more_than_there_is_room_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is due beyond it waits, in order, for each that ends; and that it was late is told."""
    async with staged(monkeypatch, room=4) as stage:
        stage.checks.apply(plan(specs(20), interval_s=5.0), CONTEXTS)
        await stage.until(lambda: len(stage.prober.started) == 4)
        await asyncio.sleep(2.1)
        assert len(stage.prober.started) == 4
        assert stage.checks.late_s < 1
        for _ in range(16):
            stage.prober.end()
        assert sorted(slot for _, slot in stage.prober.started) == list(range(20))
        assert stage.prober.most == 4
        assert 1 < stage.checks.late_s < 3


@in_virtual_time
async def test_what_is_due_soon_follows_as_one_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """A few start together, then one for each that ends; the next wake-up is for what is left."""
    hosts = tuple(
        replace(spec, address=f"127.0.{place // 250}.{1 + place % 250}")
        for place, spec in enumerate(specs(1_000))
    )
    async with staged(monkeypatch, room=1_000) as stage:
        stage.checks.apply(plan(hosts, interval_s=10.0), CONTEXTS)
        await stage.until(lambda: bool(stage.prober.started))
        schedule = stage.checks._round.schedule
        for _ in range(5):
            before = len(stage.prober.started)
            stage.prober.end()
            assert len(stage.prober.started) == before + 1
        while stage.prober.flying:
            stage.prober.end()
        assert stage.checks._timer.when() == schedule.next_due()
        assert len(stage.prober.started) < 500


@in_virtual_time
async def test_nothing_comes_along_where_there_is_no_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is due waits for it, and comes first."""
    async with staged(monkeypatch, room=3) as stage:
        stage.checks.apply(plan(specs(100), interval_s=0.5), CONTEXTS)
        await stage.until(lambda: len(stage.checks._round.queue) > 3)
        due = [one.slot for one in stage.checks._round.queue][:3]
        for _ in due:
            stage.prober.end()
        assert [slot for _, slot in stage.prober.started[3:]] == due


@in_virtual_time
async def test_none_is_run_twice_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that takes longer than the interval misses turns; it has its next one after its end."""
    async with staged(monkeypatch) as stage:
        stage.checks.apply(plan(specs(5), interval_s=0.1), CONTEXTS)
        await asyncio.sleep(0.6)
        assert len(stage.prober.started) == 5
        stage.prober.end()
        await stage.until(lambda: len(stage.prober.started) == 6)
        assert stage.prober.started[5][1] == stage.prober.started[0][1]


@in_virtual_time
async def test_one_in_the_queue_is_not_queued_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waiting for room through several turns, a check is still run once for all of them."""
    async with staged(monkeypatch, room=1) as stage:
        stage.checks.apply(plan(specs(3), interval_s=0.1), CONTEXTS)
        await asyncio.sleep(0.6)
        for _ in range(2):
            stage.prober.end()
        assert len({slot for _, slot in stage.prober.started}) == 3


@in_virtual_time
async def test_another_plan_in_mid_flight(monkeypatch: pytest.MonkeyPatch) -> None:
    """What flies still counts for the plan it belongs to; what only waited is dropped."""
    async with staged(monkeypatch, room=3) as stage:
        stage.checks.apply(plan(specs(10), interval_s=0.1), CONTEXTS)
        await asyncio.sleep(0.3)
        stage.checks.apply(plan(specs(2), "two", interval_s=0.1), CONTEXTS)
        await asyncio.sleep(0.3)
        assert len(stage.prober.started) == 3, "all the room is taken by the old plan"
        stage.prober.end()
        assert [revision for revision, _ in stage.seen] == ["one"]
        # At once, and not at the new plan's next turn.
        assert len(stage.prober.started) == 4
        stage.prober.end()
        stage.prober.end()
        assert [revision for revision, _ in stage.seen] == ["one"] * 3
        assert {slot for _, slot in stage.prober.started[3:]} == {0, 1}
        stage.prober.end_all()
        assert [revision for revision, _ in stage.seen[3:]] == ["two"] * 2
        await asyncio.sleep(0.15)
        assert {slot for _, slot in stage.prober.started[5:]} <= {0, 1}


@in_virtual_time
async def test_a_plan_without_checks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is started, and what was goes on to its end."""
    async with staged(monkeypatch) as stage:
        stage.checks.apply(plan(specs(3), interval_s=0.1), CONTEXTS)
        await stage.until(lambda: len(stage.prober.flying) == 3)
        stage.checks.apply(plan((), "none"), CONTEXTS)
        stage.prober.end_all()
        await asyncio.sleep(0.3)
        assert len(stage.prober.started) == len(stage.seen) == 3


@in_virtual_time
async def test_a_plan_is_no_garbage(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not looked through again and again while it holds, and is gone when another does."""
    monkeypatch.setattr(checks, "gc", gc)
    usual = gc.get_threshold()
    async with staged(monkeypatch) as stage:
        stage.checks.apply(plan(specs(3)), CONTEXTS)
        assert gc.get_freeze_count() > 0
        assert gc.get_threshold() > usual
        before = weakref.ref(stage.checks._round.schedule)
        stage.checks.apply(plan((), "none"), CONTEXTS)
        assert before() is None
    assert gc.get_freeze_count() == 0
    assert gc.get_threshold() == usual


@in_virtual_time
async def test_stop_waits_for_what_is_in_flight(monkeypatch: pytest.MonkeyPatch) -> None:
    """It starts no more, not even what waited for room, and returns with the last one's end."""
    async with staged(monkeypatch, room=2) as stage:
        stage.checks.apply(plan(specs(6), interval_s=0.1), CONTEXTS)
        await stage.until(lambda: len(stage.prober.flying) == 2)
        asyncio.get_running_loop().call_later(0.1, stage.prober.end)
        asyncio.get_running_loop().call_later(0.2, stage.prober.end)
        began = now()
        await stage.checks.stop(5.0)
        assert now() - began == pytest.approx(0.2)
        assert len(stage.prober.started) == len(stage.seen) == 2


@in_virtual_time
async def test_stop_gives_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Checks that do not end are dropped when patience is; no plan wakes it again."""
    async with staged(monkeypatch) as stage:
        stage.checks.apply(plan(specs(3), interval_s=0.1), CONTEXTS)
        await stage.until(lambda: len(stage.prober.flying) == 3)
        began = now()
        await stage.checks.stop(0.2)
        assert now() - began == pytest.approx(0.2)
        stage.checks.apply(plan(specs(3), "late", interval_s=0.1), CONTEXTS)
        stage.prober.end_all()
        await asyncio.sleep(0.3)
        assert len(stage.prober.started) == 3


@in_virtual_time
async def test_stop_with_nothing_in_flight(monkeypatch: pytest.MonkeyPatch) -> None:
    """At once, also before any plan, and twice."""
    async with staged(monkeypatch) as stage:
        began = now()
        await stage.checks.stop(5.0)
        await stage.checks.stop(5.0)
        assert now() == began


@in_virtual_time
async def test_lateness(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that was held up says by how much its checks were late, and says it once."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    async with staged(monkeypatch) as stage:
        stage.checks.apply(plan(specs(20), interval_s=5.0), CONTEXTS)
        first_due = stage.checks._round.schedule.next_due()
        loop.hold_up(0.6)
        await stage.until(lambda: len(stage.prober.started) == 20)
        assert stage.checks.take_late_s() == pytest.approx(0.6 - first_due)
        assert stage.checks.take_late_s() == 0


@in_virtual_time
async def test_news_is_looked_at_again_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """A change is told as unconfirmed, checked again in a moment, and confirmed by the third."""
    async with staged(monkeypatch) as stage:
        stage.checks.apply(plan((early_spec(),), interval_s=2.0), CONTEXTS)
        began = now()
        for count, outcome in enumerate([Outcome.OPEN, *[Outcome.TIMEOUT] * 3], start=1):
            await stage.until(lambda count=count: len(stage.prober.started) == count)
            stage.prober.end(outcome)
        assert stage.confirmed == [True, False, False, True]
        times = [at - began for at, _ in stage.prober.started]
        # Not before their time, and not only in their next turn.
        assert times[1] > 1.5
        assert 0.25 < times[2] - times[1] < 1.5
        assert 0.45 < times[3] - times[2] < 1.5


@pytest.mark.parametrize(
    ("reply", "outcome", "expected"),
    [
        (None, Outcome.OPEN, (Outcome.OPEN, False)),
        (None, Outcome.REFUSED, (Outcome.REFUSED, False)),
        (WindowReply(ListenerState.LISTENING, ""), Outcome.OPEN, (Outcome.WRONG_PEER, True)),
        (WindowReply(ListenerState.LISTENING, ""), Outcome.TIMEOUT, (Outcome.TIMEOUT, True)),
        (WindowReply(ListenerState.CEDED, ""), Outcome.REFUSED, (Outcome.REFUSED, False)),
    ],
)
@in_virtual_time
async def test_a_check_through_a_window(
    monkeypatch: pytest.MonkeyPatch,
    reply: WindowReply | None,
    outcome: Outcome,
    expected: tuple[Outcome, bool],
) -> None:
    """The destination is asked first; that it could not be asked is part of the evidence.

    While it listens, nobody else has any business answering.
    """
    async with staged(monkeypatch) as stage:
        stage.reply = reply
        spec = early_spec(window=True)
        stage.checks.apply(plan((spec,), interval_s=0.5), CONTEXTS)
        await stage.until(lambda: bool(stage.prober.flying))
        assert [port for port, _ in stage.asked] == [spec.port]
        assert stage.asked[0][1] > 1.0, "open for longer than the check may take"
        stage.prober.end(outcome)
        ((_, seen),) = stage.seen
        assert (seen.outcome, seen.window) == expected
        unasked = any("could not be asked to listen" in fact for fact in seen.evidence)
        assert unasked is (reply is None and outcome is Outcome.REFUSED)


@pytest.mark.parametrize(
    ("state", "patience_s"), [(ListenerState.LISTENING, 1.5), (ListenerState.CEDED, 0.5)]
)
@in_virtual_time
async def test_a_listener_s_greeting_may_come_late(
    monkeypatch: pytest.MonkeyPatch, state: ListenerState, patience_s: float
) -> None:
    """A handshake's last packet may be lost, and a second passes until that is noticed.

    Who took the silence meanwhile for somebody else would call a way that loses packets a detour.
    """
    async with staged(monkeypatch) as stage:
        stage.reply = WindowReply(state, "")
        stage.checks.apply(plan((early_spec(window=True),)), CONTEXTS)
        await stage.until(lambda: bool(stage.prober.flying))
        ((job, _),) = stage.prober.flying
        assert job.protocol.patience_s == patience_s


@in_virtual_time
async def test_no_window_where_the_service_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Once the real service was seen, nobody is asked to listen, until it is seen no more."""
    async with staged(monkeypatch) as stage:
        stage.checks.apply(plan((early_spec(window=True),), interval_s=0.2), CONTEXTS)
        for by in (AnsweredBy.SERVICE, AnsweredBy.SERVICE, AnsweredBy.LISTENER):
            await stage.until(lambda: bool(stage.prober.flying))
            stage.prober.end(by=by)
        assert len(stage.asked) == 1
        await stage.until(lambda: len(stage.asked) == 2)


@pytest.mark.parametrize(
    ("soft", "expected"),
    [(20_000, 4096), (4480, 4096), (1024, 640), (256, 16), (0, 16), (resource.RLIM_INFINITY, 4096)],
)
def test_room(monkeypatch: pytest.MonkeyPatch, soft: int, expected: int) -> None:
    """Descriptors are left for the rest of the process; no limit is not a limit of less than none."""
    monkeypatch.setattr(resource, "getrlimit", lambda _: (soft, soft))
    assert checks._room(256) == expected


NAMED = CheckSpec("b", "web:80", "b.example", 80, Transport.TCP, "tcp", "")


@in_virtual_time
async def test_each_address_of_a_name_is_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of both families; the slot's turn is over when all have ended, and then comes again."""
    async with staged(monkeypatch) as stage:
        stage.prober.names = {"b.example": ("10.0.0.5", "fd00::5")}
        stage.checks.apply(plan((NAMED,), interval_s=0.2), CONTEXTS)
        await stage.until(lambda: len(stage.prober.flying) == 2)
        assert stage.prober.dialled == ["10.0.0.5", "fd00::5"]
        stage.prober.end()
        assert stage.checks._flying == 1
        stage.prober.end(Outcome.TIMEOUT)
        judged = zip(stage.seen, stage.confirmed, strict=True)
        seen = [(one.address, one.outcome, confirmed) for (_, one), confirmed in judged]
        first = [("10.0.0.5", Outcome.OPEN, True), ("fd00::5", Outcome.TIMEOUT, True)]
        assert seen == first, "each is a flow of its own, and no change of the other"
        await stage.until(lambda: len(stage.prober.flying) == 2)


@in_virtual_time
async def test_as_many_addresses_at_once_as_there_is_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name takes no more than its share of descriptors."""
    async with staged(monkeypatch, room=1) as stage:
        stage.prober.names = {"b.example": ("10.0.0.5", "fd00::5")}
        stage.checks.apply(plan((NAMED,), interval_s=3600), CONTEXTS)
        await stage.until(lambda: len(stage.prober.flying) == 1)
        stage.prober.end()
        assert len(stage.prober.flying) == 1
        stage.prober.end()
        assert stage.prober.dialled == ["10.0.0.5", "fd00::5"]
        assert stage.checks._flying == 0


@in_virtual_time
async def test_a_change_of_address_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Once, by what is seen at the new one; a name that is gone is a failure like another."""
    async with staged(monkeypatch) as stage:
        for addresses in (("10.0.0.5",), ("10.0.0.6",), ("10.0.0.6",)):
            stage.prober.names = {"b.example": addresses}
            if not stage.seen:
                stage.checks.apply(plan((NAMED,), interval_s=0.2), CONTEXTS)
            await stage.until(lambda: bool(stage.prober.flying))
            stage.prober.end()
        told = [(one.address, one.evidence) for _, one in stage.seen]
        assert told == [
            ("10.0.0.5", ("found",)),
            ("10.0.0.6", ("found", "until now it resolved to 10.0.0.5")),
            ("10.0.0.6", ("found",)),
        ]
        stage.prober.names = {"b.example": ()}
        await stage.until(lambda: len(stage.seen) == 4)
        assert stage.seen[-1][1].outcome is Outcome.NAME_FAILURE


COMES_TO = (
    Verdict(Outcome.OPEN, ("connected",)),
    Verdict(Outcome.OPEN, ("a greeting",), AnsweredBy.SERVICE),
    Verdict(Outcome.OPEN, ("a greeting",), AnsweredBy.SERVICE, healthy=False),
    Verdict(Outcome.REFUSED, ("refused",)),
)
LOST_SYN = struct.pack("=8x24I32x2I", *(int(field == 23) for field in range(26)))


class Desk:
    """Checks of three flows, and the accounts of what they saw."""

    def __init__(self, tasks: asyncio.TaskGroup, *, short_work: bool) -> None:
        self.ledger = Ledger()
        self.short = 0
        self.news: list[Change | None] = []
        diagnoser = Diagnoser(nobody, random.Random(1), lambda: 0, nobody)
        self.runner = Runner(AGENT, diagnoser, lambda _: None)
        again = self._see_again if short_work else None
        self.checks = Checks(AGENT, tasks, nobody, self._see, clock.system(), see_again=again)
        its = plan(specs(3), interval_s=1_000.0)
        self.ledger.take_up(its, (), 0)
        self.checks.apply(its, CONTEXTS)
        self.runner.apply(its.revision, self.checks.jobs, its.interval_s)

    def _see(self, revision: str, one: Observation, confirmed: bool) -> None:
        self.news.append(self.ledger.see(one, confirmed=confirmed))
        if confirmed:
            self.runner.saw(revision, one)

    def _see_again(self, _revision: str, slot: int, at_ms: int, connect_us: int) -> None:
        self.short += 1
        self.news.append(None)
        self.ledger.see_again(slot, at_ms, connect_us)

    def end(self, slot: int, verdict: Verdict, at_ms: int, *, lost: bool, window: bool) -> None:
        """A check of a slot comes to this."""
        current = self.checks._round
        assert current is not None
        current.under_way[slot] = 1
        self.checks._flying += 1
        attempt = Attempt(Transport.TCP, ("", 1), None, None, reset=True, done=lambda _: None)
        attempt.verdict, attempt.own = verdict, ("127.0.0.1", 40_000 + at_ms)
        attempt.tcp_info = LOST_SYN if lost else bytes(len(LOST_SYN))
        attempt.started_ns, attempt.connected_ns = 1, 1 + at_ms * 1_000
        if window:
            current.expect_anything(slot)
        elif current.as_before is not None and current.as_before(slot, attempt, at_ms):
            return
        seen = prober._observation(current.jobs[slot], verdict, at_ms, attempt)
        current.ended(replace(seen, window=window))

    def accounts(self) -> list[Any]:
        """All that anybody will ever hear, and that decides about it."""
        book = self.ledger
        told = (book.made, book.told, book.whole(), book.standing(1_000), book.close_period(1_000))
        confirmed = self.checks._round.confirmation
        doubts = {flow: (one.face, one.agreed) for flow, one in confirmed._doubts.items()}
        return [self.news, told, confirmed._known, doubts, self.runner._works, self.runner._flows]


@given(
    st.lists(
        st.tuples(
            st.integers(0, 2),
            st.sampled_from((*COMES_TO[:1] * 4, *COMES_TO)),
            st.integers(0, 9).map(lambda dice: dice == 0),
            st.integers(0, 9).map(lambda dice: dice == 0),
        ),
        max_size=60,
    )
)
def test_short_work_is_heard_of_by_nobody(plays: list[tuple[int, Verdict, bool, bool]]) -> None:
    """Whatever checks come to: told changes, roll-up, pulse and diagnoses are the same with it."""

    async def play() -> None:
        async with asyncio.TaskGroup() as tasks:
            long, short = (Desk(tasks, short_work=how) for how in (False, True))
            for at_ms, (slot, verdict, lost, window) in enumerate(plays):
                for desk in (long, short):
                    desk.end(slot, verdict, at_ms, lost=lost, window=window)
            assert long.accounts() == short.accounts()
            assert not long.short
            for desk in (long, short):
                await desk.checks.stop(0)

    asyncio.run(play())


async def test_what_is_well_is_short_work() -> None:
    """From the third time on that it is seen, until it is seen in another way."""
    async with asyncio.TaskGroup() as tasks:
        desk = Desk(tasks, short_work=True)
        for at_ms, (verdict, short) in enumerate(
            [(0, 0), (0, 1), (0, 2), (1, 2), (0, 2), (0, 3), (3, 3), (3, 3), (3, 3), (3, 3)]
        ):
            desk.end(1, COMES_TO[verdict], at_ms, lost=False, window=False)
            assert desk.short == short
        await desk.checks.stop(0)


async def test_a_plan_that_is_no_more_makes_no_short_work() -> None:
    """Its flows are to be told anew, even where the next plan is the same."""
    async with asyncio.TaskGroup() as tasks:
        desk = Desk(tasks, short_work=True)
        before = desk.checks._round
        assert before is not None and before.as_before is not None
        for at_ms in range(3):
            desk.end(1, COMES_TO[0], at_ms, lost=False, window=False)
        assert desk.short == 2
        desk.checks.apply(plan(specs(3), interval_s=1_000.0), CONTEXTS)
        attempt = Attempt(Transport.TCP, ("", 1), None, None, reset=True, done=lambda _: None)
        attempt.verdict, attempt.connected_ns = COMES_TO[0], 1
        attempt.tcp_info = bytes(len(LOST_SYN))
        assert not before.as_before(1, attempt, 4)
        await desk.checks.stop(0)


async def nobody(*_: object) -> None:
    """Can be asked."""
    raise AssertionError


async def test_on_real_sockets() -> None:
    """Hundreds of checks, open and refused and by name, and then a stop: each told, none left.

    Short work is made of what stays open, and of nothing else.
    """
    told: list[Observation] = []
    again: list[int] = []

    async def nobody(spec: CheckSpec, seconds: float) -> None:
        raise AssertionError

    with contextlib.ExitStack() as stack:
        server = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=1000))
        closed = stack.enter_context(socket.socket())
        closed.bind(("127.0.0.1", 0))
        ports = [bound.getsockname()[1] for bound in (server, closed)]
        checked = tuple(
            CheckSpec("b", f"web:{place + 1}", host, port, Transport.TCP, "tcp", "")
            for place in range(100)
            for host in ("127.0.0.1", "localhost")
            for port in ports
        )
        async with asyncio.TaskGroup() as tasks:
            worker = Checks(
                AGENT,
                tasks,
                nobody,
                lambda _, one, _confirmed: told.append(one),
                clock.system(),
                see_again=lambda _, slot, _at_ms, _connect_us: again.append(slot),
            )
            worker.apply(plan(checked, interval_s=0.5, timeout_s=3.0), CONTEXTS)
            async with asyncio.timeout(20):
                while len({one.slot for one in told}) < len(checked) or len(again) < 20:
                    await asyncio.sleep(0.05)
            await worker.stop(5.0)
            assert worker._flying == 0
    for one in told:
        expected = Outcome.REFUSED if one.slot % 2 else Outcome.OPEN
        assert one.outcome is expected
    assert {slot % 4 for slot in again} == {0}
