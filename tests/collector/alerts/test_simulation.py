"""A deployment of 300 hosts in virtual time: faults come and go, checks come round, alerts follow.

Checks are as the agents make them: each flow has its place in the interval, a change is confirmed
before it is told, and what is steady is told by pulses, so the collector knows of it only that it was
well some time ago.
"""

import math
import random
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import pytest

from reachmap_collector.alerts.causes import Cause, find_causes
from reachmap_collector.alerts.groups import Kind, Sight
from reachmap_collector.alerts.lifecycle import Book, Event, Timing, What
from reachmap_collector.planner import FlowKey
from reachmap_collector.roster import AgentState
from reachmap_shared.vocabulary import Outcome, State, Transport

INTERVAL_S = 10.0
CONFIRMED_AFTER_S = {Outcome.REFUSED: 0.8, Outcome.REJECTED: 0.8, Outcome.TIMEOUT: 7.3}
"""From a first check's start to the change being told: its own time, and that of repetitions."""

WELL_AGAIN_AFTER_S = 0.8
SILENT_AFTER_S = 15.0
PULSE_S = 5.0
STEP_S = 1.0

SERVERS = {
    "db": ("10.0.1.1", [5432, 22]),
    "ocsp-1": ("10.0.1.2", [8000]),
    "ocsp-2": ("10.0.1.3", [8000]),
    "nats-1": ("10.0.2.1", [4433, 4444]),
    "nats-2": ("10.0.2.2", [4433, 4444]),
    "console": ("10.0.2.3", [1323, 1324]),
}
DEPENDS = {f"ocsp:{8000}": ["db:5432"], "console:1323": ["db:5432"], "console:1324": ["db:5432"]}
NETWORKS = 6
ENDPOINTS = 294


def service_of(host: str, port: int) -> str:
    return f"{host.rstrip('-123456789')}:{port}"


@dataclass(frozen=True)
class Fault:
    """Something that breaks, and what an operator would call it."""

    kind: Kind
    subject: str
    hits: Callable[[Sight], bool]
    outcome: Outcome
    silences: frozenset[str] = frozenset()
    offender: str | None = None


class Simulation:
    """One deployment and its alerts."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.addresses = {name: address for name, (address, _) in SERVERS.items()}
        for n in range(ENDPOINTS):
            self.addresses[f"pc-{n:03}"] = f"10.1.{n % NETWORKS}.{n // NETWORKS + 1}"
        self.flows = [*self._flows()]
        self.phase = [self.chance.uniform(0, INTERVAL_S) for _ in self.flows]
        self.by_source: dict[str, list[int]] = {}
        for index, sight in enumerate(self.flows):
            self.by_source.setdefault(sight.key.source, []).append(index)
        self.pulse_at = {name: self.chance.uniform(0, PULSE_S) for name in self.by_source}
        self.agents = dict.fromkeys(self.addresses, AgentState.FRESH)
        self.book = Book(Timing(hold_s=4.0))
        self.events: list[Event] = []

    def _flows(self) -> Iterator[Sight]:
        for name, address in self.addresses.items():
            if name not in SERVERS:
                wanted = [("nats-1", 4433), ("nats-2", 4433), ("ocsp-1", 8000), ("ocsp-2", 8000)]
            elif name.startswith("nats"):
                other = "nats-2" if name == "nats-1" else "nats-1"
                wanted = [("ocsp-1", 8000), ("ocsp-2", 8000), (other, 4444), ("db", 22)]
            elif name == "console":
                wanted = [("db", 5432), ("nats-1", 4433), ("nats-2", 4433)]
                wanted += [(pc, 2022) for pc in self.addresses if pc not in SERVERS]
            elif name == "db":
                wanted = [("nats-1", 4444)]
            else:
                wanted = [("db", 5432)]
            if name in ("pc-000", "pc-001", "pc-006"):
                wanted += [("console", 1323), ("console", 1324)]
            for host, port in wanted:
                key = FlowKey(name, host, self.addresses[host], port, Transport.TCP)
                yield Sight(
                    key, service_of(host, port), State.OK, Outcome.OPEN, source_address=address
                )

    def fault(self) -> Fault:
        """One of the ways to break, by chance."""
        return self.chance.choice(
            [
                self._host_down,
                self._service_down,
                self._port_blocked,
                self._path,
                self._source,
                self._database,
                self._agent,
                self._device,
                self._endpoint_down,
                self._one_flow,
                self._bus,
            ]
        )()

    def _host_down(self) -> Fault:
        host = self.chance.choice([*SERVERS])
        return Fault(
            Kind.HOST_DOWN,
            host,
            lambda sight: host == sight.key.destination,
            Outcome.TIMEOUT,
            frozenset({host}),
        )

    def _endpoint_down(self) -> Fault:
        host = f"pc-{self.chance.randrange(ENDPOINTS):03}"
        return Fault(
            Kind.HOST_DOWN,
            host,
            lambda sight: host == sight.key.destination,
            Outcome.TIMEOUT,
            frozenset({host}),
        )

    def _service_down(self) -> Fault:
        host, port = self.chance.choice(
            [("nats-1", 4433), ("nats-2", 4433), ("ocsp-1", 8000), ("console", 1323)]
        )
        return Fault(Kind.SERVICE_DOWN, f"{host}:{port}/tcp", _at(host, port), Outcome.REFUSED)

    def _port_blocked(self) -> Fault:
        host, port = self.chance.choice([("nats-1", 4433), ("nats-2", 4433), ("ocsp-2", 8000)])
        return Fault(Kind.PORT_BLOCKED, f"{host}:{port}/tcp", _at(host, port), Outcome.TIMEOUT)

    def _path(self) -> Fault:
        near = f"10.1.{self.chance.randrange(NETWORKS)}."
        far = self.chance.choice(["10.0.1.", "10.0.2."])
        return Fault(Kind.PATH, f"{near}0/24 -> {far}0/24", _between(near, far), Outcome.TIMEOUT)

    def _device(self) -> Fault:
        near = f"10.1.{self.chance.randrange(NETWORKS)}."
        return Fault(
            Kind.DEVICE,
            f"{near}254",
            _between(near, "10.0.2."),
            Outcome.REJECTED,
            offender=f"{near}254",
        )

    def _source(self) -> Fault:
        host = f"pc-{self.chance.randrange(ENDPOINTS):03}"
        return Fault(Kind.SOURCE, host, lambda sight: sight.key.source == host, Outcome.TIMEOUT)

    def _database(self) -> Fault:
        def hit(sight: Sight) -> bool:
            return sight.service in ("db:5432", *DEPENDS)

        return Fault(Kind.SERVICE_DOWN, "db:5432/tcp", hit, Outcome.REFUSED)

    def _agent(self) -> Fault:
        host = self.chance.choice([*self.addresses])
        return Fault(Kind.AGENT_SILENT, host, lambda _: False, Outcome.TIMEOUT, frozenset({host}))

    def _one_flow(self) -> Fault:
        one = self.chance.choice([sight for sight in self.flows if sight.key.port == 4433])
        key = one.key
        subject = f"{key.source} -> {key.destination}:{key.port}/tcp at {key.address}"
        return Fault(Kind.FLOW, subject, lambda sight: sight.key == key, Outcome.TIMEOUT)

    def _bus(self) -> Fault:
        return Fault(
            Kind.CUT_OFF, "bus", lambda _: False, Outcome.TIMEOUT, frozenset(self.addresses)
        )

    def run(self, fault: Fault, began: float, healed: float, until: float) -> Cause | None:
        """Let time pass; returns what the alert said when the fault healed."""
        changes = sorted(self._changes(fault, began, healed), key=lambda change: change[0])
        silent = sorted(
            [(began + SILENT_AFTER_S, name, AgentState.SILENT) for name in fault.silences]
            + [(healed + 1.0, name, AgentState.FRESH) for name in fault.silences]
        )
        said: Cause | None = None
        now = began
        while now < until:
            now += STEP_S
            news = False
            while changes and changes[0][0] <= now:
                _, index, sight = changes.pop(0)
                self.flows[index] = sight
                news = True
            while silent and silent[0][0] <= now:
                _, name, state = silent.pop(0)
                self.agents[name] = state
                for index in self.by_source.get(name, ()):
                    sight = self.flows[index]
                    if sight.state in (State.OK, State.UNKNOWN):
                        known = State.UNKNOWN if state is AgentState.SILENT else State.OK
                        self.flows[index] = replace(sight, state=known)
                news = True
            due = self.book.next_due()
            if news or (due is not None and due <= now):
                self._look(now)
            if now - STEP_S < healed <= now and self.book.active():
                said = self.book.active()[0].cause
        return said

    def _look(self, now: float) -> None:
        causes = find_causes(self._known(now), self.agents, DEPENDS, now=now, interval_s=INTERVAL_S)
        self.events += self.book.update(causes, now)

    def _known(self, now: float) -> list[Sight]:
        """The flows as the collector sees them: steady ones were well when a pulse said so."""
        well = {
            name: math.floor((now - at) / PULSE_S) * PULSE_S + at - INTERVAL_S
            for name, at in self.pulse_at.items()
        }
        return [
            self._steady(sight, well[sight.key.source]) if sight.state is State.OK else sight
            for sight in self.flows
        ]

    @staticmethod
    def _steady(sight: Sight, well: float) -> Sight:
        """All that there is of a steady one; to replace the rest as well would take thrice as long."""
        return Sight(
            sight.key,
            sight.service,
            sight.state,
            sight.outcome,
            source_address=sight.source_address,
            since=sight.since,
            checked=max(sight.since, well),
        )

    def _changes(
        self, fault: Fault, began: float, healed: float
    ) -> Iterator[tuple[float, int, Sight]]:
        for index, sight in enumerate(self.flows):
            if not fault.hits(sight) or sight.key.source in fault.silences:
                continue
            told = self._next_check(index, began) + CONFIRMED_AFTER_S[fault.outcome]
            yield (
                told,
                index,
                replace(
                    sight,
                    state=State.BROKEN,
                    outcome=fault.outcome,
                    offender=fault.offender,
                    since=told,
                    checked=told,
                ),
            )
            well = self._next_check(index, healed) + WELL_AGAIN_AFTER_S
            yield well, index, replace(sight, since=well, checked=well)

    def _next_check(self, index: int, after: float) -> float:
        rounds = math.ceil((after - self.phase[index]) / INTERVAL_S)
        return self.phase[index] + rounds * INTERVAL_S


def _at(host: str, port: int) -> Callable[[Sight], bool]:
    return lambda sight: (sight.key.destination, sight.key.port) == (host, port)


def _between(near: str, far: str) -> Callable[[Sight], bool]:
    return lambda sight: (
        (sight.source_address or "").startswith(near) and sight.key.address.startswith(far)
    )


SCRIPTS = 200


@pytest.mark.timeout(300)  # no clock of the test's: half a minute of the processor's time
def test_every_outage_is_told_once_by_its_name_and_ends() -> None:
    """Two hundred random faults among three hundred hosts; at least 95 % by their right names."""
    wrong: list[str] = []
    kinds: Counter[str] = Counter()
    for seed in range(SCRIPTS):
        simulation = Simulation(seed)
        fault = simulation.fault()
        kinds[fault.kind] += 1
        said = simulation.run(fault, began=1000.3, healed=1090.0, until=1150.0)
        fired = [event for event in simulation.events if event.what is What.FIRED]
        ended = [event for event in simulation.events if event.what is What.RESOLVED]
        story = f"{seed}: {fault.kind} {fault.subject}: " + "; ".join(
            f"{event.what} {event.alert.cause.kind} {event.alert.cause.subject}"
            for event in simulation.events
        )
        assert len(fired) == len(ended) == 1, story
        assert not simulation.book.active(), story
        if said is None or (said.kind, said.subject) != (fault.kind, fault.subject):
            wrong.append(story)
    assert len(kinds) >= 9, kinds
    assert len(wrong) <= 0.05 * SCRIPTS, "\n".join(wrong)
