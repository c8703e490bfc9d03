"""Plans follow from topology and announcements; what is done with them is in test_collector.py."""

import tomllib
from typing import Any

from reachmap_collector.collector import Collector


def test_a_topology_is_in_force_once_it_was_planned_by(
    collector_of: Any, topology: Any, office_text: str
) -> None:
    """Not before: who asks in between is told of what agents work by."""
    collector: Collector = collector_of()
    planning = collector.planning
    assert not planning.is_due
    grown = topology(f'{office_text}\n[hosts.pc-2]\nroles = ["browser"]\n')
    planning.adopt(grown)
    assert planning.is_due
    assert "pc-2" not in planning.members
    assert planning.topology is not grown
    planning.compile()
    assert (collector.topology, collector.members) == (grown, planning.members)
    assert planning.plans is not None and "pc-2" in planning.plans
    assert {*planning.members} == {*tomllib.loads(office_text)["hosts"], "pc-2"}


def test_planning_again_without_news_changes_no_plan(collector_of: Any) -> None:
    """No agent is told the same under another name."""
    planning = collector_of().planning
    before = dict(planning.plans.revisions)
    planning.compile()
    assert dict(planning.plans.revisions) == before
