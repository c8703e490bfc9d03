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

from reachmap_agent import app, identity, prober, schedule
from reachmap_agent.settings import Settings
from reachmap_shared import __version__, bus, codec, keys
from reachmap_shared.access import Access
from reachmap_shared.errors import BusUnavailable, MalformedMessage
from reachmap_shared.messages import (
    CheckSpec,
    Hello,
    ListenerSpec,
    Observation,
    Plan,
    Presence,
    Report,
)
from reachmap_shared.vocabulary import AnsweredBy, ListenerState, Outcome, Transport

LOOPBACK = "127.0.0.1"
ME = Settings(id="pc-17", roles=("agent", "web"), addresses=(LOOPBACK,))

Message = TypeVar("Message")


class FakeBus:
    """A bus with nobody else on it: keeps what is published, and says what the test says."""

    def __init__(self) -> None:
        self.is_connected = True
        self.server_host: str | None = LOOPBACK
        self.published: list[tuple[str, bytes]] = []
        self.handlers: dict[str, Callable[[str, bytes], Awaitable[None]]] = {}
        self.answers: dict[str, Callable[[bytes], Awaitable[bytes]]] = {}
        self.broken = False
        """Whether it takes nothing, though it seems to be there."""
        self.slow = asyncio.Event()
        """Cleared, publishing takes until it is set."""
        self.slow.set()
        self.on_connect: Callable[[], Awaitable[None]] | None = None

    async def publish(self, subject: str, payload: bytes) -> None:
        await asyncio.sleep(0)
        await self.slow.wait()
        if self.broken or not self.is_connected:
            raise BusUnavailable("it is broken")
        self.published.append((subject, payload))

    async def subscribe(
        self, subject: str, handler: Callable[[str, bytes], Awaitable[None]]
    ) -> None:
        self.handlers[subject] = handler
        if self.broken:
            raise BusUnavailable("the server went away")

    async def answer(self, subject: str, handler: Callable[[bytes], Awaitable[bytes]]) -> None:
        self.answers[subject] = handler
        if self.broken:
            raise BusUnavailable("the server went away")

    async def ask(self, _subject: str, _payload: bytes, _timeout_s: float, answerer: str) -> bytes:
        raise BusUnavailable("nobody there to ask")

    async def come_back(self) -> None:
        self.is_connected = True
        assert self.on_connect is not None
        await self.on_connect()

    async def tell(self, plan: Plan | bytes) -> None:
        """Give the agent a plan, as the collector does."""
        payload = plan if isinstance(plan, bytes) else codec.encode(plan)
        await self.handlers["reachmap.plan.pc-17"]("reachmap.plan.pc-17", payload)

    def said(self, kind: type[Message]) -> list[Message]:
        subject = {Hello: "reachmap.hello.pc-17", Report: "reachmap.report.pc-17"}[kind]  # type: ignore[index]
        return [codec.decode(kind, payload) for its, payload in self.published if its == subject]

    def hello(self) -> Hello:
        """The latest."""
        return self.said(Hello)[-1]

    def observations(self) -> list[tuple[str, Observation]]:
        """All that were reported, with their plans."""
        return [(report.plan, seen) for report in self.said(Report) for seen in report.observations]


@pytest.fixture(autouse=True)
def in_a_hurry(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What is sent every few seconds is sent at once; what is kept is kept for the test alone."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(app, "_FLUSH_S", 0.02)
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
        self.now = 0
        self.most = 0
        self.go = asyncio.Event()

    async def __call__(self, spec: CheckSpec, slot: int, target: Any, timeout_s: float) -> Any:
        assert target.host == spec.address and timeout_s == 2.0
        self.started.append((slot, spec.address))
        self.now += 1
        self.most = max(self.most, self.now)
        await self.go.wait()
        self.now -= 1
        return Observation(slot, 0, Outcome.OPEN, None, True, 0, 0, 0, "", (spec.address,))


@pytest.fixture
def checks(monkeypatch: pytest.MonkeyPatch) -> Checks:
    made = Checks()
    under_way = set()

    def start(self: Any, job: Any, timeout_s: float, done: Any, _found: Any) -> None:
        async def run() -> None:
            done(await made(job.spec, job.slot, job.target(), timeout_s))

        under_way.add(asyncio.ensure_future(run()))  # noqa: TID251  kept in the set

    monkeypatch.setattr(prober.Prober, "start", start)
    return made


async def test_it_says_who_it_is(fake: FakeBus, eventually: Any) -> None:
    """On joining, before any plan, all that the collector needs to make one."""
    async with running():
        await eventually(lambda: fake.said(Hello))
        assert set(fake.handlers) == {"reachmap.plan.pc-17"}
        hello = fake.hello()
    assert (hello.agent, hello.presence, hello.version) == ("pc-17", Presence.HERE, __version__)
    assert (hello.roles, hello.addresses) == (("agent", "web"), (LOOPBACK,))
    assert hello.hostname == identity.hostname()
    assert hello.platform == identity.describe_platform()
    assert hello.capabilities == identity.capabilities()
    assert hello.heartbeat_s == app.HEARTBEAT_S
    assert (hello.plan, hello.plan_refused, hello.listeners) == ("", "", ())
    assert (hello.checks_done, hello.checks_late_ms, hello.observations_dropped) == (0, 0, 0)


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
    monkeypatch.setattr(app, "_LOOKUP_S", 0.05)
    answered = threading.Event()
    asked: list[str | None] = []

    def own_addresses(host: str | None) -> tuple[str, ...]:
        asked.append(host)
        answered.wait(20)
        return ("10.0.0.7",)

    monkeypatch.setattr(identity, "own_addresses", own_addresses)
    async with running(dataclasses.replace(ME, addresses=())):
        await eventually(lambda: len(fake.said(Hello)) >= 3)
        assert fake.hello().addresses == ()
        assert len(asked) == 1
        answered.set()
        await eventually(lambda: fake.hello().addresses == ("10.0.0.7",))


async def test_it_says_so_again_and_again(
    fake: FakeBus, eventually: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A heartbeat, always of the same boot; another start has another."""
    monkeypatch.setattr(app, "HEARTBEAT_S", 0.05)
    async with running():
        await eventually(lambda: len(fake.said(Hello)) >= 3)
    assert len({hello.boot for hello in fake.said(Hello)}) == 1
    async with running():
        await eventually(lambda: len({hello.boot for hello in fake.said(Hello)}) == 2)


async def test_a_plan_is_taken_up(fake: FakeBus, eventually: Any, port: int) -> None:
    """It listens, checks and reports as told, and says at once by which plan."""
    async with running():
        await eventually(lambda: fake.said(Hello))
        started = time.monotonic()
        await fake.tell(plan("r1", check(port), listeners=(listener(port),)))
        await eventually(lambda: fake.hello().plan == "r1")
        assert time.monotonic() - started < app.HEARTBEAT_S
        [report] = fake.hello().listeners
        assert (report.service, report.port, report.state) == (
            "web:80",
            port,
            ListenerState.LISTENING,
        )
        await eventually(fake.observations)
    [report] = fake.said(Report)
    assert (report.agent, report.plan, report.sequence) == ("pc-17", "r1", 0)
    assert report.boot == fake.hello().boot
    [seen] = report.observations
    assert (seen.slot, seen.outcome, seen.answered_by) == (0, Outcome.OPEN, AnsweredBy.LISTENER)


async def test_tls_checks_and_listeners_share_the_plan_s_certificate(
    fake: FakeBus, eventually: Any, port: int, pem: str
) -> None:
    """By it a check knows a listener from a service."""
    async with running():
        await eventually(lambda: fake.said(Hello))
        its = {"listeners": (listener(port, "tls"),), "certificate": pem}
        await fake.tell(plan("r1", check(port, "tls"), **its))
        await eventually(fake.observations)
    assert fake.observations()[0][1].answered_by is AnsweredBy.LISTENER


async def test_every_check_runs_once_a_round(
    fake: FakeBus, eventually: Any, checks: Checks
) -> None:
    """Each slot again and again, in its interval."""
    checks.go.set()
    async with running():
        await eventually(lambda: fake.said(Hello))
        await fake.tell(plan("r1", *(check(n + 1) for n in range(5)), interval_s=0.2))
        await eventually(lambda: len(checks.started) >= 25)
        slots = [slot for slot, _ in checks.started]
        counts = [slots.count(slot) for slot in range(5)]
        assert max(counts) - min(counts) <= 2


GARBAGE = b"\x91\x01"
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
    pytest.param(b"\x92\x02\xc0", "schema 2", id="of a newer collector"),
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
        await fake.tell(good)
        await fake.tell(bad)
        await eventually(lambda: fake.hello().plan_refused)
        assert fake.hello().plan_refused.startswith("plan refused: ")
        assert reason in fake.hello().plan_refused
        assert fake.hello().plan == "r1"
        assert [report.port for report in fake.hello().listeners] == [port]
        before = len(checks.started)
        await eventually(lambda: len(checks.started) > before)
        # The collector goes back to the plan that is at work already.
        await fake.tell(good)
        await eventually(lambda: not fake.hello().plan_refused)


async def test_a_refused_first_plan_leaves_it_idle(fake: FakeBus, eventually: Any) -> None:
    """It waits for a better one."""
    async with running():
        await eventually(lambda: fake.said(Hello))
        await fake.tell(GARBAGE)
        await eventually(lambda: fake.hello().plan_refused)
        assert fake.hello().plan == ""


async def test_the_same_plan_again_changes_nothing(
    fake: FakeBus, eventually: Any, checks: Checks
) -> None:
    """A collector that restarts sends it again: no second first round, no gap in the listening."""
    checks.go.set()
    async with running():
        await eventually(lambda: fake.said(Hello))
        same = plan("r1", *(check(n + 1) for n in range(10)))
        await fake.tell(same)
        await eventually(lambda: len(fake.observations()) == 10)
        for _ in range(3):
            await fake.tell(same)
        await fake.tell(plan("r2", check(1)))
        await eventually(lambda: ("r2", 0) in [(p, seen.slot) for p, seen in fake.observations()])
        assert len(checks.started) == 11


async def test_a_new_plan_replaces_the_old_one(
    fake: FakeBus, eventually: Any, checks: Checks
) -> None:
    """Its checks begin at once; the old ones are due no more."""
    checks.go.set()
    async with running():
        await eventually(lambda: fake.said(Hello))
        await fake.tell(plan("r1", check(1, address="10.0.0.1"), interval_s=0.1))
        await eventually(lambda: len(checks.started) >= 3)
        await fake.tell(plan("r2", check(1, address="10.0.0.2"), interval_s=0.1))
        old = [address for _, address in checks.started].count("10.0.0.1")
        await eventually(lambda: ("r2", "10.0.0.2") in
                         [(p, seen.evidence[0]) for p, seen in fake.observations()])  # fmt: skip
        await eventually(lambda: len(checks.started) > old + 5)
        assert [address for _, address in checks.started].count("10.0.0.1") <= old + 1
    for its_plan, seen in fake.observations():
        assert seen.evidence[0] == {"r1": "10.0.0.1", "r2": "10.0.0.2"}[its_plan]


async def test_a_check_that_still_runs_is_not_run_twice(
    fake: FakeBus, eventually: Any, checks: Checks
) -> None:
    """A slow one does not pile up; the others go on."""
    async with running():
        await eventually(lambda: fake.said(Hello))
        await fake.tell(plan("r1", check(1), interval_s=0.1))
        await eventually(lambda: checks.started)
        await asyncio.sleep(0.5)  # five of its turns
        assert checks.most == 1 and len(checks.started) == 1
        checks.go.set()
        await eventually(lambda: len(checks.started) > 2)


async def test_a_bus_that_is_away_costs_nothing(
    fake: FakeBus, eventually: Any, checks: Checks
) -> None:
    """What was seen meanwhile is reported when it is back, and the first thing is a hello."""
    checks.go.set()
    async with running():
        await eventually(lambda: fake.said(Hello))
        fake.is_connected = False
        said = len(fake.published)
        await fake.tell(plan("r1", *(check(n + 1) for n in range(20))))
        await eventually(lambda: len(checks.started) == 20)
        assert len(fake.published) == said
        started = time.monotonic()
        await fake.come_back()
        await eventually(lambda: fake.hello().plan == "r1")
        assert time.monotonic() - started < app.HEARTBEAT_S
        await eventually(lambda: len(fake.observations()) == 20)
    assert sorted(seen.slot for _, seen in fake.observations()) == list(range(20))
    assert fake.hello().observations_dropped == 0


async def test_a_report_that_does_not_get_away_is_sent_again(
    fake: FakeBus, eventually: Any, checks: Checks
) -> None:
    """A bus that seems to be there and takes nothing loses nothing, and skips no number."""
    checks.go.set()
    async with running():
        await eventually(lambda: fake.said(Hello))
        fake.broken = True
        await fake.tell(plan("r1", check(1), check(2)))
        await eventually(lambda: len(checks.started) == 2)
        await asyncio.sleep(0.1)  # some attempts
        fake.broken = False
        await eventually(lambda: len(fake.observations()) == 2)
    assert fake.said(Report)[0].sequence == 0
    assert sorted(seen.slot for _, seen in fake.observations()) == [0, 1]


async def test_what_an_outage_cost_is_told(
    fake: FakeBus, eventually: Any, checks: Checks, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The oldest had to go, and the collector knows how many."""
    monkeypatch.setattr(app, "Outbox", lambda agent, boot: outbox(agent, boot, 5))
    checks.go.set()
    async with running():
        await eventually(lambda: fake.said(Hello))
        fake.is_connected = False
        await fake.tell(plan("r1", *(check(n + 1) for n in range(12))))
        await eventually(lambda: len(checks.started) == 12)
        await asyncio.sleep(0)
        await fake.come_back()
        await eventually(lambda: fake.hello().observations_dropped == 7)
        await eventually(lambda: len(fake.observations()) == 5)


outbox = app.Outbox


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
        await fake.tell(plan("r1"))
        await eventually(lambda: fake.hello().plan == "r1")


async def test_it_leaves_in_good_order(
    fake: FakeBus, eventually: Any, checks: Checks, port: int
) -> None:
    """Ports free, checks in flight finished and reported, and a farewell as the last word."""
    async with running() as stop:
        await eventually(lambda: fake.said(Hello))
        await fake.tell(plan("r1", check(1), check(2), listeners=(listener(port),)))
        await eventually(lambda: len(checks.started) == 2)
        asyncio.get_running_loop().call_later(0.1, checks.go.set)
        await stop()
    assert sorted(seen.slot for _, seen in fake.observations()) == [0, 1]
    assert fake.published[-1][0] == "reachmap.hello.pc-17"
    hello = fake.hello()
    assert (hello.presence, hello.listeners) == (Presence.LEAVING, ())
    assert [said.presence for said in fake.said(Hello)].count(Presence.LEAVING) == 1
    with socket.socket() as service:
        service.bind((LOOPBACK, port))


async def test_it_does_not_wait_for_ever_for_its_checks(
    fake: FakeBus, eventually: Any, checks: Checks, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that is stuck is left behind."""
    monkeypatch.setattr(app, "_FAREWELL_S", 0.1)
    async with running() as stop:
        await eventually(lambda: fake.said(Hello))
        await fake.tell(plan("r1", check(1)))
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
        await fake.tell(plan("r1", check(1)))
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
        await fake.tell(plan("r1", check(1), check(2), check(3)))
        await eventually(lambda: len(checks.started) == 3)
        await asyncio.sleep(0.1)  # the report is on its way now
        asyncio.get_running_loop().call_later(0.1, fake.slow.set)
        await stop()
    assert sorted(seen.slot for _, seen in fake.observations()) == [0, 1, 2]
    sequences = [report.sequence for report in fake.said(Report)]
    assert sequences == list(range(len(sequences)))


async def test_a_part_that_fails_ends_the_agent(
    fake: FakeBus, eventually: Any, checks: Checks, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is half alive: whoever started it starts it again."""

    def fail(*_: Any) -> None:
        raise ZeroDivisionError

    task = asyncio.get_running_loop().create_task(app.run(ME))
    await eventually(lambda: fake.said(Hello))
    monkeypatch.setattr(prober.Prober, "start", fail)
    await fake.tell(plan("r1", check(1)))
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
        await asyncio.sleep(max(0, gone + delay - time.monotonic()))
        processes[number].send_signal(signal.SIGTERM)
    for number, process in processes.items():
        assert await ended(process) == 0, (tmp_path / f"pc-{number}.log").read_text()
    assert time.monotonic() - gone < 15


async def test_an_agent_that_waits_for_its_server_can_be_stopped(
    nats_server: Any, agents: Any, tmp_path: Path, eventually: Any
) -> None:
    """There never was one: it says so in its log, and goes when told to."""
    nats_server.stop()
    process = agents(nats_server.url, "pc-17")
    await eventually(lambda: "bus trouble" in (tmp_path / "pc-17.log").read_text())
    process.send_signal(signal.SIGINT)
    assert await ended(process) == 0
