"""Apprise, with a service of its that posts to a server of ours."""

from typing import Any

import pytest

from reachmap_collector.alerts.lifecycle import Phase
from reachmap_collector.alerts.outlets import OutletFailed


async def test_it_is_told_in_words(outlet: Any, server: Any, told: Any) -> None:
    """How bad it is, and that it has ended."""
    made = outlet('kind = "apprise"\nurl_file = "urls"', urls=f"json://127.0.0.1:{server.port}/x")
    assert await made.send(told(), list) == "delivered"
    await made.send(told(phase=Phase.RESOLVED, ended=2e9), list)
    one, two = (request.json for request in server.requests)
    assert (one["type"], two["type"]) == ("failure", "success")
    assert one["title"].startswith("[reachmap] critical: web:443 is down")
    assert "To do: start it" in one["message"]
    assert two["title"].startswith("[reachmap] ended: ")
    await made.close()


async def test_what_is_not_delivered_is_worth_another_try(
    outlet: Any, server: Any, told: Any
) -> None:
    """It does not say why, so it may be anything."""
    made = outlet('kind = "apprise"\nurl_file = "urls"', urls=f"json://127.0.0.1:{server.port}/x")
    server.status = 500
    with pytest.raises(OutletFailed) as caught:
        await made.send(told(), list)
    assert not caught.value.is_final
    await made.close()
