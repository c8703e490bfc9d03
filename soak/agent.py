"""An agent whose wall clock is told how wrong it is, by a file beside its state: `NAME.skew`.

The steady clock stays the kernel's own, as it does when somebody sets a host's date. SOAK_SPOOL in
the environment is how many octets its spool may have, so that an outage of a minute fills it; and a
disk that was full is tried again after seconds. All else is the agent as it is.
"""

import os
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

from reachmap_agent import app, backlog, cli, clock, spool
from reachmap_agent.spool import Spool

_SKEW = Path(os.environ["REACHMAP_STATE"]) / f"{sys.argv[sys.argv.index('--id') + 1]}.skew"
_TRUE = clock.system()


def _wall_ms() -> int:
    try:
        skew_s = float(_SKEW.read_text())
    except (OSError, ValueError):
        skew_s = 0.0
    return time.time_ns() // 1_000_000 + int(skew_s * 1000)


if __name__ == "__main__":
    if octets := int(os.environ.get("SOAK_SPOOL", "0")):
        backlog.SEGMENT_BYTES = octets // 16
        app.Spool = partial(Spool, max_bytes=octets)
    spool.RETRY_DISK_MS = 3_000
    clock.system = lambda: replace(_TRUE, wall_ms=_wall_ms)
    sys.exit(cli.main())
