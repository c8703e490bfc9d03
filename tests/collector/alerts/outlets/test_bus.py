"""The bus: each alert on a subject of its own."""

import json
from typing import Any

import pytest

from reachmap_collector.alerts.outlets import BusOutlet, OutletFailed


async def test_an_alert_has_a_subject_of_its_own(fake_bus: Any, told: Any) -> None:
    """As JSON, for any program."""
    await BusOutlet(fake_bus).send(told(), [])
    [(subject, payload)] = fake_bus.sent
    assert subject == "reachmap.alert.a-1"
    assert json.loads(payload)["kind"] == "service-down"


async def test_a_bus_that_is_away_is_waited_for(fake_bus: Any, told: Any) -> None:
    """As for any other outlet."""
    fake_bus.is_away = True
    with pytest.raises(OutletFailed) as caught:
        await BusOutlet(fake_bus).send(told(), [])
    assert not caught.value.is_final
