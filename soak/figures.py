"""What a soak came to, and how it is told."""

import time
from collections import Counter
from dataclasses import dataclass, field

_BEGAN = time.monotonic()


def say(text: str) -> None:
    """Print progress."""
    print(f"{time.monotonic() - _BEGAN:7.1f} s  {text}", flush=True)


@dataclass
class Figures:
    """Of one subject."""

    subject: str
    rounds: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    counted: list[tuple[str, int]] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    left_out: str = ""

    def expect(self, holds: object, what: str) -> None:
        """Note what does not hold."""
        if not holds:
            self.wrong.append(what)
            say(f"WRONG: {what}")

    def print(self) -> None:
        """All of it."""
        print(f"\n{self.subject}")
        if self.left_out:
            print(f"  left out: {self.left_out}")
            return
        lines = [("rounds", self.rounds)]
        lines += [(f"fault: {kind}", count) for kind, count in sorted(self.faults.items())]
        for what, count in [*lines, *self.counted, ("wrong", len(self.wrong))]:
            print(f"  {what:44} {count:>12,}")
        for what in self.wrong:
            print(f"    {what}")
