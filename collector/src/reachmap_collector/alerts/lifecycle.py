"""Alerts that begin, change and end: one for each outage, however its cause comes to light. Pure.

An outage shows itself bit by bit: first one flow fails, seconds later all of a host's. So a cause
has to stand for a while before it is told, and an alert that is told already follows the flows:
when another cause explains what it was about, it is the same alert with a better explanation. What
ends has to stay away for a while, too; and what comes and goes is one alert that says so.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Final

from reachmap_collector.alerts.causes import Cause, Kind, Member


class Phase(StrEnum):
    """How far an alert is."""

    PENDING = "pending"
    """Seen, and not told yet: it may be nothing."""
    FIRING = "firing"
    RESOLVED = "resolved"


class Severity(StrEnum):
    """How much it matters."""

    INFO = "info"
    WARNING = "warning"
    CRITICAL = "critical"


SEVERITIES: Final[Mapping[Kind, Severity]] = {
    Kind.CUT_OFF: Severity.CRITICAL,
    Kind.HOST_DOWN: Severity.CRITICAL,
    Kind.SERVICE_DOWN: Severity.CRITICAL,
    Kind.HOST_UNREACHABLE: Severity.CRITICAL,
    Kind.PORT_BLOCKED: Severity.CRITICAL,
    Kind.DEVICE: Severity.CRITICAL,
    Kind.SOURCE: Severity.WARNING,
    Kind.PATH: Severity.CRITICAL,
    Kind.AGENT_SILENT: Severity.WARNING,
    Kind.NAME: Severity.CRITICAL,
    Kind.FLOW: Severity.WARNING,
    Kind.EXPOSED: Severity.CRITICAL,
}
"""What counts for how much where no rule says otherwise: one host's or one flow's trouble warns."""


@dataclass(frozen=True, slots=True)
class Timing:
    """How long things have to be so before anybody hears of them. Seconds."""

    hold_s: float = 12.0
    """That a cause stands before it is told: a bit over one interval of checks, so that everything
    that fails with it had its turn, and short enough for an alert within 15 s."""
    clear_s: float = 12.0
    """That nothing of it fails before it has ended: likewise."""
    flap_s: float = 600.0
    """Within which an outage that comes back is the same one."""
    flaps: int = 3
    """How often it may come back before it counts as one long outage that ends when it has stayed
    away for as long as `flap_s`."""


@dataclass(frozen=True, slots=True)
class Alert:
    """One outage. Times are seconds since the epoch."""

    id: str
    """Stays the same from beginning to end, and for nothing else."""
    cause: Cause
    severity: Severity
    phase: Phase
    began: float
    """When it was first seen."""
    told: float | None = None
    """When it began to fire."""
    ended: float | None = None
    """When it was resolved."""
    quiet_since: float | None = None
    """Since when nothing of it fails, while that may change again."""
    returns: int = 0
    """How often it came back."""
    members: frozenset[Member] = frozenset()
    """All that it ever was about."""


@dataclass(frozen=True, slots=True)
class Event:
    """Something that people may want to hear."""

    what: "What"
    alert: Alert


class What(StrEnum):
    """What has happened to an alert."""

    FIRED = "fired"
    CHANGED = "changed"
    """Its cause is another, or explains more."""
    RESOLVED = "resolved"


@dataclass(slots=True)
class Book:
    """All alerts there are, and those that have just ended."""

    timing: Timing = field(default_factory=Timing)
    alerts: dict[str, Alert] = field(default_factory=dict)
    _number: int = 0

    def active(self) -> list[Alert]:
        """Those that fire, the first told first."""
        firing = [alert for alert in self.alerts.values() if alert.phase is Phase.FIRING]
        return sorted(firing, key=lambda alert: (alert.told or 0.0, alert.id))

    def next_due(self) -> float | None:
        """When something changes even if nothing new is seen; None when nothing will."""
        return min(
            (when for alert in self.alerts.values() for when in self._dues(alert)), default=None
        )

    def update(self, causes: Iterable[Cause], now: float) -> list[Event]:
        """Take note of what is wrong now; returns what is news.

        Args:
            causes: As `find_causes` gives them.
            now: Seconds since the epoch; never less than before.
        """
        events: list[Event] = []
        taken = self._assigned([*causes])
        for name, alert in [*self.alerts.items()]:
            cause = taken.pop(name, None)
            after = self._quieter(alert, now) if cause is None else self._still(alert, cause, now)
            if after is None:
                del self.alerts[name]
            else:
                self.alerts[name] = after
                events += _news(alert, after)
        for cause in taken.values():
            alert = self._new(cause, now)
            self.alerts[alert.id] = alert
            # What has no patience to wait for is told at once.
            after = self._still(alert, cause, now)
            self.alerts[alert.id] = after
            events += _news(alert, after)
        return events

    def _assigned(self, causes: list[Cause]) -> dict[str, Cause]:
        """For each alert the cause that goes on with it; new ones under names of their own.

        A cause goes on with the alert that it has most in common with, the one that was told first
        if there are several; the others have nothing left to be about, and end.
        """
        by_member: dict[Member, list[str]] = {}
        for name, alert in self.alerts.items():
            for member in alert.members:
                by_member.setdefault(member, []).append(name)
        found: dict[str, Cause] = {}
        for place, cause in enumerate(sorted(causes, key=lambda one: -len(one.explains))):
            shared: dict[str, int] = {}
            for member in cause.explains:
                for name in by_member.get(member, ()):
                    if (self.alerts[name].cause.kind is Kind.EXPOSED) == (
                        cause.kind is Kind.EXPOSED
                    ):
                        shared[name] = shared.get(name, 0) + 1
            heirs = sorted(shared, key=lambda name: self._claim(name, cause, shared[name]))
            heir = next((name for name in heirs if name not in found), None)
            found[heir if heir is not None else f"\0{place}"] = cause
        return found

    def _claim(self, name: str, cause: Cause, shared: int) -> tuple[bool, bool, int, float, str]:
        """Which alert a cause goes on with: the lowest."""
        alert = self.alerts[name]
        return (
            alert.phase is not Phase.FIRING,
            alert.cause.subject != cause.subject,
            -shared,
            alert.began,
            name,
        )

    def _new(self, cause: Cause, now: float) -> Alert:
        self._number += 1
        return Alert(
            id=f"{int(now * 1000):x}-{self._number}",
            cause=cause,
            severity=SEVERITIES[cause.kind],
            phase=Phase.PENDING,
            began=now,
            members=cause.explains,
        )

    def _still(self, alert: Alert, cause: Cause, now: float) -> Alert:
        """It is there (again)."""
        members = alert.members | cause.explains
        if alert.phase is Phase.RESOLVED:
            # It is the same outage: nobody needs the patience that a new one is owed.
            return replace(
                alert,
                cause=cause,
                severity=SEVERITIES[cause.kind],
                phase=Phase.FIRING,
                told=now,
                ended=None,
                quiet_since=None,
                returns=alert.returns + 1,
                members=members,
            )
        returns = alert.returns + (alert.quiet_since is not None and alert.phase is Phase.FIRING)
        alert = replace(
            alert,
            cause=cause,
            severity=SEVERITIES[cause.kind],
            quiet_since=None,
            returns=returns,
            members=members,
        )
        if alert.phase is Phase.PENDING and now >= alert.began + self.timing.hold_s:
            return replace(alert, phase=Phase.FIRING, told=now)
        return alert

    def _quieter(self, alert: Alert, now: float) -> Alert | None:
        """Nothing of it fails now; None when it can be forgotten."""
        if alert.phase is Phase.RESOLVED:
            assert alert.ended is not None
            return alert if now < alert.ended + self.timing.flap_s else None
        if alert.phase is Phase.PENDING:
            return None
        if alert.quiet_since is None:
            return replace(alert, quiet_since=now)
        if now < alert.quiet_since + self._patience(alert):
            return alert
        return replace(alert, phase=Phase.RESOLVED, ended=now, quiet_since=None)

    def _patience(self, alert: Alert) -> float:
        """How long it must stay away to have ended."""
        flapping = alert.returns >= self.timing.flaps
        return self.timing.flap_s if flapping else self.timing.clear_s

    def _dues(self, alert: Alert) -> Iterator[float]:
        if alert.phase is Phase.PENDING:
            yield alert.began + self.timing.hold_s
        elif alert.quiet_since is not None:
            yield alert.quiet_since + self._patience(alert)


def _news(before: Alert, after: Alert) -> Iterator[Event]:
    if after.phase is Phase.FIRING and before.phase is not Phase.FIRING:
        yield Event(What.FIRED, after)
    elif after.phase is Phase.RESOLVED and before.phase is Phase.FIRING:
        yield Event(What.RESOLVED, after)
    elif after.phase is Phase.FIRING and _face(before.cause) != _face(after.cause):
        yield Event(What.CHANGED, after)


def _face(cause: Cause) -> tuple[Kind, str, tuple[str, ...]]:
    """What people are told of a cause, but for how many flows it explains."""
    return cause.kind, cause.subject, cause.because_of
