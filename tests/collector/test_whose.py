"""A host may be meant by any address of it, however that is written."""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reachmap_collector.planner import Member
from reachmap_collector.whose import Meant, meant
from reachmap_shared.errors import QueryRefused


def member(name: str, *addresses: str) -> Member:
    return Member(name, (), addresses, {}, {}, has_agent=True)


MEMBERS = {
    one.name: one
    for one in (
        member("web-1", "10.0.0.1", "fd00::5"),
        member("web-2", "10.0.0.2", "10.9.9.9"),
        member("db-1", "db.example", "10.9.9.9"),
        member("far-1", "192.168.7.1"),
        member("new-1"),
    )
}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("web-1", Meant("web-1")),
        ("10.0.0.1", Meant("web-1", "10.0.0.1")),
        ("fd00::5", Meant("web-1", "fd00::5")),
        ("FD00:0:0::0005", Meant("web-1", "fd00::5")),
        ("::ffff:10.0.0.2", Meant("web-2", "10.0.0.2")),
        ("db.example", Meant("db-1", "db.example")),
        ("no-host", Meant("no-host")),
        ("10.0.0", Meant("10.0.0")),
        ("", Meant("")),
    ],
)
def test_a_host_is_known_by_name_and_by_address(text: str, expected: Meant) -> None:
    """What is neither is left as it is, for whoever looks for names."""
    assert meant(text, MEMBERS) == expected


@pytest.mark.parametrize(
    ("text", "code", "message"),
    [
        ("10.0.0.3", "404", "no host has the address 10.0.0.3; the nearest are 10.0.0.2 (web-2), 10.0.0.1 (web-1), 10.9.9.9 (db-1)"),
        ("fd00::6", "404", "no host has the address fd00::6; the nearest are fd00::5 (web-1)"),
        ("10.9.9.9", "400", "10.9.9.9 is an address of web-2 and of db-1: give the one you mean"),
    ],
)  # fmt: skip
def test_an_address_that_is_not_one_host_s_is_refused(text: str, code: str, message: str) -> None:
    """With those that are near, or with whose it is."""
    with pytest.raises(QueryRefused) as caught:
        meant(text, MEMBERS)
    assert (caught.value.code, str(caught.value)) == (code, message)


def test_where_nobody_has_such_an_address_none_is_near() -> None:
    """Of the other version is not near."""
    with pytest.raises(QueryRefused, match=r"no host has the address ::1: none is known by IPv6"):
        meant("::1", {"far-1": MEMBERS["far-1"]})


@given(st.ip_addresses() | st.text())
def test_whatever_is_given_is_a_host_or_refused(text: object) -> None:
    """And an address is never taken for a name."""
    try:
        found = meant(str(text), MEMBERS)
    except QueryRefused:
        return
    assert found.host in MEMBERS or not isinstance(
        text, ipaddress.IPv4Address | ipaddress.IPv6Address
    )
