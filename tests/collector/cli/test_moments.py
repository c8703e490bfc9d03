"""Times as people say them."""

import datetime

import click
import pytest

from reachmap_collector.cli.moments import moment, parse

NOW = datetime.datetime(2026, 11, 25, 12, 30, 0, tzinfo=datetime.UTC)  # a Wednesday


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("2 hours ago", "2026-11-25T10:30:00+00:00"),
        ("90 minutes ago", "2026-11-25T11:00:00+00:00"),
        ("30m", "2026-11-25T12:00:00+00:00"),
        ("1d", "2026-11-24T12:30:00+00:00"),
        ("yesterday 14:00", "2026-11-24T14:00:00+00:00"),
        ("yesterday", "2026-11-24T00:00:00+00:00"),
        (" Today ", "2026-11-25T00:00:00+00:00"),
        ("monday", "2026-11-23T00:00:00+00:00"),
        ("14:00", "2026-11-24T14:00:00+00:00"),
        ("08:00", "2026-11-25T08:00:00+00:00"),
        ("2026-11-24", "2026-11-24T00:00:00+00:00"),
        ("2026-11-24 14:00", "2026-11-24T14:00:00+00:00"),
        ("2026-11-24T14:00:00Z", "2026-11-24T14:00:00+00:00"),
        ("2026-11-24T14:00:00+02:00", "2026-11-24T12:00:00+00:00"),
        ("now", "2026-11-25T12:30:00+00:00"),
    ],
)
@pytest.mark.usefixtures("utc")
def test_a_time_in_words_or_digits(text: str, meant: str) -> None:
    """Without a zone it is the reader's own, a clock's time is the last that was, a day begins."""
    found = parse(text, NOW)
    assert found is not None
    assert found.astimezone(datetime.UTC).isoformat() == meant


@pytest.mark.parametrize(
    "text", ["", "10", "3.5", "nonsense", "foo 3", "yesterday 25:00", "12:61", "in the morning-ish"]
)
def test_what_is_no_time_is_refused_with_what_is_one(text: str) -> None:
    """Rather than guessed at."""
    with pytest.raises(click.BadParameter, match=r"is no time: expected such as '2 hours ago'"):
        moment(text)


def test_the_future_has_no_history() -> None:
    """It says so."""
    with pytest.raises(click.BadParameter, match="still to come"):
        moment("2999-01-01")
