"""From what the operating system said to what a check saw. Pure.

The prober never lies about itself: an error that is this machine's own doing is LOCAL_ERROR, and
so is every error that these tables do not know.
"""

import errno
import ipaddress
import os
from collections.abc import Mapping
from typing import Final

from reachmap_agent.kernel import Icmp, TcpInfo
from reachmap_shared.vocabulary import Outcome, Transport

BY_ERRNO: Final[Mapping[int, Outcome]] = {
    errno.ECONNREFUSED: Outcome.REFUSED,
    errno.ETIMEDOUT: Outcome.TIMEOUT,
    errno.EHOSTUNREACH: Outcome.UNREACHABLE,
    errno.ENETUNREACH: Outcome.UNREACHABLE,
    errno.ENETDOWN: Outcome.UNREACHABLE,
    errno.EHOSTDOWN: Outcome.UNREACHABLE,
    # A route or a firewall of this host's own forbids it; one on the way says so by ICMP too.
    errno.EACCES: Outcome.REJECTED,
    errno.EPERM: Outcome.REJECTED,
    errno.ECONNRESET: Outcome.RESET,
    errno.EPIPE: Outcome.RESET,
    errno.ECONNABORTED: Outcome.RESET,
}

_ICMP: Final[Mapping[tuple[int, int, int], tuple[Outcome, str]]] = {
    # RFC 792 and RFC 1812, 5.2.7.1
    (4, 3, 0): (Outcome.UNREACHABLE, "no route to the network"),
    (4, 3, 1): (Outcome.UNREACHABLE, "the host does not answer there"),
    (4, 3, 2): (Outcome.REJECTED, "protocol unreachable"),
    (4, 3, 3): (Outcome.REJECTED, "port unreachable"),
    (4, 3, 4): (Outcome.UNREACHABLE, "too big for the next link"),
    (4, 3, 5): (Outcome.UNREACHABLE, "source route failed"),
    (4, 3, 6): (Outcome.UNREACHABLE, "network unknown"),
    (4, 3, 7): (Outcome.UNREACHABLE, "host unknown"),
    (4, 3, 9): (Outcome.REJECTED, "network prohibited"),
    (4, 3, 10): (Outcome.REJECTED, "host prohibited"),
    (4, 3, 11): (Outcome.UNREACHABLE, "network unreachable for this type of service"),
    (4, 3, 12): (Outcome.UNREACHABLE, "host unreachable for this type of service"),
    (4, 3, 13): (Outcome.REJECTED, "administratively prohibited"),
    (4, 3, 14): (Outcome.REJECTED, "precedence violation"),
    (4, 3, 15): (Outcome.REJECTED, "precedence cut off"),
    (4, 11, 0): (Outcome.UNREACHABLE, "too many hops: perhaps a loop"),
    # RFC 4443, 3.1
    (6, 1, 0): (Outcome.UNREACHABLE, "no route to the destination"),
    (6, 1, 1): (Outcome.REJECTED, "administratively prohibited"),
    (6, 1, 2): (Outcome.UNREACHABLE, "beyond the scope of the source address"),
    (6, 1, 3): (Outcome.UNREACHABLE, "the host does not answer there"),
    (6, 1, 4): (Outcome.REJECTED, "port unreachable"),
    (6, 1, 5): (Outcome.REJECTED, "the source address is not allowed"),
    (6, 1, 6): (Outcome.REJECTED, "the route rejects it"),
    (6, 2, 0): (Outcome.UNREACHABLE, "too big for the next link"),
    (6, 3, 0): (Outcome.UNREACHABLE, "too many hops: perhaps a loop"),
}
"""ICMP errors by version, type and code. A host whose TCP port is closed sends RST and never
"port unreachable": that is a filter's word."""

_PORT_UNREACHABLE: Final = ((4, 3, 3), (6, 1, 4))

_OWN_ROUTES: Final[Mapping[int, str]] = {
    errno.ENETUNREACH: "this host has no route there, and sent nothing",
    errno.EHOSTUNREACH: "a route of this host's own makes it unreachable, and nothing was sent",
    errno.EINVAL: "this host itself will not send there: perhaps a blackhole route",
}
_FORBIDDEN: Final = (errno.EACCES, errno.EPERM)


def from_error(error: OSError) -> Outcome:
    """What an error of connect, send or receive means by itself."""
    return BY_ERRNO.get(error.errno or 0, Outcome.LOCAL_ERROR)


def own_doing(code: int, *, under_way: bool) -> tuple[str, ...]:
    """What to add to an error that no ICMP error explains: it may be this host's own doing.

    Args:
        code: The error's number.
        under_way: Whether connect had returned; what it says before that, nobody else has said.
    """
    if code in _FORBIDDEN:
        return ("a firewall or a route of this host's own forbids it, and nothing was sent",)
    if not under_way and code in _OWN_ROUTES:
        return (_OWN_ROUTES[code],)
    return ()


def from_icmp(icmp: Icmp, transport: Transport, dialled: str, own: str = "") -> tuple[Outcome, str]:
    """What an ICMP error about a check's packet means, and who says so, in words.

    `own` is this host's own address towards the one that was dialled, where it is known.
    """
    key = (icmp.version, icmp.type, icmp.code)
    outcome, words = _ICMP.get(key, (Outcome.UNREACHABLE, "an error that says little"))
    from_dialled = _same(icmp.offender, dialled)
    if transport is Transport.UDP and key in _PORT_UNREACHABLE and from_dialled:
        outcome = Outcome.REFUSED  # so says a host where nothing has the UDP port
    who = icmp.offender or "an unknown device"
    if from_dialled:
        who += " (the host dialled)"
    elif _same(icmp.offender, own):
        who += " (this host itself)"
    number = f"ICMP{'v6' if icmp.version == 6 else ''} {icmp.type}/{icmp.code}"
    return outcome, f"{who} says: {words} ({number})"


def from_silence(info: TcpInfo | None, *, connected: bool) -> tuple[str, ...]:
    """What TCP's own counters add to a check that ran out of time."""
    if info is None:
        return ()
    if not connected:
        if not info.segments_out or (info.retransmits and not info.retransmitted):
            return ("no segment left this host: a firewall of its own holds them",)
        return (f"{info.segments_out} SYN sent",)
    if info.unacked:
        segments = "segment" if info.unacked == 1 else "segments"
        return (f"{info.unacked} {segments} not acknowledged, {info.retransmits} sent again",)
    return ("all that was sent was acknowledged: it is the service that says nothing",)


def _same(address: str, other: str) -> bool:
    """Whether both are one address, however it is written; a zone tells links apart, not hosts."""
    try:
        return ipaddress.ip_address(address.partition("%")[0]) == ipaddress.ip_address(
            other.partition("%")[0]
        )
    except ValueError:
        return False


def describe(error: OSError) -> str:
    """The error in the words that people search for, as in `ECONNREFUSED: Connection refused`."""
    code = error.errno or 0
    name = errno.errorcode.get(code)
    return f"{name}: {os.strerror(code)}" if name else str(error)
