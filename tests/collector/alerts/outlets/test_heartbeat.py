"""The beat: while all is well with the collector, and only then."""

from dataclasses import replace
from typing import Any

from reachmap_collector.alerts.groups import Kind
from reachmap_collector.alerts.notices import harmless


async def test_it_beats_whatever_is_wrong_elsewhere(
    outlet: Any, server: Any, told: Any, going_on: Any
) -> None:
    """But not while the collector hears nobody."""
    made = outlet(f'kind = "heartbeat"\nurl = "{server.url}/ping"\nmethod = "POST"')
    await made.repeat(going_on(told()))
    await made.repeat(going_on(replace(told(), kind=Kind.CUT_OFF)))
    await made.send(told(), list)
    assert [(one.method, one.path) for one in server.requests] == [("POST", "/ping")]
    await made.close()


async def test_a_trial_is_a_beat(outlet: Any, server: Any) -> None:
    """Or there would be nothing to try."""
    made = outlet(f'kind = "heartbeat"\nurl = "{server.url}/ping"')
    assert await made.send(harmless("it", 0.0), list) == "200 OK: thanks"
    await made.close()
