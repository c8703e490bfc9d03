"""Prometheus's Alertmanager, by its API v2."""

import datetime
from collections.abc import Mapping
from typing import Any, Final

from reachmap_collector.alerts import notices
from reachmap_collector.alerts.config import AlertmanagerOutlet
from reachmap_collector.alerts.notices import Notice
from reachmap_collector.alerts.outlets.base import Active, Web
from reachmap_collector.alerts.secrets import Secrets

_MISSED: Final = 4
"""Repetitions that may get lost before Alertmanager takes an alert for ended."""

_AT_ONCE: Final = 500
"""Alerts in one request."""


class Alertmanager:
    """Tells of what is new at once, and of all that goes on again and again."""

    tells_all = False

    def __init__(self, settings: AlertmanagerOutlet, secrets: Secrets) -> None:
        self._web = Web(settings, secrets)
        self._labels = settings.labels
        self.repeat_s: float | None = settings.repeat_s
        self._url = f"{self._web.url.rstrip('/')}/api/v2/alerts"

    async def send(self, told: Notice, _active: Active) -> str:
        """Tell of one alert."""
        alerts = [self._alert(told, told.labels, is_over=not told.is_active)]
        if told.replaces is not None:
            # It goes by other labels from now on, and would go on by the old ones else.
            alerts.append(self._alert(told, told.replaces, is_over=True))
        return await self._web.call("POST", self._url, json=alerts)

    async def repeat(self, active: Active) -> None:
        """Tell of all that goes on."""
        alerts = [self._alert(told, told.labels, is_over=False) for told in active(None).notices]
        for first in range(0, len(alerts), _AT_ONCE):
            await self._web.call("POST", self._url, json=alerts[first : first + _AT_ONCE])

    async def close(self) -> None:
        """Close its connections."""
        await self._web.close()

    def _alert(self, told: Notice, labels: Mapping[str, str], *, is_over: bool) -> dict[str, Any]:
        ends = None if is_over else _now() + (self.repeat_s or 0.0) * _MISSED
        annotations = {
            "summary": told.summary,
            "description": notices.text(told),
            "advice": told.advice,
            "explains": str(told.explains),
            "acknowledged_by": told.acknowledged_by,
        }
        return {
            "labels": {**labels, **self._labels},
            "annotations": {name: value for name, value in annotations.items() if value},
            "startsAt": _time(told.began),
            # Of times in the past or now it takes an alert to be over.
            "endsAt": _time(ends if ends is not None else _now()),
        }


def _now() -> float:
    return datetime.datetime.now(datetime.UTC).timestamp()


def _time(seconds: float) -> str:
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).isoformat()
