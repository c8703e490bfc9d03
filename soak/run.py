"""`make soak`: what may befall a deployment, and that nothing is lost and nobody impersonated.

    run.py [--rounds N] [--seed N] [--short] [SUBJECT ...]

Each subject hurts a deployment of real processes, then compares the map with the truth, and what
agents made by their own numbers with what the collector received and was told of as lost. Ends
with 1 when anything is wrong.
"""

import argparse
import random
import shutil
import signal
import sys
import tempfile
from pathlib import Path

import cluster
import dates
import decoders
import disk
import kills
import outage
import properties
import rubbish
import wiped
from figures import say
from filesystem import enter_namespace

SUBJECTS = {
    "kills": kills,
    "outage": outage,
    "disk": disk,
    "wiped": wiped,
    "cluster": cluster,
    "rubbish": rubbish,
    "dates": dates,
    "decoders": decoders,
    "properties": properties,
}


def main() -> int:
    """Run what is named; everything if nothing is."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("subjects", nargs="*", metavar="SUBJECT", help=", ".join(SUBJECTS))
    parser.add_argument("--rounds", type=int, help="of each subject that has rounds")
    parser.add_argument("--short", action="store_true", help="a few rounds: for every day")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    options = parser.parse_args()
    if unknown := set(options.subjects) - SUBJECTS.keys():
        parser.error(f"no such subject: {', '.join(sorted(unknown))}")
    if "disk" in (options.subjects or SUBJECTS):
        enter_namespace()
    print(f"seed {options.seed}", flush=True)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # and every `finally` has its turn
    all_figures = []
    for name in options.subjects or SUBJECTS:
        subject = SUBJECTS[name]
        folder = Path(tempfile.mkdtemp(prefix=f"reachmap-soak-{name}-"))
        say(f"{name} begins")
        rounds = options.rounds or (subject.SHORT if options.short else subject.ROUNDS)
        figures = subject.main(folder, rounds, random.Random(f"{options.seed} {name}"))
        all_figures.append(figures)
        if figures.wrong:
            say(f"logs are left in {folder}")
        else:
            shutil.rmtree(folder)
    for figures in all_figures:
        figures.print()
    return int(any(figures.wrong for figures in all_figures))


if __name__ == "__main__":
    sys.exit(main())
