"""Alerts as a series."""

from typing import Any

from reachmap_collector.alerts.groups import Kind
from reachmap_collector.alerts.lifecycle import Severity
from reachmap_collector.alerts.metrics import exposition


def test_every_kind_is_there_also_with_none(alert: Any) -> None:
    """A series that comes out of nowhere has no increase."""
    lines = exposition([]).splitlines()
    assert lines[:2] == [
        "# HELP reachmap_alerts Alerts that fire.",
        "# TYPE reachmap_alerts gauge",
    ]
    assert len(lines) == 2 + len(Kind)
    assert all(line.endswith(" 0") for line in lines[2:])


def test_alerts_are_counted_by_kind_and_severity(alert: Any) -> None:
    """As they are, and not as they usually are."""
    text = exposition([alert(), alert("a-2"), alert("a-3", severity=Severity.INFO)])
    assert 'reachmap_alerts{kind="service-down",severity="critical"} 2\n' in text
    assert 'reachmap_alerts{kind="service-down",severity="info"} 1\n' in text
