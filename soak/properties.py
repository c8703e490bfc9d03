"""Properties of the code, tried with many times the examples of an ordinary run.

A few hundred examples a run find what is common. What one in ten thousand meets is found here, and
not in a year's CI on an unlucky day. hypothesis keeps each example that failed: an ordinary run
of the test tries it first.
"""

import os
import random
import re
import subprocess
import sys
from pathlib import Path

from figures import Figures, say

ROUNDS = 10
SHORT = 2
"""Times the examples."""

ROOT = Path(__file__).parent.parent


def main(folder: Path, rounds: int, dice: random.Random) -> Figures:
    """Run every test that hypothesis draws the examples of."""
    figures = Figures("properties", rounds)
    log = folder / "pytest.log"
    seed = dice.randrange(1 << 32)
    say(f"{rounds} times the examples; hypothesis begins with {seed}")
    command = [sys.executable, "-m", "pytest", "-m", "hypothesis", f"--hypothesis-seed={seed}"]
    with log.open("wb") as output:
        ended = subprocess.run(
            [*command, "-q", "-o", "timeout=0", "tests"],
            cwd=ROOT,
            env=os.environ | {"EXAMPLES": str(rounds)},
            stdout=output,
            stderr=subprocess.STDOUT,
            check=False,
        )
    said = log.read_text()
    held = re.findall(r"(\d+) passed", said)
    figures.counted.append(("properties that held", int(held[-1]) if held else 0))
    figures.expect(ended.returncode == 0 and held, f"a property failed: {said[-3000:]}")
    return figures
