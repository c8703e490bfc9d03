"""Alertmanager: what goes on has an end in the future, what has ended has one now."""

import datetime
from dataclasses import replace
from typing import Any

import pytest

from reachmap_collector.alerts.lifecycle import Phase


@pytest.fixture
def alertmanager(outlet: Any, server: Any) -> Any:
    text = (
        f'kind = "alertmanager"\nurl = "{server.url}/am/"\nrepeat_s = 30\nlabels = {{ site = "x" }}'
    )
    return outlet(text)


def ends_in_s(alert: Any) -> float:
    ends = datetime.datetime.fromisoformat(alert["endsAt"])
    return (ends - datetime.datetime.now(datetime.UTC)).total_seconds()


async def test_what_goes_on_is_repeated_with_the_same_labels(
    alertmanager: Any, server: Any, told: Any, going_on: Any
) -> None:
    """Whatever else is said of it."""
    await alertmanager.send(told(), list)
    await alertmanager.repeat(going_on(replace(told(), summary="it got around")))
    assert [request.path for request in server.requests] == ["/am/api/v2/alerts"] * 2
    [one], [two] = (request.json for request in server.requests)
    assert one["labels"] == two["labels"]
    assert one["labels"]["site"] == "x" and one["labels"]["kind"] == "service-down"
    assert two["annotations"]["summary"] == "it got around"
    assert 60 < ends_in_s(two) <= 120
    await alertmanager.close()


async def test_an_end_is_told_at_once(alertmanager: Any, server: Any, told: Any) -> None:
    """And not left to a timeout."""
    await alertmanager.send(told(phase=Phase.RESOLVED, ended=1.0), list)
    [alert] = server.requests[0].json
    assert ends_in_s(alert) <= 0
    await alertmanager.close()


async def test_what_gets_worse_ends_under_its_old_labels(
    alertmanager: Any, server: Any, told: Any
) -> None:
    """Or it would be there twice."""
    before = {**told().labels, "severity": "warning"}
    await alertmanager.send(replace(told(), replaces=before), list)
    new, old = server.requests[0].json
    assert (new["labels"]["severity"], old["labels"]["severity"]) == ("critical", "warning")
    assert ends_in_s(new) > 0 >= ends_in_s(old)
    await alertmanager.close()


async def test_many_are_sent_in_parts(
    alertmanager: Any, server: Any, told: Any, going_on: Any
) -> None:
    """No request is larger than it takes; and with none there is none."""
    await alertmanager.repeat(going_on(*[told()] * 1001))
    assert [len(request.json) for request in server.requests] == [500, 500, 1]
    await alertmanager.close()
