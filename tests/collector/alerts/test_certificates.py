"""Certificates that end: told in time, by place, and louder when it is urgent."""

import dataclasses
from typing import Any

from reachmap_collector.alerts.certificates import DAY_S, expiries
from reachmap_collector.alerts.groups import Kind, Sight
from reachmap_collector.alerts.lifecycle import Severity, by_kind
from reachmap_shared.vocabulary import State

NOW = 1_800_000_000.0


def found(*sights: Sight) -> list[Any]:
    return [*expiries(sights, NOW, 14 * DAY_S, 3 * DAY_S)]


def test_one_for_each_place(flow: Any) -> None:
    """Whoever looks at it: and the first that ends counts."""
    one = Sight(flow("pc-1"), "web:443", State.OK, certificate_until=NOW + 10 * DAY_S)
    two = dataclasses.replace(one, key=flow("pc-2"), certificate_until=NOW + 2 * DAY_S)
    [cause] = found(one, two)
    assert (cause.kind, cause.subject) == (Kind.CERTIFICATE, "web:443/tcp")
    assert (cause.urgent, cause.ends, len(cause.explains)) == (True, NOW + 2 * DAY_S, 2)
    assert by_kind(cause).severity is Severity.CRITICAL


def test_not_before_it_is_time(flow: Any) -> None:
    """Nor where there is none."""
    sight = Sight(flow(), "web:443", State.OK, certificate_until=NOW + 14 * DAY_S + 1)
    assert found(sight, dataclasses.replace(sight, certificate_until=None)) == []
    [cause] = found(dataclasses.replace(sight, certificate_until=NOW + 14 * DAY_S))
    assert by_kind(cause).severity is Severity.WARNING


def test_one_that_has_ended_is_urgent(flow: Any) -> None:
    """Whatever the checks say."""
    [cause] = found(Sight(flow(), "web:443", State.BROKEN, certificate_until=NOW - DAY_S))
    assert cause.urgent
