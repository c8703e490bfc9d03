"""A NATS server that comes back with nothing: plans and map mend, what went with it is counted."""

import random
import time
from pathlib import Path

from accounts import Books, is_level, settle
from deployment import Deployment, running
from figures import Figures

ROUNDS = 20
SHORT = 2

LONGEST_PERIOD_S = 7.0
"""Of a roll-up, and its way."""


def main(folder: Path, rounds: int, dice: random.Random) -> Figures:
    """Empty the server, now and then under a collector that was away, and agents that died."""
    figures = Figures("wiped")
    books = Books(Deployment(folder, dice))
    with running(books.deployment) as deployment:
        for round_ in range(rounds):
            # What agents hand over while the collector is away, the server alone has.
            if away := round_ == 0 or dice.random() < 0.5:
                deployment.collector.end()
                figures.faults["kill -9 of the collector before"] += 1
                time.sleep(dice.uniform(1, LONGEST_PERIOD_S) if round_ else LONGEST_PERIOD_S)
                victim = dice.choice(deployment.clients)
                for _ in range(dice.randint(0 if round_ else 1, 3)):
                    deployment.agents[victim].end()
                    books.note(victim)
                    deployment.agents[victim].start()
                    figures.faults["kill -9 of an agent before"] += 1
                    time.sleep(dice.uniform(0, 3))
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
        settle(books, figures, is_wiped=True)
        vanished = dict(figures.counted)["  counted as vanished with a bus"]
        figures.expect(vanished, "nothing was on the server when it was emptied")
        shown = deployment.ask("status")["observations"]["vanished"]
        figures.expect(shown == vanished, f"status shows {shown} as vanished, and not {vanished}")
    return figures
