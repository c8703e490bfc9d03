"""What people and programs are told of an alert. Pure.

The fields are a promise to other people's programs: add to them, never take away.
"""

import datetime
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from pydantic import TypeAdapter

from reachmap_collector.alerts.causes import Cause
from reachmap_collector.alerts.groups import Kind
from reachmap_collector.alerts.lifecycle import Alert, Phase, Severity
from reachmap_collector.planner import FlowKey

Advise = Callable[[FlowKey], str | None]
"""What is to be done about a flow."""


@dataclass(frozen=True, slots=True)
class Notice:
    """An alert as it is told. Times are seconds since the epoch."""

    id: str
    status: Phase
    severity: Severity
    kind: Kind
    subject: str
    service: str
    summary: str
    """The whole in a line."""
    explains: int
    """How many flows and agents it explains."""
    examples: tuple[str, ...]
    """Some of the flows."""
    consequences: tuple[str, ...]
    """What fails because of it."""
    advice: str
    """What to do."""
    began: float
    told: float | None
    ended: float | None
    returns: int
    """How often it went away and came back."""
    labels: Mapping[str, str]
    """What it is known by elsewhere: stays the same from beginning to end, unless it gets worse."""
    replaces: Mapping[str, str] | None = None
    """The labels that it was known by until now, where it got worse."""
    acknowledged_by: str = ""
    muted_by: str = ""
    """Why nobody is told, if so."""

    @property
    def is_active(self) -> bool:
        """Whether it goes on."""
        return self.status is not Phase.RESOLVED


def labels(alert: Alert) -> dict[str, str]:
    """What an alert that is told for the first time is known by from then on."""
    told = {
        "alertname": "reachmap",
        "id": alert.id,
        "kind": str(alert.cause.kind),
        "severity": str(alert.severity),
        "subject": alert.cause.subject,
        "service": alert.cause.service,
    }
    return {name: value for name, value in told.items() if value}


def notice(
    alert: Alert,
    known_by: Mapping[str, str],
    advise: Advise,
    *,
    replaces: Mapping[str, str] | None = None,
    acknowledged_by: str = "",
    muted_by: str = "",
) -> Notice:
    """An alert as it stands, for people."""
    cause = alert.cause
    return Notice(
        id=alert.id,
        status=alert.phase,
        severity=alert.severity,
        kind=cause.kind,
        subject=cause.subject,
        service=cause.service,
        summary=_summary(cause),
        explains=len(cause.explains),
        examples=tuple(_flow(key) for key in cause.examples()),
        consequences=cause.consequences,
        advice=_advice(cause, advise),
        began=alert.began,
        told=alert.told,
        ended=alert.ended,
        returns=alert.returns,
        labels=dict(known_by),
        replaces=replaces,
        acknowledged_by=acknowledged_by,
        muted_by=muted_by,
    )


def harmless(name: str, now: float) -> Notice:
    """One that says itself that it is a trial."""
    ident = f"test-{int(now * 1000):x}"
    told = {"alertname": "reachmap", "id": ident, "kind": "flow", "severity": "info"}
    return Notice(
        id=ident,
        status=Phase.FIRING,
        severity=Severity.INFO,
        kind=Kind.FLOW,
        subject=f"a trial of the outlet {name}",
        service="",
        summary=f"a trial of reachmap's outlet {name}: nothing is wrong",
        explains=0,
        examples=(),
        consequences=(),
        advice="nothing: somebody asked for it by `reachmap alerts test`",
        began=now,
        told=now,
        ended=None,
        returns=0,
        labels=told,
    )


_ADAPTER: Final = TypeAdapter(Notice)

_TIMES: Final = ("began", "told", "ended")


def encode(told: Notice) -> bytes:
    """A notice as bytes to keep."""
    return _ADAPTER.dump_json(told)


def decode(data: bytes) -> Notice:
    """A notice that was kept; raises ValueError when it was kept by another version."""
    return _ADAPTER.validate_json(data)


def document(told: Notice) -> dict[str, Any]:
    """A notice as JSON for other programs: times as they write them."""
    plain: dict[str, Any] = _ADAPTER.dump_python(told, mode="json")
    del plain["labels"], plain["replaces"]
    return plain | {name: timestamp(plain[name]) for name in _TIMES}


def text(told: Notice) -> str:
    """A notice in lines for people."""
    lines = [told.summary]
    if told.is_active:
        lines += [f"To do: {told.advice}"] if told.advice else []
        lines += [f"Follows from it: {', '.join(told.consequences)}"] if told.consequences else []
    lines += [f"  {example}" for example in told.examples]
    lines.append(f"Since {timestamp(told.began)}")
    if told.ended is not None:
        lines.append(f"Ended {timestamp(told.ended)}")
    return "\n".join([*lines, f"Alert {told.id}, {told.severity}"])


def timestamp(seconds: float | None) -> str | None:
    """A time as other programs write it."""
    if seconds is None:
        return None
    moment = datetime.datetime.fromtimestamp(seconds, datetime.UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _flow(key: FlowKey) -> str:
    address = f" at {key.address}" if key.address else ""
    return f"{key.source} -> {key.destination}:{key.port}/{key.transport}{address}"


_SUMMARIES: Final[Mapping[Kind, str]] = {
    Kind.CUT_OFF: "the collector does not hear {count}: it is cut off, or the bus is away",
    Kind.HOST_DOWN: "{subject} is down: nothing gets to it, and its agent is silent ({count})",
    Kind.SERVICE_DOWN: "{what} is down: {subject} does not serve, its host is up ({count})",
    Kind.HOST_UNREACHABLE: "nothing gets to {subject}, though its agent is well ({count})",
    Kind.PORT_BLOCKED: "{what} is not to be reached: nothing gets to {subject} ({count})",
    Kind.DEVICE: "the device {subject} turns traffic back ({count})",
    Kind.SOURCE: "nothing gets out of {subject} ({count})",
    Kind.PATH: "nothing gets through {subject} ({count})",
    Kind.AGENT_SILENT: "the agent on {subject} is silent",
    Kind.NAME: "the name {subject} does not resolve ({count})",
    Kind.FLOW: "{subject} fails",
    Kind.EXPOSED: "{subject} is open to those who must not reach it ({count})",
    Kind.CERTIFICATE: "the certificate of {subject} ends {ends} ({count})",
}

_ADVICE: Final[Mapping[Kind, str]] = {
    Kind.CUT_OFF: "look after the NATS server, and the collector's way to it",
    Kind.HOST_DOWN: "see whether {subject} runs, and whether its network cable is in",
    Kind.HOST_UNREACHABLE: "look at the firewall of {subject}, and at the one before it",
    Kind.DEVICE: "look at the rules of the device {subject}",
    Kind.SOURCE: "look at the firewall and the network of {subject}",
    Kind.PATH: "look at the routers and firewalls on the way {subject}",
    Kind.AGENT_SILENT: "see whether {subject} runs, and its agent: systemctl status reachmap-agent",
    Kind.CERTIFICATE: "renew the certificate of {subject}",
}
"""What to do where one flow alone does not say it best."""


def _summary(cause: Cause) -> str:
    number = len(cause.explains)
    agents = cause.kind is Kind.CUT_OFF
    unit = ("agent" if agents else "flow") + ("" if number == 1 else "s")
    return _SUMMARIES[cause.kind].format(
        subject=cause.subject,
        what=cause.service or cause.subject,
        count=f"{number} {unit}",
        ends=timestamp(cause.ends) or "soon",
    )


def _advice(cause: Cause, advise: Advise) -> str:
    if cause.kind in _ADVICE:
        return _ADVICE[cause.kind].format(subject=cause.subject)
    return next((said for key in cause.examples() if (said := advise(key))), "")
