"""`reachmap serve`: what the collector is composed of, and how it starts, reloads and stops."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Final

from reachmap_collector import credentials, embedded, garbage, http
from reachmap_collector.alerts.load import NOTHING, load_configuration
from reachmap_collector.alerts.metrics import exposition
from reachmap_collector.alerts.outlets import BusOutlet
from reachmap_collector.alerts.queries import AlertQueries
from reachmap_collector.alerts.service import Alerts
from reachmap_collector.collector import Collector
from reachmap_collector.credentials import Credentials
from reachmap_collector.errors import InvalidFile, Problem, ServerError, StoreUnavailable
from reachmap_collector.http import HttpSettings
from reachmap_collector.identity.servers import Mode
from reachmap_collector.identity.store import Store
from reachmap_collector.keeper import StoreMemory, keeping
from reachmap_collector.occupancy import occupied
from reachmap_collector.queries import Queries
from reachmap_collector.reader import reading
from reachmap_collector.store import default_url, open_store
from reachmap_collector.streams import StreamSettings
from reachmap_collector.topology.load import load_topology
from reachmap_shared import bus, log
from reachmap_shared.access import ANYBODY, Access
from reachmap_shared.bus import Bus
from reachmap_shared.errors import BusUnavailable, QueryRefused
from reachmap_shared.lifecycle import on_hangup
from reachmap_shared.notify import Notifier
from reachmap_shared.permissions import Party
from reachmap_shared.urls import without_password

_RIVAL_S: Final = 3.0
"""For another collector to answer, which may have just started; where there is none the server says
so at once."""

_REMIND_S: Final = 30.0
"""How often the log says that the bus is still away: whoever looks into it finds out soon."""

_STATUS_S: Final = 5.0
"""How old what `systemctl status` shows may be."""

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
    http: HttpSettings | None = None
    """Where the HTTP API is; None for none."""
    config: Path | None = None
    """Rules and outlets for alerts; None for none but the defaults."""
    streams: StreamSettings = field(default_factory=StreamSettings)
    """What the bus is to keep for us, and how safely."""


async def serve(settings: ServeSettings) -> None:
    """Run the collector until cancelled.

    Raises:
        InvalidFile: The topology, the configuration or the data directory is wrong; nothing was
            started.
        ServerError: Our own NATS server did not start, or ended by itself; or the HTTP API
            cannot listen where it should; or another collector is at work here already.
        StoreRefused: What is to be kept cannot be, until somebody does something about it.
    """
    topology = load_topology(settings.topology)
    configuration = load_configuration(settings.config) if settings.config else NOTHING
    collectors: list[Collector] = []

    async def back() -> None:
        for collector in collectors:
            collector.bus_is_back()

    url = settings.store or default_url(settings.data)
    with (
        _at_home(settings.data) as own,
        garbage.rarely_looked_for() as set_aside,
        contextlib.closing(open_store(url)) as store,
    ):
        with contextlib.suppress(StoreUnavailable):  # it is waited for, and status says so
            store.open()
        async with (
            _bus(settings) as (urls, access),
            bus.staying(urls, "reachmap collector", back, _REMIND_S, access=access) as connection,
            keeping(store, time.time) as keeper,
            reading(partial(open_store, url, migrate=False)) as reader,
        ):
            await _refuse_a_second(connection, urls)
            collector = Collector(
                topology, own, connection, keeper, settings.streams, set_aside, reader
            )
            collectors.append(collector)
            alerts = Alerts(collector, StoreMemory(keeper), BusOutlet(connection), configuration)
            queries, asked = Queries(collector), AlertQueries(alerts, collector)
            await connection.serve_queries({**queries.endpoints(), **asked.endpoints()})
            async with http.serving(
                settings.http,
                queries,
                lambda: connection.is_connected,
                lambda: exposition(alerts.book.active()),
            ):
                await _run(collector, alerts, settings, connection, urls)


@contextlib.contextmanager
def _at_home(data: Path) -> Iterator[Credentials]:
    """Have the data directory, and nobody beside us; gives the secrets in it."""
    with contextlib.ExitStack() as held:
        with _keeping_state(data):
            data.mkdir(parents=True, exist_ok=True, mode=0o700)
            held.enter_context(occupied(data))
            own = credentials.load_or_create(data)
        yield own


@contextlib.contextmanager
def _keeping_state(data: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = f"cannot keep the collector's state: {error.strerror}"
        raise InvalidFile(data, [Problem("", reason)]) from error


async def _run(
    collector: Collector,
    alerts: Alerts,
    settings: ServeSettings,
    connection: Bus,
    urls: Sequence[str],
) -> None:
    """Run the collector until cancelled, and tell systemd how it fares."""

    def status() -> str:
        if not collector.is_settled:
            return "reading what the store has"
        known = f"{len(collector.topology.hosts)} hosts, {len(collector.flows)} flows"
        return f"{known}; {'on the bus' if connection.is_connected else 'no bus'}"

    notifier = Notifier()

    def reload() -> None:
        notifier.reloading()
        _reload(settings, collector, alerts)
        notifier.ready()

    with on_hangup(reload):
        _log.info(
            "collector ready",
            nats=",".join(map(without_password, urls)),
            hosts=len(collector.topology.hosts),
            flows=len(collector.flows),
        )
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(collector.run())
            tasks.create_task(_alert(collector, alerts))
            telling = tasks.create_task(notifier.keep_telling(status, _STATUS_S))
            notifier.ready()
            try:
                await asyncio.Event().wait()  # one that fails ends them all
            finally:
                notifier.stopping()
                telling.cancel()


async def _alert(collector: Collector, alerts: Alerts) -> None:
    await collector.restored()
    await alerts.run()


def _reload(settings: ServeSettings, collector: Collector, alerts: Alerts) -> None:
    """Read the topology, rules and outlets again; wrong ones are reported and change nothing."""
    collector.reload(settings.topology)
    if settings.config is None:
        return
    try:
        alerts.configure(load_configuration(settings.config))
    except InvalidFile as error:
        _log.error("configuration refused, the last good one stays in force", reason=str(error))
    else:
        _log.info("configuration reloaded", path=str(settings.config))


async def _refuse_a_second(connection: Bus, urls: Sequence[str]) -> None:
    """Two collectors on one bus would give every agent two plans, in turn and without end."""
    await connection.confirmed()  # one that is slow would hide it
    try:
        await connection.query("status", {}, timeout_s=_RIVAL_S)
    except QueryRefused:
        pass  # somebody answered, if only with an error
    except BusUnavailable:
        return
    raise ServerError(
        f"another collector answers at {', '.join(map(without_password, urls))}: stop it "
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
    with _keeping_state(settings.data):
        store.prepare()
        store.place = replace(
            store.place,
            urls=tuple(settings.nats),
            agents_urls=tuple(settings.nats),
            ca=str(access.ca.absolute()) if access.ca else "",
            server_name=access.server_name,
        )
    yield settings.nats, access
