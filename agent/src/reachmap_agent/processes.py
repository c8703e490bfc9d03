"""Which process has a socket open, as Linux tells those who may look into its descriptors.

Those are its own user and root; nobody else is told, and nobody else looks for long.
"""

import contextlib
import os
import re
import time
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_PROCESSES: Final = Path("/proc")
_SOCKET: Final = re.compile(r"socket:\[(\d+)\]")


@dataclass(frozen=True, slots=True)
class Process:
    """A program that runs."""

    pid: int
    name: str
    """As the kernel has it, of 15 bytes at most; empty when it is not told."""


def all_pids() -> list[int]:
    """Every process that can be seen, the oldest first as a rule."""
    return sorted(int(name) for name in os.listdir(_PROCESSES) if name.isdecimal())  # noqa: PTH208  as in _sockets


def with_sockets(
    inodes: Collection[int], pids: Iterable[int], patience_s: float
) -> dict[int, Process]:
    """Which of the processes has each of these sockets: the first that does.

    Args:
        inodes: Of the sockets.
        pids: Where to look, in this order.
        patience_s: After so many seconds of work what was not found stays unknown. Time in which
            others had the processor does not count, or a busy machine would tell nothing.
    """
    wanted = set(inodes)
    found: dict[int, Process] = {}
    ends = time.thread_time() + patience_s
    for pid in pids:
        if not wanted or time.thread_time() >= ends:
            break
        here = wanted.intersection(_sockets(pid))
        if here:
            process = Process(pid, _name(pid))
            found |= dict.fromkeys(here, process)
            wanted -= here
    return found


def _sockets(pid: int) -> Iterable[int]:
    folder = f"{_PROCESSES}/{pid}/fd"
    with contextlib.suppress(OSError):  # it has gone, or is another's
        for name in os.listdir(folder):  # noqa: PTH208  as Paths they would take longer than all else
            with contextlib.suppress(OSError):
                target = os.readlink(f"{folder}/{name}")  # noqa: PTH115
                if match := _SOCKET.fullmatch(target):
                    yield int(match[1])


def _name(pid: int) -> str:
    with contextlib.suppress(OSError):
        return (_PROCESSES / str(pid) / "comm").read_text(errors="replace").strip()
    return ""
