"""What a configuration may say, and how a wrong one is refused: with key path and reason."""

from typing import Any

import pytest
from pydantic import ValidationError

from reachmap_collector.alerts.config import CollectorFile, duration


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("2h", 7200), ("1d12h", 129_600), ("15m30s", 930)]
)
def test_times_are_written_as_people_do(text: str, seconds: float) -> None:
    """With their units."""
    assert duration(text) == seconds


@pytest.mark.parametrize("text", ["", "2", "h", "2h 3m", "-2h", "2w", "1m2h"])
def test_what_is_no_time_is_refused(text: str) -> None:
    """A number in a text has no unit, and could be anything."""
    with pytest.raises(ValueError, match="expected a time such as"):
        duration(text)


def test_numbers_are_seconds() -> None:
    """As everywhere else."""
    assert duration(12.5) == 12.5


def test_nothing_needs_to_be_said() -> None:
    """All of it has defaults."""
    table = CollectorFile().alerts
    assert (table.rules, table.outlets, table.maintenance) == ([], [], [])
    assert table.certificate_warning_s == 14 * 86_400
    assert table.certificate_critical_s == 3 * 86_400


WEEKLY: dict[str, Any] = {"days": ["sat"], "at": "22:00", "for": "4h"}
ONCE: dict[str, Any] = {"from": "2030-01-01T00:00:00Z", "until": "2030-01-02T00:00:00Z"}


@pytest.mark.parametrize(
    ("window", "reason"),
    [
        ({}, "expected `from` and `until`, or `days`, `at` and `for`"),
        (WEEKLY | ONCE, "expected `from` and `until`, or"),
        ({"days": ["sat"], "at": "22:00"}, "expected `from` and `until`, or"),
        ({**ONCE, "from": "2030-01-01T00:00:00"}, "with their offset"),
        ({**ONCE, "until": "2029-01-01T00:00:00Z"}, "`from` to be before"),
        ({**WEEKLY, "zone": "Mars/Base"}, "unknown time zone"),
        ({**WEEKLY, "at": "25:00"}, "expected a time of day"),
        ({**WEEKLY, "days": ["someday"]}, "mon"),
    ],
)
def test_a_maintenance_that_makes_no_sense_is_refused(window: Any, reason: str) -> None:
    """It would silence something else than was meant."""
    with pytest.raises(ValidationError, match=reason):
        CollectorFile.model_validate({"alerts": {"maintenance": [window]}})


@pytest.mark.parametrize(
    ("outlet", "reason"),
    [
        ({"kind": "webhook"}, "expected one of url, url_file and url_env"),
        ({"kind": "webhook", "url": "http://x", "url_env": "X"}, "expected one of url"),
        ({"kind": "webhook", "url": "gopher://x"}, "expected a URL that begins with"),
        ({"kind": "webhook", "url": "http://[::1"}, "expected a URL"),
        ({"kind": "webhook", "url": "https://me:sesame@x"}, "expected no password in it"),
        ({"kind": "apprise", "url": "mailto://x"}, "url"),
        ({"kind": "pigeon"}, "pigeon"),
        ({"kind": "icinga", "url": "http://x", "host": "h", "user": "u"}, "password_file"),
        ({"kind": "webhook", "url": "http://x", "token": "sesame"}, "token"),
    ],
)
def test_an_outlet_that_makes_no_sense_is_refused(outlet: Any, reason: str) -> None:
    """And what may be a secret is not in the reason."""
    given = {"alerts": {"outlets": [{"name": "a", **outlet}]}}
    with pytest.raises(ValidationError, match=reason) as caught:
        CollectorFile.model_validate(given)
    assert "sesame" not in str(caught.value)
