"""What operators ask and say, and how wrong questions are refused."""

import json
from typing import Any

import pytest

from reachmap_collector.alerts.config import AlertsTable
from reachmap_collector.alerts.dispatch import Queue
from reachmap_collector.alerts.lifecycle import Phase
from reachmap_collector.alerts.load import Configuration, Place
from reachmap_collector.alerts.outlets import OutletFailed
from reachmap_collector.alerts.queries import AlertQueries
from reachmap_collector.alerts.service import Alerts
from reachmap_shared.errors import QueryRefused


@pytest.fixture
def alerts(collector_of: Any, disk: Any, recorder: Any, alert: Any) -> Alerts:
    configuration = Configuration(AlertsTable(), {"hook": Place(recorder)})
    made = Alerts(collector_of(), disk.memory(), recorder, configuration)
    made.queues = {"hook": Queue("hook", disk.memory())}
    made.book.alerts = {
        "a-1": alert("a-1"),
        "a-2": alert("a-2", phase=Phase.PENDING),
        "a-3": alert("a-3", phase=Phase.RESOLVED, ended=1_800_000_100.0),
    }
    return made


@pytest.fixture
def queries(alerts: Alerts) -> AlertQueries:
    return AlertQueries(alerts, alerts._watched)


async def refusal(answer: Any) -> tuple[str, str]:
    with pytest.raises(QueryRefused) as caught:
        await answer
    return caught.value.code, str(caught.value)


async def test_what_fires_is_listed(queries: AlertQueries) -> None:
    """With silences, and how outlets do."""
    answer = await queries.alerts({})
    assert [one["id"] for one in answer["alerts"]] == ["a-1"]
    assert answer["silences"] == []
    assert answer["outlets"] == [
        {"outlet": "hook", "waiting": 0, "delivered": 0, "refused": 0, "dropped": 0, "trouble": ""}
    ]


async def test_all_is_also_what_pends_or_has_ended(queries: AlertQueries) -> None:
    """For whoever wonders why nobody is told."""
    answer = await queries.alerts({"all": True})
    assert [one["status"] for one in answer["alerts"]] == ["firing", "pending", "resolved"]


async def test_more_than_fit_the_bus_come_a_page_after_the_other(
    queries: AlertQueries, alerts: Alerts, alert: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each of them once, in the order in which they were told."""
    monkeypatch.setattr("reachmap_collector.pages.OCTETS", 2_000)
    alerts.book.alerts = {f"a-{n}": alert(f"a-{n}", told=2e9 - n // 3) for n in range(40)}
    found: list[str] = []
    pages, after = 0, None
    while pages == 0 or after is not None:
        answer = await queries.alerts({"after": json.loads(json.dumps(after))})
        assert 0 < len(answer["alerts"]) < 40
        found += [one["id"] for one in answer["alerts"]]
        pages, after = pages + 1, answer["next"]
    assert found == [one.id for one in alerts.book.active()]
    assert await refusal(queries.alerts({"after": "a-1"})) == (
        "400",
        "after: expected what the page before gave as `next`",
    )


async def test_an_alert_can_be_acknowledged(queries: AlertQueries) -> None:
    """While it fires."""
    answer = await queries.acknowledge({"id": "a-1", "by": "ann"})
    assert answer["acknowledged_by"] == "ann"
    assert (await queries.alerts({}))["alerts"][0]["acknowledged_by"] == "ann"


async def test_what_does_not_fire_cannot_be_acknowledged(queries: AlertQueries) -> None:
    """And a slip of the pen is helped."""
    assert await refusal(queries.acknowledge({"id": "a-3", "by": "ann"})) == (
        "404",
        "no alert 'a-3' fires; did you mean a-3, a-2, a-1?",
    )
    assert (await refusal(queries.acknowledge({"id": "a-1"})))[0] == "400"


async def test_a_silence_begins_and_ends(queries: AlertQueries) -> None:
    """What it covers is muted, and the list says why."""
    made = await queries.silence({"hosts": ["web"], "for": "2h", "by": "ann", "comment": "patch"})
    [listed] = (await queries.alerts({}))["alerts"]
    assert listed["muted_by"] == f"silence {made['id']}"
    assert (await queries.alerts({}))["silences"] == [made]
    await queries.silence({"end": made["id"]})
    assert (await queries.alerts({}))["alerts"][0]["muted_by"] == ""


@pytest.mark.parametrize(
    ("parameters", "code", "reason"),
    [
        ({"for": "2h", "by": "ann"}, "400", "what is to be silent"),
        ({"hosts": ["web"], "for": "2 weeks", "by": "ann"}, "400", "for: '2 weeks'"),
        ({"hosts": ["web"], "for": 0, "by": "ann"}, "400", "up to a year"),
        ({"hosts": ["web"], "for": True, "by": "ann"}, "400", "up to a year"),
        ({"hosts": ["web"], "by": "ann"}, "400", "up to a year"),
        ({"hosts": "web", "for": "2h", "by": "ann"}, "400", "hosts: "),
        ({"kinds": ["flood"], "for": "2h", "by": "ann"}, "400", "kinds.0: "),
        ({"hosts": ["web"], "for": "2h"}, "400", "by: expected a text"),
        ({"end": "s9"}, "404", "no silence 's9'"),
    ],
)
async def test_a_silence_that_makes_no_sense_is_refused(
    queries: AlertQueries, parameters: Any, code: str, reason: str
) -> None:
    """Above all one of everything."""
    found = await refusal(queries.silence(parameters))
    assert found[0] == code and reason in found[1]


async def test_a_trial_says_what_came_back(queries: AlertQueries, recorder: Any) -> None:
    """Good or bad, and nothing waits for another try."""
    answer = await queries.test({"outlet": "hook"})
    assert (answer["delivered"], answer["said"]) == (True, "heard")
    assert recorder.told[0].severity == "info"
    recorder.failure = OutletFailed("answered 404 Not Found")
    answer = await queries.test({"outlet": "hook"})
    assert (answer["delivered"], answer["said"]) == (False, "answered 404 Not Found")
    assert await refusal(queries.test({"outlet": "hok"})) == (
        "404",
        "unknown outlet 'hok'; did you mean hook?",
    )
