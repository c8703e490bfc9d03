"""A collector that is killed around its first commit of a report: `dying.py URL STORE WHEN`."""

import asyncio
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from reachmap_collector.collector import Collector
from reachmap_collector.credentials import Credentials
from reachmap_collector.keeper import keeping
from reachmap_collector.store import open_store
from reachmap_collector.topology.load import parse_topology
from reachmap_shared import bus


class Deadly:
    """A store that kills its process around a commit."""

    def __init__(self, store: Any, when: str) -> None:
        self._store = store
        self._when = when

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def commit(self, batch: Any) -> None:
        if batch.received and self._when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        self._store.commit(batch)
        if batch.received:
            os.kill(os.getpid(), signal.SIGKILL)


async def main(url: str, place: str, when: str, topology: str) -> None:
    store: Any = Deadly(open_store(place), when)
    credentials = Credentials(secret=b"s" * 32, certificate="")
    async with bus.staying([url], "dying") as connection, keeping(store, time.time) as keeper:
        deployment = parse_topology(topology, Path("topology.toml"))
        await Collector(deployment, credentials, connection, keeper).run()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:4], sys.stdin.read()))
