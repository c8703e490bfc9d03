"""Mail, chats, pagers: whatever the Apprise library knows, by the URLs that it understands."""

import asyncio
import importlib
import logging
from collections.abc import Mapping
from typing import Any, Final

from reachmap_collector.alerts import notices
from reachmap_collector.alerts.config import AppriseOutlet
from reachmap_collector.alerts.lifecycle import Severity
from reachmap_collector.alerts.notices import Notice
from reachmap_collector.alerts.outlets.base import Active, OutletFailed
from reachmap_collector.alerts.secrets import Secrets

# It logs URLs, with all their secrets, when something is wrong with them.
logging.getLogger("apprise").setLevel(logging.CRITICAL + 1)

_TYPES: Final[Mapping[Severity, str]] = {
    Severity.INFO: "info",
    Severity.WARNING: "warning",
    Severity.CRITICAL: "failure",
}


class Apprise:
    """Tells of each alert in words."""

    tells_all = False
    repeat_s: float | None = None

    def __init__(self, _settings: AppriseOutlet, secrets: Secrets) -> None:
        try:
            # Not everybody has it: it is an extra, and takes half a second to load.
            library: Any = importlib.import_module("apprise")
        except ImportError:
            raise OutletFailed(
                "needs the Apprise library: pip install 'reachmap-collector[apprise]'",
                is_final=True,
            ) from None
        self._service = library.Apprise()
        for number, url in enumerate((secrets.get("url") or "").split(), 1):
            if not self._service.add(url):
                raise OutletFailed(f"URL {number} is none that Apprise knows", is_final=True)

    async def send(self, told: Notice, _active: Active) -> str:
        """Tell of one alert."""
        kind = _TYPES[told.severity] if told.is_active else "success"
        title = f"[reachmap] {told.severity if told.is_active else 'ended'}: {told.summary}"
        # In a thread: many of its services know no asyncio.
        taken = await asyncio.to_thread(
            self._service.notify, body=notices.text(told), title=title, notify_type=kind
        )
        if not taken:
            raise OutletFailed("Apprise could not deliver it")
        return "delivered"

    async def repeat(self, _active: Active) -> None:
        """It is told once."""

    async def close(self) -> None:
        """It holds no connection."""
