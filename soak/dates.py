"""Agents whose wall clocks jump a day both ways: times stay true, and the skew shows."""

import random
import time
from datetime import datetime
from pathlib import Path

from accounts import Books, is_level, settle
from deployment import Deployment, running, until
from figures import Figures

ROUNDS = 10
SHORT = 2
SKEWS_S = (3600, 86_400, -86_400, 0)
EXACT_S = 3.0
"""What a change may take to be seen and confirmed, at two checks a second."""


def main(folder: Path, rounds: int, dice: random.Random) -> Figures:
    """Set an agent's date, let a service come or go, and look when the map says that was."""
    figures = Figures("dates")
    books = Books(Deployment(folder, dice, clients=2))
    with running(books.deployment) as deployment:
        for round_ in range(rounds):
            victim, skew_s = dice.choice(deployment.clients), SKEWS_S[round_ % len(SKEWS_S)]
            (folder / "state" / f"{victim}.skew").write_text(str(skew_s))
            figures.faults[f"a wall clock set to be {skew_s:+,} s off"] += 1
            if dice.random() < 0.3:
                deployment.agents[victim].end()
                books.note(victim)
                deployment.agents[victim].start()
                figures.faults["with a start besides"] += 1
            until(lambda v=victim, s=skew_s: shows(deployment, v, s), "the skew shows")
            port = dice.choice(deployment.services.ports)
            toggled = time.time()
            deployment.services.toggle(port)
            if not is_level(books, figures, f"{round_ + 1} of {rounds}"):
                break
            for flow in deployment.ask("flows")["flows"]:
                if flow["port"] == port:
                    late_s = datetime.fromisoformat(flow["since"]).timestamp() - toggled
                    right = -0.1 <= late_s <= EXACT_S
                    figures.expect(right, f"{flow['source']} says {late_s:.1f} s after the truth")
        settle(books, figures)
    return figures


def shows(deployment: Deployment, agent: str, skew_s: float) -> bool:
    """Whether the collector says by how much an agent's date is wrong."""
    rows = deployment.ask("agents").get("agents", [])
    return any(
        row["agent"] == agent and abs((row.get("clock_skew_s") or 0.0) - skew_s) < 2 for row in rows
    )
