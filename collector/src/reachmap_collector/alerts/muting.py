"""What keeps alerts from being told: maintenance, silences, acknowledgements. Pure.

None of them keeps anything from being found, listed, or told to have ended.
"""

import datetime
from collections.abc import Iterable
from dataclasses import dataclass

from reachmap_collector.alerts.causes import Cause
from reachmap_collector.alerts.config import Filter, Maintenance, zone
from reachmap_collector.alerts.rules import RolesOf, fits

_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


@dataclass(frozen=True, slots=True)
class Acknowledgement:
    """Somebody knows of an alert, and looks after it."""

    alert: str
    by: str
    comment: str
    at: float
    """Seconds since the epoch."""


@dataclass(frozen=True, slots=True)
class Silence:
    """Nobody wants to hear of what fits until then."""

    id: str
    what: Filter
    until: float
    """Seconds since the epoch."""
    by: str
    comment: str


def holds(window: Maintenance, now: float) -> bool:
    """Whether it is this time of maintenance now."""
    if window.begins is not None and window.ends is not None:
        return window.begins.timestamp() <= now < window.ends.timestamp()
    assert window.at is not None  # its shape says so
    assert window.lasts is not None
    its_zone = zone(window.zone)
    today = datetime.datetime.fromtimestamp(now, its_zone).date()
    at = datetime.time.fromisoformat(window.at)
    for back in range(int(window.lasts // 86_400) + 2):
        day = today - datetime.timedelta(days=back)
        began = datetime.datetime.combine(day, at, its_zone).timestamp()
        if _DAYS[day.weekday()] in window.days and began <= now < began + window.lasts:
            return True
    return False


def muted_by(
    cause: Cause,
    windows: Iterable[Maintenance],
    silences: Iterable[Silence],
    roles_of: RolesOf,
    now: float,
) -> str:
    """What keeps it from being told now; empty when nothing does."""
    for window in windows:
        if fits(window, cause, roles_of) and holds(window, now):
            return f"maintenance {window.name}".rstrip()
    for silence in silences:
        if silence.until > now and fits(silence.what, cause, roles_of):
            return f"silence {silence.id}"
    return ""
