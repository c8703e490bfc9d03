"""kill -9 of agents, collector and NATS server at any moment, under load."""

import random
import time
from pathlib import Path

from accounts import Books
from deployment import Deployment, NotInTime, running, until
from figures import Figures, say

ROUNDS = 100
SHORT = 5

BUS, COLLECTOR, AGENT = "kill -9 of the NATS server", "of the collector", "of an agent"


def main(folder: Path, rounds: int, dice: random.Random) -> Figures:
    """Kill, wait until all is level, and again; then the sum of all."""
    figures = Figures("kills")
    books = Books(Deployment(folder, dice))
    with running(books.deployment) as deployment:
        for round_ in range(rounds):
            hurt(books, dice, figures)
            figures.rounds += 1
            try:
                until(lambda: deployment.is_right() and not books.unsettled(), "level")
            except NotInTime:
                what = [*deployment.wrong(), *books.unsettled()]
                figures.expect(holds=False, what=f"round {round_}: {'; '.join(what)[:1000]}")
                break
            if ended := deployment.ended():
                figures.expect(holds=False, what=f"round {round_}: {'; '.join(ended)}")
                break
            say(f"round {round_ + 1} of {rounds}: level, {len(books.own)} starts are over")
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


def settle(books: Books, figures: Figures) -> None:
    """End all agents in good order, let the collector catch up, and do the sum."""
    deployment = books.deployment
    for name, agent in deployment.agents.items():
        agent.end(15)
        books.note(name)
    try:
        until(lambda: not books.total().wrong(), "the accounts come out even")
    except NotInTime:
        figures.wrong += [*books.total().wrong(), *books.unsettled()]
    figures.counted += books.total().lines()
    status = deployment.ask("status")
    figures.counted += [
        ("reports missing", status["delivery"]["reports_missing"]),
        ("reports that came twice", status["delivery"]["duplicates"]),
        ("observations refused", status["observations"]["refused"]),
    ]
    figures.expect(not status["refused_messages"], f"refused: {status['refused_messages']}")
