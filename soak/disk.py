"""A full disk, on either side: the map stays right, and nothing that could be kept is lost.

A limit of the size of files does it (RLIMIT_FSIZE): every write beyond it fails, as on a disk
that is full, in the process that is hurt and in no other.
"""

import random
import resource
import signal
import time
from pathlib import Path

from accounts import Books, is_level, settle
from deployment import Deployment, Process, running, until
from figures import Figures

ROUNDS = 20
SHORT = 2


def main(folder: Path, rounds: int, dice: random.Random) -> Figures:
    """In turn the collector's disk and an agent's; some are killed while it is full."""
    figures = Figures("disk")
    books = Books(Deployment(folder, dice))
    with running(books.deployment) as deployment:
        for round_ in range(rounds):
            name = dice.choice(deployment.clients) if round_ % 2 else ""
            victim = deployment.agents[name] if name else deployment.collector
            figures.faults[f"a full disk under {'an agent' if name else 'the collector'}"] += 1
            limit(victim, 0)
            for port in dice.sample(deployment.services.ports, 4):
                deployment.services.toggle(port)
            until(lambda: deployment.is_right(), "a right map with a full disk")
            time.sleep(dice.uniform(0, 3))
            if dice.random() < 0.5:
                victim.end(dice.choice((signal.SIGKILL, signal.SIGTERM)))
                if name:
                    books.note(name)
                victim.start()
                figures.faults["that ended while it was full"] += 1
            else:
                limit(victim, resource.RLIM_INFINITY)
            if not is_level(books, figures, f"{round_ + 1} of {rounds}"):
                break
        settle(books, figures)
    return figures


def limit(process: Process, octets: int) -> None:
    """No file of the process may be written beyond so many octets."""
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (octets, resource.RLIM_INFINITY))
