"""The bus: connections to it, for one question or to stay.

One that stays never gives up reconnecting. What can be done with either is in `connection`.
"""

import asyncio
import math
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

from reachmap_shared import log
from reachmap_shared.access import ANYBODY, Access
from reachmap_shared.client import Client, GuardedClient, errors
from reachmap_shared.connection import Bus as Bus
from reachmap_shared.errors import AccessRefused, BusUnavailable
from reachmap_shared.micro import Query as Query
from reachmap_shared.straight import Delivery as Delivery
from reachmap_shared.urls import without_password
from reachmap_shared.waits import cancellable, within

_RECONNECT_WAIT_S: Final = 1
"""Before another attempt with a server that is away."""
_REFUSED_WAIT_S: Final = 30
"""The longest wait before a server that does not let us in is asked again."""
_CONNECT_TIMEOUT_S: Final = 3
_FLUSH_TIMEOUT_S: Final = 1
_CLOSE_TIMEOUT_S: Final = 0.5

_log = log.get("bus")


@asynccontextmanager
async def connected(
    urls: Sequence[str], name: str, access: Access = ANYBODY, timeout_s: float = math.inf
) -> AsyncIterator[Bus]:
    """A connection for one question: at once, or an error that says what to check.

    Whoever has less time than is usual says so by `timeout_s`.

    Raises:
        BusUnavailable: No server answers.
        AccessRefused: One does, and does not let us in.
        InvalidSettings: What we are to show cannot be used.
    """
    access.check(urls)
    client = GuardedClient(access, stays=False)
    failures: list[Exception] = []

    async def trouble(error: Exception) -> None:
        # The client would go round its servers for ever; once is enough for one question.
        failures.append(error)
        if len(failures) >= len(urls) and not (client.is_connected or client.is_closed):
            raise error

    try:
        try:
            async with asyncio.timeout(min(_CONNECT_TIMEOUT_S, timeout_s)):
                await cancellable(
                    _connect(
                        client,
                        urls,
                        name=name,
                        allow_reconnect=False,
                        error_cb=trouble,
                        connect_timeout=2,
                    )
                )
        except (errors.Error, OSError, TimeoutError) as error:
            for failure in (error, *failures):
                if why := client.refusal(failure):
                    raise AccessRefused(
                        f"the NATS server at {_places(urls)} does not let us in: {why}"
                    ) from error
            raise BusUnavailable(
                f"no NATS server answers at {_places(urls)} ({_reason(error)})"
            ) from error
        yield Bus(client, access.inbox)
    finally:
        await _close(client)


@asynccontextmanager
async def staying(
    urls: Sequence[str],
    name: str,
    on_connect: Callable[[], Awaitable[None]] | None = None,
    remind_s: float | None = None,
    access: Access = ANYBODY,
) -> AsyncIterator[Bus]:
    """A connection that waits for a server as long as it takes, and comes back after every loss.

    `on_connect` is called after each return of the server, not at the first connection. What is
    published is flushed at the end. While there is no server, the log says so again every
    `remind_s` seconds, if that is given. A server that does not let us in is asked again too, less
    and less often: an administrator may change its mind.

    Raises:
        BusUnavailable: There is no server to wait for. The block is cancelled then.
        InvalidSettings: What we are to show cannot be used.
    """
    access.check(urls)
    client = GuardedClient(access, stays=True)
    stay = asyncio.timeout(None)
    leaving = False
    absence = _Absence(_places(urls), remind_s)

    away = False
    reported: set[str] = set()

    async def lost() -> None:
        nonlocal away
        if not (client.is_closed or leaving):
            absence.begin()
        if not (client.is_closed or away):  # one that lets us in and throws us out is away
            away = True
            _log.warning("bus lost, reconnecting")

    async def back() -> None:
        nonlocal away
        away = False
        reported.clear()
        absence.end()
        client.options["reconnect_time_wait"] = _RECONNECT_WAIT_S
        _log.info("bus back", server=_place(client))
        if on_connect is not None:
            await on_connect()

    async def closed() -> None:
        if not leaving:
            stay.reschedule(asyncio.get_running_loop().time())

    async def trouble(error: Exception) -> None:
        # The client repeats itself at every attempt; a log is for what is new.
        if why := client.refusal(error):
            wait = client.options["reconnect_time_wait"]
            client.options["reconnect_time_wait"] = min(2 * wait, _REFUSED_WAIT_S)
        elif client.is_connected:
            reported.clear()
        if (reason := why or _reason(error)) not in reported:
            reported.add(reason)
            if why:
                _log.error(
                    "bus refuses us, trying again",
                    server=_places(urls),
                    reason=why,
                    to_do="see docs/bus.md: most often a new bundle (reachmap enroll) helps",
                )
            else:
                _log.warning("bus trouble", reason=reason)

    connecting = _connect(
        client,
        urls,
        name=name,
        max_reconnect_attempts=-1,
        reconnect_time_wait=_RECONNECT_WAIT_S,
        connect_timeout=_CONNECT_TIMEOUT_S,
        ping_interval=10,
        max_outstanding_pings=2,
        disconnected_cb=lost,
        reconnected_cb=back,
        closed_cb=closed,
        error_cb=trouble,
    )
    try:
        async with stay:
            absence.begin()
            await cancellable(connecting)
            absence.end()
            client.options["reconnect_time_wait"] = _RECONNECT_WAIT_S
            yield Bus(client, access.inbox)
            leaving = True
    except errors.Error as error:
        raise BusUnavailable(f"cannot connect to {_places(urls)}: {error}") from error
    except TimeoutError as error:
        if not stay.expired():
            raise
        reason = _reason(client.last_error) if client.last_error else "it closed the connection"
        raise BusUnavailable(f"the NATS client gave up: {reason}") from error
    finally:
        leaving = True
        absence.end()
        await _leave(client)


class _Absence:
    """Says again and again that the bus is away, from its beginning to its end."""

    def __init__(self, servers: str, remind_s: float | None) -> None:
        self._servers = servers
        self._remind_s = remind_s
        self._since = 0.0
        self._next: asyncio.TimerHandle | None = None

    def begin(self) -> None:
        if self._remind_s is not None and self._next is None:
            loop = asyncio.get_running_loop()
            self._since = loop.time()
            self._next = loop.call_later(self._remind_s, self._remind, self._remind_s)

    def end(self) -> None:
        if self._next is not None:
            self._next.cancel()
            self._next = None

    def _remind(self, remind_s: float) -> None:
        loop = asyncio.get_running_loop()
        away_s = round(loop.time() - self._since)
        _log.warning("bus still away, reconnecting", servers=self._servers, away_s=away_s)
        self._next = loop.call_later(remind_s, self._remind, remind_s)


async def _connect(client: GuardedClient, urls: Sequence[str], **options: Any) -> None:
    if not urls:  # the client would look for a server among none, without ever pausing
        raise errors.NoServersError
    await client.connect(list(urls), **options, **client.proving())


async def _leave(client: Client) -> None:
    """See what was published off to the server, if it is there, and close."""
    try:
        if client.is_connected:
            await client.flush(timeout=_FLUSH_TIMEOUT_S)
    except (errors.Error, OSError, TimeoutError) as error:
        _log.warning("bus left without a last word", reason=_reason(error))
    finally:
        await _close(client)


async def _close(client: Client) -> None:
    # It has no options before it has understood its URLs, and then it cannot be closed either.
    if client.options and not client.is_closed:
        # TLS parts by an exchange of words, and waits half a minute for whoever has gone.
        await within(_CLOSE_TIMEOUT_S, client.close())


def _place(client: Client) -> str:
    return without_password(client.connected_url.geturl()) if client.connected_url else ""


def _places(urls: Sequence[str]) -> str:
    return ", ".join(without_password(url) for url in urls)


def _reason(error: Exception) -> str:
    return str(error) or type(error).__name__
