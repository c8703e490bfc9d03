"""A disk that is full under agents, the collector or the NATS server: all comes once there is room.

Each has a small file system of its own, which is filled to the last block. Agents and collector go
on from memory, and the map stays right. A NATS server whose disk was full stores nothing any more
until it is started again (2.15), and leaves those who publish without an answer.
"""

import os
import random
import signal
import time
from pathlib import Path

import filesystem
from accounts import Books, is_level, settle
from deployment import Deployment, Process, running, until
from figures import Figures

ROUNDS = 21
SHORT = 3

AGENTS, COLLECTOR, SERVER = "the agents", "the collector", "the NATS server"
FOLDERS = {AGENTS: "state", COLLECTOR: "data", SERVER: "nats0"}
OCTETS = 8 << 20


def main(folder: Path, rounds: int, dice: random.Random) -> Figures:
    """In turn under each; some are killed while it is full, some are started while it is."""
    figures = Figures("disk")
    if not filesystem.can_mount():
        figures.left_out = "nothing can be mounted here: neither user namespaces nor root"
        figures.expect(os.environ.get("CI") != "true", figures.left_out)
        return figures
    disks = dict.fromkeys(FOLDERS.values(), OCTETS)
    books = Books(Deployment(folder, dice, disks=disks))
    with running(books.deployment):
        for round_ in range(rounds):
            side = (AGENTS, COLLECTOR, SERVER)[round_ % 3]
            figures.faults[f"a full disk under {side}"] += 1
            HURT[side](books, dice, figures)
            if not is_level(books, figures, f"{round_ + 1} of {rounds}"):
                break
        settle(books, figures)
    return figures


def agents(books: Books, dice: random.Random, figures: Figures) -> None:
    """What they see waits in memory, with a bus and without, and they say so."""
    deployment = books.deployment
    victim = dice.choice(deployment.clients)
    process = deployment.agents[victim]
    with deployment.disks["state"].full():
        _toggle(deployment, dice)
        until(deployment.is_right, "a right map while the agents' disk is full")
        until(lambda: len(_in_memory(deployment)) > 0, "an agent says that its disk takes nothing")
        if dice.random() < 0.5:
            deployment.nats[0].end()
            _toggle(deployment, dice)
            time.sleep(dice.uniform(1, 6))
            deployment.nats[0].start()
            figures.faults["with an outage of the bus besides"] += 1
        if begins := dice.random() < 0.5:
            _end(process, dice)
            books.note(victim)
            process.start()
            figures.faults["under an agent that was started on it"] += 1
            until(deployment.is_right, "a right map by an agent that was started on a full disk")
    if not begins:
        _end(process, dice)
        books.note(victim)
        process.start()
    until(lambda: not _in_memory(deployment), "all agents have their disk again")


def collector(books: Books, dice: random.Random, figures: Figures) -> None:
    """It goes on from memory, says so, and acknowledges nothing."""
    deployment = books.deployment
    ends = dice.random() < 0.5
    with deployment.disks["data"].full():
        _toggle(deployment, dice)
        until(deployment.is_right, "a right map while the collector's disk is full")
        until(
            lambda: "full" in _trouble(deployment, "store"),
            "the status says that the store is full",
        )
        time.sleep(dice.uniform(0, 3))
        if ends:
            _end(deployment.collector, dice)
            if started := dice.random() < 0.5:
                deployment.collector.start()
                figures.faults["under a collector that was started on it"] += 1
                time.sleep(dice.uniform(0, 3))
    if ends and not started:
        deployment.collector.start()
    until(
        lambda: deployment.ask("status") != {} and not _trouble(deployment, "store"), "it is kept"
    )


def server(books: Books, dice: random.Random, figures: Figures) -> None:
    """Agents keep what it does not take, until somebody has made room and started it again."""
    deployment = books.deployment
    waited = books.waiting()
    with deployment.disks["nats0"].full():
        _toggle(deployment, dice)
        until(lambda: books.waiting() > waited, "the agents keep what the server does not")
        until(lambda: bool(_trouble(deployment, "delivery")), "the status says so")
        time.sleep(dice.uniform(0, 3))
    _end(deployment.nats[0], dice)
    deployment.nats[0].start()
    figures.faults["that was started again, when there was room"] += 1


HURT = {AGENTS: agents, COLLECTOR: collector, SERVER: server}


def _toggle(deployment: Deployment, dice: random.Random) -> None:
    for port in dice.sample(deployment.services.ports, 4):
        deployment.services.toggle(port)


def _end(process: Process, dice: random.Random) -> None:
    process.end(dice.choice((signal.SIGKILL, signal.SIGTERM)))


def _in_memory(deployment: Deployment) -> list[str]:
    rows = deployment.ask("agents").get("agents", [])
    return [row["agent"] for row in rows if any("in memory" in note for note in row["notes"])]


def _trouble(deployment: Deployment, part: str) -> str:
    return deployment.ask("status").get(part, {}).get("trouble") or ""
