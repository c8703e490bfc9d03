"""A call again and again while the collector is well: whoever misses it raises the alarm."""

from reachmap_collector.alerts.config import HeartbeatOutlet
from reachmap_collector.alerts.groups import Kind
from reachmap_collector.alerts.notices import Notice
from reachmap_collector.alerts.outlets.base import Active, Web
from reachmap_collector.alerts.secrets import Secrets


class Heartbeat:
    """Calls its URL, unless the collector hears nobody."""

    tells_all = False

    def __init__(self, settings: HeartbeatOutlet, secrets: Secrets) -> None:
        self._web = Web(settings, secrets)
        self._method = settings.method
        self.repeat_s: float | None = settings.repeat_s

    async def send(self, told: Notice, _active: Active) -> str:
        """No single alert is any of its business; a trial is a beat like any other."""
        return await self._web.call(self._method) if told.id.startswith("test-") else ""

    async def repeat(self, active: Active) -> None:
        """Say that the collector is well; one that is cut off is not."""
        if Kind.CUT_OFF not in active(0).kinds:
            await self._web.call(self._method)

    async def close(self) -> None:
        """Close its connections."""
        await self._web.close()
