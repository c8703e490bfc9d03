"""`reachmap serve`: what the collector is composed of, and how it starts, reloads and stops."""

import asyncio
import contextlib
import signal
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from reachmap_collector import credentials, embedded
from reachmap_collector.collector import Collector
from reachmap_collector.errors import InvalidFile, Problem, ServerError, StoreUnavailable
from reachmap_collector.identity.servers import Mode
from reachmap_collector.identity.store import Store
from reachmap_collector.keeper import keeping
from reachmap_collector.queries import Queries
from reachmap_collector.store import default_url, open_store
from reachmap_collector.topology.load import load_topology
from reachmap_shared import bus, log
from reachmap_shared.access import ANYBODY, Access
from reachmap_shared.bus import Bus
from reachmap_shared.errors import BusUnavailable, QueryRefused
from reachmap_shared.permissions import Party

_RIVAL_S: Final = 1.0
"""For another collector to answer; where there is none the server says so at once."""

_REMIND_S: Final = 30.0
"""How often the log says that the bus is still away: whoever looks into it finds out soon."""

_log = log.get("serve")


@dataclass(frozen=True, slots=True)
class ServeSettings:
    """What a collector is started with."""

    topology: Path
    data: Path
    """Where it keeps what must survive it."""
    nats: tuple[str, ...] | None = None
    """URLs of NATS servers of one cluster; None to start a server of our own."""
    listening: embedded.Listening = embedded.ON_LOOPBACK
    """Where our own server listens."""
    access: Access | None = None
    """How to connect to a server that is not our own; None for what was prepared for it."""
    store: str | None = None
    """URL of the database to keep things in; None for a file of our own."""


async def serve(settings: ServeSettings) -> None:
    """Run the collector until cancelled.

    Raises:
        InvalidFile: The topology or the data directory is wrong; nothing was started.
        ServerError: Our own NATS server did not start, or ended by itself.
        StoreRefused: What is to be kept cannot be, until somebody does something about it.
    """
    topology = load_topology(settings.topology)
    try:
        settings.data.mkdir(parents=True, exist_ok=True, mode=0o700)
        own = credentials.load_or_create(settings.data)
    except OSError as error:
        reason = f"cannot keep the collector's state: {error.strerror}"
        raise InvalidFile(settings.data, [Problem("", reason)]) from error
    collectors: list[Collector] = []

    async def back() -> None:
        for collector in collectors:
            collector.bus_is_back()

    with contextlib.closing(open_store(settings.store or default_url(settings.data))) as store:
        with contextlib.suppress(StoreUnavailable):  # it is waited for, and status says so
            store.open()
        async with (
            _bus(settings) as (urls, access),
            bus.staying(urls, "reachmap collector", back, _REMIND_S, access=access) as connection,
            keeping(store, time.time) as keeper,
        ):
            await _refuse_a_second(connection, urls)
            collector = Collector(topology, own, connection, keeper)
            collectors.append(collector)
            await connection.serve_queries(Queries(collector).endpoints())
            with _reloading_on_hangup(collector, settings.topology):
                _log.info(
                    "collector ready",
                    nats=",".join(map(bus.without_password, urls)),
                    hosts=len(topology.hosts),
                    flows=len(collector.flows),
                )
                await collector.run()


async def _refuse_a_second(connection: Bus, urls: Sequence[str]) -> None:
    """Two collectors on one bus would give every agent two plans, in turn and without end."""
    try:
        await connection.query("status", {}, timeout_s=_RIVAL_S)
    except QueryRefused:
        pass  # somebody answered, if only with an error
    except BusUnavailable:
        return
    raise ServerError(
        f"another collector answers at {', '.join(map(bus.without_password, urls))}: stop it "
        "first, or give this one a bus of its own with --nats or --nats-port"
    )


@asynccontextmanager
async def _bus(settings: ServeSettings) -> AsyncIterator[tuple[Sequence[str], Access]]:
    """Where the bus is, and how to connect to it."""
    store = Store(settings.data)
    if settings.nats is None:
        async with embedded.running(settings.data, settings.listening) as place:
            yield place.urls, store.access(Party.COLLECTOR, Mode.JWT)
        return
    access = settings.access
    if access is None and store.place.mode is not None:
        access = store.access(Party.COLLECTOR, store.place.mode)
    if access is None:
        _log.warning("no credentials for the bus: whoever reaches it can speak for any host")
        access = ANYBODY
    store.prepare()
    store.place = replace(
        store.place,
        urls=tuple(settings.nats),
        agents_urls=tuple(settings.nats),
        ca=str(access.ca.absolute()) if access.ca else "",
        server_name=access.server_name,
    )
    yield settings.nats, access


@contextlib.contextmanager
def _reloading_on_hangup(collector: Collector, path: Path) -> Iterator[None]:
    if not hasattr(signal, "SIGHUP"):  # Windows
        yield
        return
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGHUP, collector.reload, path)
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGHUP)
