"""The two clocks: one that never jumps, for ages; and the host's own idea of the date, for show."""

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


def _steady_ms() -> int:
    return time.monotonic_ns() // 1_000_000


def _boottime_ms() -> int:
    """On through suspend, which the monotonic clock sleeps through: ages stay true."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000_000


def _wall_ms() -> int:
    return time.time_ns() // 1_000_000


@dataclass(frozen=True, slots=True)
class Clock:
    """What all times are read from, in milliseconds."""

    steady_ms: Callable[[], int]
    """Counts from the operating system's start, and never jumps."""
    wall_ms: Callable[[], int]
    """Since the epoch, as the host believes; may jump by days, and back."""
    os_boot: str
    """Which start of the operating system `steady_ms` counts from; empty where nobody knows."""


def system() -> Clock:
    """The clocks of this machine."""
    steady = _boottime_ms if sys.platform == "linux" else _steady_ms
    return Clock(steady, _wall_ms, _os_boot())


def _os_boot() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return ""
