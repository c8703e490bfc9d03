"""A bus that is away for ten minutes, and one that is away until spools are full.

The room that agents have by default suffices for the first: nothing is lost, and when the bus is
back the map is right at once, while history fills in. In the second, changes outlive roll-ups, and
what went is counted.
"""

import random
import time
from pathlib import Path

from accounts import Books, is_level, settle
from deployment import PATIENCE_S, Deployment, running, until
from figures import Figures, say

from reachmap_agent.backlog import MAX_BYTES

ROUNDS = 3
SHORT = 1

WHOLE_S = {True: 10.0, False: 600.0}
SERVICES = {True: 32, False: 100}
"""At two checks a second: 200 a second of each agent, which is many."""

BOUNDED_S = {True: 15.0, False: 60.0}
SPOOL = {True: 16 << 10, False: 24 << 10}
"""Octets: full long before."""


def main(folder: Path, rounds: int, dice: random.Random) -> Figures:
    """Take the bus away while services come and go without pause."""
    figures = Figures("outage")
    is_short = rounds == SHORT
    (folder / "whole").mkdir()
    (folder / "bounded").mkdir()
    books = Books(Deployment(folder / "whole", dice, services=SERVICES[is_short]))
    with running(books.deployment):
        whole(books, dice, figures, WHOLE_S[is_short])
        settle(books, figures)
    if figures.wrong:
        return figures
    books = Books(Deployment(folder / "bounded", dice, services=32, spool=SPOOL[is_short]))
    with running(books.deployment):
        for round_ in range(rounds):
            bounded(books, dice, figures, BOUNDED_S[is_short])
            if not is_level(books, figures, f"{round_ + 1} of {rounds} with a full spool"):
                break
            shown(books, figures)
        settle(books, figures)
    return figures


def whole(books: Books, dice: random.Random, figures: Figures, seconds: float) -> None:
    """One outage that spools have the room for."""
    deployment = books.deployment
    away(deployment, dice, figures, seconds)
    found = books.spools()
    lost = sum(one.lost + one.changes_lost for one in found)
    figures.expect(not lost, f"{lost} had to go, though there was room")
    waiting, changes = books.waiting(), sum(one.changes for one in found)
    largest = max(one.bytes for one in found)
    say(f"{waiting:,} observations and {changes:,} changes wait, in {largest:,} octets at most")
    deployment.nats[0].start()
    began = time.monotonic()
    until(deployment.is_right, "a right map when the bus is back")
    right = time.monotonic() - began
    left = books.waiting()
    until(lambda: books.waiting() < waiting / 100, "history has filled in")
    filled = time.monotonic() - began
    say(f"the map is right after {right:.1f} s, with {left:,} waiting; all came by {filled:.1f} s")
    is_level(books, figures, f"of {seconds:g} s without a bus")
    figures.counted += [
        ("seconds without a bus", round(seconds)),
        ("  observations that waited", waiting),
        ("  changes that waited", changes),
        ("  octets of the fullest spool", largest),
        ("  octets that it may have", MAX_BYTES),
        ("  ms until the map was right", round(1000 * right)),
        ("  ms until history had filled in", round(1000 * filled)),
    ]


def bounded(books: Books, dice: random.Random, figures: Figures, seconds: float) -> None:
    """One that fills them, and an agent dies besides."""
    deployment = books.deployment
    away(deployment, dice, figures, seconds)
    victim = dice.choice(deployment.clients)
    deployment.agents[victim].end()
    books.note(victim)
    figures.faults["kill -9 of an agent with a full spool"] += 1
    deployment.agents[victim].start()
    lost = sum(found.lost for found in books.spools())
    figures.expect(lost, "no spool was filled")
    say(f"{books.waiting():,} observations wait on disk, {lost:,} had to go")
    deployment.nats[0].start()


def away(deployment: Deployment, dice: random.Random, figures: Figures, seconds: float) -> None:
    """The bus is."""
    deployment.nats[0].end()
    figures.faults[f"an outage of the bus of {seconds:g} s"] += 1
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        for port in dice.sample(deployment.services.ports, 8):
            deployment.services.toggle(port)
            figures.faults["a service comes or goes"] += 1
        time.sleep(1)


def shown(books: Books, figures: Figures) -> None:
    """`reachmap agents` shows what each had to drop, as its own numbers say."""

    def differs() -> list[str]:
        found = []
        for row in books.deployment.ask("agents").get("agents", []):
            if row["agent"] in books.deployment.clients:
                own = books.dropped(row["agent"], row["boot"])
                if (row["observations_dropped"], row["changes_dropped"]) != own:
                    found.append(f"{row['agent']} dropped {own}")
                if own[0] and not any("dropped, which the map" in one for one in row["notes"]):
                    found.append(f"{row['agent']} says nothing of what it dropped")
        return found

    deadline = time.monotonic() + PATIENCE_S
    while (found := differs()) and time.monotonic() < deadline:
        time.sleep(0.5)
    figures.expect(not found, f"not shown: {'; '.join(found)}")
