"""Alerting at work: told once, to whom it may concern, whatever happens in between."""

import contextlib
from collections.abc import Coroutine
from itertools import count
from typing import Any

import pytest

from reachmap_collector.alerts.config import AlertsTable, Filter
from reachmap_collector.alerts.dispatch import Queue
from reachmap_collector.alerts.lifecycle import Severity
from reachmap_collector.alerts.load import Configuration, Place
from reachmap_collector.alerts.muting import Acknowledgement, Silence
from reachmap_collector.alerts.service import Alerts
from reachmap_collector.flowmap.records import Told
from reachmap_collector.planner import FlowKey
from reachmap_collector.slots import Slots
from reachmap_shared.vocabulary import Outcome

SHOP = """
checks = { interval_s = 10, timeout_s = 3 }
[roles.web]
listens = { "web:443" = { protocol = "https" } }
[roles.pc]
connects = ["web:443"]
[hosts.web]
roles = ["web"]
addresses = ["10.0.0.1"]
[hosts.pc-1]
roles = ["pc"]
addresses = ["10.0.1.1"]
[hosts.pc-2]
roles = ["pc"]
addresses = ["10.0.2.1"]
"""
AGENTS = ("web", "pc-1", "pc-2")
DAY_S = 86_400


def at_once(turn: Coroutine[Any, Any, None]) -> None:
    """Have a turn to its end without a loop: it waits for nobody, and only lets others in."""
    with contextlib.suppress(StopIteration):
        while True:
            turn.send(None)


class World:
    """A deployment in plain-number time, and what its outlets were told."""

    def __init__(self, scene: Any, disk: Any, recorder: Any, **rules: Any) -> None:
        self.scene = scene(SHOP)
        self.disk = disk
        self.recorder = recorder
        self.time = 1_800_000_000.0
        self.fails = False
        self.certificate: int | None = None
        self.is_heard = True
        self.silent: set[str] = set()
        self.seen: dict[FlowKey, Any] = {}
        self.numbers = count()
        self.names = ["hook"]
        self.outcome = Outcome.REFUSED
        self.start(**rules)

    def start(self, **rules: Any) -> None:
        """A collector's process begins; what was on disk is there."""
        self.alerts = Alerts(self, self.disk.memory(), self.recorder, self.configuration(**rules))
        self.alerts.queues = {
            name: Queue(name, self.disk.memory()) for name in (*self.names, "bus")
        }
        self.alerts.archive.restore(self.alerts.book.alerts)
        self.told: list[tuple[str, str, str]] = []

    def configuration(self, **rules: Any) -> Configuration:
        table = AlertsTable.model_validate(rules)
        return Configuration(table, {name: Place(self.recorder) for name in self.names})

    # What alerting looks at.
    def now(self) -> float:
        return self.time

    @property
    def version(self) -> int:
        changes: int = self.scene.flows.changes
        return changes

    def __getattr__(self, name: str) -> Any:
        return getattr(self.scene, name)

    # What happens.
    def passes(self, seconds: float) -> None:
        """Time goes by in turns of half a second, with checks and heartbeats as they come."""
        end = self.time + seconds
        while self.time < end:
            self.time += 0.5
            if self.time % 5 == 0 and self.is_heard:
                self._hear()
            if self.time % 10 == 0 and self.is_heard:
                self._check()
            at_once(self.alerts.turn(self.time))
            for name, queue in self.alerts.queues.items():
                for one in queue.waiting.values():
                    self.told.append((name, one.status, one.subject))
                    self.last = one
                for word in [*queue.waiting]:
                    queue._forget(word)

    def jumps(self, seconds: float) -> None:
        """Much time goes by, in which all went on as it was."""
        self.time += seconds
        self._hear()
        self._check()

    def _hear(self) -> None:
        for agent in AGENTS:
            if agent not in self.silent:
                self.scene.hear(agent, self.time)

    def _check(self) -> None:
        """As agents tell it: changes, and that all else is as it was."""
        seen = self.outcome if self.fails else Outcome.OPEN, self.certificate
        keys: dict[str, list[FlowKey]] = {}
        for record in self.scene.flows:
            key = record.key
            if key.source in self.silent:
                continue
            keys.setdefault(key.source, []).append(key)
            if self.seen.get(key) != seen:
                self.seen[key] = seen
                what = self.scene.observation(seen[0], certificate_until=seen[1])
                told = Told(self.time, "boot-1", next(self.numbers), what)
                self.scene.flows.tell(key, str(record.expected.service), told)
        for agent, flows in keys.items():
            slots = Slots.of(agent, "r", tuple(flows), ("",) * len(flows))
            self.scene.flows.source(agent).pulse(self.time, 0.0, slots, b"")

    def words(self, outlet: str = "hook") -> list[tuple[str, str]]:
        return [(status, subject) for name, status, subject in self.told if name == outlet]


@pytest.fixture
def world(scene: Any, disk: Any, recorder: Any, observation: Any) -> Any:
    def made(**rules: Any) -> World:
        scene.observation = staticmethod(observation)
        built = World(scene, disk, recorder, **rules)
        built.passes(20)
        return built

    return made


DOWN = ("firing", "web:443/tcp")
OVER = ("resolved", "web:443/tcp")


def test_an_outage_is_told_once_and_its_end_once(world: Any) -> None:
    """To each outlet, and the bus."""
    one = world()
    one.fails = True
    one.passes(600)
    assert one.words() == one.words("bus") == [DOWN]
    assert one.last.explains == 2 and one.last.advice.startswith("see whether web runs")
    one.fails = False
    one.passes(60)
    assert one.words() == one.words("bus") == [DOWN, OVER]


def test_where_nothing_changes_nothing_is_looked_at(world: Any) -> None:
    """But now and then, for certificates end by themselves."""
    one = world()
    one.passes(60)
    before = one.alerts.looks
    one.passes(3600)
    assert one.alerts.looks - before <= 7
    assert one.told == []


def test_an_outage_goes_on_over_a_restart(world: Any) -> None:
    """It is the same one, nobody is told again, and a map that is still empty ends nothing."""
    one = world()
    one.fails = True
    one.passes(60)
    [alert] = one.alerts.book.active()
    one.scene = type(one.scene)(SHOP)
    one.seen.clear()
    one.is_heard = False
    one.start()
    one.passes(300)
    assert [again.id for again in one.alerts.book.active()] == [alert.id]
    one.is_heard = True
    one.passes(60)
    assert one.told == []
    one.fails = False
    one.passes(60)
    assert one.words() == [OVER]


def test_a_silence_keeps_an_alert_from_being_told_and_not_its_end(world: Any) -> None:
    """What began before it ends as ever; what goes on when it expires is told then."""
    one = world()
    one.alerts.archive.keep_silence(
        "s1", Silence("s1", Filter(hosts=["web"]), one.time + 100, "ann", "")
    )
    one.fails = True
    one.passes(60)
    assert one.told == []
    [alert] = one.alerts.book.active()
    assert one.alerts.notice(alert, one.time).muted_by == "silence s1"
    one.passes(60)
    assert one.words() == [DOWN]
    assert one.alerts.archive.silences == {}
    one.alerts.archive.keep_silence(
        "s2", Silence("s2", Filter(hosts=["web"]), one.time + 1000, "ann", "")
    )
    one.fails = False
    one.passes(60)
    assert one.words() == [DOWN, OVER]


def test_a_silence_survives_a_restart(world: Any) -> None:
    """As do acknowledgements."""
    one = world()
    one.fails = True
    one.passes(30)
    [alert] = one.alerts.book.active()
    one.alerts.archive.keep_acknowledgement(
        alert.id, Acknowledgement(alert.id, "ann", "on it", one.time)
    )
    one.alerts.archive.keep_silence(
        "s1", Silence("s1", Filter(hosts=["web"]), one.time + 1000, "ann", "")
    )
    one.start()
    assert [*one.alerts.archive.silences] == ["s1"]
    assert one.alerts.notice(alert, one.time).acknowledged_by == "ann"


def test_what_is_acknowledged_is_not_told_of_its_changes_but_of_its_end(world: Any) -> None:
    """Somebody is at it already."""
    one = world()
    one.fails = True
    one.passes(30)
    [alert] = one.alerts.book.active()
    one.alerts.archive.keep_acknowledgement(
        alert.id, Acknowledgement(alert.id, "ann", "", one.time)
    )
    one.outcome = Outcome.TIMEOUT  # it is another cause now
    one.passes(60)
    assert one.alerts.book.active()[0].cause.kind != alert.cause.kind
    assert one.words() == [DOWN]
    one.fails = False
    one.passes(60)
    assert [status for status, _ in one.words()] == ["firing", "resolved"]
    assert one.alerts.archive.acknowledged == {}


def test_what_gets_milder_keeps_its_labels(world: Any) -> None:
    """It is known by them; only what gets worse must be routed anew."""
    one = world(rules=[{"kinds": ["host-unreachable", "port-blocked"], "severity": "info"}])
    one.fails = True
    one.passes(30)
    one.outcome = Outcome.TIMEOUT
    one.passes(60)
    assert one.last.severity == "info" and one.last.replaces is None
    assert one.last.labels["severity"] == "critical"


def test_rules_say_who_is_told(world: Any) -> None:
    """The bus hears all that anybody may hear."""
    one = world(rules=[{"hosts": ["web"], "outlets": []}])
    one.fails = True
    one.passes(60)
    assert one.words() == [] and one.words("bus") == [DOWN]


def test_what_no_one_is_told_is_listed(world: Any) -> None:
    """Alerting is suppressed, and never monitoring."""
    one = world(rules=[{"hosts": ["web"], "tell": False}])
    one.fails = True
    one.passes(60)
    assert one.told == [] and len(one.alerts.book.active()) == 1


def test_an_outlet_that_is_new_hears_of_what_goes_on(world: Any) -> None:
    """And of nothing twice."""
    one = world()
    one.fails = True
    one.passes(60)
    one.names = ["hook", "new"]
    one.alerts.configure(one.configuration())
    one.alerts.queues["new"] = Queue("new", one.disk.memory())
    one.passes(10)
    assert one.words() == [DOWN] and one.words("new") == [DOWN]


def test_a_silent_agent_is_one_alert(world: Any) -> None:
    """Its flows are unknown, and nobody's fault."""
    one = world()
    one.silent = {"pc-2"}
    one.passes(120)
    assert one.words() == [("firing", "pc-2")]
    assert one.last.kind == "agent-silent"
    one.silent = set()
    one.passes(60)
    assert one.words() == [("firing", "pc-2"), ("resolved", "pc-2")]


def test_a_collector_that_hears_nobody_is_one_alert(world: Any) -> None:
    """About itself."""
    one = world()
    one.is_heard = False
    one.passes(120)
    assert one.words() == [("firing", "bus")]


def test_a_certificate_is_told_in_time_and_louder_at_the_end(world: Any) -> None:
    """Under other labels then, and the old ones are named to be ended."""
    one = world()
    one.certificate = int(one.time + 14 * DAY_S + 50)
    one.passes(30)
    assert one.told == []
    one.passes(700)
    assert one.words() == [DOWN]
    assert (one.last.kind, one.last.severity) == ("certificate", Severity.WARNING)
    one.jumps(11 * DAY_S)
    one.passes(700)
    assert one.words() == [DOWN, DOWN]
    assert one.last.severity is Severity.CRITICAL
    assert one.last.replaces["severity"] == "warning"
    assert one.last.labels["severity"] == "critical"


def test_what_cannot_be_read_is_forgotten(world: Any, disk: Any) -> None:
    """A collector of another version begins anew, and tells rather twice than never."""
    one = world()
    one.fails = True
    one.passes(60)
    disk.rows = {place: type(row)(row.area, row.key, b"?") for place, row in disk.rows.items()}
    one.start()
    assert one.alerts.book.active() == []
    one.passes(60)
    assert one.words() == [DOWN]


def test_a_host_with_a_thousand_flows_is_one_alert(
    scene: Any, disk: Any, recorder: Any, observation: Any
) -> None:
    """Whoever reads it can tell how many there are."""
    hosts = "\n".join(
        f'[hosts.pc-{n}]\nroles = ["pc"]\naddresses = ["10.1.{n >> 8}.{n & 255}"]'
        for n in range(3, 1003)
    )
    scene.observation = staticmethod(observation)
    crowd = scene(SHOP + hosts)
    one = World(lambda _: crowd, disk, recorder)
    one.outcome = Outcome.TIMEOUT

    def hear(agent: str, now: float, **more: Any) -> None:
        type(crowd).hear(crowd, agent, now, **more)

    def everybody() -> None:
        for n in range(3, 1003):
            hear(f"pc-{n}", one.time)

    for _ in range(24):
        everybody()
        if one.time > 1_800_000_030:
            one.fails = True
        one.passes(5)
        if one.fails:
            crowd.hear = lambda agent, now: None if agent == "web" else hear(agent, now)
    assert {status for status, _ in one.words()} == {"firing"}
    assert len(one.alerts.book.alerts) == 1
    [alert] = one.alerts.book.active()
    assert (alert.cause.kind, alert.cause.subject) == ("host-down", "web")
    assert len(alert.cause.explains) == 1002 + 1  # and its agent
