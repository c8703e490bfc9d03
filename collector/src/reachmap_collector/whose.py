"""Which host somebody means who gives an address of it. Pure."""

import ipaddress
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from heapq import nsmallest
from typing import Final

from reachmap_collector.planner import Member
from reachmap_shared.errors import QueryRefused

_NEAR: Final = 3
"""How many addresses are suggested."""

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


@dataclass(frozen=True, slots=True)
class Meant:
    """A host, as somebody named it."""

    host: str
    address: str = ""
    """By which it was named; empty where that was done by its name."""


def meant(text: str, members: Mapping[str, Member]) -> Meant:
    """The host that a name or an address is of. A name is not looked for.

    Raises:
        QueryRefused: No host has this address, or several have.
    """
    if text in members:
        return Meant(text)
    address = _address(text)
    wanted = text if address is None else str(address)
    owners = [name for name, member in members.items() if wanted in member.addresses]
    if len(owners) > 1:
        raise QueryRefused(
            "400", f"{wanted} is an address of {' and of '.join(owners)}: give the one you mean"
        )
    if owners:
        return Meant(owners[0], wanted)
    if address is None:
        return Meant(text)
    near = nsmallest(
        _NEAR,
        ((abs(int(address) - int(one)), str(one), name) for one, name in _alike(address, members)),
    )
    hint = ", ".join(f"{one} ({name})" for _, one, name in near)
    hint = f"; the nearest are {hint}" if hint else f": none is known by IPv{address.version}"
    raise QueryRefused("404", f"no host has the address {wanted}{hint}")


def _alike(address: Address, members: Mapping[str, Member]) -> Iterator[tuple[Address, str]]:
    """All addresses of the same version, and whose they are."""
    for name, member in members.items():
        for text in member.addresses:
            one = _address(text)
            if one is not None and one.version == address.version:
                yield one, name


def _address(text: str) -> Address | None:
    """An address, in the one way that it is written; None where the text is none."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address
