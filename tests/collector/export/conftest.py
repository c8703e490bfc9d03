"""Moments of deployments to export: one with everything in it, a large one, and a hostile one."""

import asyncio
import contextlib
import copy
from collections.abc import Callable
from typing import Any

import pytest

from reachmap_collector.collector import Collector
from reachmap_collector.export import Snapshot
from reachmap_collector.queries import PAGE, Queries
from reachmap_collector.store import open_store
from reachmap_shared.vocabulary import ListenerState, Outcome

HOSTILE = (
    "</script><script>alert(1)</script><img src=x onerror=alert(1)> \"'`&amp; ]]> "
    '"]; n0 --> n1\n%%{init}%% \\" \\N \x00\x1b[31m\x07\u202e#quot; | {{ 7*7 }} {% x %}'
)
"""What somebody may send who wishes the reader ill."""


def take(collector: Collector) -> Snapshot:
    """A moment, as the command line asks for it."""
    queries = Queries(collector)

    async def ask() -> Snapshot:
        flows: list[Any] = []
        after: Any = None
        while True:
            page = await queries.flows({"details": True, "after": after})
            flows += page["flows"]
            after = page["next"]
            if after is None:
                break
            assert len(page["flows"]) <= PAGE
        agents = (await queries.agents({}))["agents"]
        return Snapshot(flows, agents, await queries.status({}))

    return asyncio.run(ask())


@pytest.fixture(scope="session")
def moment_of() -> Callable[[Collector], Snapshot]:
    return take


@pytest.fixture(scope="session")
def mixed(
    collector_of: Any, openuem: Any, hello: Any, listener: Any, told: Any, mishear: Any
) -> Snapshot:
    """OpenUEM, two hosts a role, in which every outcome was seen and some flows were not checked."""
    collector = collector_of(openuem(2))
    now = collector.now()
    for name in collector.members:
        if not name.startswith("postgres"):
            report = listener("nats-server:4433", ListenerState.CEDED, "", "nats-server")
            collector.roster.hear(hello(name, listeners=(report,)), now)
    for number, record in enumerate(collector.flows):
        if number % 7:
            outcome = list(Outcome)[number % len(Outcome)]
            until = 2_000_000_000 + number
            record.fold(told(now - number / 100, outcome, certificate_until=until))
    mishear(collector, 3)
    return take(collector)


@pytest.fixture(scope="session")
def quiet(collector_of: Any) -> Snapshot:
    """A deployment without anything in it."""
    return take(collector_of(""))


@pytest.fixture(scope="session")
def large(
    collector_of: Any, hello: Any, told: Any, tmp_path_factory: pytest.TempPathFactory
) -> Snapshot:
    """Ten thousand flows of 2,500 endpoints to four servers, of which one endpoint reaches none."""
    hosts = [
        f'pc-{n} = {{ roles = ["pc"], addresses = ["10.0.{n >> 8}.{n & 255}"] }}'
        for n in range(2500)
    ]
    servers = [
        f'srv-{n} = {{ roles = ["server"], addresses = ["10.9.0.{n}"] }}' for n in range(1, 5)
    ]
    text = "\n".join(
        [
            '[roles.server]\nlistens = { "server:443" = { protocol = "https" } }',
            '[roles.pc]\nconnects = ["server:443"]',
            "[hosts]",
            *hosts,
            *servers,
        ]
    )
    # The map has no more than numbers of so many that are well, and asks a store for the rest.
    store = open_store(f"sqlite:///{tmp_path_factory.mktemp('large') / 'store'}")
    store.open()
    with contextlib.closing(store):
        collector = collector_of(text, store=store)
        now = collector.now()
        for name in collector.members:
            collector.roster.hear(hello(name), now)
        for record in collector.flows:
            outcome = Outcome.TIMEOUT if record.key.source == "pc-7" else Outcome.OPEN
            record.fold(told(now, outcome))
        assert len(collector.flows) == 10_000
        return take(collector)


@pytest.fixture(scope="session")
def hostile(mixed: Snapshot) -> Snapshot:
    """The mixed one, with every text that somebody else may have chosen at its worst.

    Names of hosts are checked long before; here nothing relies on it.
    """
    flows, agents = copy.deepcopy([*mixed.flows]), copy.deepcopy([*mixed.agents])
    for flow in flows:
        flow["evidence"] = [HOSTILE]
        flow["source"] += HOSTILE
        flow["destination"] += HOSTILE
        flow["service"] = f"{HOSTILE}:1"
        flow["address"] = HOSTILE
        flow["at"] = HOSTILE
        flow["advice"] = HOSTILE
        flow["settled_by"] = HOSTILE
        flow["requests"] = {"plain": HOSTILE, "nftables": HOSTILE}
        for reason in flow["reasons"]:
            reason["role"] += HOSTILE
            reason["note"] = HOSTILE
        flow["rows"] = [{"profile": HOSTILE, "row": 1, "text": HOSTILE}]
    for row in agents:
        row["agent"] += HOSTILE
        row["notes"] = [HOSTILE]
    return Snapshot(flows, agents, mixed.status)
