"""The bus: each alert on a subject of its own."""

import json
from typing import Any

import pytest

from reachmap_collector.alerts.outlets import BusOutlet, OutletFailed
from reachmap_shared.errors import BusUnavailable


class Bus:
    """A bus that keeps what is published."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, bytes]] = []
        self.is_away = False

    async def publish(self, subject: str, payload: bytes) -> None:
        if self.is_away:
            raise BusUnavailable("it is away")
        self.sent.append((subject, payload))


@pytest.fixture
def bus() -> Any:
    return Bus()


async def test_an_alert_has_a_subject_of_its_own(bus: Any, told: Any) -> None:
    """As JSON, for any program."""
    await BusOutlet(bus).send(told(), list)
    [(subject, payload)] = bus.sent
    assert subject == "reachmap.alert.a-1"
    assert json.loads(payload)["kind"] == "service-down"


async def test_a_bus_that_is_away_is_waited_for(bus: Any, told: Any) -> None:
    """As for any other outlet."""
    bus.is_away = True
    with pytest.raises(OutletFailed) as caught:
        await BusOutlet(bus).send(told(), list)
    assert not caught.value.is_final
