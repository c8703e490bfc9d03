"""What systemd hears of a service: that it is ready, how it fares, and that it still lives.

The protocol is sd_notify(3): datagrams to the socket that NOTIFY_SOCKET names. Where there is none,
nobody started us who would want to hear it, and nothing happens.
"""

import asyncio
import os
import socket
import time
from collections.abc import Callable, Mapping
from typing import Final

_SIGNS_A_PERIOD: Final = 3
"""Signs of life within the time that systemd waits for one: two may be late."""


class Notifier:
    """Talks to whoever started this process, if that is systemd.

    Args:
        environment: Where NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID would be.
    """

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        path = environment.get("NOTIFY_SOCKET", "")
        self._address = f"\0{path[1:]}" if path.startswith("@") else path
        self._sign_s = _watchdog_s(environment) / _SIGNS_A_PERIOD
        self._status = ""

    def ready(self) -> None:
        """All that makes it useful has begun, or the settings were read again."""
        self._say("READY=1")

    def reloading(self) -> None:
        """The settings are being read again; `ready` says when that is over."""
        self._say("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self) -> None:
        """It was told to stop, and is about it."""
        self._say("STOPPING=1")

    def status(self, status: str) -> None:
        """How it fares, in a line, for `systemctl status`; said only when it is news."""
        if status != self._status:
            self._status = status
            self._say(f"STATUS={status}")

    async def keep_telling(self, status: Callable[[], str], every_s: float) -> None:
        """Tell the status and, where systemd watches, give signs of life; until cancelled.

        The event loop itself gives them, so one that hangs is found out.
        """
        if not self._address:
            return
        while True:
            self.status(status())
            if self._sign_s:
                self._say("WATCHDOG=1")
            await asyncio.sleep(min(every_s, self._sign_s or every_s))

    def _say(self, *lines: str) -> None:
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
                channel.setblocking(False)
                channel.sendto("\n".join(lines).encode(), self._address)
        except OSError:  # systemd draws its own conclusions; ours is the work
            pass


def _watchdog_s(environment: Mapping[str, str]) -> float:
    """Within so many seconds systemd wants a sign of life; 0 where it wants none."""
    try:
        period_us = int(environment.get("WATCHDOG_USEC", "0"))
        meant = int(environment.get("WATCHDOG_PID", str(os.getpid())))
    except ValueError:
        return 0.0
    return period_us / 1e6 if meant == os.getpid() else 0.0
