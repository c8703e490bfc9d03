"""Alerts that begin, change and end: one for each outage, however its cause comes to light. Pure.

An outage shows itself bit by bit: first one flow fails, seconds later all of a host's. So a cause
has to stand for a while before it is told, and an alert that is told already follows the flows:
when another cause explains what it was about, it is the same alert with a better explanation. What
ends has to stay away for a while, too; and what comes and goes is one alert that says so.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Final

from reachmap_collector.alerts.causes import Cause, Member
from reachmap_collector.alerts.groups import Kind


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
    Kind.CERTIFICATE: Severity.WARNING,
}
"""What counts for how much where no rule says otherwise: one host's or one flow's trouble warns."""


@dataclass(frozen=True, slots=True)
class Timing:
    """How long things have to be so before anybody hears of them. Seconds."""

    hold_s: float = 4.0
    """That a cause stands before it is told: long enough for others that fail with it to show, and
    short enough for an alert within 15 s. What shows later makes it a better explanation."""
    doubt_s: float = 12.0
    """That a cause stands which may turn out to be another one's consequence."""
    clear_s: float = 12.0
    """That nothing of it fails before it has ended: a bit over one interval of checks."""
    flap_s: float = 600.0
    """Within which an outage that comes back is the same one."""
    flaps: int = 3
    """How often it may come back before it counts as one long outage that ends when it has stayed
    away for as long as `flap_s`."""

    @classmethod
    def for_checks(cls, interval_s: float) -> "Timing":
        """What suits checks that come round so often: all of it goes by their interval."""
        usual = cls()
        return replace(
            usual,
            hold_s=usual.hold_s * interval_s / _USUAL_S,
            doubt_s=usual.doubt_s * interval_s / _USUAL_S,
            clear_s=usual.clear_s * interval_s / _USUAL_S,
        )


_USUAL_S: Final = 10.0
"""The interval that the times above are made for."""


@dataclass(frozen=True, slots=True)
class Ruling:
    """What somebody decided about a cause."""

    severity: Severity
    hold_s: float | None = None
    """How long it has to stand before it is told; None for as long as any other."""


Decide = Callable[[Cause], Ruling]
"""Decides about a cause."""


def by_kind(cause: Cause) -> Ruling:
    """What holds where nobody decided otherwise."""
    return Ruling(Severity.CRITICAL if cause.urgent else SEVERITIES[cause.kind])


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


@dataclass(frozen=True, slots=True)
class Shares:
    """Causes, by what becomes of them."""

    going_on: Mapping[str, list[Cause]]
    """By the alert that goes on with them."""
    new: Sequence[Cause]
    """Those that nobody was told of."""


@dataclass(slots=True)
class Book:
    """All alerts there are, and those that have just ended."""

    timing: Timing = field(default_factory=Timing)
    alerts: dict[str, Alert] = field(default_factory=dict)
    decide: Decide = by_kind
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

    def update(
        self,
        causes: Iterable[Cause] | Shares,
        now: float,
        is_known: Callable[[Member], bool] | None = None,
    ) -> list[Event]:
        """Take note of what is wrong now; returns what is news.

        Args:
            causes: As `find_causes` gives them; or as they were shared out since the last time.
            now: Seconds since the epoch; never less than before.
            is_known: Whether anybody knows how a flow or agent is now. What is not seen does not
                fail, and has not healed either; None if all are known.
        """
        events: list[Event] = []
        shared = causes if isinstance(causes, Shares) else self.share_out(causes)
        shares, new = shared.going_on, shared.new
        for name, alert in [*self.alerts.items()]:
            share = shares.get(name)
            if share is not None:
                after: Alert | None = self._still(alert, share, now)
            elif is_known is None or any(is_known(member) for member in alert.members):
                after = self._quieter(alert, now)
            else:
                after = alert
            if after is None:
                del self.alerts[name]
            else:
                self.alerts[name] = after
                events += _news(alert, after)
        for cause in new:
            alert = self._new(cause, now)
            after = self._still(alert, [cause], now)  # with no time to hold, it is told at once
            self.alerts[alert.id] = after
            events += _news(alert, after)
        return events

    def share_out(self, causes: Iterable[Cause]) -> Shares:
        """Which alert each cause goes on with, and those that are new.

        An outage that heals bit by bit falls apart into many causes of the rest, and all of those
        are still the one outage. It changes nothing, so that a thread may do it.
        """
        by_member: dict[Member, list[str]] = {}
        for name, alert in self.alerts.items():
            for member in alert.members:
                by_member.setdefault(member, []).append(name)
        shares: dict[str, list[Cause]] = {}
        new: list[Cause] = []
        for cause in sorted(causes, key=lambda one: -len(one.explains)):
            shared: Counter[str] = Counter()
            for member in cause.explains:
                for name in by_member.get(member, ()):
                    if _realm(self.alerts[name].cause) == _realm(cause):
                        shared[name] += 1
            if shared:
                heir = min(shared, key=lambda name: self._claim(name, cause, shared[name]))
                shares.setdefault(heir, []).append(cause)
            else:
                new.append(cause)
        return Shares(shares, new)

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
            severity=self.decide(cause).severity,
            phase=Phase.PENDING,
            began=now,
            members=cause.explains,
        )

    def _still(self, alert: Alert, share: list[Cause], now: float) -> Alert:
        """It is there (again), and these causes go on with it, the one of most first."""
        cause = _explanation(alert, share)
        members = alert.members.union(*(one.explains for one in share))
        came_back = alert.quiet_since is not None and alert.phase is Phase.FIRING
        after = replace(
            alert,
            cause=cause,
            severity=self.decide(cause).severity,
            members=members,
            quiet_since=None,
            returns=alert.returns + came_back,
        )
        if alert.phase is Phase.RESOLVED:
            # It is the same outage: nobody needs the patience that a new one is owed.
            return replace(
                after, phase=Phase.FIRING, told=now, ended=None, returns=alert.returns + 1
            )
        if alert.phase is Phase.PENDING and now >= alert.began + self._hold(cause):
            return replace(after, phase=Phase.FIRING, told=now)
        return after

    def _hold(self, cause: Cause) -> float:
        wanted = self.decide(cause).hold_s
        usual = self.timing.doubt_s if cause.in_doubt else self.timing.hold_s
        return usual if wanted is None else max(usual, wanted)

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
            yield alert.began + self._hold(alert.cause)
        elif alert.quiet_since is not None:
            yield alert.quiet_since + self._patience(alert)


_MOST: Final = 0.5
"""Part of an alert's flows that a cause must explain to say what the alert is about."""


def _explanation(alert: Alert, share: list[Cause]) -> Cause:
    """What an alert is about now: a cause that only explains a rest of it is none for the whole."""
    best = share[0]
    explains_more = not best.explains <= alert.members
    explains_all = len(share) == 1 and len(best.explains) >= _MOST * len(alert.members)
    return best if explains_more or explains_all else alert.cause


def _realm(cause: Cause) -> Kind | None:
    """Flows can be exposed, or have certificates that end, and fail besides: that is another."""
    return cause.kind if cause.kind in (Kind.EXPOSED, Kind.CERTIFICATE) else None


def _news(before: Alert, after: Alert) -> Iterator[Event]:
    if after.phase is Phase.FIRING and before.phase is not Phase.FIRING:
        yield Event(What.FIRED, after)
    elif after.phase is Phase.RESOLVED and before.phase is Phase.FIRING:
        yield Event(What.RESOLVED, after)
    elif after.phase is Phase.FIRING and face(before) != face(after):
        yield Event(What.CHANGED, after)


def face(alert: Alert) -> tuple[Severity, Kind, str, tuple[str, ...]]:
    """What people are told of an alert, but for how many flows it explains."""
    cause = alert.cause
    return alert.severity, cause.kind, cause.subject, cause.consequences
