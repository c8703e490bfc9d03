"""A connection to the bus: what is said, heard, asked and answered on it.

It turns the client's many errors into `BusUnavailable` and `QueryRefused`. `bus` makes one.
"""

import asyncio
import json
import secrets
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from reachmap_shared import log, micro, permissions, subjects
from reachmap_shared.client import GuardedClient, Msg, errors
from reachmap_shared.errors import BusUnavailable, QueryRefused
from reachmap_shared.permissions import INBOX
from reachmap_shared.straight import Delivery
from reachmap_shared.waits import cancellable

_FLUSH_S: Final = 3
"""For a server to say that it has seen all that was sent."""

_AGAIN_S: Final = 1
"""Before another attempt with one that is slow."""

_STATUS: Final = "Status"
_NOBODY: Final = "503"
"""The status of the answer that a server gives where nobody listens."""

Handler = Callable[[str, bytes], Awaitable[None]]
"""Is given a message's subject and payload."""

_log = log.get("bus")


class Bus:
    """A connection to NATS; made by `connected` and `staying` of `bus`."""

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
            await cancellable(self._client.flush(timeout=_FLUSH_S))
            await cancellable(self._client.flush(timeout=_FLUSH_S))
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
                await asyncio.sleep(_AGAIN_S)

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
        if micro.ERROR_CODE in headers:
            raise QueryRefused(headers[micro.ERROR_CODE], headers.get(micro.ERROR, ""))
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

    async def serve_queries(self, queries: Mapping[str, micro.Query]) -> None:
        """Answer queries as a NATS micro service (ADR-32), until the bus is closed."""
        await micro.begin(self._client, queries)
        await self.confirmed()


def _delivery(message: Msg) -> Delivery:
    return Delivery(message.subject, message.data, message.reply, message.headers or {})
