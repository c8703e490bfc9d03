"""Which alerts are told, how loudly and to whom."""

from typing import Any

import pytest

from reachmap_collector.alerts.config import AlertsTable, Filter
from reachmap_collector.alerts.groups import Kind
from reachmap_collector.alerts.lifecycle import Severity
from reachmap_collector.alerts.rules import Rules, at_least, fits, hosts_of

ROLES = {"web": ("web",), "pc-1": ("endpoint",)}


def roles_of(host: str) -> tuple[str, ...]:
    return ROLES.get(host, ())


def rules(*given: dict[str, Any]) -> Rules:
    return Rules(AlertsTable.model_validate({"rules": given}), roles_of)


@pytest.mark.parametrize(
    ("kind", "subject", "hosts"),
    [
        (Kind.SERVICE_DOWN, "web:443/tcp", {"web"}),
        (Kind.HOST_DOWN, "web", {"web"}),
        (Kind.SOURCE, "pc-1", {"pc-1"}),
        (Kind.FLOW, "pc-1 -> web:443/tcp", {"pc-1", "web"}),
        (Kind.PATH, "10.0.1.0/24 -> 10.0.2.0/24", {"pc-1", "web"}),
    ],
)
def test_an_alert_is_about_hosts(kind: Kind, subject: str, hosts: set[str], cause: Any) -> None:
    """The one to blame, or those at both ends."""
    assert hosts_of(cause(kind, subject)) == hosts


@pytest.mark.parametrize(
    ("what", "does"),
    [
        ({}, True),
        ({"kinds": ["service-down"]}, True),
        ({"kinds": ["path"]}, False),
        ({"hosts": ["w*"]}, True),
        ({"hosts": ["pc-*"]}, False),
        ({"roles": ["web"]}, True),
        ({"roles": ["endpoint"]}, False),
        ({"services": ["web:*"]}, True),
        ({"services": ["db:*"]}, False),
        ({"hosts": ["web"], "kinds": ["path"]}, False),
    ],
)
def test_a_filter_fits_when_all_of_it_does(what: Any, does: bool, cause: Any) -> None:
    """And what it leaves out fits anything."""
    assert fits(Filter.model_validate(what), cause(), roles_of) is does


def test_where_no_rule_fits_the_kind_decides(cause: Any) -> None:
    """So that nobody needs any."""
    made = rules({"kinds": ["path"], "tell": False})
    assert made.decide(cause()).severity is Severity.CRITICAL
    assert made.decide(cause(Kind.FLOW)).severity is Severity.WARNING
    assert made.verdict(cause()).tell


def test_the_first_rule_that_fits_decides(cause: Any) -> None:
    """Later ones are for the rest."""
    made = rules(
        {"hosts": ["web"], "severity": "info", "for": "5m", "outlets": ["am"]}, {"tell": False}
    )
    ruling = made.decide(cause())
    assert (ruling.severity, ruling.hold_s) == (Severity.INFO, 300)
    assert made.verdict(cause()).outlets == {"am"}
    assert not made.verdict(cause(Kind.HOST_DOWN, "db")).tell


def test_severities_have_an_order() -> None:
    """From info to critical."""
    assert at_least(Severity.CRITICAL, Severity.WARNING)
    assert at_least(Severity.INFO, Severity.INFO)
    assert not at_least(Severity.INFO, Severity.CRITICAL)
