"""Times as people say them: `2 hours ago`, `yesterday 14:00`, `2026-11-24T14:00:00Z`."""

import datetime
import re
from typing import Final

import click

_CLOCK: Final = re.compile(r"\b(\d{1,2}):(\d\d)(?::(\d\d))?")

_DAYS: Final = {"today": 0, "yesterday": 1}
"""Days without a clock's time mean their beginning, as `monday` and `2026-11-24` do."""

_EXPECTED: Final = (
    "expected such as '2 hours ago', '30m', 'yesterday 14:00', '2026-11-24 14:00' or "
    "2026-11-24T14:00:00Z"
)


def moment(text: str) -> str:
    """A time in the past, as RFC 3339 in UTC: for an option's type."""
    now = datetime.datetime.now(datetime.UTC)
    found = parse(text, now)
    if found is None:
        raise click.BadParameter(f"{text!r} is no time: {_EXPECTED}")
    if found > now:
        raise click.BadParameter(f"{text!r} is still to come")
    return found.astimezone(datetime.UTC).isoformat(timespec="milliseconds")


def parse(text: str, now: datetime.datetime) -> datetime.datetime | None:
    """A time in words or digits, with its zone; None when it is none."""
    try:
        return datetime.datetime.fromisoformat(text.strip()).astimezone()
    except (ValueError, OverflowError):
        pass
    # A lone number could be anything, and hours past 24 would be passed over without a word.
    if not re.search(r"[A-Za-z:]", text) or any(
        int(hour) > 23 or int(minute) > 59 or int(second or 0) > 59
        for hour, minute, second in _CLOCK.findall(text)
    ):
        return None
    local = now.astimezone()
    if (days := _DAYS.get(text.strip().casefold())) is not None:
        day = local.date() - datetime.timedelta(days=days)
        return datetime.datetime.combine(day, datetime.time.min).astimezone()
    import dateparser  # here, for it takes a quarter of a second to load

    found: datetime.datetime | None = dateparser.parse(
        text,
        languages=["en"],  # what a word means must not hang on where one is
        settings={
            "PREFER_DATES_FROM": "past",
            "RELATIVE_BASE": local.replace(tzinfo=None),
        },
    )
    if found is None:
        return None
    return found.astimezone()  # one without a zone is the reader's own
