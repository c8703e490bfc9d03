"""A passive service of Icinga 2, by its API: one, which is as bad as the worst alert.

The API and not the command file that Nagios has besides: it works from another host, and says
whether the result was taken.
"""

from collections.abc import Mapping
from typing import Final

import httpx

from reachmap_collector.alerts.config import IcingaOutlet
from reachmap_collector.alerts.lifecycle import Severity
from reachmap_collector.alerts.notices import Notice
from reachmap_collector.alerts.outlets.base import Active, Web
from reachmap_collector.alerts.secrets import Secrets

_EXITS: Final[Mapping[Severity, int]] = {
    Severity.INFO: 0,
    Severity.WARNING: 1,
    Severity.CRITICAL: 2,
}
_WORDS: Final = ("OK", "WARNING", "CRITICAL")
_LISTED: Final = 50
_MISSED: Final = 3
"""Repetitions that may get lost before the service counts as not heard of."""


class Icinga:
    """Tells how things stand whenever that changes, and again and again."""

    tells_all = True

    def __init__(self, settings: IcingaOutlet, secrets: Secrets) -> None:
        self._web = Web(settings, secrets, headers={"Accept": "application/json"})
        self._url = f"{self._web.url.rstrip('/')}/v1/actions/process-check-result"
        self._settings = settings
        self._login = httpx.BasicAuth(settings.user, secrets.get("password") or "")
        self.repeat_s: float | None = settings.repeat_s

    async def send(self, told: Notice, active: Active) -> str:
        """Tell how things stand."""
        return await self._tell(active)

    async def repeat(self, active: Active) -> None:
        """Tell how things stand."""
        await self._tell(active)

    async def close(self) -> None:
        """Close its connections."""
        await self._web.close()

    async def _tell(self, active: Active) -> str:
        now = active(_LISTED)
        status = 0 if now.worst is None else _EXITS[now.worst]
        lines = [f"REACHMAP {_WORDS[status]} - {now.count} alerts"]
        lines += [f"{told.severity}: {told.summary}" for told in now.notices]
        result = {
            "type": "Service",
            "filter": "host.name == reachmap_host && service.name == reachmap_service",
            "filter_vars": {
                "reachmap_host": self._settings.host,
                "reachmap_service": self._settings.service,
            },
            "exit_status": status,
            "plugin_output": "\n".join(lines),
            "performance_data": [f"alerts={now.count}"],
            "check_source": "reachmap",
            "ttl": int(self._settings.repeat_s * _MISSED) + 1,
        }
        return await self._web.call("POST", self._url, json=result, auth=self._login)
