"""How many file descriptors this process may have, and who of us has how many."""

import sys
from typing import Final

FOR_CHECKS: Final = 4096
"""Checks in flight at most."""

KEPT: Final = 128
"""For the bus, name resolution, files, and what else a process has open."""


_SELECT: Final = 512
"""Sockets that Python's select takes at once on Windows."""


def allowed() -> int:
    """How many this process may have now."""
    if sys.platform == "win32":
        return _SELECT  # a socket is no descriptor there, but select is all that watches them
    import resource

    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return sys.maxsize if soft == resource.RLIM_INFINITY else soft  # which Linux writes as -1


def allow(for_listeners: int) -> None:
    """Let this process have what checks and listeners need, as far as the hard limit permits.

    The soft limit is low by custom, for programs that use select(2); none of ours does.
    """
    if sys.platform == "win32":
        return
    import resource

    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = FOR_CHECKS + KEPT + for_listeners
    if hard != resource.RLIM_INFINITY:
        wanted = min(wanted, hard)
    if allowed() < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
