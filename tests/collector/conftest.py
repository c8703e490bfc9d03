"""What the collector's tests are built of: messages, small deployments, and a bus that is none.

Builders are fixtures that hold for the whole run, so that hypothesis may use them too.
"""

import asyncio
import os
import shutil
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from reachmap_collector.collector import Collector
from reachmap_collector.credentials import Credentials
from reachmap_collector.fold import FlowMap, FlowRecord
from reachmap_collector.judge import Judge, Judgement
from reachmap_collector.planner import Announcement, expected_flows, members
from reachmap_collector.roster import Roster
from reachmap_collector.topology.load import load_profile, parse_topology
from reachmap_collector.topology.model import Topology
from reachmap_shared import codec, subjects
from reachmap_shared.errors import BusUnavailable
from reachmap_shared.messages import Hello, ListenerReport, Observation, Plan, Presence, Report
from reachmap_shared.vocabulary import AnsweredBy, ListenerState, Outcome, Transport

PATIENCE_S = 10.0
"""For what happens at once on an idle machine."""

OFFICE = """
[roles.web]
listens = { "web:8080" = { protocol = "http" } }
[roles.shop]
connects = ["db:5432"]
listens = { "shop:9090" = { protocol = "http" } }
[roles.db]
listens = { "db:5432" = { protocol = "postgres" } }
[roles.browser]
connects = ["web:8080", "shop:9090"]

[hosts.web-1]
roles = ["web", "shop"]
addresses = ["10.0.0.1"]
[hosts.db-1]
roles = ["db"]
addresses = ["10.0.0.2"]
[hosts.pc-1]
roles = ["browser"]
addresses = ["10.0.1.1"]

[[deny]]
from = "browser"
to = "db:5432"
note = "only the shop may"
"""
"""A browser that reaches a web server, a shop that reaches a database, and a thing forbidden."""


def make_topology(text: str = OFFICE) -> Topology:
    """A topology from its text."""
    return parse_topology(text, Path("topology.toml"))


def make_openuem(hosts_a_role: int = 2) -> str:
    """OpenUEM's profile with so many hosts for every role, one address each, as TOML."""
    lines = ['profiles = ["openuem"]']
    for number, role in enumerate(load_profile("openuem").roles, 1):
        for host in range(1, hosts_a_role + 1):
            lines.append(
                f'[hosts.{role}-{host}]\nroles = ["{role}"]\naddresses = ["10.0.{number}.{host}"]'
            )
    return "\n".join(lines)


def make_hello(agent: str = "pc-1", boot: str = "boot-1", **changes: Any) -> Hello:
    """A hello such as an agent sends every five seconds."""
    fields: dict[str, Any] = {
        "presence": Presence.HERE,
        "hostname": f"{agent}.example",
        "version": "0.1.0",
        "platform": "Linux",
        "roles": (),
        "addresses": (),
        "capabilities": ("tcp",),
        "heartbeat_s": 5.0,
    }
    return Hello(agent, boot, **(fields | changes))


def make_observation(outcome: Outcome = Outcome.OPEN, **changes: Any) -> Observation:
    """What a check saw; an open one was answered by the service in a millisecond."""
    is_open = outcome is Outcome.OPEN
    fields: dict[str, Any] = {
        "slot": 0,
        "age_ms": 0,
        "answered_by": AnsweredBy.SERVICE if is_open else None,
        "healthy": True,
        "name_us": 10,
        "connect_us": 1000 if is_open else 0,
        "answer_us": 500,
        "local": "10.0.1.1:40000",
        "evidence": (f"the check's own words on {outcome}",),
    }
    return Observation(outcome=outcome, **(fields | changes))


def make_listener(
    service: str, state: ListenerState, detail: str = "", holder: str = ""
) -> ListenerReport:
    """What an agent says of the TCP port that a service is named after."""
    port = int(service.partition(":")[2])
    return ListenerReport(service, port, Transport.TCP, state, detail, holder)


class Scene:
    """A deployment in plain-number time: agents speak, checks see, and one asks what it means."""

    def __init__(self, text: str = OFFICE, **announced: Announcement) -> None:
        self.topology = make_topology(text)
        self.roster = Roster()
        self.flows = FlowMap()
        self.members = members(self.topology, announced)
        self.flows.expect(expected_flows(self.topology, self.members), 0.0)

    def record(self, source: str, destination: str, service: str | None = None) -> FlowRecord:
        """The one flow between two hosts, or that to one service."""
        [found] = [
            record
            for record in self.flows
            if (record.key.source, record.key.destination) == (source, destination)
            and service in (None, str(record.expected.service))
        ]
        return found

    def hear(self, agent: str, now: float, boot: str = "boot-1", **changes: Any) -> None:
        """An agent says hello."""
        self.roster.hear(make_hello(agent, boot, **changes), now)

    def see(
        self, source: str, destination: str, outcome: Outcome, at: float, **changes: Any
    ) -> None:
        """A check of the flow ends; `service` names it where there are several."""
        record = self.record(source, destination, changes.pop("service", None))
        record.fold(make_observation(outcome, **changes), at)

    def judge(
        self, source: str, destination: str, now: float, service: str | None = None
    ) -> Judgement:
        """What the flow is like at a time."""
        return self.judge_at(now).judge(self.record(source, destination, service))

    def judge_at(self, now: float) -> Judge:
        """The judge of everything at a time."""
        return Judge(self.flows, self.roster, self.topology.checks, now)

    def judgements(self, now: float) -> list[Judgement]:
        """Everything, judged at a time."""
        judge = self.judge_at(now)
        return [judge.judge(record) for record in self.flows]


class FakeBus:
    """A bus that keeps what is published, and on which a test speaks for the agents."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, bytes]] = []
        self.handlers: dict[str, Callable[[str, bytes], Awaitable[None]]] = {}
        self.is_away = False
        self.is_listened_to = asyncio.Event()
        """Set once somebody listens to both hellos and reports."""

    async def publish(self, subject: str, payload: bytes) -> None:
        if self.is_away:
            raise BusUnavailable("the fake bus is away")
        self.sent.append((subject, payload))

    async def subscribe(
        self, subject: str, handler: Callable[[str, bytes], Awaitable[None]]
    ) -> None:
        self.handlers[subject] = handler
        if self.handlers.keys() == {subjects.ALL_HELLOS, subjects.ALL_REPORTS}:
            self.is_listened_to.set()

    def plans(self, agent: str) -> list[Plan]:
        """Every plan that was sent to an agent, in order."""
        return [
            codec.decode(Plan, payload) for to, payload in self.sent if to == subjects.plan(agent)
        ]

    async def deliver(self, subject: str, payload: bytes) -> None:
        """Hand a message to whoever listens to its subject."""
        for pattern, handler in self.handlers.items():
            if subject.startswith(pattern.removesuffix("*")):
                await handler(subject, payload)

    async def say(self, message: Hello | Report) -> None:
        """An agent sends a message in its own name."""
        place = subjects.hello if isinstance(message, Hello) else subjects.report
        await self.deliver(place(message.agent), codec.encode(message))


def make_collector(text: str = OFFICE, bus: FakeBus | None = None) -> Collector:
    """A collector of a deployment, which nobody runs yet."""
    credentials = Credentials(secret=b"s" * 32, certificate="")
    return Collector(make_topology(text), credentials, bus or FakeBus())  # type: ignore[arg-type]


@asynccontextmanager
async def run_collector(collector: Collector, bus: FakeBus) -> AsyncIterator[None]:
    """Let a collector listen for as long as the block lasts."""
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(collector.run())
        async with asyncio.timeout(PATIENCE_S):
            await bus.is_listened_to.wait()
        yield
        running.cancel()


def find_tool(program: str, package: str) -> str:
    """Where a program is that a test needs; without it the test is skipped, and fails in CI."""
    found = shutil.which(program, path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
    if found is not None:
        return found
    give_up = pytest.fail if os.environ.get("CI") == "true" else pytest.skip
    return give_up(f"{program} is not installed: apt install {package}")


@pytest.fixture(scope="session")
def tool() -> Callable[[str, str], str]:
    return find_tool


@pytest.fixture(scope="session")
def topology() -> Callable[..., Topology]:
    return make_topology


@pytest.fixture(scope="session")
def office_text() -> str:
    return OFFICE


@pytest.fixture(scope="session")
def openuem() -> Callable[..., str]:
    return make_openuem


@pytest.fixture(scope="session")
def hello() -> Callable[..., Hello]:
    return make_hello


@pytest.fixture(scope="session")
def observation() -> Callable[..., Observation]:
    return make_observation


@pytest.fixture(scope="session")
def listener() -> Callable[..., ListenerReport]:
    return make_listener


@pytest.fixture(scope="session")
def scene() -> type[Scene]:
    return Scene


@pytest.fixture
def utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A reader in UTC, since people are shown their own time."""
    with monkeypatch.context() as patch:
        patch.setenv("TZ", "UTC")
        time.tzset()
        yield
    time.tzset()


@pytest.fixture
def fake_bus() -> FakeBus:
    return FakeBus()


@pytest.fixture(scope="session")
def collector_of() -> Callable[..., Collector]:
    return make_collector


@pytest.fixture(scope="session")
def running() -> Callable[..., Any]:
    return run_collector
