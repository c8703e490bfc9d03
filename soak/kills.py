"""kill -9 of agents, collector and NATS server at any moment, under load."""

import random
import time
from pathlib import Path

from accounts import Books, is_level, settle
from deployment import Deployment, running
from figures import Figures

ROUNDS = 100
SHORT = 4

BUS, COLLECTOR, AGENT = "kill -9 of the NATS server", "of the collector", "of an agent"


def main(folder: Path, rounds: int, dice: random.Random) -> Figures:
    """Kill, wait until all is level, and again; then the sum of all."""
    figures = Figures("kills")
    books = Books(Deployment(folder, dice))
    with running(books.deployment):
        for round_ in range(rounds):
            hurt(books, dice, figures)
            if not is_level(books, figures, f"{round_ + 1} of {rounds}"):
                break
        settle(books, figures)
    return figures


def hurt(books: Books, dice: random.Random, figures: Figures) -> None:
    """One round: services come and go while some of the processes die and start again."""
    deployment = books.deployment
    victims = {BUS: deployment.nats[0], COLLECTOR: deployment.collector}
    victims |= {name: deployment.agents[name] for name in deployment.clients}
    events = []
    for name in dice.sample(sorted(victims), dice.randint(1, 3)):
        dies = dice.uniform(0, 2)
        events += [(dies, name, False), (dies + dice.uniform(0, 2.5), name, True)]
    ports = dice.sample(deployment.services.ports, dice.randint(1, 6))
    events += [(dice.uniform(0, 4), str(port), False) for port in ports]
    began = time.monotonic()
    for at, name, starts in sorted(events):
        time.sleep(max(0.0, began + at - time.monotonic()))
        if name not in victims:
            deployment.services.toggle(int(name))
            figures.faults["a service comes or goes"] += 1
        elif starts:
            victims[name].start()
        else:
            victims[name].end()
            if name in deployment.agents:
                books.note(name)
            figures.faults[name if name in (BUS, COLLECTOR) else AGENT] += 1
