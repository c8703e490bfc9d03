"""Three NATS servers that keep each report on all of them, of which the leader is killed."""

import asyncio
import json
import random
from pathlib import Path
from typing import Any

from accounts import Books, is_level, settle
from deployment import Deployment, running, until
from figures import Figures

from reachmap_collector.identity.servers import Mode
from reachmap_shared import bus, subjects
from reachmap_shared.errors import BusUnavailable
from reachmap_shared.permissions import Party

ROUNDS = 20
SHORT = 1
SERVERS = 3


def main(folder: Path, rounds: int, dice: random.Random) -> Figures:
    """Kill the leader of the stream of reports, wait until all is level without it, and again."""
    figures = Figures("cluster")
    serve = ("--nats-replicas", str(SERVERS))
    books = Books(Deployment(folder, dice, clients=2, servers=SERVERS, serve=serve))
    with running(books.deployment) as deployment:
        for round_ in range(rounds):
            until(lambda: is_whole(deployment), "three servers have all that there is")
            leader = int(stream(deployment)["cluster"]["leader"][1:])
            deployment.nats[leader].end()
            figures.faults["kill -9 of the leader of three servers"] += 1
            for port in dice.sample(deployment.services.ports, 4):
                deployment.services.toggle(port)
            until(lambda: deployment.is_right(), "a right map by two servers")
            deployment.nats[leader].start()
            if not is_level(books, figures, f"{round_ + 1} of {rounds}"):
                break
        settle(books, figures)
    return figures


def stream(deployment: Deployment) -> Any:
    """What JetStream says of the stream of reports; empty when it says nothing."""
    access = deployment.identities.access(Party.COLLECTOR, Mode.JWT)

    async def question() -> Any:
        async with bus.connected(deployment.urls, "soak", access) as connection:
            call = f"$JS.API.STREAM.INFO.{subjects.REPORT_STREAM}"
            return json.loads((await connection.request(call, b"", 2)).payload)

    try:
        return asyncio.run(question())
    except BusUnavailable:
        return {}


def is_whole(deployment: Deployment) -> bool:
    """Whether the stream has a leader, and as many followers as it should, none behind."""
    cluster = stream(deployment).get("cluster", {})
    followers = cluster.get("replicas", [])
    level = [one for one in followers if one["current"] and not one.get("offline")]
    return bool(cluster.get("leader")) and len(level) == SERVERS - 1
