"""Times in which nobody is told: once, weekly, or until a silence expires."""

import datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reachmap_collector.alerts.config import Filter, Maintenance
from reachmap_collector.alerts.muting import Silence, holds, muted_by

VIENNA = ZoneInfo("Europe/Vienna")


def at(text: str) -> float:
    return datetime.datetime.fromisoformat(text).replace(tzinfo=VIENNA).timestamp()


def weekly(**more: Any) -> Maintenance:
    given = {"days": ["sat"], "at": "22:00", "for": "4h", "zone": "Europe/Vienna", **more}
    return Maintenance.model_validate(given)


def nobody(_host: str) -> tuple[str, ...]:
    return ()


@pytest.mark.parametrize(
    ("moment", "does"),
    [
        ("2030-06-01T21:59:59", False),  # a Saturday
        ("2030-06-01T22:00:00", True),
        ("2030-06-02T01:59:59", True),  # over midnight it is still Saturday's
        ("2030-06-02T02:00:00", False),
        ("2030-06-02T23:00:00", False),
        ("2030-12-07T22:30:00", True),  # in winter it is as late by the clock
    ],
)
def test_a_weekly_window_is_by_its_own_clock(moment: str, does: bool) -> None:
    """Its zone's, whatever the season."""
    assert holds(weekly(), at(moment)) is does


def test_a_window_lasts_as_long_as_it_says_when_clocks_change() -> None:
    """Four hours are four hours also in the night that has one more."""
    began = at("2030-10-26T22:00:00")  # on the 27th, clocks go back at three
    assert holds(weekly(**{"for": "6h"}), began + 6 * 3600 - 1)
    assert not holds(weekly(**{"for": "6h"}), began + 6 * 3600)


def test_a_window_of_days_is_found_from_its_end() -> None:
    """However long ago it began."""
    window = weekly(**{"for": "3d"})
    assert holds(window, at("2030-06-04T21:59:00"))
    assert not holds(window, at("2030-06-04T22:00:00"))


@given(st.floats(0, 4e9), st.integers(1, 7 * 24))
def test_every_week_has_as_much_of_it(now: float, hours: int) -> None:
    """In UTC: what holds now, held a week ago."""
    window = weekly(**{"for": f"{hours}h", "zone": "UTC"})
    assert holds(window, now) == holds(window, now + 7 * 86_400)


def test_once_is_from_then_until_then() -> None:
    """And never again."""
    window = Maintenance.model_validate(
        {"from": "2030-01-01T00:00:00Z", "until": "2030-01-01T01:00:00Z"}
    )
    begins = datetime.datetime(2030, 1, 1, tzinfo=datetime.UTC).timestamp()
    assert [holds(window, begins + s) for s in (-1, 0, 3599, 3600)] == [False, True, True, False]


def test_a_silence_expires(cause: Any) -> None:
    """By itself."""
    silence = Silence("s1", Filter(hosts=["web"]), 100.0, "ann", "")
    assert muted_by(cause(), [], [silence], nobody, 99) == "silence s1"
    assert muted_by(cause(), [], [silence], nobody, 100) == ""


def test_only_what_fits_is_muted(cause: Any) -> None:
    """And the reason says by what."""
    window = weekly(name="patch night", hosts=["web"])
    now = at("2030-06-01T23:00:00")
    assert muted_by(cause(), [window], [], nobody, now) == "maintenance patch night"
    other = cause(subject="db:5432/tcp")
    assert muted_by(other, [window], [], nobody, now) == ""
