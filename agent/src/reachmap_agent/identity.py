"""Who this host is: what the agent says of itself when it joins."""

import functools
import ipaddress
import os
import platform
import secrets
import socket
import sys
from collections.abc import Iterable

_BEYOND = (
    (socket.AF_INET, "198.51.100.1"),
    (socket.AF_INET6, "2001:db8::1"),
)
"""Addresses for documentation (RFC 5737, RFC 3849): beyond every default route, and nobody's."""


def new_boot() -> str:
    """A random name for this start of the process."""
    return secrets.token_hex(8)


def describe_platform() -> str:
    """The operating system and machine, as in `Linux 6.18 x86_64, Python 3.11.7`."""
    version = ".".join(str(part) for part in sys.version_info[:3])
    return f"{platform.system()} {platform.release()} {platform.machine()}, Python {version}"[:120]


def hostname() -> str:
    """What the machine calls itself."""
    return socket.gethostname()[:255]


def capabilities() -> tuple[str, ...]:
    """What this process could do beyond plain sockets, as the collector names it."""
    found = ["tcp", "udp"]
    if socket.has_ipv6:
        found.append("ipv6")
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        found.append("root")
    if _may_tap():
        found.append("raw")
    return tuple(found)


@functools.cache
def _may_tap() -> bool:
    """Whether packets can be looked at: by right (CAP_NET_RAW), and by the sandbox.

    It is tried once: to close such a socket takes the kernel milliseconds, and neither changes.
    """
    if sys.platform != "linux":
        return False
    try:
        with socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM):  # of no protocol: it hears nothing
            return True
    except OSError:
        return False


def is_address(host: str) -> bool:
    """Whether it is an address, and no name."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def own_addresses(bus_host: str | None) -> tuple[str, ...]:
    """The addresses that other hosts are likely to reach this one at, best first.

    They are the local ends of the routes to the bus and out of the network, one of each family.
    Nothing is sent: connecting a UDP socket only looks up the route. A host with more addresses,
    or behind NAT, wants them in its configuration or in the topology.
    """
    towards = list(_BEYOND)
    if bus_host is not None:
        towards = [*((family, bus_host) for family, _ in _BEYOND), *towards]
    return usable(_local_end(family, host) for family, host in towards)


def usable(addresses: Iterable[str | None]) -> tuple[str, ...]:
    """Those addresses that mean this host when seen from another, each once."""
    found: dict[str, None] = {}
    for text in addresses:
        if text is None:
            continue
        address = ipaddress.ip_address(text.partition("%")[0])
        if not (address.is_loopback or address.is_link_local or address.is_unspecified):
            found[str(address)] = None
    return tuple(found)


def _local_end(family: socket.AddressFamily, host: str) -> str | None:
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((host, 9))
            return str(probe.getsockname()[0])
    except OSError:  # no such family here, no route, or a name that does not resolve
        return None


def local_end(address: str) -> str | None:
    """The address of this host from which it would reach another; None where there is no route."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    return _local_end(family, address)
