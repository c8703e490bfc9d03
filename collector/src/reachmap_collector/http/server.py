"""The server under the API: bound first, ended with the collector, patient with nobody for long."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any, Final

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from reachmap_collector.errors import ServerError
from reachmap_collector.http.api import application
from reachmap_collector.http.settings import HttpSettings
from reachmap_collector.queries import Queries
from reachmap_shared import log

MAX_HEAD: Final = 16_384
"""Octets of a request's line and headers."""

MAX_CONNECTIONS: Final = 64
"""At once; more are told to come back later."""

CROWD: Final = 4
"""Times that number may be connected, most of them to be told so; whoever comes then is cut."""

PATIENCE_S: Final = 20.0
"""For a request to arrive and its answer to be taken, and for the next on the same connection."""

_GRACE_S: Final = 2
"""For answers under way, when the collector ends."""

_log = log.get("http")


class _Patient(H11Protocol):
    """A connection that is cut when nothing comes of it: slow clients would hold all places."""

    _due: asyncio.TimerHandle | None = None
    _served: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)  # type: ignore[arg-type]  # it narrows the type
        if len(self.connections) > CROWD * MAX_CONNECTIONS:
            self.transport.abort()  # the process's descriptors are not for strangers to use up
            return
        self._due = self.loop.call_later(PATIENCE_S, self._look)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if self._due is not None:
            self._due.cancel()

    def _look(self) -> None:
        if self.cycle is self._served:  # no request since the last look
            self.transport.abort()
            return
        self._served = self.cycle
        self._due = self.loop.call_later(PATIENCE_S, self._look)


class _Server(uvicorn.Server):
    """A server that leaves signals to the process that it is a part of."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@asynccontextmanager
async def serving(
    settings: HttpSettings | None,
    queries: Queries,
    is_ready: Callable[[], bool],
    more_metrics: Callable[[], str] = str,
) -> AsyncIterator[None]:
    """Serve the API while the block runs; with no settings there is none.

    Args:
        settings: Where, and who may ask.
        queries: What answers.
        is_ready: Whether the collector hears its agents right now.
        more_metrics: Further series for Prometheus, in its text form.

    Raises:
        ServerError: The address cannot be listened on.
    """
    if settings is None:
        yield
        return
    config = uvicorn.Config(
        application(queries, settings, is_ready, more_metrics),
        http=_Patient,
        ws="none",
        lifespan="off",
        loop="none",
        log_config=None,
        log_level="critical",  # strangers' mistakes are none of our log's, and ours are told there
        access_log=False,
        proxy_headers=False,
        server_header=False,
        limit_concurrency=MAX_CONNECTIONS,
        h11_max_incomplete_event_size=MAX_HEAD,
        timeout_graceful_shutdown=_GRACE_S,
    )
    config.load()
    config.ssl = settings.tls
    bound = _bound(settings)
    server = _Server(config)
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(server.serve([bound]))
        _log.info("HTTP API ready", url=settings.url, token=settings.token is not None)
        try:
            yield
        finally:
            server.should_exit = True
            await asyncio.wait({task}, timeout=_GRACE_S + 1)


def _bound(settings: HttpSettings) -> socket.socket:
    family = socket.AF_INET if settings.address.version == 4 else socket.AF_INET6
    bound = socket.socket(family, socket.SOCK_STREAM)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        bound.bind((str(settings.address), settings.port))
        bound.setblocking(False)
    except OSError as error:
        bound.close()
        raise ServerError(
            f"cannot listen for HTTP on {settings.authority}: {error.strerror}"
        ) from error
    return bound
