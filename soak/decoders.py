"""Fuzzing what reads the bus: octets that atheris finds by coverage crash no decoder.

The ordinary tests do the same by hypothesis; this one searches for minutes. Run as a program, it
is the target itself.
"""

import random
import re
import subprocess
import sys
from dataclasses import is_dataclass
from importlib.util import find_spec
from pathlib import Path

from figures import Figures, say

ROUNDS = 300
SHORT = 10
"""Seconds: it has no rounds."""

MAX_OCTETS = 1 << 21
MEMORY_MB = 512


def main(folder: Path, rounds: int, dice: random.Random) -> Figures:
    """Fuzz for so many seconds in a process of its own."""
    figures = Figures("decoders")
    if find_spec("atheris") is None:
        figures.left_out = "atheris is not installed: `make soak` does so where it has a wheel"
        return figures
    seeds = folder / "seeds"
    seeds.mkdir()
    _write_seeds(seeds)
    options = (
        f"-max_total_time={rounds}",
        f"-max_len={MAX_OCTETS}",
        f"-seed={dice.randrange(999)}",
    )
    limits = (f"-rss_limit_mb={MEMORY_MB}", "-timeout=5", f"-artifact_prefix={folder}/")
    command = [sys.executable, __file__, *options, *limits, str(seeds)]
    said = subprocess.run(command, capture_output=True, text=True, check=False)
    (folder / "fuzz.log").write_text(said.stdout + said.stderr)
    runs = re.findall(r"^#(\d+)", said.stderr, re.MULTILINE)
    figures.counted.append(("inputs decoded", int(runs[-1]) if runs else 0))
    figures.expect(said.returncode == 0 and runs, f"a decoder failed: {said.stderr[-1500:]}")
    say(f"{runs[-1] if runs else 0} inputs")
    return figures


def _write_seeds(folder: Path) -> None:
    """A message of those that bear others, for the fuzzer to begin with."""
    from reachmap_shared import codec
    from reachmap_shared.messages import Change, Changes, Observation, Report, ReportKind, RollUp
    from reachmap_shared.vocabulary import Outcome

    seen = Observation(0, 1, Outcome.OPEN, None, True, 0, 100, 100, "", ())
    changes = Changes("1", (Change(0, seen),))
    roll_up = RollUp("1", 0, 5000, b"\x01")
    for number, message in enumerate((changes, roll_up)):
        (folder / f"{number}").write_bytes(codec.encode(message))
        (folder / f"{number}-packed").write_bytes(codec.pack(message))
        report = Report("a", "b", 0, 1, 1, ReportKind.CHANGES, codec.pack(message))
        (folder / f"{number}-report").write_bytes(codec.encode(report))


def _fuzz() -> None:
    import atheris

    with atheris.instrument_imports(include=["reachmap_shared"]):
        from reachmap_shared import codec, messages
        from reachmap_shared.errors import MalformedMessage

    kinds = [
        kind
        for kind in vars(messages).values()
        if is_dataclass(kind) and kind.__module__ == messages.__name__
    ]

    def decode(octets: bytes) -> None:
        for kind in kinds:
            try:
                message = codec.decode(kind, octets)
            except MalformedMessage:
                continue
            assert codec.decode(kind, codec.encode(message)) == message

    atheris.Setup(sys.argv, decode)
    atheris.Fuzz()


if __name__ == "__main__":
    _fuzz()
