"""What the tests of alerting are built of: a deployment whose flows a test lets fail."""

from collections.abc import Callable
from typing import Any

import pytest

from reachmap_collector.alerts.causes import Cause
from reachmap_collector.alerts.groups import Kind
from reachmap_collector.alerts.kept import Mirror
from reachmap_collector.alerts.lifecycle import Alert, Phase, Severity
from reachmap_collector.alerts.notices import Notice, labels, notice
from reachmap_collector.alerts.outlets import Active, Ongoing, OutletFailed
from reachmap_collector.planner import FlowKey
from reachmap_collector.store.api import Kept
from reachmap_shared.vocabulary import Transport


class Recorder:
    """An outlet that keeps what it is told, and fails while a test says so."""

    def __init__(self, repeat_s: float | None = None) -> None:
        self.told: list[Notice] = []
        self.repeated: list[list[str]] = []
        self.failure: OutletFailed | None = None
        self.tries = 0
        self.is_closed = False
        self.repeat_s = repeat_s
        self.tells_all = False

    async def send(self, told: Notice, _active: Active) -> str:
        self.tries += 1
        if self.failure is not None:
            raise self.failure
        self.told.append(told)
        return "heard"

    async def repeat(self, active: Active) -> None:
        if self.failure is not None:
            raise self.failure
        self.repeated.append([told.id for told in active(None).notices])

    async def close(self) -> None:
        self.is_closed = True

    def words(self) -> list[tuple[str, str]]:
        return [(told.status, told.subject) for told in self.told]


class Memory(Mirror):
    async def load(self) -> None:
        pass


class Disk:
    """Where a memory writes, so that another one may begin with it."""

    def __init__(self) -> None:
        self.rows: dict[tuple[str, str], Kept] = {}
        self.writes = 0

    def write(self, row: Kept) -> None:
        self.writes += 1
        if row.value is None:
            self.rows.pop((row.area, row.key), None)
        else:
            self.rows[row.area, row.key] = row

    def memory(self) -> Memory:
        made = Memory(self.write)
        made.begin(self.rows.values())
        return made


def make_flow(source: str = "pc-1", destination: str = "web", port: int = 443) -> FlowKey:
    return FlowKey(source, destination, "10.0.0.1", port, Transport.TCP)


def make_cause(kind: Kind = Kind.SERVICE_DOWN, subject: str = "web:443/tcp", **more: Any) -> Cause:
    fields: dict[str, Any] = {"service": "web:443", "explains": frozenset({make_flow()})}
    return Cause(kind, subject, **(fields | more))


def make_alert(ident: str = "a-1", cause: Cause | None = None, **more: Any) -> Alert:
    cause = cause or make_cause()
    fields: dict[str, Any] = {
        "severity": Severity.CRITICAL,
        "phase": Phase.FIRING,
        "began": 1_800_000_000.0,
        "told": 1_800_000_004.0,
        "members": cause.explains,
    }
    return Alert(ident, cause, **(fields | more))


def make_notice(ident: str = "a-1", **more: Any) -> Notice:
    alert = make_alert(ident, **more)
    return notice(alert, labels(alert), lambda _: "start it")


def going_on(*notices: Notice) -> Active:
    """What goes on, of an outlet's."""
    return lambda most: Ongoing.of(notices, most)


@pytest.fixture(scope="session", name="going_on")
def going_on_() -> Callable[..., Active]:
    return going_on


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


@pytest.fixture
def recorders() -> type[Recorder]:
    return Recorder


@pytest.fixture
def disk() -> Disk:
    return Disk()


@pytest.fixture(scope="session")
def cause() -> Callable[..., Cause]:
    return make_cause


@pytest.fixture(scope="session")
def flow() -> Callable[..., FlowKey]:
    return make_flow


@pytest.fixture(scope="session")
def alert() -> Callable[..., Alert]:
    return make_alert


@pytest.fixture(scope="session")
def told() -> Callable[..., Notice]:
    return make_notice
