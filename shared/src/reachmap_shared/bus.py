"""The bus: with `client` below it, the one module that knows the NATS client.

It turns the client's many errors into `BusUnavailable` and `QueryRefused`, never gives up
reconnecting once told to stay, and offers just what agents, collector and queries need.
"""

import asyncio
import contextlib
import json
import math
import re
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from reachmap_shared import __version__, log, permissions, subjects
from reachmap_shared.access import ANYBODY, Access
from reachmap_shared.client import Client, GuardedClient, Msg, errors
from reachmap_shared.errors import AccessRefused, BusUnavailable, QueryRefused
from reachmap_shared.permissions import INBOX
from reachmap_shared.straight import Delivery as Delivery
from reachmap_shared.waits import cancellable, within

if TYPE_CHECKING:
    from nats.micro.request import Request

DEFAULT_URL: Final = "nats://127.0.0.1:4222"

_RECONNECT_WAIT_S: Final = 1
"""Before another attempt with a server that is away, or slow."""
_REFUSED_WAIT_S: Final = 30
"""The longest wait before a server that does not let us in is asked again."""
_CONNECT_TIMEOUT_S: Final = 3
_FLUSH_TIMEOUT_S: Final = 1
_CLOSE_TIMEOUT_S: Final = 0.5

_SCHEMES: Final = ("nats", "tls", "ws", "wss")
_BLANK: Final = re.compile(r"\s")

_STATUS: Final = "Status"
_NOBODY: Final = "503"
"""The status of the answer that a server gives where nobody listens."""

_ERROR_CODE: Final = "Nats-Service-Error-Code"
_ERROR: Final = "Nats-Service-Error"
"""The headers of a service's answer that is none (NATS architecture record 32)."""

Handler = Callable[[str, bytes], Awaitable[None]]
"""Is given a message's subject and payload."""


Query = Callable[[dict[str, Any]], Awaitable[Any]]
"""Is given a query's parameters and returns its answer, both JSON; may raise QueryRefused."""

_log = log.get("bus")


def is_nats_url(url: str) -> bool:
    """Whether the client can make sense of it; the scheme may be left out."""
    if _BLANK.search(url):
        return False
    try:
        parts = urlsplit(url if "://" in url else f"nats://{url}")
        return parts.scheme in _SCHEMES and bool(parts.hostname) and parts.port != 0
    except ValueError:  # its port is none, or its brackets do not match
        return False


def host_of(url: str) -> str | None:
    """The host that a server's URL names."""
    return urlsplit(url if "://" in url else f"nats://{url}").hostname


def without_password(url: str) -> str:
    """A server's URL, fit for a log: without the user and password that it may bear."""
    scheme, separator, rest = url.rpartition("://")
    return scheme + separator + rest.rpartition("@")[2]


class Bus:
    """A connection to NATS. Make one with `connected` or `staying`."""

    def __init__(self, client: GuardedClient, inbox: str = INBOX) -> None:
        self._client = client
        self._inbox = inbox
        self._asked: dict[str, asyncio.Future[Msg]] = {}
        self._listening = asyncio.Lock()
        self._is_listening = False

    @property
    def is_connected(self) -> bool:
        """Whether a server is there right now."""
        return self._client.is_connected

    @property
    def server_host(self) -> str | None:
        """The host name or address of the server in use, as its URL gives it."""
        url = self._client.connected_url
        return url.hostname if url else None

    async def publish(self, subject: str, payload: bytes, reply: str = "") -> None:
        """Send one message; whoever answers it does so at `reply`.

        Raises BusUnavailable when it cannot be sent.
        """
        try:
            await self._client.publish(subject, payload, reply)
        except (errors.Error, OSError) as error:
            raise BusUnavailable(f"cannot publish: {error}") from error

    async def subscribe(self, subject: str, handler: Handler) -> None:
        """Call `handler` for each message on `subject`, one after the other.

        Raises BusUnavailable when the server does not confirm it; a bus that stays waits until it
        does, and subscribes again when the server is back.
        """

        async def deliver(message: Msg) -> None:
            await handler(message.subject, message.data)

        try:
            await self._client.subscribe(subject, cb=deliver)
        except (errors.Error, OSError) as error:
            raise BusUnavailable(f"cannot subscribe: {error}") from error
        await self.confirmed()

    def new_inbox(self) -> str:
        """A subject of this connection's own, to be answered at."""
        return self._client.new_inbox()

    async def listen(self, subject: str, heard: Callable[[Delivery], None]) -> None:
        """Hand each message on `subject` to `heard` as it comes; as `subscribe` else."""
        try:
            await self._client.listen(subject, heard)
        except (errors.Error, OSError) as error:
            raise BusUnavailable(f"cannot subscribe: {error}") from error
        await self.confirmed()

    async def request(self, subject: str, payload: bytes, timeout_s: float) -> Delivery:
        """Ask whoever listens on `subject`; raises BusUnavailable when nobody answers in time."""
        try:
            reply = await cancellable(self._client.request(subject, payload, timeout=timeout_s))
        except errors.NoRespondersError as error:
            raise BusUnavailable("nobody there to ask") from error
        except (errors.Error, TimeoutError, OSError) as error:
            raise BusUnavailable(f"no answer in {timeout_s:g} s") from error
        return _delivery(reply)

    async def answer(
        self, subject: str, handler: Callable[[str, bytes], Awaitable[bytes | None]]
    ) -> None:
        """Answer each request on `subject` with what `handler` makes of it, one after the other.

        It is given the request's own subject, and its payload; for None nothing is answered.
        As `subscribe` else.
        """

        async def reply(message: Msg) -> None:
            if message.reply:
                said = await handler(message.subject, message.data)
                if said is not None:
                    await message.respond(said)

        try:
            await self._client.subscribe(subject, cb=reply)
        except (errors.Error, OSError) as error:
            raise BusUnavailable(f"cannot subscribe: {error}") from error
        await self.confirmed()

    async def ask(self, subject: str, payload: bytes, timeout_s: float, answerer: str) -> bytes:
        """Ask the agent `answerer`, whom alone the server lets answer.

        Raises BusUnavailable when it does not answer in time.
        """
        place = permissions.answer_inbox(self._inbox, answerer, secrets.token_hex(8))
        try:
            await self._listen_for_answers()
            self._asked[place] = asyncio.get_running_loop().create_future()
            await self._client.publish(subject, payload, place)
            async with asyncio.timeout(timeout_s):
                reply = await self._asked[place]
        except (errors.Error, TimeoutError, OSError) as error:
            raise BusUnavailable(f"no answer in {timeout_s:g} s") from error
        finally:
            self._asked.pop(place, None)
        if (reply.headers or {}).get(_STATUS) == _NOBODY:
            raise BusUnavailable("nobody there to ask")
        return reply.data

    async def _listen_for_answers(self) -> None:
        async def take(message: Msg) -> None:
            asked = self._asked.get(message.subject)
            if asked is not None and not asked.done():
                asked.set_result(message)

        async with self._listening:
            if not self._is_listening:
                everybody = permissions.answer_inbox(self._inbox, "*", "*")
                await self._client.subscribe(everybody, cb=take)
                self._is_listening = True

    async def flush(self) -> None:
        """Wait until the server has seen all that was sent. Raises BusUnavailable."""
        try:
            # The client's question overtakes what it has not written yet; a second one does not.
            await cancellable(self._client.flush(timeout=_CONNECT_TIMEOUT_S))
            await cancellable(self._client.flush(timeout=_CONNECT_TIMEOUT_S))
        except (errors.Error, OSError) as error:
            raise BusUnavailable(f"the NATS server does not answer: {error}") from error

    async def confirmed(self) -> None:
        """Likewise; a bus that stays waits as long as it takes, unless it was given up."""
        is_told = False
        while True:
            try:
                return await self.flush()
            except BusUnavailable as error:
                if not self._client.stays or self._client.is_closed:
                    raise
                if not is_told:
                    _log.warning("the NATS server is slow, waiting for it", reason=str(error))
                is_told = True
                await asyncio.sleep(_RECONNECT_WAIT_S)

    async def query(self, name: str, parameters: Mapping[str, Any], timeout_s: float = 4.0) -> Any:
        """Ask the collector; returns its JSON answer.

        Raises:
            QueryRefused: The collector found the question wrong.
            BusUnavailable: No collector is on this bus, or it did not answer in `timeout_s`.
        """
        try:
            reply = await cancellable(
                self._client.request(
                    subjects.query(name), json.dumps(parameters).encode(), timeout=timeout_s
                )
            )
        except errors.NoRespondersError as error:
            raise BusUnavailable("no collector is on this bus") from error
        except (errors.Error, TimeoutError, OSError) as error:
            raise BusUnavailable(f"the collector did not answer in {timeout_s:.2g} s") from error
        headers = reply.headers or {}
        if _ERROR_CODE in headers:
            raise QueryRefused(headers[_ERROR_CODE], headers.get(_ERROR, ""))
        return json.loads(reply.data)

    async def find_collector(self, timeout_s: float = 3.0) -> None:
        """See that a collector is there, at once. Raises BusUnavailable."""
        place = f"$SRV.PING.{subjects.QUERY_SERVICE}"
        try:
            await cancellable(self._client.request(place, b"", timeout=timeout_s))
        except errors.NoRespondersError as error:
            raise BusUnavailable("no collector is on this bus") from error
        except (errors.Error, TimeoutError, OSError) as error:
            raise BusUnavailable(f"the collector did not answer in {timeout_s:.2g} s") from error

    async def serve_queries(self, queries: Mapping[str, Query]) -> None:
        """Answer queries as a NATS micro service (ADR-32), until the bus is closed."""
        # Here, since no agent does.
        from nats.micro.service import EndpointConfig, Service, ServiceConfig

        service = Service(
            self._client,
            ServiceConfig(
                name=subjects.QUERY_SERVICE,
                version=__version__,
                description="reachmap's collector: what can reach what, and why not",
            ),
        )
        # It ends with a flush of the client's own, and has subscribed by then.
        with contextlib.suppress(TimeoutError, errors.FlushTimeoutError):
            async with asyncio.timeout(_CONNECT_TIMEOUT_S):
                await cancellable(service.start())
        for name, query in queries.items():
            await service.add_endpoint(
                EndpointConfig(
                    name=name, subject=subjects.query(name), handler=_answer_with(name, query)
                )
            )
        await self.confirmed()


def _delivery(message: Msg) -> Delivery:
    return Delivery(message.subject, message.data, message.reply, message.headers or {})


def _answer_with(name: str, query: Query) -> "Callable[[Request], Awaitable[None]]":
    async def answer(request: "Request") -> None:
        try:
            result = json.dumps(await query(_parameters(request.data))).encode()
        except QueryRefused as refusal:
            await request.respond_error(refusal.code, str(refusal))
        except Exception:  # noqa: BLE001  one bad query must not take the others' answers away
            _log.exception("query failed", query=name)
            await request.respond_error("500", f"the query {name} failed in the collector")
        else:
            await request.respond(result)

    return answer


def _parameters(data: bytes) -> dict[str, Any]:
    try:
        parameters = json.loads(data or b"{}")
    except (ValueError, RecursionError) as error:
        raise QueryRefused("400", f"not a JSON object: {error}") from error
    if not isinstance(parameters, dict):
        raise QueryRefused("400", "a query's parameters are a JSON object")
    return parameters


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
