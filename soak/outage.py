"""A bus that is away until spools are full: changes outlive roll-ups, and what went is counted."""

import random
import time
from pathlib import Path

from accounts import Books, is_level, settle
from deployment import Deployment, running
from figures import Figures, say

ROUNDS = 3
SHORT = 1
OUTAGE_S = {True: 15.0, False: 60.0}
SPOOL = {True: 16 << 10, False: 24 << 10}
"""Octets: full long before. The real one, of 16 MiB, is by the same code."""


def main(folder: Path, rounds: int, dice: random.Random) -> Figures:
    """Take the bus away while services come and go without pause, and an agent dies besides."""
    figures = Figures("outage")
    books = Books(Deployment(folder, dice, services=32, spool=SPOOL[rounds == SHORT]))
    with running(books.deployment) as deployment:
        for round_ in range(rounds):
            deployment.nats[0].end()
            figures.faults["an outage of the bus"] += 1
            ends = time.monotonic() + OUTAGE_S[rounds == SHORT]
            while time.monotonic() < ends:
                for port in dice.sample(deployment.services.ports, 8):
                    deployment.services.toggle(port)
                    figures.faults["a service comes or goes"] += 1
                time.sleep(1)
            victim = dice.choice(deployment.clients)
            deployment.agents[victim].end()
            books.note(victim)
            figures.faults["kill -9 of an agent with a full spool"] += 1
            deployment.agents[victim].start()
            lost = sum(found.lost for found in books.spools())
            figures.expect(lost, "no spool was filled")
            say(f"{books.waiting():,} observations wait on disk, {lost:,} had to go")
            deployment.nats[0].start()
            if not is_level(books, figures, f"{round_ + 1} of {rounds}"):
                break
        settle(books, figures)
    return figures
