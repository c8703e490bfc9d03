"""Who a host says it is: what others can use, and nothing that means somebody else to them."""

import ipaddress
import re
import socket
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reachmap_agent import identity
from reachmap_agent.identity import (
    capabilities,
    describe_platform,
    hostname,
    new_boot,
    own_addresses,
    usable,
)


def test_each_start_has_a_name_of_its_own() -> None:
    """By which the collector tells a restart from a namesake."""
    boots = {new_boot() for _ in range(100)}
    assert len(boots) == 100
    assert all(re.fullmatch("[0-9a-f]{16}", boot) for boot in boots)


def test_the_platform_is_told_in_one_short_line() -> None:
    """For whoever wonders which hosts still run what."""
    text = describe_platform()
    assert re.search(r"Python 3\.\d+\.\d+$", text)
    assert len(text) <= 120 and text.isprintable()


@pytest.mark.parametrize("length", [1, 300])
def test_the_hostname_fits_into_a_hello(monkeypatch: pytest.MonkeyPatch, length: int) -> None:
    """However long some system lets it be."""
    monkeypatch.setattr(socket, "gethostname", lambda: "h" * length)
    assert hostname() == "h" * min(length, 255)


def test_capabilities_are_words() -> None:
    """TCP and UDP every process can; the rest depends on where it runs."""
    found = capabilities()
    assert {"tcp", "udp"} <= set(found)
    assert set(found) <= {"tcp", "udp", "ipv6", "root", "raw"}
    assert len(found) == len(set(found))


@pytest.fixture
def untried() -> Iterator[None]:
    """Nobody has tried yet, and nobody remembers what the test pretended."""
    identity._may_tap.cache_clear()
    yield
    identity._may_tap.cache_clear()


@pytest.mark.parametrize("may", [True, False])
def test_who_may_look_at_packets_says_so(
    may: bool, monkeypatch: pytest.MonkeyPatch, untried: None
) -> None:
    """By trying, since a sandbox may forbid what the right allows."""
    made = socket.socket

    def tried(family: int, *rest: int) -> socket.socket:
        if family == getattr(socket, "AF_PACKET", None):
            if not may:
                raise PermissionError
            return made()
        return made(family, *rest)

    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(socket, "AF_PACKET", 17, raising=False)
    monkeypatch.setattr(socket, "socket", tried)
    assert ("raw" in capabilities()) is may
    monkeypatch.undo()
    assert ("raw" in capabilities()) is may, "it is tried once"


@pytest.mark.parametrize(
    ("address", "means_us"),
    [
        ("10.0.0.7", True),
        ("192.0.2.1", True),
        ("fd00::7", True),
        ("2001:db8::7", True),
        ("::ffff:10.0.0.7", True),
        ("127.0.0.1", False),
        ("127.77.1.1", False),
        ("::1", False),
        ("0.0.0.0", False),
        ("::", False),
        ("169.254.1.1", False),
        ("fe80::1", False),
        ("fe80::1%eth0", False),
        (None, False),
    ],
)
def test_which_addresses_mean_this_host_elsewhere(address: str | None, means_us: bool) -> None:
    """Loopback and link-local mean whoever hears them."""
    assert bool(usable([address])) is means_us


@given(st.lists(st.none() | st.ip_addresses().map(str)))
def test_each_address_is_announced_once_and_in_order(addresses: list[str | None]) -> None:
    """The best first, as they were found."""
    found = usable(addresses)
    assert len(found) == len(set(found))
    assert list(found) == [a for a in dict.fromkeys(addresses) if a in found]


def test_an_address_is_written_one_way() -> None:
    """Or the collector would take one address for two."""
    assert usable(["FD00:0:0::0007", "fd00::7", "fd00::7%eth0"]) == ("fd00::7",)


@pytest.mark.parametrize("bus_host", [None, "127.0.0.1", "::1", "198.51.100.7", "2001:db8::7"])
def test_own_addresses_are_this_host_s(bus_host: str | None) -> None:
    """Each can be bound here; finding out sends nothing, and works without any network."""
    for text in own_addresses(bus_host):
        address = ipaddress.ip_address(text)
        family = socket.AF_INET if address.version == 4 else socket.AF_INET6
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((text, 0))


def test_the_way_to_the_bus_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """Others are likely to be where the bus is; then the way out; one of each family."""
    routes = {
        (socket.AF_INET, "nats-1"): "10.0.0.7",
        (socket.AF_INET6, "nats-1"): None,
        (socket.AF_INET, "198.51.100.1"): "192.0.2.7",
        (socket.AF_INET6, "2001:db8::1"): "fd00::7",
    }
    monkeypatch.setattr(identity, "_local_end", lambda family, host: routes[family, host])
    assert own_addresses("nats-1") == ("10.0.0.7", "192.0.2.7", "fd00::7")
    assert own_addresses(None) == ("192.0.2.7", "fd00::7")


def test_a_bus_that_does_not_resolve_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """It just says nothing about our addresses."""

    def unroutable(*_: Any) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "no such name")

    monkeypatch.setattr(socket.socket, "connect", unroutable)
    assert own_addresses("nats-1.invalid") == ()
