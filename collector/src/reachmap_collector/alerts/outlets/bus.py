"""The bus itself, for other programs and `reachmap watch --alerts`: there without being asked."""

import json
from typing import Final

from reachmap_collector.alerts import notices
from reachmap_collector.alerts.notices import Notice
from reachmap_collector.alerts.outlets.base import Active, OutletFailed
from reachmap_shared import subjects
from reachmap_shared.bus import Bus
from reachmap_shared.errors import BusUnavailable

BUS: Final = "bus"
"""The name that it has among the outlets."""


class BusOutlet:
    """Publishes each alert as it begins, changes and ends, on a subject of its own."""

    tells_all = False
    repeat_s: float | None = None

    def __init__(self, connection: Bus) -> None:
        self._bus = connection

    async def send(self, told: Notice, _active: Active) -> str:
        """Publish one alert."""
        subject = subjects.alert(told.id)
        try:
            await self._bus.publish(subject, json.dumps(notices.document(told)).encode())
        except BusUnavailable as error:
            raise OutletFailed(str(error)) from error
        return f"published on {subject}"

    async def repeat(self, _active: Active) -> None:
        """It is told once."""

    async def close(self) -> None:
        """The bus is not ours to close."""
