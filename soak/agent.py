"""An agent whose wall clock is told how wrong it is, by a file beside its state: `NAME.skew`.

All else is the agent as it is. The steady clock stays the kernel's own, as it does when somebody
sets a host's date.
"""

import os
import sys
import time
from dataclasses import replace
from pathlib import Path

from reachmap_agent import cli, clock

_SKEW = Path(os.environ["REACHMAP_STATE"]) / f"{sys.argv[sys.argv.index('--id') + 1]}.skew"
_TRUE = clock.system()


def _wall_ms() -> int:
    try:
        skew_s = float(_SKEW.read_text())
    except (OSError, ValueError):
        skew_s = 0.0
    return time.time_ns() // 1_000_000 + int(skew_s * 1000)


if __name__ == "__main__":
    clock.system = lambda: replace(_TRUE, wall_ms=_wall_ms)
    sys.exit(cli.main())
