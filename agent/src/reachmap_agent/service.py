"""The agent as a service of its host: what systemd hears of it, and what SIGHUP makes it do.

SIGHUP has the settings read again. Where they say something else, the agent ends in good order and
begins anew with them, within the same process: so everything that stands in agent.toml can change
without a restart. What came from the environment or the command line stays as it was given.
"""

import asyncio
from collections.abc import Callable
from typing import Final

from reachmap_agent import app
from reachmap_agent.settings import Settings
from reachmap_shared import log
from reachmap_shared.errors import InvalidSettings
from reachmap_shared.lifecycle import on_hangup
from reachmap_shared.notify import Notifier

_STATUS_S: Final = 5.0
"""How old what `systemctl status` shows may be."""

_log = log.get("service")


class Service:
    """Runs the agent by the settings as they are now.

    Args:
        load: Reads the settings; raises InvalidSettings.
        notifier: Who tells systemd.
    """

    def __init__(self, load: Callable[[], Settings], notifier: Notifier) -> None:
        self._load = load
        self._notifier = notifier
        self._hangup = asyncio.Event()
        self._standing: Callable[[], str] = _starting
        self._refused = ""

    async def run(self) -> None:
        """Run until cancelled.

        Raises:
            InvalidSettings: The first settings cannot be used; later ones are refused.
        """
        settings = self._load()
        try:
            with on_hangup(self._hangup.set):
                async with asyncio.TaskGroup() as tasks:
                    telling = tasks.create_task(
                        self._notifier.keep_telling(self._status, _STATUS_S)
                    )
                    fresh: Settings | None = settings
                    while fresh is not None:
                        fresh = await self._serve(fresh)
                    telling.cancel()
        except BaseExceptionGroup as group:
            if (only := _only(group)) is not None:
                raise only from None
            raise

    async def _serve(self, settings: Settings) -> Settings | None:
        """Run the agent until it ends, or a hangup brings other settings; returns these."""
        async with asyncio.TaskGroup() as tasks:
            agent = tasks.create_task(app.run(settings, self._begun))
            other = tasks.create_task(self._other(settings))
            try:
                await asyncio.wait({agent, other}, return_when=asyncio.FIRST_COMPLETED)
            except asyncio.CancelledError:
                self._notifier.stopping()
                raise
            self._standing = _starting
            agent.cancel()
            other.cancel()
        return None if other.cancelled() else other.result()

    async def _other(self, settings: Settings) -> Settings:
        while True:
            await self._hangup.wait()
            self._hangup.clear()
            self._notifier.reloading()
            try:
                fresh = self._load()
            except InvalidSettings as error:
                self._refused = f"; new settings refused: {error}"
                _log.error("settings refused, the last good ones stay in force", reason=str(error))
            else:
                self._refused = ""
                _log.info("settings read again", changed=fresh != settings)
                if fresh != settings:
                    return fresh
            self._notifier.status(self._status())
            self._notifier.ready()

    def _begun(self, standing: Callable[[], str]) -> None:
        self._standing = standing
        self._notifier.status(self._status())
        self._notifier.ready()

    def _status(self) -> str:
        return f"{self._standing()}{self._refused}"


def _starting() -> str:
    return "starting"


def _only(error: BaseException) -> BaseException | None:
    """What a group is made of, if that is one thing."""
    if not isinstance(error, BaseExceptionGroup):
        return error
    return _only(error.exceptions[0]) if len(error.exceptions) == 1 else None
