"""A NATS server that comes back with nothing: plans and map mend, what went with it is told."""

import random
import time
from pathlib import Path

from accounts import Books, is_level, settle
from deployment import Deployment, running
from figures import Figures

ROUNDS = 20
SHORT = 1


def main(folder: Path, rounds: int, dice: random.Random) -> Figures:
    """Empty the server, now and then under a collector that was away as well."""
    figures = Figures("wiped")
    books = Books(Deployment(folder, dice))
    with running(books.deployment) as deployment:
        for round_ in range(rounds):
            if away := dice.random() < 0.5:
                # What agents hand over meanwhile, the server alone has.
                deployment.collector.end()
                figures.faults["kill -9 of the collector before"] += 1
                time.sleep(dice.uniform(1, 7))
            for port in dice.sample(deployment.services.ports, 4):
                deployment.services.toggle(port)
            time.sleep(dice.uniform(0, 1))
            deployment.nats[0].end()
            deployment.empty()
            deployment.nats[0].start()
            figures.faults["a server restarted empty"] += 1
            if away:
                deployment.collector.start()
            if not is_level(books, figures, f"{round_ + 1} of {rounds}"):
                break
        settle(books, figures, with_gaps=True)
    return figures
