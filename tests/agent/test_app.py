"""The agent as a whole: plans in, hellos and reports out, and a good end.

Most of it runs on a bus that is none, the rest as real processes on a real one.
"""

import asyncio
import contextlib
import dataclasses
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import pytest

from reachmap_agent import app, delivery, identity, presence, prober, reporter, schedule
from reachmap_agent.diagnosis import policy
from reachmap_agent.openuem import Found
from reachmap_agent.settings import Settings
from reachmap_agent.spool import Spool
from reachmap_shared import __version__, bus, codec, keys, subjects
from reachmap_shared.access import Access
from reachmap_shared.bus import Delivery
from reachmap_shared.diagnosis import (
    Diagnosis,
    Phase,
    Silenced,
    WitnessReply,
    WitnessRequest,
    WitnessState,
    opened,
    seal,
)
from reachmap_shared.errors import BusUnavailable, MalformedMessage
from reachmap_shared.messages import (
    Ask,
    Changes,
    CheckSpec,
    Closed,
    Earlier,
    Hello,
    ListenerSpec,
    NamedTarget,
    Observation,
    OwnPort,
    Plan,
    Presence,
    Pulse,
    Question,
    Report,
    ReportKind,
    RollUp,
    WindowReply,
    WindowRequest,
)
from reachmap_shared.vocabulary import (
    AnsweredBy,
    ListenerState,
    ListenMode,
    Outcome,
    Transport,
)

pytestmark = pytest.mark.usefixtures("garbage_stays")

LOOPBACK = "127.0.0.1"
ME = Settings(id="pc-17", roles=("agent", "web"), addresses=(LOOPBACK,))

Message = TypeVar("Message")


class FakeBus:
    """A bus with nobody else on it: keeps what is published, and says what the test says."""

    def __init__(self) -> None:
        self.is_connected = True
        self.server_host: str | None = LOOPBACK
        self.published: list[tuple[str, bytes]] = []
        self.under_way: list[str] = []
        """The subjects of what is being published."""
        self.heard: dict[str, Callable[[Delivery], None]] = {}
        self.handlers: dict[str, Callable[[str, bytes], Awaitable[Any]]] = {}
        self.broken = False
        """Whether it takes nothing, though it seems to be there."""
        self.deaf = False
        """Whether its stream answers nobody."""
        self.slow = asyncio.Event()
        """Cleared, publishing takes until it is set."""
        self.slow.set()
        self.on_connect: Callable[[], Awaitable[None]] | None = None
        self.kept: bytes | None = None
        """The plan in the bucket."""

    async def publish(self, subject: str, payload: bytes, reply: str = "") -> None:
        await asyncio.sleep(0)
        self.under_way.append(subject)
        await self.slow.wait()
        self.under_way.remove(subject)
        if self.broken or not self.is_connected:
            raise BusUnavailable("it is broken")
        self.published.append((subject, payload))
        if reply and not self.deaf:
            answer = Delivery(reply, b'{"stream": "reachmap-reports", "seq": 1}', "", {})
            asyncio.get_running_loop().call_soon(self.heard["_INBOX.test.*"], answer)

    def new_inbox(self) -> str:
        return "_INBOX.test"

    async def listen(self, subject: str, heard: Callable[[Delivery], None]) -> None:
        self.heard[subject] = heard
        if self.broken:
            raise BusUnavailable("the server went away")

    async def subscribe(
        self, subject: str, handler: Callable[[str, bytes], Awaitable[None]]
    ) -> None:
        self.handlers[subject] = handler
        if self.broken:
            raise BusUnavailable("the server went away")

    answer = subscribe

    async def request(self, subject: str, payload: bytes, _timeout_s: float) -> Delivery:
        if self.broken or subject != subjects.last_plan("pc-17"):
            raise BusUnavailable("nobody there to ask")
        assert payload == b""
        if self.kept is None:
            return Delivery("_INBOX.1", b"", "", {"Status": "404", "Description": "Not Found"})
        return Delivery("_INBOX.1", self.kept, "", {"Nats-Sequence": "1"})

    async def come_back(self) -> None:
        self.is_connected = True
        assert self.on_connect is not None
        await self.on_connect()

    def tell(self, plan: Plan | bytes, **headers: str) -> None:
        """Put a plan into the bucket, as the collector does."""
        payload = plan if isinstance(plan, bytes) else codec.encode(plan)
        subject = subjects.plan("pc-17")
        self.heard[subject](Delivery(subject, payload, "", headers))

    async def be_asked(self, question: Question) -> None:
        await self.handlers["reachmap.ask.pc-17"]("reachmap.ask.pc-17", codec.encode(Ask(question)))

    def said(self, kind: type[Message]) -> list[Message]:
        subject = f"reachmap.{kind.__name__.lower()}.pc-17"
        return [codec.decode(kind, payload) for its, payload in self.published if its == subject]

    def hello(self) -> Hello:
        """The latest."""
        return self.said(Hello)[-1]

    def pulse(self) -> Pulse:
        """The latest; one that says nothing before the first."""
        return (self.said(Pulse) or [Pulse("pc-17", "", 0, 0, 0, "", 0, 0)])[-1]

    def bodies(self, kind: type[Message]) -> list[Message]:
        """Those of all reports of one kind, the whole state's apart."""
        name = {Changes: "changes", RollUp: "roll-up", Closed: "closed"}[kind]  # type: ignore[index]
        return [
            codec.decode(kind, report.body)
            for report in self.said(Report)
            if report.kind == name and report.sequence >= 0
        ]

    def changes(self) -> list[tuple[str, Observation]]:
        """All that were told as new, with their plans."""
        return [(body.plan, one.seen) for body in self.bodies(Changes) for one in body.changes]

    def whole(self) -> list[Changes]:
        """All that was told again."""
        reports = [report for report in self.said(Report) if report.sequence == -1]
        return [codec.decode(Changes, report.body) for report in reports]

    def counted(self) -> int:
        """Observations in all roll-ups, each taken once."""
        reports = {
            (report.boot, report.sequence): codec.decode(RollUp, report.body)
            for report in self.said(Report)
            if report.kind is ReportKind.ROLL_UP
        }
        return sum(sum(one.made) for one in reports.values())


@pytest.fixture(autouse=True)
def in_a_hurry(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What is sent every few seconds is sent at once; what is kept is kept for the test alone."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(reporter, "BATCH_S", 0.02)
    monkeypatch.setattr(delivery, "TURN_S", 0.01)
    monkeypatch.setattr(schedule, "_FIRST_ROUND_S", 0.05)


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeBus:
    """The bus that an agent finds."""
    made = FakeBus()

    @asynccontextmanager
    async def staying(
        _urls: Any, name: str, on_connect: Any = None, *, access: Access
    ) -> AsyncIterator[FakeBus]:
        assert name == "reachmap-agent pc-17"
        assert access.inbox == "_INBOX.pc-17"
        made.on_connect = on_connect
        yield made

    monkeypatch.setattr(bus, "staying", staying)
    return made


@asynccontextmanager
async def running(settings: Settings = ME) -> AsyncIterator[Callable[[], Awaitable[None]]]:
    """An agent at work, which is told to stop with the block or before."""
    task = asyncio.get_running_loop().create_task(app.run(settings))

    async def stop() -> None:
        if not task.done():
            task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            async with asyncio.timeout(20):
                await task

    try:
        yield stop
    finally:
        await stop()


def listener(port: int, protocol: str = "tcp") -> ListenerSpec:
    return ListenerSpec("web:80", port, Transport.TCP, protocol)


BELONGS = keys.to_text(keys.deployment_key(b"secret"))
OWN = keys.to_text(keys.host_key(b"secret", "pc-17"))
KEY = keys.to_text(keys.pair_key(keys.from_text(OWN), keys.source_id("pc-17")))


def check(port: int, protocol: str = "tcp", address: str = LOOPBACK) -> CheckSpec:
    return CheckSpec("pc-17", "web:80", address, port, Transport.TCP, protocol, KEY)


def plan(
    revision: str,
    *checks: CheckSpec,
    listeners: tuple[ListenerSpec, ...] = (),
    interval_s: float = 3600.0,
    **its: Any,
) -> Plan:
    """A plan whose first round is its only one, unless the interval says otherwise."""
    its = {
        "agent": "pc-17",
        "timeout_s": 2.0,
        "certificate": "",
        "deployment_key": BELONGS,
        "host_key": OWN,
        **its,
    }
    return Plan(revision=revision, interval_s=interval_s, listeners=listeners, checks=checks, **its)


class Checks:
    """Stands in for the prober: each check waits until the test lets it go."""

    def __init__(self) -> None:
        self.started: list[tuple[int, str]] = []
        self.go = asyncio.Event()
        self.quick: set[str] = set()
        """Where checks go that wait for nothing."""

    async def __call__(self, spec: CheckSpec, slot: int, target: Any, timeout_s: float) -> Any:
        assert target.host == spec.address and timeout_s == 2.0
        self.started.append((slot, spec.address))
        if spec.address not in self.quick:
            await self.go.wait()
        return Observation(slot, 0, Outcome.OPEN, None, True, 0, 0, 0, "", (spec.address,))


@pytest.fixture
def spools(monkeypatch: pytest.MonkeyPatch) -> list[Spool]:
    """Where agents keep what they have to tell."""
    made: list[Spool] = []

    def make(*its: Any) -> Spool:
        made.append(Spool(*its))
        return made[-1]

    monkeypatch.setattr(app, "Spool", make)
    return made


@pytest.fixture
def checks(monkeypatch: pytest.MonkeyPatch) -> Checks:
    made = Checks()
    under_way = set()

    def start(self: Any, job: Any, timeout_s: float, done: Any, *_: Any) -> None:
        async def run() -> None:
            done(await made(job.spec, job.slot, job.target(), timeout_s))

        under_way.add(asyncio.ensure_future(run()))  # noqa: TID251  kept in the set

    monkeypatch.setattr(prober.Prober, "start", start)
    return made


async def test_it_says_who_it_is(fake: FakeBus, eventually: Any) -> None:
    """On joining, before any plan, all that the collector needs to make one."""
    async with running():
        await eventually(lambda: fake.said(Hello))
        assert set(fake.handlers) == {
            "reachmap.window.pc-17.*",
            "reachmap.witness.pc-17.*",
            "reachmap.ask.pc-17",
        }
        assert set(fake.heard) == {"$KV.reachmap-plans.pc-17", "_INBOX.test.*"}
        hello = fake.hello()
    assert (hello.agent, hello.presence, hello.version) == ("pc-17", Presence.HERE, __version__)
    assert (hello.roles, hello.addresses) == (("agent", "web"), (LOOPBACK,))
    assert hello.hostname == identity.hostname()
    assert hello.platform == identity.describe_platform()
    assert hello.capabilities == identity.capabilities()
    assert hello.heartbeat_s == app.HEARTBEAT_S
    assert (hello.number, hello.plan_refused, hello.listeners) == (0, "", ())
    assert (hello.changes_lost, hello.spool_failure) == (0, "")
    assert (hello.ports, hello.targets) == ((), ())


async def test_it_says_what_openuem_s_settings_say(fake: FakeBus, eventually: Any) -> None:
    """Where its services are, whom it is told to reach, and no more than a hello has room for."""
    many = tuple(f"nats-{number}" for number in range(100))
    found = Found(
        ("agent",),
        {"agent:2022": 2222, "agent:1443": 1433},
        {"nats-server": many, "db": ("db-1",)},
    )
    async with running(dataclasses.replace(ME, found=found)):
        await eventually(lambda: fake.said(Hello))
        hello = fake.hello()
    assert hello.ports == (OwnPort("agent:1443", 1433), OwnPort("agent:2022", 2222))
    assert hello.targets == (NamedTarget("db", ("db-1",)), NamedTarget("nats-server", many[:32]))


async def test_it_finds_its_addresses_out(
    fake: FakeBus, eventually: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Towards the bus, when it was told none."""
    monkeypatch.setattr(identity, "own_addresses", lambda host: (f"10.0.0.7 to {host}",))
    async with running(dataclasses.replace(ME, addresses=())):
        await eventually(lambda: fake.said(Hello))
        assert fake.hello().addresses == ("10.0.0.7 to 127.0.0.1",)


async def test_a_resolver_that_hangs_holds_nothing_up(
    fake: FakeBus, eventually: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bus may be known by a name; hellos go out without an answer, and one asks at a time."""
    monkeypatch.setattr(app, "HEARTBEAT_S", 0.05)
    monkeypatch.setattr(presence, "_LOOKUP_S", 0.05)
    answered = threading.Event()
    asked: list[str | None] = []

    def own_addresses(host: str | None) -> tuple[str, ...]:
        asked.append(host)
        answered.wait(20)
        return ("10.0.0.7",)

    monkeypatch.setattr(identity, "own_addresses", own_addresses)
    fake.server_host = "nats-1.example"
    async with running(dataclasses.replace(ME, addresses=())):
        await eventually(lambda: len(fake.said(Pulse)) >= 3)
        assert fake.hello().addresses == ()
        assert len(asked) == 1
        answered.set()
        await eventually(lambda: fake.hello().addresses == ("10.0.0.7",))


async def test_its_pulse_beats(
    fake: FakeBus, eventually: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Always of the same boot, while a hello is said once; another start has another."""
    monkeypatch.setattr(app, "HEARTBEAT_S", 0.05)
    async with running():
        await eventually(lambda: len(fake.said(Pulse)) >= 4)
        assert len(fake.said(Hello)) == 1
    assert len({pulse.boot for pulse in fake.said(Pulse)}) == 1
    assert {pulse.hello for pulse in fake.said(Pulse)} == {0}
    async with running():
        await eventually(lambda: len({pulse.boot for pulse in fake.said(Pulse)}) == 2)


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


async def test_a_bus_that_is_away_costs_nothing(
    fake: FakeBus, eventually: Any, checks: Checks
) -> None:
    """What was seen meanwhile is reported when it is back, and the first thing is a hello."""
    checks.go.set()
    async with running():
        await eventually(lambda: fake.said(Pulse))
        fake.is_connected = False
        said = len(fake.published)
        fake.tell(plan("r1", *(check(n + 1) for n in range(20))))
        await eventually(lambda: len(checks.started) == 20)
        assert len(fake.published) == said
        started = time.monotonic()
        await fake.come_back()
        await eventually(lambda: fake.pulse().plan == "r1")
        assert time.monotonic() - started < app.HEARTBEAT_S
        await eventually(lambda: len(fake.changes()) == 20)
    assert sorted(seen.slot for _, seen in fake.changes()) == list(range(20))


async def test_a_server_that_goes_while_it_joins_is_waited_for(
    fake: FakeBus, eventually: Any
) -> None:
    """It has subscribed, or will have when the server is back."""
    fake.broken = True
    async with running():
        await eventually(lambda: fake.handlers)
        assert fake.said(Hello) == []
        fake.broken = False
        await fake.come_back()
        await eventually(lambda: fake.said(Hello))
        fake.tell(plan("r1"))
        await eventually(lambda: fake.pulse().plan == "r1")


async def test_it_leaves_in_good_order(
    fake: FakeBus, eventually: Any, checks: Checks, port: int
) -> None:
    """Ports free, checks in flight finished and reported, and a farewell as the last word."""
    async with running() as stop:
        await eventually(lambda: fake.said(Hello))
        fake.tell(plan("r1", check(1), check(2), listeners=(listener(port),)))
        await eventually(lambda: len(checks.started) == 2)
        asyncio.get_running_loop().call_later(0.1, checks.go.set)
        await stop()
    assert sorted(seen.slot for _, seen in fake.changes()) == [0, 1]
    assert fake.counted() == 2
    assert fake.published[-1][0] == "reachmap.hello.pc-17"
    hello = fake.hello()
    assert (hello.presence, hello.listeners) == (Presence.LEAVING, ())
    assert [said.presence for said in fake.said(Hello)].count(Presence.LEAVING) == 1
    last = fake.pulse()
    assert (last.made, last.waiting, last.lost) == (2, 0, 0), "all that it made is told"
    with socket.socket() as service:
        service.bind((LOOPBACK, port))


async def test_it_tells_how_its_earlier_starts_stand(
    fake: FakeBus, eventually: Any, checks: Checks, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In its hello, again and again: the bus may lose their own last words."""
    monkeypatch.setattr(app, "HEARTBEAT_S", 0.05)
    checks.go.set()
    async with running() as stop:
        await eventually(lambda: fake.said(Hello))
        fake.tell(plan("r1", check(1), check(2)))
        await eventually(lambda: fake.pulse().made >= 2)
        await stop()
    last = fake.pulse()
    async with running():
        await eventually(lambda: fake.hello().boot != last.boot)
        await eventually(lambda: fake.hello().earlier[0].waiting == 0)
        assert fake.hello().earlier == (Earlier(last.boot, last.made, 0, 0, 0),)


async def test_it_does_not_wait_for_ever_for_its_checks(
    fake: FakeBus, eventually: Any, checks: Checks, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that is stuck is left behind."""
    monkeypatch.setattr(app, "_FAREWELL_S", 0.1)
    async with running() as stop:
        await eventually(lambda: fake.said(Hello))
        fake.tell(plan("r1", check(1)))
        await eventually(lambda: checks.started)
        await stop()
    assert fake.hello().presence is Presence.LEAVING


@pytest.mark.parametrize("broken", [False, True], ids=["away", "broken"])
async def test_it_leaves_without_a_bus_too(
    fake: FakeBus, eventually: Any, checks: Checks, broken: bool
) -> None:
    """Quickly, and without an error."""
    checks.go.set()
    async with running() as stop:
        await eventually(lambda: fake.said(Hello))
        fake.broken, fake.is_connected = broken, broken
        fake.tell(plan("r1", check(1)))
        await eventually(lambda: checks.started)
        started = time.monotonic()
        await stop()
        assert time.monotonic() - started < 5
    assert fake.hello().presence is Presence.HERE


async def test_nothing_is_reported_twice_when_it_leaves_in_the_midst_of_a_report(
    fake: FakeBus, eventually: Any, checks: Checks
) -> None:
    """The farewell waits for what is just being sent."""
    checks.go.set()
    async with running() as stop:
        await eventually(lambda: fake.said(Hello))
        fake.slow.clear()
        fake.tell(plan("r1", check(1), check(2), check(3)))
        await eventually(lambda: len(checks.started) == 3)
        await eventually(lambda: subjects.report("pc-17") in fake.under_way)
        asyncio.get_running_loop().call_later(0.1, fake.slow.set)
        await stop()
    assert sorted(seen.slot for _, seen in fake.changes()) == [0, 1, 2]
    assert fake.counted() == 3
    sequences = [report.sequence for report in fake.said(Report)]
    assert sequences == list(range(len(sequences)))


async def test_it_works_by_the_last_plan_without_any_bus(
    fake: FakeBus,
    eventually: Any,
    checks: Checks,
    port: int,
    monkeypatch: pytest.MonkeyPatch,
    spools: list[Spool],
) -> None:
    """From its first moment, listeners too; and what it saw is told when there is one."""
    checks.go.set()
    same = plan("r1", check(1), check(2), listeners=(listener(port),))
    async with running():
        await eventually(lambda: fake.said(Hello))
        fake.tell(same)
        await eventually(lambda: len(fake.changes()) == 2)
    there = asyncio.Event()

    @asynccontextmanager
    async def staying(
        _urls: Any, _name: str, on_connect: Any, *, access: Access
    ) -> AsyncIterator[FakeBus]:
        await there.wait()
        fake.on_connect = on_connect
        yield fake

    monkeypatch.setattr(bus, "staying", staying)
    checks.started.clear()
    fake.published.clear()
    async with running():
        await eventually(lambda: len(checks.started) == 2)
        with socket.create_connection((LOOPBACK, port)):
            pass
        await eventually(lambda: spools[-1].waiting_in_all[1] == 2)
        assert fake.published == []
        there.set()
        await eventually(lambda: len(fake.changes()) == 2)
        await eventually(lambda: fake.pulse().plan == "r1")
    closed = fake.bodies(Closed)
    assert closed == [Closed(made=2, lost=0, changes_lost=0)]


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


async def test_it_says_again_what_it_is_asked(
    fake: FakeBus, eventually: Any, checks: Checks
) -> None:
    """Who it is, by the same number; and how each flow stands, by the same numbers."""
    checks.go.set()
    async with running():
        await eventually(lambda: fake.said(Hello))
        fake.tell(plan("r1", check(1), check(2)))
        await eventually(lambda: len(fake.changes()) == 2)
        await fake.be_asked(Question.HELLO)
        await eventually(lambda: len(fake.said(Hello)) == 2)
        assert fake.said(Hello)[0] == fake.said(Hello)[1]
        assert fake.whole() == []
        await fake.be_asked(Question.STATE)
        await eventually(fake.whole)
        await fake.handlers["reachmap.ask.pc-17"]("reachmap.ask.pc-17", b"garbage")
    [told] = fake.whole()
    assert (told.plan, told.parts, told.part, told.told) == ("r1", 1, 0, 2)
    assert sorted(change.number for change in told.changes) == [0, 1]
    new = [one for body in fake.bodies(Changes) for one in body.changes]
    assert sorted(told.changes, key=lambda one: one.number) == new


async def test_all_that_holds_is_told_when_the_bus_is_back(
    fake: FakeBus, eventually: Any, checks: Checks, spools: list[Spool]
) -> None:
    """Before history fills in: the map is right at once."""
    checks.go.set()
    async with running():
        await eventually(lambda: fake.said(Pulse))
        fake.is_connected = False
        fake.tell(plan("r1", check(1), check(2)))
        await eventually(lambda: len(checks.started) == 2)
        await eventually(lambda: spools[-1].waiting_in_all[1] == 2)
        fake.published.clear()
        await fake.come_back()
        await eventually(lambda: fake.whole() and len(fake.changes()) == 2)
    assert {one.seen.slot for one in fake.whole()[0].changes} == {0, 1}


async def test_a_stream_that_answers_nobody_loses_nothing(
    fake: FakeBus, eventually: Any, checks: Checks, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was not acknowledged is sent again, by the same number."""
    monkeypatch.setattr(delivery, "ACK_TIMEOUT_S", 0.05)
    checks.go.set()
    fake.deaf = True
    async with running():
        await eventually(lambda: fake.said(Hello))
        fake.tell(plan("r1", check(1), check(2)))
        await eventually(lambda: len(fake.bodies(Changes)) >= 3)
        assert fake.pulse().waiting == fake.pulse().made
        fake.deaf = False
    assert fake.counted() == 2
    reports = {(one.sequence, one.body) for one in fake.said(Report) if one.sequence >= 0}
    assert len(reports) == len({number for number, _ in reports})


WINDOW = "reachmap.window.pc-17.pc-18"
PAIR = keys.pair_key(keys.from_text(OWN), keys.source_id("pc-18"))


def request(proved: int, key: bytes = PAIR, source: str = "pc-18", **its: Any) -> bytes:
    said = ("window", source, "pc-17", proved, Transport.TCP)
    asked = WindowRequest(source, proved, Transport.TCP, 2.0, keys.request_mac(key, *said))
    return codec.encode(dataclasses.replace(asked, **its))


async def test_a_window_is_opened_for_those_who_have_the_flow(
    fake: FakeBus, eventually: Any, port: int
) -> None:
    """Their plan has the pair's key; nobody else gets a port opened, or learns who holds it."""
    on_demand = ListenerSpec("web:80", port, Transport.TCP, "tcp", ListenMode.ON_DEMAND)
    other = keys.pair_key(keys.from_text(OWN), keys.source_id("pc-19"))
    refused = {
        "no MAC": (WINDOW, request(port, mac="")),
        "another's key": (WINDOW, request(port, other)),
        "no ASCII": (WINDOW, request(port, mac="ä")),
        "for another port": (WINDOW, request(port + 1, port=port)),
        "for UDP": (WINDOW, request(port, transport=Transport.UDP)),
        "in another's name": ("reachmap.window.pc-17.pc-19", request(port)),
    }
    async with running():
        await eventually(lambda: fake.said(Hello))
        ask = fake.handlers["reachmap.window.pc-17.*"]
        reply = codec.decode(WindowReply, await ask(WINDOW, request(port)))
        assert reply.state is ListenerState.FAILED, "there is no plan yet"
        fake.tell(plan("r1", listeners=(on_demand,)))
        for why, (subject, payload) in refused.items():
            reply = codec.decode(WindowReply, await ask(subject, payload))
            assert reply.state is ListenerState.FAILED, why
            assert "of no plan" in reply.detail
        for subject, payload in ((WINDOW, b"garbage"), ("reachmap.window", request(port))):
            reply = codec.decode(WindowReply, await ask(subject, payload))
            assert reply.state is ListenerState.FAILED
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((LOOPBACK, port))
        reply = codec.decode(WindowReply, await ask(WINDOW, request(port)))
        assert reply.state is ListenerState.LISTENING
        with socket.create_connection((LOOPBACK, port)):
            pass


@pytest.mark.parametrize("wanted", [True, False])
async def test_a_flow_that_breaks_is_looked_into(
    fake: FakeBus, eventually: Any, port: int, monkeypatch: pytest.MonkeyPatch, wanted: bool
) -> None:
    """By itself, and reported like a change, unless that is switched off; the checks go on."""
    monkeypatch.setattr(app, "HEARTBEAT_S", 0.05)
    monkeypatch.setattr(policy, "SETTLE_S", 0.05)
    broken = dataclasses.replace(check(port), key="")

    def diagnoses() -> list[Report]:
        return [one for one in fake.said(Report) if one.kind is ReportKind.DIAGNOSIS]

    async with running(dataclasses.replace(ME, diagnosis=wanted)):
        await eventually(lambda: fake.said(Hello))
        fake.tell(plan("r1", broken, interval_s=0.2))
        await eventually(diagnoses if wanted else lambda: fake.pulse().plan == "r1")
        await eventually(lambda: fake.pulse().made > 2)
    if not wanted:
        assert diagnoses() == []
        return
    [report] = diagnoses()
    found = codec.decode(Diagnosis, report.body)
    assert (found.plan, found.slot, found.silenced) == ("r1", 0, Silenced.NO_AGENT)
    assert found.path.first.outcome is Outcome.REFUSED
    assert 0 < found.at_ms <= report.sent_ms


async def test_a_witness_watches_for_those_who_have_the_flow(
    fake: FakeBus, eventually: Any, port: int
) -> None:
    """By the key that its host's plan brings; others get no word."""
    pair = keys.pair_key(keys.from_text(OWN), keys.source_id("pc-18"))
    subject = "reachmap.witness.pc-17.pc-18"
    asked = WitnessRequest(
        *("pc-18", "pc-17", "c0", Phase.WATCH, LOOPBACK, port, Transport.TCP, LOOPBACK),
        *(0, 1111, 9.0),
    )
    async with running():
        await eventually(lambda: fake.said(Hello))
        ask = fake.handlers["reachmap.witness.pc-17.*"]
        assert await ask(subject, seal(asked, pair)) is None, "there is no plan yet"
        fake.tell(plan("r1"))
        assert await ask(subject, seal(asked, b"x" * 16)) is None
        reply = opened(WitnessReply, await ask(subject, seal(asked, pair)), pair)
        assert reply.state is WitnessState.WATCHING


async def test_a_plan_on_disk_that_is_of_no_use_is_none(
    fake: FakeBus, eventually: Any, tmp_path: Path
) -> None:
    """It waits for a better one, and the collector hears of no refusal."""
    (tmp_path / "pc-17.plan").write_bytes(b"garbage")
    async with running(dataclasses.replace(ME, state=tmp_path)):
        await eventually(lambda: fake.said(Pulse))
    assert (fake.pulse().plan, fake.hello().plan_refused) == ("", "")


async def test_a_server_that_will_not_have_it_is_asked_again(
    fake: FakeBus, eventually: Any, checks: Checks, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The client gives up for good then; the agent never does, and works meanwhile."""
    monkeypatch.setattr(app, "_REJOIN_S", 0.02)
    attempts = 0
    staying = bus.staying

    @asynccontextmanager
    async def unwilling(*its: Any, **more: Any) -> AsyncIterator[Any]:
        nonlocal attempts
        attempts += 1
        async with staying(*its, **more) as connection:
            if attempts < 4:
                raise BusUnavailable("the NATS server threw us out: authorization violation")
            yield connection

    monkeypatch.setattr(bus, "staying", unwilling)
    async with running():
        await eventually(lambda: fake.said(Hello))
    assert attempts == 4


async def test_a_part_that_fails_ends_the_agent(
    fake: FakeBus, eventually: Any, checks: Checks, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is half alive: whoever started it starts it again."""

    def fail(*_: Any) -> None:
        raise ZeroDivisionError

    task = asyncio.get_running_loop().create_task(app.run(ME))
    await eventually(lambda: fake.said(Hello))
    monkeypatch.setattr(prober.Prober, "start", fail)
    fake.tell(plan("r1", check(1)))
    with pytest.raises(ExceptionGroup) as caught:
        await asyncio.wait_for(task, 20)
    assert caught.group_contains(ZeroDivisionError)
    assert fake.hello().presence is Presence.LEAVING


@pytest.fixture
def agents(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Starts real agents, their output in files; none is left behind."""
    made: list[subprocess.Popen[bytes]] = []

    def start(url: str, name: str) -> subprocess.Popen[bytes]:
        own = ["--id", name, "--nats", url, "--address", LOOPBACK]
        with (tmp_path / f"{name}.log").open("wb") as output:
            made.append(
                subprocess.Popen(
                    [sys.executable, "-m", "reachmap_agent", "run", *own],
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    cwd=tmp_path,
                )
            )
        return made[-1]

    yield start
    for process in made:
        process.kill()
        process.wait()


@pytest.fixture
async def hellos(nats_server: Any) -> AsyncIterator[list[Hello]]:
    """What agents say on a real bus, as the collector hears it."""
    heard: list[Hello] = []

    async def hear(_subject: str, payload: bytes) -> None:
        with contextlib.suppress(MalformedMessage):
            heard.append(codec.decode(Hello, payload))

    async with bus.staying([nats_server.url], "test") as connection:
        await connection.subscribe("reachmap.hello.*", hear)
        yield heard


async def ended(process: subprocess.Popen[bytes]) -> int:
    """A process's exit code; fails when it hangs."""
    return await asyncio.wait_for(asyncio.to_thread(process.wait, 20), 30)


async def test_a_real_agent_joins_and_leaves(
    nats_server: Any, hellos: list[Hello], agents: Any, eventually: Any
) -> None:
    """As a process on a real bus: hello, SIGTERM, farewell, exit code 0."""
    process = agents(nats_server.url, "pc-17")
    await eventually(lambda: hellos)
    process.send_signal(signal.SIGTERM)
    assert await ended(process) == 0
    await eventually(lambda: hellos[-1].presence is Presence.LEAVING)
    assert {hello.agent for hello in hellos} == {"pc-17"}


async def test_an_agent_told_to_stop_as_its_server_goes_does_stop(
    nats_server: Any, hellos: list[Hello], agents: Any, eventually: Any, tmp_path: Path
) -> None:
    """It hung once: the client lost the cancellation in noticing the loss, and waited for ever."""
    delays = [0, 0.001, 0.003, 0.01, 0.03, 0.1, 0.5, 1.2]
    processes = {n: agents(nats_server.url, f"pc-{n}") for n in range(len(delays))}
    await eventually(lambda: len({hello.agent for hello in hellos}) == len(delays))
    nats_server.stop()
    gone = time.monotonic()
    for number, delay in enumerate(delays):
        await asyncio.sleep(max(0, gone + delay - time.monotonic()))  # each at another moment
        processes[number].send_signal(signal.SIGTERM)
    for number, process in processes.items():
        assert await ended(process) == 0, (tmp_path / f"pc-{number}.log").read_text()


async def test_an_agent_that_waits_for_its_server_can_be_stopped(
    nats_server: Any, agents: Any, tmp_path: Path, eventually: Any
) -> None:
    """There never was one: it says so in its log, and goes when told to."""
    nats_server.stop()
    process = agents(nats_server.url, "pc-17")
    await eventually(lambda: "bus trouble" in (tmp_path / "pc-17.log").read_text())
    process.send_signal(signal.SIGINT)
    assert await ended(process) == 0
