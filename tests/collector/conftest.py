"""What the collector's tests are built of: messages, small deployments, and a bus that is none.

Builders are fixtures that hold for the whole run, so that hypothesis may use them too.
"""

import asyncio
import contextlib
import os
import shutil
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from reachmap_collector import views
from reachmap_collector.attendance import Attendance
from reachmap_collector.collector import Collector
from reachmap_collector.credentials import Credentials
from reachmap_collector.diagnose import Diagnosed, find
from reachmap_collector.errors import StoreUnavailable
from reachmap_collector.flowmap.fold import FlowMap
from reachmap_collector.flowmap.records import Counts, FlowRecord, Period, Told
from reachmap_collector.judge import Judge, Judgement
from reachmap_collector.keeper import Keeper
from reachmap_collector.ledger import Ledger
from reachmap_collector.planner import Announcement, expected_flows, members
from reachmap_collector.roster import Roster
from reachmap_collector.slots import Slots
from reachmap_collector.states import States
from reachmap_collector.store import open_store
from reachmap_collector.store.api import Keep
from reachmap_collector.topology.load import load_profile, parse_topology
from reachmap_collector.topology.model import Topology
from reachmap_shared import bus, codec, logscale, subjects
from reachmap_shared.bus import Bus
from reachmap_shared.diagnosis import (
    Diagnosis,
    Hop,
    IcmpError,
    Met,
    PathEvidence,
    Recheck,
    Related,
    Relation,
    Sight,
    Silenced,
    TapState,
)
from reachmap_shared.messages import (
    Change,
    Changes,
    Closed,
    Hello,
    ListenerReport,
    NamedCount,
    Observation,
    Plan,
    Presence,
    Pulse,
    Report,
    ReportKind,
    RollUp,
)
from reachmap_shared.vocabulary import AnsweredBy, ListenerState, Outcome, Transport

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
        "number": 0,
    }
    return Hello(agent, boot, **(fields | changes))


def make_observation(outcome: Outcome = Outcome.OPEN, **changes: Any) -> Observation:
    """What a check saw; an open one was answered by the service in a millisecond."""
    is_open = outcome is Outcome.OPEN
    fields: dict[str, Any] = {
        "slot": 0,
        "at_ms": 0,
        "answered_by": AnsweredBy.SERVICE if is_open else None,
        "healthy": True,
        "name_us": 10,
        "connect_us": 1000 if is_open else 0,
        "answer_us": 500,
        "local": "10.0.1.1:40000",
        "evidence": (f"the check's own words on {outcome}",),
    }
    return Observation(outcome=outcome, **(fields | changes))


_numbers = count()


def make_told(
    at: float, outcome: Outcome = Outcome.OPEN, number: int | None = None, **changes: Any
) -> Told:
    """A change of a flow, later than all that were made before."""
    boot = changes.pop("boot", "boot-1")
    number = next(_numbers) if number is None else number
    return Told(at, boot, number, make_observation(outcome, **changes))


def make_pulse(agent: str = "pc-1", boot: str = "boot-1", **changes: Any) -> Pulse:
    """A pulse such as an agent sends every five seconds."""
    fields: dict[str, Any] = {
        "sent_ms": 0,
        "wall_ms": 0,
        "hello": 0,
        "plan": "",
        "told": 0,
        "span_ms": 0,
    }
    return Pulse(agent, boot, **(fields | changes))


def make_listener(
    service: str, state: ListenerState, detail: str = "", holder: str = ""
) -> ListenerReport:
    """What an agent says of the TCP port that a service is named after."""
    port = int(service.partition(":")[2])
    return ListenerReport(service, port, Transport.TCP, state, detail, holder)


LOST = Recheck(Outcome.TIMEOUT, Met.SILENCE, 40_001, segments_out=4, timeouts=3, repeated=1)


def passing(ttl: int, by: str) -> Hop:
    """A device that passes things on, and said so when their hops were used up."""
    return Hop(ttl, Met.ICMP, by, IcmpError(4, 11, 0, by))


def make_diagnosis(**changes: Any) -> Diagnosis:
    """What pc-1 found out alone of web-1: 10.0.1.254 has its SYN, and 10.0.0.254 has it no more."""
    route = passing(1, "10.0.1.254"), passing(2, "10.0.0.254")
    way = Hop(3, Met.SYN_ACK, "10.0.0.1")
    near = Related(
        *(Relation.SAME_HOST, "10.0.0.1", 9090, Transport.TCP, Outcome.OPEN),
        (*route, way),
    )
    lost = tuple(Hop(ttl, Met.SILENCE) for ttl in (2, 3, 4))
    sight = Sight(None, TapState.FORBIDDEN)
    fields: dict[str, Any] = {
        "check": "c0",
        "slot": 0,
        "plan": "r1",
        "source": "pc-1",
        "destination": "web-1",
        "address": "10.0.0.1",
        "port": 8080,
        "transport": Transport.TCP,
        "path": PathEvidence("10.0.1.1", LOST, LOST, (route[0], *lost), (), (), (near,), sight),
        "testimony": None,
        "silenced": Silenced.NO_ANSWER,
    }
    return Diagnosis(**(fields | changes))


class Scene:
    """A deployment in plain-number time: agents speak, checks see, and one asks what it means."""

    def __init__(self, text: str = OFFICE, **announced: Announcement) -> None:
        self.topology = make_topology(text)
        self.roster = Roster()
        self.ledger = Ledger()
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

    def pulse(self, agent: str, now: float, skew_s: float = 0.0, **changes: Any) -> None:
        """An agent says that all is as it was."""
        self.roster.pulse(make_pulse(agent, **changes), now, skew_s)

    def see(
        self, source: str, destination: str, outcome: Outcome, at: float, **changes: Any
    ) -> None:
        """A check of the flow ends; `service` names it where there are several."""
        record = self.record(source, destination, changes.pop("service", None))
        seen = make_observation(outcome, **changes)
        record.fold(Told(at, "boot-1", next(_numbers), seen))

    def diagnose(self, at: float, **changes: Any) -> Diagnosed:
        """The flow from pc-1 to web-1 is looked into."""
        diagnosis = make_diagnosis(**changes)
        found = Diagnosed(at, diagnosis, find(diagnosis))
        flow = self.record("pc-1", "web-1", "web:8080").key
        assert self.flows.diagnose(flow, "web:8080", found)
        return found

    def count(
        self, source: str, destination: str, ends: float, service: str | None = None, **counts: int
    ) -> None:
        """A period of the flow's checks ends, with `made`, `failed`, `flips` and so on."""
        key = self.record(source, destination, service).key
        slots = Slots.of(source, "r1", (key,), ("",))
        columns = {name: bytes([number]) for name, number in counts.items()}
        roll_up = Counts(**columns)
        period = Period(ends, "boot-1", next(_numbers), slots, roll_up)
        self.flows.source(source).roll_up(period)

    def judge(
        self, source: str, destination: str, now: float, service: str | None = None
    ) -> Judgement:
        """What the flow is like at a time."""
        return self.judge_at(now).judge(self.record(source, destination, service))

    def judge_at(self, now: float) -> Judge:
        """The judge of everything at a time."""
        return Judge(self.flows, self.roster, self.topology.checks, now)

    def agents(self, now: float) -> list[Any]:
        """Every agent that reports or should, at a time."""
        return self.attendance(now).all()

    def attendance(self, now: float) -> Attendance:
        """The same, to be counted too."""
        return Attendance(self.roster, self.ledger, self.topology, self.members, now)

    def status(self, now: float, **changes: Any) -> Any:
        """The whole at a time."""
        delivery = views.Delivery(**changes)
        return views.status(
            self.counted(now), self.attendance(now).census(), {}, delivery, self.ledger
        )

    def counted(self, now: float) -> Any:
        """How many flows are in each state at a time."""
        return States(self.flows, self.judge_at(now)).counts()

    def tallies(self, now: float) -> list[views.Tally]:
        """Each flow at a time, as the rows of a matrix need it."""
        return [views.Tally.of(one) for one in self.judgements(now)]

    def judgements(self, now: float) -> list[Judgement]:
        """Everything, judged at a time."""
        judge = self.judge_at(now)
        return [judge.judge(record) for record in self.flows]


class Agent:
    """An agent in plain-number time: it makes real messages of what its checks see."""

    def __init__(self, plan: Plan, boot: str = "boot-1", clock_ms: int = 1_000_000) -> None:
        self.plan = plan
        self.boot = boot
        self.clock_ms = clock_ms
        self.told: dict[tuple[int, str], Change] = {}
        """By slot and address: the latest change."""
        self.counts: dict[tuple[int, str], Counter[str]] = {}
        self.made = 0
        self.lost = 0
        self._numbers = count()
        self._sequences = count()
        self._begins_ms = clock_ms
        self._fresh: list[Change] = []

    @property
    def name(self) -> str:
        return self.plan.agent

    def sees(self, slot: int, outcome: Outcome = Outcome.OPEN, **changes: Any) -> Observation:
        """A check ends; what it saw is a change if it differs from what was told."""
        seen = make_observation(outcome, slot=slot, at_ms=self.clock_ms, **changes)
        place = (slot, seen.address)
        before = self.told.get(place)
        if before is None or _face(before.seen) != _face(seen):
            change = Change(next(self._numbers), seen)
            self.told[place] = change
            self._fresh.append(change)
        counted = self.counts.setdefault(place, Counter())
        counted["made"] += 1
        counted["failed"] += outcome not in (Outcome.OPEN, Outcome.LOCAL_ERROR)
        counted["local_errors"] += outcome is Outcome.LOCAL_ERROR
        counted["latency"] = logscale.code(seen.connect_us)
        self.made += 1
        return seen

    def changes(self) -> Report:
        """What is new, as a report."""
        fresh, self._fresh = self._fresh, []
        return self._report(ReportKind.CHANGES, Changes(self.plan.revision, tuple(fresh)))

    def state(self, parts: int = 1) -> list[Report]:
        """The latest change of every flow, in so many parts."""
        self._fresh.clear()
        changes = [*self.told.values()]
        told = max((change.number + 1 for change in changes), default=0)
        return [
            self._report(
                ReportKind.CHANGES,
                Changes(self.plan.revision, tuple(changes[part::parts]), parts, part, told),
                sequence=-1,
            )
            for part in range(parts)
        ]

    def roll_up(self) -> Report:
        """All that was seen since the last one, counted."""
        names = {slot for slot, address in self.told if address}
        columns = {
            name: bytes(
                self.counts.get((slot, ""), Counter())[name] if slot not in names else 0
                for slot in range(len(self.plan.checks))
            )
            for name in ("made", "failed", "local_errors", "latency")
        }
        named = tuple(
            NamedCount(slot, address, *(counted[name] for name in _COUNTS))
            for (slot, address), counted in self.counts.items()
            if slot in names
        )
        body = RollUp(self.plan.revision, self._begins_ms, self.clock_ms, named=named, **columns)
        self.counts.clear()
        self._begins_ms = self.clock_ms
        return self._report(ReportKind.ROLL_UP, body)

    def pulse(self, **changes: Any) -> Pulse:
        """All stayed as it was told."""
        told = max((change.number + 1 for change in self.told.values()), default=0)
        fields: dict[str, Any] = {
            "sent_ms": self.clock_ms,
            "wall_ms": int(time.time() * 1000),
            "hello": 0,
            "plan": self.plan.revision,
            "told": told,
            "span_ms": 0,
            "made": self.made,
            "lost": self.lost,
        }
        return Pulse(self.name, self.boot, **(fields | changes))

    def closed(self, before: str, made: int, lost: int) -> Report:
        """The final account of an earlier start, whose next report it is."""
        body = Closed(made, lost, 0)
        return self._report(ReportKind.CLOSED, body, boot=before, sequence=1_000_000)

    def diagnosed(self, place: int, **changes: Any) -> Report:
        """A flow was looked into, just now."""
        check = self.plan.checks[place]
        fields: dict[str, Any] = {
            "slot": place,
            "plan": self.plan.revision,
            "source": self.name,
            "destination": check.destination,
            "address": check.address,
            "port": check.port,
            "transport": check.transport,
            "at_ms": self.clock_ms,
        }
        return self._report(ReportKind.DIAGNOSIS, make_diagnosis(**(fields | changes)))

    def _report(self, kind: ReportKind, body: object, **changes: Any) -> Report:
        fields: dict[str, Any] = {
            "boot": self.boot,
            "sequence": next(self._sequences) if "sequence" not in changes else -1,
            "sent_ms": self.clock_ms,
            "wall_ms": int(time.time() * 1000),
        }
        fields |= changes
        return Report(self.name, kind=kind, body=codec.encode(body), **fields)


_COUNTS = ("made", "failed", "local_errors", "flips", "latency")


def _face(seen: Observation) -> tuple[object, ...]:
    return seen.outcome, seen.answered_by, seen.healthy, seen.resolved


class Trouble:
    """A real store, which can be made to be away."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.is_away = False
        self._store = open_store(url)

    def __getattr__(self, name: str) -> Any:
        if self.is_away and name != "close":
            raise StoreUnavailable("the disk is full")
        return getattr(self._store, name)


class Away:
    """A store that is not there."""

    def __getattr__(self, name: str) -> Any:
        raise StoreUnavailable("there is none")


def make_collector(text: str = OFFICE, bus: Any = None, store: Any = None) -> Collector:
    """A collector of a deployment, which nobody runs yet; without a store, that one is away."""
    store = Away() if store is None else store
    credentials = Credentials(secret=b"s" * 32, certificate="")
    return Collector(make_topology(text), credentials, bus, Keeper(store, time.time, Keep()))


def mishear(collector: Collector, times: int = 1) -> None:
    """Somebody sends what is no hello."""

    async def send() -> None:
        for _ in range(times):
            await collector._hear_hello(subjects.hello("pc-1"), b"?")

    asyncio.run(send())


@asynccontextmanager
async def run_collector(
    url: str, store: Any, text: str = OFFICE
) -> AsyncIterator[tuple[Collector, Bus]]:
    """A collector on a bus, for as long as the block lasts; and that bus, for agents too."""
    collectors: list[Collector] = []

    async def back() -> None:
        collectors[0].bus_is_back()

    async with bus.staying([url], "test", back) as connection:
        collector = make_collector(text, connection, store)
        collectors.append(collector)
        try:
            async with asyncio.TaskGroup() as tasks:
                running = tasks.create_task(collector.run())
                yield collector, connection
                running.cancel()
        finally:
            collector._keeper.close()


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
def diagnosis() -> Callable[..., Diagnosis]:
    """Makes what was found out of a flow."""
    return make_diagnosis


@pytest.fixture(scope="session")
def told() -> Callable[..., Told]:
    return make_told


@pytest.fixture(scope="session")
def pulse() -> Callable[..., Pulse]:
    return make_pulse


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


@pytest.fixture(scope="session")
def collector_of() -> Callable[..., Collector]:
    return make_collector


@pytest.fixture(scope="session", name="mishear")
def mishear_() -> Callable[..., None]:
    return mishear


@pytest.fixture(scope="session")
def agent_of() -> type[Agent]:
    return Agent


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Trouble]:
    """A store in a file."""
    with contextlib.closing(Trouble(f"sqlite:///{tmp_path / 'reachmap.sqlite'}")) as made:
        yield made


@pytest.fixture
def kept(store: Trouble) -> Iterator[Any]:
    """The same store, for the test to look into while a collector writes."""
    store.open()
    with contextlib.closing(open_store(store.url, migrate=False)) as looking:
        yield looking


@pytest.fixture(scope="session")
def running() -> Callable[..., Any]:
    return run_collector


@pytest.fixture
def jetstream(nats_server: Any, tmp_path: Path) -> Any:
    """A NATS server with JetStream."""
    nats_server.stop()
    nats_server.configure(f'jetstream {{ store_dir: "{tmp_path / "jetstream"}" }}')
    nats_server.start()
    return nats_server


@pytest.fixture
async def on_bus(jetstream: Any) -> AsyncIterator[Bus]:
    """A connection to a server with JetStream."""
    async with bus.connected([jetstream.url], "test") as connection:
        yield connection
