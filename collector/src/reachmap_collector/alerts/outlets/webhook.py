"""Anything that takes JSON by HTTP POST, signed if there is a key."""

import hashlib
import hmac
import json
import time

from reachmap_collector.alerts import notices
from reachmap_collector.alerts.config import WebhookOutlet
from reachmap_collector.alerts.notices import Notice
from reachmap_collector.alerts.outlets.base import Active, Web
from reachmap_collector.alerts.secrets import Secrets


def signature(secret: str, timestamp: str, body: bytes) -> str:
    """What shows that a body comes from who has the secret, and when: its HMAC with SHA-256."""
    return hmac.new(secret.encode(), timestamp.encode() + b"." + body, hashlib.sha256).hexdigest()


class Webhook:
    """Posts each alert as it begins, changes and ends."""

    tells_all = False
    repeat_s: float | None = None

    def __init__(self, settings: WebhookOutlet, secrets: Secrets) -> None:
        self._web = Web(settings, secrets)
        self._secret = secrets.get("secret")

    async def send(self, told: Notice, _active: Active) -> str:
        """Post one alert."""
        body = json.dumps(notices.document(told)).encode()
        headers = {"Content-Type": "application/json"}
        if self._secret is not None:
            # The moment is signed too, so that nobody can send an old one again later.
            at = str(int(time.time()))
            headers["Reachmap-Timestamp"] = at
            headers["Reachmap-Signature"] = f"sha256={signature(self._secret, at, body)}"
        return await self._web.call("POST", content=body, headers=headers)

    async def repeat(self, _active: Active) -> None:
        """It is told once."""

    async def close(self) -> None:
        """Close its connections."""
        await self._web.close()
