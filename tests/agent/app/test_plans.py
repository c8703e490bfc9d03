"""Plans in: taken up, refused, replaced and taken away."""

import asyncio
import dataclasses
import socket
import time
from pathlib import Path
from typing import Any

import pytest
from agent_at_work import LOOPBACK, ME, Checks, FakeBus, check, listener, plan, running

from reachmap_agent import app
from reachmap_shared import codec
from reachmap_shared.bus import Delivery
from reachmap_shared.messages import Hello, Plan, Pulse, Report, ReportKind
from reachmap_shared.vocabulary import AnsweredBy, ListenerState, Outcome

pytestmark = pytest.mark.usefixtures("garbage_stays")


async def test_a_plan_is_taken_up(fake: FakeBus, eventually: Any, port: int) -> None:
    """It listens, checks and reports as told, and says at once by which plan."""
    async with running():
        await eventually(lambda: fake.said(Hello))
        started = time.monotonic()
        fake.tell(plan("r1", check(port), listeners=(listener(port),)))
        await eventually(lambda: fake.pulse().plan == "r1")
        assert time.monotonic() - started < app.HEARTBEAT_S
        [report] = fake.hello().listeners
        assert (report.service, report.port, report.state) == (
            "web:80",
            port,
            ListenerState.LISTENING,
        )
        await eventually(fake.changes)
    report = fake.said(Report)[0]
    assert (report.agent, report.kind, report.sequence) == ("pc-17", ReportKind.CHANGES, 0)
    assert report.boot == fake.hello().boot
    [(_, seen)] = fake.changes()
    assert seen.at_ms <= report.sent_ms
    assert (seen.slot, seen.outcome, seen.answered_by) == (0, Outcome.OPEN, AnsweredBy.LISTENER)


async def test_tls_checks_and_listeners_share_the_plan_s_certificate(
    fake: FakeBus, eventually: Any, port: int, pem: str
) -> None:
    """By it a check knows a listener from a service."""
    async with running():
        await eventually(lambda: fake.said(Hello))
        its = {"listeners": (listener(port, "tls"),), "certificate": pem}
        fake.tell(plan("r1", check(port, "tls"), **its))
        await eventually(fake.changes)
    assert fake.changes()[0][1].answered_by is AnsweredBy.LISTENER


async def test_every_check_runs_once_a_round(
    fake: FakeBus, eventually: Any, checks: Checks
) -> None:
    """Each slot again and again, in its interval."""
    checks.go.set()
    async with running():
        await eventually(lambda: fake.said(Hello))
        fake.tell(plan("r1", *(check(n + 1) for n in range(5)), interval_s=0.2))
        await eventually(lambda: len(checks.started) >= 25)
        slots = [slot for slot, _ in checks.started]
        counts = [slots.count(slot) for slot in range(5)]
        assert max(counts) - min(counts) <= 2


GARBAGE = b"\x91\x02"


REFUSALS = [
    pytest.param(plan("r2", agent="pc-18"), "it is for 'pc-18'", id="somebody else's"),
    pytest.param(plan("r2", check(1, "gopher")), "does not speak 'gopher'", id="unknown check"),
    pytest.param(
        plan("r2", listeners=(listener(1, "gopher"),)), "does not speak 'gopher'", id="stand-in"
    ),
    pytest.param(plan("r2", check(0)), "0 is not a port", id="port 0"),
    pytest.param(plan("r2", check(65536)), "65536 is not a port", id="port 65536"),
    pytest.param(plan("r2", listeners=(listener(-1),)), "-1 is not a port", id="port -1"),
    pytest.param(plan("r2", interval_s=0.05), "too short", id="no interval"),
    pytest.param(plan("r2", interval_s=-10.0), "too short", id="backwards"),
    pytest.param(plan("r2", timeout_s=0.0), "too short", id="no time"),
    pytest.param(plan("r2", certificate="garbage"), "plan refused: ", id="no certificate"),
    pytest.param(GARBAGE, "Plan: expected an array of at least 9", id="no message"),
    pytest.param(b"", "not msgpack", id="nothing"),
    pytest.param(b"\x92\x63\xc0", "schema 99", id="of a newer collector"),
]  # fmt: skip


@pytest.mark.parametrize(("bad", "reason"), REFUSALS)
async def test_a_plan_that_makes_no_sense_is_refused_whole(
    fake: FakeBus, eventually: Any, checks: Checks, port: int, bad: Plan | bytes, reason: str
) -> None:
    """The one before stays at work, the reason is told, and the next good one clears it."""
    checks.go.set()
    good = plan("r1", check(port), listeners=(listener(port),), interval_s=0.1)
    async with running():
        await eventually(lambda: fake.said(Hello))
        fake.tell(good)
        fake.tell(bad)
        await eventually(lambda: fake.hello().plan_refused)
        assert fake.hello().plan_refused.startswith("plan refused: ")
        assert reason in fake.hello().plan_refused
        assert fake.pulse().plan == "r1"
        assert [report.port for report in fake.hello().listeners] == [port]
        before = len(checks.started)
        await eventually(lambda: len(checks.started) > before)
        # The collector goes back to the plan that is at work already.
        fake.tell(good)
        await eventually(lambda: not fake.hello().plan_refused)


async def test_a_refused_first_plan_leaves_it_idle(fake: FakeBus, eventually: Any) -> None:
    """It waits for a better one."""
    async with running():
        await eventually(lambda: fake.said(Hello))
        fake.tell(GARBAGE)
        await eventually(lambda: fake.hello().plan_refused)
        assert fake.pulse().plan == ""


async def test_the_same_plan_again_changes_nothing(
    fake: FakeBus, eventually: Any, checks: Checks
) -> None:
    """A collector that restarts sends it again: no second first round, no gap in the listening."""
    checks.go.set()
    async with running():
        await eventually(lambda: fake.said(Hello))
        same = plan("r1", *(check(n + 1) for n in range(10)))
        fake.tell(same)
        await eventually(lambda: len(fake.changes()) == 10)
        for _ in range(3):
            fake.tell(same)
        fake.tell(plan("r2", check(1)))
        await eventually(lambda: ("r2", 0) in [(p, seen.slot) for p, seen in fake.changes()])
        assert len(checks.started) == 11


async def test_a_new_plan_replaces_the_old_one(
    fake: FakeBus, eventually: Any, checks: Checks
) -> None:
    """Its checks begin at once; the old ones are due no more."""
    checks.go.set()
    async with running():
        await eventually(lambda: fake.said(Hello))
        fake.tell(plan("r1", check(1, address="10.0.0.1"), interval_s=0.1))
        await eventually(lambda: len(checks.started) >= 3)
        fake.tell(plan("r2", check(1, address="10.0.0.2"), interval_s=0.1))
        old = [address for _, address in checks.started].count("10.0.0.1")
        await eventually(lambda: ("r2", "10.0.0.2") in
                         [(p, seen.evidence[0]) for p, seen in fake.changes()])  # fmt: skip
        await eventually(lambda: len(checks.started) > old + 5)
        assert [address for _, address in checks.started].count("10.0.0.1") <= old + 1
    for its_plan, seen in fake.changes():
        assert seen.evidence[0] == {"r1": "10.0.0.1", "r2": "10.0.0.2"}[its_plan]


async def test_a_check_that_still_runs_is_not_run_twice(
    fake: FakeBus, eventually: Any, checks: Checks
) -> None:
    """A slow one does not pile up; the others go on."""
    checks.quick.add("10.0.0.2")

    def turns(slot: int) -> int:
        return [started for started, _ in checks.started].count(slot)

    async with running():
        await eventually(lambda: fake.said(Hello))
        slow, other = (check(1, address=f"10.0.0.{host}") for host in (1, 2))
        fake.tell(plan("r1", slow, other, interval_s=0.1))
        await eventually(lambda: turns(0) and turns(1) > 5)
        assert turns(0) == 1
        checks.go.set()
        await eventually(lambda: turns(0) > 2)


async def test_the_plan_in_the_bucket_is_fetched(
    fake: FakeBus, eventually: Any, checks: Checks
) -> None:
    """On joining, and on coming back: it may have been put while nobody listened."""
    checks.go.set()
    fake.kept = codec.encode(plan("r1", check(1)))
    async with running():
        await eventually(lambda: fake.said(Pulse) and fake.pulse().plan == "r1")
        fake.kept = codec.encode(plan("r2", check(1)))
        await fake.come_back()
        await eventually(lambda: fake.pulse().plan == "r2")


async def test_a_plan_that_comes_while_one_is_fetched_wins(
    fake: FakeBus, eventually: Any, checks: Checks, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bucket's answer is the older one."""
    checks.go.set()
    fetched = fake.request

    async def request(subject: str, payload: bytes, timeout_s: float) -> Delivery:
        answer = await fetched(subject, payload, timeout_s)
        fake.tell(plan("r2", check(1)))
        return answer

    monkeypatch.setattr(fake, "request", request)
    fake.kept = codec.encode(plan("r1", check(1)))
    async with running():
        await eventually(lambda: fake.said(Pulse) and fake.pulse().plan)
        await eventually(lambda: fake.changes())
    assert {pulse.plan for pulse in fake.said(Pulse)} <= {"", "r2"}


@pytest.mark.parametrize("operation", ["DEL", "PURGE"])
async def test_a_plan_that_is_taken_away_stays_at_work(
    fake: FakeBus, eventually: Any, checks: Checks, operation: str
) -> None:
    """Nobody has said what to do instead; and it is no plan to be refused."""
    checks.go.set()
    async with running():
        await eventually(lambda: fake.said(Hello))
        fake.tell(plan("r1", check(1), interval_s=0.1))
        await eventually(lambda: fake.changes())
        fake.tell(b"", **{"KV-Operation": operation})
        before = len(checks.started)
        await eventually(lambda: len(checks.started) > before + 2)
        assert (fake.pulse().plan, fake.hello().plan_refused) == ("r1", "")


async def test_an_idle_plan_stops_everything(
    fake: FakeBus, eventually: Any, checks: Checks, port: int
) -> None:
    """No check is started any more, and every port is free."""
    checks.go.set()
    async with running():
        await eventually(lambda: fake.said(Hello))
        fake.tell(plan("r1", check(1), listeners=(listener(port),), interval_s=0.1))
        await eventually(lambda: fake.hello().listeners)
        fake.tell(plan("r2"))
        await eventually(lambda: fake.pulse().plan == "r2" and not fake.hello().listeners)
        before = len(checks.started)
        await asyncio.sleep(0.3)  # three of its turns, if it still had any
        assert len(checks.started) == before
        with socket.socket() as service:
            service.bind((LOOPBACK, port))


async def test_a_plan_on_disk_that_is_of_no_use_is_none(
    fake: FakeBus, eventually: Any, tmp_path: Path
) -> None:
    """It waits for a better one, and the collector hears of no refusal."""
    (tmp_path / "pc-17.plan").write_bytes(b"garbage")
    async with running(dataclasses.replace(ME, state=tmp_path)):
        await eventually(lambda: fake.said(Pulse))
    assert (fake.pulse().plan, fake.hello().plan_refused) == ("", "")
