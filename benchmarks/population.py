"""Ten thousand agents of a million flows: what a store has of them, and what they go on saying.

It is planning's deployment. `fill` writes the past as a collector keeps it: each flow's first
change a month ago, the outages of the last day, some agents' roll-ups of that day. `play` speaks
for all agents, over one connection, as they would by themselves: a pulse every five seconds, a
roll-up each minute, changes, and now and then a hello with another address.
"""

import asyncio
import json
import random
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count, islice
from pathlib import Path
from typing import Any

import planning
from common import stay_on_core
from nats.aio.client import Client

from reachmap_collector import planner
from reachmap_collector.credentials import Credentials
from reachmap_collector.planner import Announcement
from reachmap_collector.plans import Plans
from reachmap_collector.remains import HELLOS
from reachmap_collector.reports import kept_slots
from reachmap_collector.roster import Remembered
from reachmap_collector.slots import Slots
from reachmap_collector.store import open_store
from reachmap_collector.store.api import Batch, Kept, PackedRollUp, Received, Transition
from reachmap_collector.topology.load import load_topology
from reachmap_shared import codec, subjects
from reachmap_shared.messages import (
    Change,
    Changes,
    Hello,
    ListenerReport,
    Observation,
    Presence,
    Pulse,
    Report,
    ReportKind,
    RollUp,
)
from reachmap_shared.vocabulary import AnsweredBy, ListenerState, Outcome

HEARTBEAT_S = 5.0
ROLL_UP_S = 60.0
CHANGES_A_SECOND = 20
DOWN = 200
"""Flows that are broken at a time because of these changes."""

HELLO_EVERY_S = 2.0
"""In the morning endpoints come up all the time, and some have got another address."""

BROKEN_EVERY = 1_000
OUTAGES = 10_000
"""Flows that broke in the last day, and were well again after a minute."""

WATCHED = 40
"""Agents whose roll-ups of the last day are in the store."""

ALL_ASKS = "reachmap.ask.*"
AT_ONCE = 20_000
MONTH_S = 30 * 86_400.0
DAY_S = 86_400.0
TICK_S = 0.01


@dataclass(slots=True)
class Agent:
    """One agent, and how far it has got with what it says."""

    name: str
    address: str
    roles: tuple[str, ...]
    revision: str
    flows: int
    listeners: tuple[ListenerReport, ...]
    told: int = 0
    """Changes."""
    reports: int = 0
    hellos: int = 0

    def hello(self) -> Hello:
        """Who it is."""
        return Hello(
            *(self.name, self._boot, Presence.HERE, self.name, "1", "Linux", self.roles),
            *((self.address,), ("tcp",), HEARTBEAT_S, self.hellos),
            listeners=self.listeners,
        )

    def pulse(self, now: float) -> Pulse:
        """All is as it was."""
        now_ms = int(now * 1000)
        return Pulse(
            *(self.name, self._boot, now_ms, now_ms, self.hellos, self.revision, self.told, 10_000),
            made=self.reports * self.flows * 6,
        )

    def roll_up(self, now: float, latency: bytes) -> Report:
        """All were checked six times in a minute, and are open."""
        now_ms = int(now * 1000)
        made = bytes([6]) * self.flows
        body = RollUp(self.revision, now_ms - 60_000, now_ms, made, latency=latency[: self.flows])
        return self._report(now_ms, ReportKind.ROLL_UP, body)

    def change(self, now: float, slot: int, outcome: Outcome) -> Report:
        """One flow is another way."""
        now_ms = int(now * 1000)
        change = Change(self.told, _seen(slot, now_ms, outcome, self.address))
        self.told += 1
        return self._report(now_ms, ReportKind.CHANGES, Changes(self.revision, (change,)))

    def _report(self, now_ms: int, kind: ReportKind, body: object) -> Report:
        number, self.reports = self.reports, self.reports + 1
        return Report(self.name, self._boot, number, now_ms, now_ms, kind, codec.pack(body))

    @property
    def _boot(self) -> str:
        return f"boot-{self.name}"


def write_topology(path: Path) -> None:
    """As the collector reads it."""
    tables = planning.tables()
    lines: list[str] = []
    for role, its in tables["roles"].items():
        lines.append(f"[roles.{role}]\nconnects = {json.dumps(its.get('connects', []))}")
        lines.append(f"[roles.{role}.listens]")
        for service, detail in its.get("listens", {}).items():
            lines.append(f'"{service}" = {{ protocol = "{detail["protocol"]}" }}')
    for host, its in tables["hosts"].items():
        lines.append(f"[hosts.{host}]")
        lines += [f"{key} = {json.dumps(value)}" for key, value in its.items()]
    path.write_text("\n".join(lines))


def fill(url: str, topology: Path, credentials: Credentials, now: float) -> list[Agent]:
    """Make the store of a collector that has known all of them for a month; who they are."""
    deployment = load_topology(topology)
    servers = {name: f"10.0.0.{int(name[-3:])}" for name in deployment.hosts if name[0] == "s"}
    addresses = servers | {
        name: f"10.1.{n >> 8}.{n & 255}"
        for n, name in enumerate(sorted(deployment.hosts.keys() - servers.keys()))
    }
    said = {name: Announcement((), (address,)) for name, address in addresses.items()}
    members = planner.members(deployment, said)
    flows = planner.expected_flows(deployment, members)
    plans = Plans(deployment, members, flows, credentials.secret, credentials.certificate)
    agents = [_agent(plans, name, addresses[name], members[name].roles) for name in plans.revisions]
    of_agents = [plans.slots(agent.name) for agent in agents]
    store = open_store(url)
    store.open()
    for begin in range(0, len(agents), 500):
        some = slice(begin, begin + 500)
        store.commit(
            Batch(
                plans=tuple(kept_slots(one, now - MONTH_S) for one in of_agents[some]),
                kept=tuple(_remembered(one, now) for one in agents[some]),
            )
        )
    changes = _past(agents, of_agents, now)
    while batch := tuple(islice(changes, AT_ONCE)):
        store.commit(Batch(transitions=batch))
    for agent in random.Random(1).sample([one for one in agents if one.flows], WATCHED):
        store.commit(Batch(rollups=tuple(_day(agent, now))))
    store.commit(Batch(received=tuple(_received(one, now) for one in agents)))
    store.close()
    return agents


def watched(agents: list[Agent]) -> list[Agent]:
    """Those of whom there are roll-ups."""
    return [one for one in agents if one.reports >= DAY_S // ROLL_UP_S]


def _agent(plans: Plans, name: str, address: str, roles: tuple[str, ...]) -> Agent:
    flows = len(plans.slots(name))
    # Only who dials nobody listens, so this makes no plan of many flows.
    listeners = () if flows else plans[name].listeners
    reports = tuple(
        ListenerReport(one.service, one.port, one.transport, ListenerState.CEDED, "", "nginx")
        for one in listeners
    )
    return Agent(name, address, roles, plans.revisions[name], flows, reports)


def _remembered(agent: Agent, now: float) -> Kept:
    said = Remembered(agent.hello(), now - MONTH_S, now)
    return Kept(HELLOS, agent.name, codec.encode(said))


def _received(agent: Agent, now: float) -> Received:
    seen = agent.reports * agent.flows * 6
    return Received(agent.name, f"boot-{agent.name}", ((0, agent.reports),), seen, agent.told, now)


def _past(agents: list[Agent], plans: list[Slots], now: float) -> Iterator[Transition]:
    """A month ago nearly all was well; in the last day some broke, and were well again."""
    dice, numbers = random.Random(2), count()
    for agent, slots in zip(agents, plans, strict=True):
        for slot in range(agent.flows):
            number = next(numbers)
            outcome = Outcome.OPEN if number % BROKEN_EVERY else Outcome.TIMEOUT
            yield _transition(agent, slots, slot, now - MONTH_S + number / 1000, outcome)
    dialling = [pair for pair in zip(agents, plans, strict=True) if pair[0].flows]
    times = sorted(now - dice.uniform(120, DAY_S) for _ in range(OUTAGES))
    for at in times:
        agent, slots = dice.choice(dialling)
        slot = dice.randrange(agent.flows)
        yield _transition(agent, slots, slot, at, Outcome.TIMEOUT)
        yield _transition(agent, slots, slot, at + 60, Outcome.OPEN)


def _transition(agent: Agent, slots: Slots, slot: int, at: float, outcome: Outcome) -> Transition:
    number, agent.told = agent.told, agent.told + 1
    detail = codec.encode(_seen(slot, 0, outcome, agent.address))
    return Transition(
        *(agent.name, f"boot-{agent.name}", number, slots.flows[slot], slots.services[slot]),
        *(at, outcome, outcome is Outcome.OPEN, detail),
    )


def _day(agent: Agent, now: float) -> Iterator[PackedRollUp]:
    for minute in range(int(DAY_S // ROLL_UP_S), 0, -1):
        ends = now - ROLL_UP_S * minute
        number = agent.reports
        body = agent.roll_up(ends, _LATENCY).body
        yield PackedRollUp(
            *(agent.name, f"boot-{agent.name}", number, agent.revision),
            *(ends - ROLL_UP_S, ends, body),
        )


def _seen(slot: int, at_ms: int, outcome: Outcome, address: str) -> Observation:
    is_open = outcome is Outcome.OPEN
    evidence = ("connected in 0.4 ms", "answered as HTTP does") if is_open else ("no answer",)
    return Observation(
        *(slot, at_ms, outcome, AnsweredBy.SERVICE if is_open else None, True),
        *(0, 400 + slot if is_open else 0, 900, f"{address}:{40_000 + slot}", evidence),
    )


_LATENCY = bytes(random.Random(3).choices(range(70, 90), k=1000))


def play(url: str, agents: list[Agent], stop: Path) -> list[Agent]:
    """Speak for all of them until a file is there; for a process of its own. How they stand."""
    stay_on_core(1)
    asyncio.run(_play(url, agents, stop))
    return agents


async def _play(url: str, agents: list[Agent], stop: Path) -> None:
    client = Client()
    await client.connect(url)
    by_name = {one.name: one for one in agents}

    async def answer(message: Any) -> None:
        if (agent := by_name.get(message.subject.rpartition(".")[2])) is not None:
            await client.publish(subjects.hello(agent.name), codec.encode(agent.hello()))

    await client.subscribe(ALL_ASKS, cb=answer)
    dialling = [one for one in agents if one.flows]
    turns = (
        _Turn(len(agents) / HEARTBEAT_S, _pulses(agents)),
        _Turn(len(dialling) / ROLL_UP_S, _roll_ups(dialling)),
        _Turn(CHANGES_A_SECOND, _changes(dialling)),
        _Turn(1 / HELLO_EVERY_S, _moves(dialling)),
    )
    began = time.monotonic()
    while not await asyncio.to_thread(stop.exists):
        await asyncio.sleep(TICK_S)
        passed = time.monotonic() - began
        for turn in turns:
            for subject, payload in turn.due(passed):
                await client.publish(subject, payload)
        await client.flush()
    await client.close()


@dataclass(slots=True)
class _Turn:
    """Messages of one kind, so many a second."""

    rate: float
    messages: Iterator[tuple[str, bytes]]
    sent: int = 0

    def due(self, passed: float) -> Iterator[tuple[str, bytes]]:
        many, self.sent = int(self.rate * passed) - self.sent, int(self.rate * passed)
        return islice(self.messages, many)


def _pulses(agents: list[Agent]) -> Iterator[tuple[str, bytes]]:
    while True:
        for one in agents:
            yield subjects.pulse(one.name), codec.encode(one.pulse(time.time()))


def _roll_ups(agents: list[Agent]) -> Iterator[tuple[str, bytes]]:
    while True:
        for one in agents:
            report = one.roll_up(time.time(), _LATENCY)
            yield subjects.report(one.name), codec.encode(report)


def _changes(agents: list[Agent]) -> Iterator[tuple[str, bytes]]:
    """One flow breaks, and another one is well again."""
    dice, broken = random.Random(4), deque[tuple[Agent, int]]()
    while True:
        agent = dice.choice(agents)
        slot = dice.randrange(agent.flows)
        broken.append((agent, slot))
        report = agent.change(time.time(), slot, Outcome.TIMEOUT)
        yield subjects.report(agent.name), codec.encode(report)
        if len(broken) > DOWN:
            agent, slot = broken.popleft()
            report = agent.change(time.time(), slot, Outcome.OPEN)
            yield subjects.report(agent.name), codec.encode(report)


def _moves(agents: list[Agent]) -> Iterator[tuple[str, bytes]]:
    dice = random.Random(5)
    for number in count():
        agent = dice.choice(agents)
        agent.hellos += 1
        agent.address = f"10.2.{number >> 8 & 255}.{number & 255}"
        yield subjects.hello(agent.name), codec.encode(agent.hello())


async def leave_behind(url: str, agents: list[Agent], minutes: int) -> int:
    """Put into the stream what all of them report in some minutes; how many reports it is."""
    client = Client()
    await client.connect(url)
    dialling = [one for one in agents if one.flows]
    sent = 0
    for subject, payload in islice(_roll_ups(dialling), minutes * len(dialling)):
        sent += 1
        if sent % 200:
            await client.publish(subject, payload)
        else:
            answer = json.loads((await client.request(subject, payload, timeout=30)).data)
            assert "error" not in answer, answer
    await client.flush()
    await client.close()
    return sent
