"""The shape of the collector's configuration, as pydantic models. Pure.

What is secret stands in a file or in the environment, never here: a configuration is shown around.
"""

import datetime
import re
from typing import Annotated, Any, Final, Literal
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from reachmap_collector.alerts.groups import Kind
from reachmap_collector.alerts.lifecycle import Severity
from reachmap_shared.names import host_name

MAX_RULES: Final = 1000

_DURATION: Final = re.compile(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?")
_UNITS: Final = (86_400, 3600, 60, 1)


def duration(value: Any) -> Any:
    """Seconds, of a number or of a text such as `90s`, `2h` or `1d12h`; raises ValueError."""
    if not isinstance(value, str):
        return value
    found = _DURATION.fullmatch(value)
    if not value or found is None:
        raise ValueError(f"{value!r}: expected a time such as 90s, 15m, 2h or 1d12h")
    parts = zip(found.groups(), _UNITS, strict=True)
    return float(sum(int(number) * unit for number, unit in parts if number))


def zone(name: str) -> datetime.tzinfo:
    """A time zone by its name; UTC is there also where the system knows of no zones."""
    return datetime.UTC if name == "UTC" else ZoneInfo(name)


def _zone(name: str) -> str:
    try:
        zone(name)
    except (ValueError, OSError, KeyError) as error:
        raise ValueError(f"unknown time zone {name!r}: expected one as in Europe/Vienna") from error
    return name


def _clock(text: str) -> str:
    try:
        datetime.time.fromisoformat(text)
    except ValueError as error:
        raise ValueError(f"{text!r}: expected a time of day, as in 22:30") from error
    return text


def _url(text: str) -> str:
    try:
        parts = urlsplit(text)
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        good = False
    if not good:
        raise ValueError("expected a URL that begins with http:// or https://")
    if "@" in urlsplit(text).netloc:
        raise ValueError("expected no password in it: put the URL into a file or the environment")
    return text


Seconds = Annotated[float, BeforeValidator(duration), Field(ge=0, le=366 * 86_400)]
Url = Annotated[str, AfterValidator(_url)]
Name = Annotated[str, AfterValidator(host_name)]
Day = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]


class _Table(BaseModel):
    # What is wrong may be what somebody took for a place for a secret.
    model_config = ConfigDict(
        extra="forbid", frozen=True, populate_by_name=True, hide_input_in_errors=True
    )


class Filter(_Table):
    """Which alerts. Patterns are as a shell has them; what is left out fits all."""

    kinds: list[Kind] = []
    hosts: list[str] = []
    """Patterns for hosts that the alert is about."""
    roles: list[str] = []
    """Roles, one of which such a host has."""
    services: list[str] = []
    """Patterns for services, as in nats-server:4433."""

    def is_open(self) -> bool:
        """Whether it fits everything."""
        return not (self.kinds or self.hosts or self.roles or self.services)


class Rule(Filter):
    """What is done with alerts that fit. The first rule that fits decides."""

    name: Annotated[str, Field(max_length=100)] = ""
    severity: Severity | None = None
    """None leaves it to the kind of the alert."""
    hold_s: Annotated[Seconds | None, Field(alias="for")] = None
    """How long it has to stand before it is told."""
    tell: bool = True
    """Whether anybody is told; it is listed in any case."""
    outlets: list[Name] | None = None
    """Who is told; None for all."""


class Maintenance(Filter):
    """A time in which alerts that fit are not told: once, or on some days of each week."""

    name: Annotated[str, Field(max_length=100)] = ""
    begins: Annotated[datetime.datetime | None, Field(alias="from")] = None
    ends: Annotated[datetime.datetime | None, Field(alias="until")] = None
    days: list[Day] = []
    at: Annotated[str, AfterValidator(_clock)] | None = None
    lasts: Annotated[Seconds | None, Field(alias="for", gt=0, le=7 * 86_400)] = None
    zone: Annotated[str, AfterValidator(_zone)] = "UTC"

    @model_validator(mode="after")
    def _once_or_weekly(self) -> "Maintenance":
        once = (self.begins is not None, self.ends is not None)
        weekly = (bool(self.days), self.at is not None, self.lasts is not None)
        if not ((all(once) and not any(weekly)) or (all(weekly) and not any(once))):
            raise ValueError("expected `from` and `until`, or `days`, `at` and `for`")
        for moment in (self.begins, self.ends):
            if moment is not None and moment.tzinfo is None:
                raise ValueError("expected times with their offset, as in 2030-01-31T22:00:00Z")
        if self.begins and self.ends and self.begins >= self.ends:
            raise ValueError("expected `from` to be before `until`")
        return self


class _Outlet(_Table):
    name: Name
    min_severity: Severity = Severity.INFO
    """What matters less is not told here."""


class _Web(_Outlet):
    url: Url | None = None
    url_file: str | None = None
    url_env: str | None = None
    ca_file: str | None = None
    """Certificates to trust, as PEM; None for the system's."""
    timeout_s: Annotated[Seconds, Field(gt=0, le=60)] = 10.0

    @model_validator(mode="after")
    def _one_url(self) -> "_Web":
        if sum(one is not None for one in (self.url, self.url_file, self.url_env)) != 1:
            raise ValueError("expected one of url, url_file and url_env")
        return self


class AlertmanagerOutlet(_Web):
    """Prometheus's Alertmanager, by its API v2."""

    kind: Literal["alertmanager"]
    token_file: str | None = None
    token_env: str | None = None
    repeat_s: Annotated[Seconds, Field(gt=0, le=3600)] = 60.0
    """How often what goes on is sent again: without that it would be taken for ended."""
    labels: dict[str, str] = {}
    """Labels to add, for its routes."""


class WebhookOutlet(_Web):
    """Anything that takes JSON by HTTP POST."""

    kind: Literal["webhook"]
    secret_file: str | None = None
    secret_env: str | None = None
    """Key to sign with."""
    token_file: str | None = None
    token_env: str | None = None


class AppriseOutlet(_Outlet):
    """Mail, chats, pagers: whatever the Apprise library knows."""

    kind: Literal["apprise"]
    url_file: str | None = None
    url_env: str | None = None

    @model_validator(mode="after")
    def _one_url(self) -> "AppriseOutlet":
        if (self.url_file is None) == (self.url_env is None):
            raise ValueError("expected one of url_file and url_env")
        return self


class IcingaOutlet(_Web):
    """One passive service of Icinga 2, by its API: it is as bad as the worst alert."""

    kind: Literal["icinga"]
    host: str
    """Name of the host object that the service belongs to."""
    service: str = "reachmap"
    user: str
    password_file: str | None = None
    password_env: str | None = None
    repeat_s: Annotated[Seconds, Field(gt=0, le=3600)] = 60.0
    """How often it is told, so that it notices when nobody tells it any more."""

    @model_validator(mode="after")
    def _one_password(self) -> "IcingaOutlet":
        if (self.password_file is None) == (self.password_env is None):
            raise ValueError("expected one of password_file and password_env")
        return self


class HeartbeatOutlet(_Web):
    """Is called again and again while all is well with the collector: whoever misses it rings."""

    kind: Literal["heartbeat"]
    method: Literal["GET", "POST"] = "GET"
    repeat_s: Annotated[Seconds, Field(gt=0, le=86_400)] = 60.0


Outlet = Annotated[
    AlertmanagerOutlet | WebhookOutlet | AppriseOutlet | IcingaOutlet | HeartbeatOutlet,
    Field(discriminator="kind"),
]


class AlertsTable(_Table):
    """`[alerts]`: what makes an alert, and who is told."""

    hold_s: Seconds | None = None
    """That a cause stands before it is told; None for 0.4 intervals of checks."""
    clear_s: Seconds | None = None
    """That it stays away before it has ended; None for 1.2 intervals of checks."""
    flap_s: Seconds = 600.0
    flaps: Annotated[int, Field(ge=1, le=1000)] = 3
    certificate_warning_s: Annotated[Seconds, Field(alias="certificate_warning")] = 14 * 86_400.0
    certificate_critical_s: Annotated[Seconds, Field(alias="certificate_critical")] = 3 * 86_400.0
    rules: Annotated[list[Rule], Field(max_length=MAX_RULES)] = []
    outlets: Annotated[list[Outlet], Field(max_length=100)] = []
    maintenance: Annotated[list[Maintenance], Field(max_length=MAX_RULES)] = []


class CollectorFile(_Table):
    """The collector's configuration."""

    alerts: AlertsTable = AlertsTable()
