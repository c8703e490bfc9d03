"""The map as causes are found in it: what is plainly well is not judged, and means the same."""

from dataclasses import replace
from typing import Any

import pytest

from reachmap_collector.alerts.sights import FAILING, Look, agents
from reachmap_collector.flowmap.records import Told
from reachmap_collector.judge import Judge
from reachmap_collector.roster import AgentState
from reachmap_shared.vocabulary import Cause, Outcome


@pytest.mark.parametrize("outcome", list(Outcome))
@pytest.mark.parametrize("now", [105.0, 1000.0])
def test_it_agrees_with_the_judge(
    scene: Any, observation: Any, outcome: Outcome, now: float
) -> None:
    """Fresh or stale, expected or forbidden; degraded is as good as ok here."""
    one = scene()
    for agent in ("pc-1", "web-1", "db-1"):
        one.hear(agent, 100.0)
    for record in one.flows:
        change = Told(101.0, "boot-1", 0, observation(outcome))
        one.flows.tell(record.key, str(record.expected.service), change)
    judge = Judge(one.flows, one.roster, one.topology.checks, now)
    look = Look(one.flows, one.roster, one.topology.checks, now, now)
    judged = {record.key: judge.judge(record).state for record in one.flows}
    assert {sight.key: sight.state for sight in look.sights()} == {
        key: state for key, state in judged.items() if state in FAILING
    }
    for record in one.flows:
        assert look.sight(record).source_address == "10.0.1.1"


def test_what_nobody_has_seen_is_not_known(scene: Any) -> None:
    """And what the topology does not have any more is known to be gone."""
    one = scene()
    one.hear("pc-1", 100.0)
    one.see("pc-1", "web-1", Outcome.OPEN, 101.0, service="web:8080")
    look = Look(one.flows, one.roster, one.topology.checks, 105.0, 105.0)
    states = agents(one.members, one.roster, 105.0)
    known = look.knows(states)
    assert known(one.record("pc-1", "web-1", "web:8080").key)
    assert not known(one.record("web-1", "db-1").key)
    assert states["db-1"] is AgentState.ABSENT
    assert known("pc-1") and not known("db-1") and known("never-heard-of")


def test_nothing_is_known_by_a_look_at_flows_that_are_gone(scene: Any) -> None:
    """An alert does not end by it; the next look will tell."""
    one = scene()
    one.hear("pc-1", 100.0)
    one.see("pc-1", "web-1", Outcome.OPEN, 101.0, service="web:8080")
    look = Look(one.flows, one.roster, one.topology.checks, 105.0, 200.0)
    key = one.record("pc-1", "web-1", "web:8080").key
    assert look.knows({})(key)
    one.flows.expect([*one.flows.expected], 106.0)
    assert look.is_outdated and not look.knows({})(key)
    assert [*look.sights()] == []


@pytest.mark.parametrize(
    ("cause", "offender"),
    [
        (Cause.PATH, "10.0.1.254"),
        (Cause.MIDDLEBOX, "10.0.1.254"),
        (Cause.SERVICE, None),
        (Cause.DESTINATION_HOST, None),
        (Cause.SOURCE_HOST, None),
    ],
)
def test_a_device_is_named_where_it_is_on_the_way(
    scene: Any, monkeypatch: pytest.MonkeyPatch, cause: Cause, offender: str | None
) -> None:
    """A silent service is no device that turns traffic back, though its address is known."""
    one = scene()
    one.hear("pc-1", 100.0)
    one.see("pc-1", "web-1", Outcome.TIMEOUT, 101.0, service="web:8080")
    one.diagnose(103.0)
    judge = Judge.judge
    monkeypatch.setattr(Judge, "judge", lambda *its: replace(judge(*its), cause=cause))
    look = Look(one.flows, one.roster, one.topology.checks, 105.0, 105.0)
    assert look.sight(one.record("pc-1", "web-1", "web:8080")).offender == offender
