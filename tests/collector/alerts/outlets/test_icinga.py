"""Icinga: one passive service, as bad as the worst alert."""

import base64
from dataclasses import replace
from typing import Any

import pytest

from reachmap_collector.alerts.lifecycle import Severity


@pytest.fixture
def icinga(outlet: Any, server: Any) -> Any:
    text = (
        f'kind = "icinga"\nurl = "{server.url}"\nhost = "map"\nuser = "api"\npassword_file = "pw"'
    )
    return outlet(text, pw="sesame")


async def test_it_is_as_bad_as_the_worst(
    icinga: Any, server: Any, told: Any, going_on: Any
) -> None:
    """And lists all."""
    mild = replace(told("a-2"), severity=Severity.WARNING, summary="a trifle")
    await icinga.send(told(), going_on(mild, told()))
    [request] = server.requests
    assert request.path == "/v1/actions/process-check-result"
    login = base64.b64encode(b"api:sesame").decode()
    assert request.headers["authorization"] == f"Basic {login}"
    sent = request.json
    assert sent["exit_status"] == 2
    assert sent["plugin_output"].startswith("REACHMAP CRITICAL - 2 alerts\n")
    assert "warning: a trifle" in sent["plugin_output"]
    assert sent["filter_vars"] == {"reachmap_host": "map", "reachmap_service": "reachmap"}
    assert sent["ttl"] > 60
    await icinga.close()


async def test_it_is_well_when_nothing_is_wrong(icinga: Any, server: Any, going_on: Any) -> None:
    """And says so again and again, so that silence is noticed."""
    await icinga.repeat(going_on())
    assert server.requests[0].json["exit_status"] == 0
    assert icinga.repeat_s == 60
    await icinga.close()


async def test_no_more_is_made_than_is_sent(icinga: Any, told: Any, going_on: Any) -> None:
    """All count, and of a large outage's alerts a page is listed."""
    asked: list[int | None] = []
    active = going_on(*[told(f"a-{number}") for number in range(1000)])

    def gives(most: int | None) -> Any:
        asked.append(most)
        return active(most)

    await icinga.send(told(), gives)
    assert asked == [50]
    await icinga.close()
