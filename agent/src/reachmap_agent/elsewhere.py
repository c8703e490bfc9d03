"""Who listens on which port where the system is not Linux: asked of psutil.

Windows tells it to anybody, with the process. macOS tells root all, and others of their own
processes alone.
"""

import contextlib
import os
from collections.abc import Iterator
from typing import Any, Final

from reachmap_agent.sockdiag import Listening
from reachmap_shared.vocabulary import Transport

_KINDS: Final = {Transport.TCP: "tcp", Transport.UDP: "udp"}


def listening(transport: Transport) -> list[Listening] | None:
    """All listening sockets but those of this process; None where the system does not tell all."""
    psutil = _psutil()
    if psutil is None:
        return None
    try:
        connections = psutil.net_connections(kind=_KINDS[transport])
    except (psutil.Error, OSError):
        return None
    own = os.getpid()
    return list(_listening(psutil, ((one, one.pid) for one in connections if one.pid != own)))


def of_own_user(transport: Transport, port: int) -> Listening | None:
    """Who of this user's processes listens on a port, where the system tells no more than that.

    It asks each process in turn, which takes a while.
    """
    psutil = _psutil()
    if psutil is None:
        return None
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            connections = process.net_connections(kind=_KINDS[transport])
            for found in _listening(psutil, ((one, process.pid) for one in connections)):
                if found.port == port and found.pid != os.getpid():
                    return found
    return None


def process_name(pid: int) -> str:
    """What a process is called; empty when it is not told."""
    psutil = _psutil()
    if psutil is not None:
        with contextlib.suppress(psutil.Error, OSError):
            return str(psutil.Process(pid).name())
    return ""


def _psutil() -> Any:
    """The library; None where it was not installed, as on Linux, which needs it least."""
    try:
        import psutil
    except ImportError:
        return None
    return psutil


def _listening(psutil: Any, connections: Iterator[tuple[Any, int | None]]) -> Iterator[Listening]:
    for one, pid in connections:
        is_udp = one.status == psutil.CONN_NONE and not one.raddr
        if one.laddr and (one.status == psutil.CONN_LISTEN or is_udp):
            host = one.laddr.ip.partition("%")[0]
            yield Listening(
                address=host,
                port=one.laddr.port,
                # It may be for IPv6 alone, which is not told. Rather keep away from a port.
                both_families=":" in host,
                uid=None,
                inode=0,
                cgroup=None,
                pid=pid,
            )
