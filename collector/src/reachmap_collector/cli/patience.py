"""How long a command looks for somebody who answers: less, the longer it took to start.

Whoever waits for a command counts from its beginning, and on a busy machine that is seconds before
it asks anything. What is looked for has its answer at hand; an answer that takes its time is waited
for besides, once it is known that somebody works at it.
"""

import os
import time
from pathlib import Path
from typing import Final

_WHOLE_S: Final = 4.5
"""From the start of the process until it says that nobody answers: below 5 s, as is promised."""

_MOST_S: Final = 3.0
_LEAST_S: Final = 1.0
"""Where all of it went by before; a machine that is that busy may not answer at once either."""

_STARTED: Final = 19
"""Which field of /proc/PID/stat after the command is the start, counted from 0 (proc(5))."""

_loaded = time.monotonic()
_began: list[float] = []


def count_from_start() -> None:
    """This process is one command's: whoever waits for it counts from its start."""
    _began[:] = [time.monotonic() - _age_s()]


def left_s() -> float:
    """How many seconds there are to find somebody who answers."""
    if not _began:
        return _MOST_S
    return remaining_s(time.monotonic() - _began[0])


def remaining_s(age_s: float) -> float:
    """Of a process so many seconds old."""
    return min(max(_WHOLE_S - age_s, _LEAST_S), _MOST_S)


def _age_s() -> float:
    """Seconds since the process began; where the system does not say, since this was loaded."""
    since_loaded_s = time.monotonic() - _loaded
    try:
        said = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
        began_s = int(said[_STARTED]) / os.sysconf("SC_CLK_TCK")
        return max(time.clock_gettime(time.CLOCK_BOOTTIME) - began_s, since_loaded_s)
    except (OSError, AttributeError, LookupError, ValueError):
        return since_loaded_s
