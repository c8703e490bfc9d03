"""Whether this host's clock is right, by everybody's who told the time on the way."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Final

from reachmap_agent.doctor.patient import Patient
from reachmap_agent.doctor.steps import Finding, failed, passed, skipped

_BUILT: Final = 2026
"""No clock is right that says less."""

_NOTED: Final = timedelta(seconds=5)
"""As the collector's notes on agents have it: a request takes less, and ages stay right."""

_HARMFUL: Final = timedelta(minutes=5)
"""What certificates, tokens and responders are commonly wrong by; past that they are refused."""

_SET: Final = "set the clock, by NTP"


async def clock(patient: Patient) -> AsyncIterator[Finding]:
    """Certificates and credentials have a beginning and an end."""
    now = datetime.now(UTC)
    if now.year < _BUILT:
        yield failed(f"this host is in {now.year}", _SET)
        return
    for told in patient.times:
        seconds = told.skew.total_seconds()
        if told.least and told.skew > -_NOTED:
            continue  # it is past that time, by how much nobody knows
        if abs(told.skew) <= _NOTED:
            yield passed(f"right by {told.who}, within {abs(seconds):.1f} s")
            return
        least = "at least " if told.least else ""
        direction = "behind" if seconds < 0 else "ahead of"
        found = f"{least}{abs(seconds):.0f} s {direction} {told.who}"
        yield failed(found, _SET) if abs(told.skew) > _HARMFUL else passed(found, _SET)
        return
    yield skipped(f"{now:%Y-%m-%d %H:%M:%S} UTC; nobody told the time to compare it with")
