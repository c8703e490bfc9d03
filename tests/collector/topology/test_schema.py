"""What topology and profile files may say, one value at a time."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from reachmap_collector.topology.schema import (
    MAX_HOSTS,
    MAX_NOTE,
    Basis,
    Connect,
    Host,
    Listen,
    ProfileFile,
    TopologyFile,
)
from reachmap_shared.vocabulary import PROTOCOLS, ListenMode, Transport


def refusal(content: dict[str, Any]) -> list[tuple[tuple[int | str, ...], str]]:
    """Where a topology's content is refused, and why."""
    with pytest.raises(ValidationError) as caught:
        TopologyFile.model_validate(content)
    return [(error["loc"], error["msg"]) for error in caught.value.errors()]


def test_an_empty_file_is_a_topology_of_nothing() -> None:
    """Nothing is required: a deployment may come from its agents' announcements alone."""
    empty = TopologyFile.model_validate({})
    assert (empty.hosts, empty.roles, empty.deny, empty.admit) == ({}, {}, [], [])
    assert 0 < empty.checks.timeout_s < empty.checks.interval_s


def test_what_a_file_leaves_out_has_the_contract_s_defaults() -> None:
    """A listener is TCP and known to its operator; a host has an agent that says the rest."""
    listen = Listen.model_validate({"protocol": "http"})
    assert (listen.transport, listen.basis, listen.row) == (Transport.TCP, Basis.LOCAL, None)
    assert listen.listen is ListenMode.ON_DEMAND
    host = Host.model_validate({})
    assert (host.roles, host.addresses, host.ports, host.agent) == (None, [], {}, True)
    assert host.listen == {}
    checks = TopologyFile.model_validate({}).checks
    assert (checks.interval_s, checks.timeout_s) == (10.0, 3.5)


def test_no_roles_is_not_the_same_as_roles_unsaid() -> None:
    """An empty list holds a host to no role; leaving it out lets its agent say."""
    assert Host.model_validate({"roles": []}).roles == []


def test_a_connection_is_written_as_a_service_or_in_full() -> None:
    """The short form is the long one without its details."""
    roles = {"browser": {"connects": ["web:8080", {"to": "web:8081", "note": "admins"}]}}
    profile = ProfileFile.model_validate({"roles": roles})
    assert profile.roles["browser"].connects == [
        Connect(to="web:8080"),
        Connect(to="web:8081", note="admins"),
    ]


@pytest.mark.parametrize("protocol", sorted(PROTOCOLS))
def test_every_protocol_that_a_check_speaks_can_be_asked_for(protocol: str) -> None:
    """The files know the same protocols as the agents."""
    assert Listen.model_validate({"protocol": protocol}).protocol == protocol


@pytest.mark.parametrize("mode", ["on-demand", "always", "never"])
def test_when_an_agent_stands_in_is_said_by_role_or_host(mode: str) -> None:
    """For a service wherever it is, or for one host of it."""
    assert Listen.model_validate({"listen": mode}).listen == mode
    assert Host.model_validate({"listen": {"web:80": mode}}).listen == {"web:80": mode}


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("10.0.0.5", "10.0.0.5"),
        ("FD00::0:5", "fd00::5"),
        ("db.example.com", "db.example.com"),
        ("db.example.com.", "db.example.com."),
        ("_sip.example", "_sip.example"),
        ("db-1", "db-1"),
        ("3com.example", "3com.example"),
    ],
)
def test_an_address_is_an_ip_address_in_one_spelling_or_a_name(text: str, kept: str) -> None:
    """Two spellings of an IPv6 address are one address."""
    assert Host.model_validate({"addresses": [text]}).addresses == [kept]


@pytest.mark.parametrize(
    "text",
    [
        *("", "10.0.0.300", "10.0.0", "10.0.0.5/24", "fd00::g", "[::1]", "db:5432", "http://db"),
        *("a b", "-db", "a..b", "a" * 64, "a." * 130, "db.example.com\n"),
    ],
)
def test_a_bad_address_is_refused_with_what_an_address_is(text: str) -> None:
    """A mistyped IPv4 address is not taken for a name."""
    [(where, why)] = refusal({"hosts": {"db": {"addresses": [text]}}})
    assert where == ("hosts", "db", "addresses", 0)
    assert "neither an IP address nor a DNS name" in why


@pytest.mark.parametrize(
    ("content", "where", "why"),
    [
        ({"hosts": {"a b": {}}}, ("hosts", "a b", "[key]"), "cannot name a host"),
        ({"hosts": {"": {}}}, ("hosts", "", "[key]"), "cannot name a host"),
        ({"hosts": {"a" * 64: {}}}, ("hosts", "a" * 64, "[key]"), "expected 1 to 63"),
        ({"roles": {"Web": {}}}, ("roles", "Web", "[key]"), "cannot name a role"),
        ({"admit": ["-web"]}, ("admit", 0), "cannot name a role"),
        ({"hosts": {"a": {"roles": ["a.b"]}}}, ("hosts", "a", "roles", 0), "cannot name a role"),
        ({"hosts": {"a": {"ports": {"web": 80}}}}, None, "expected ROLE:PORT, as in web:8080"),
        ({"hosts": {"a": {"ports": {"web:80": 70000}}}}, None, "70000 is not a port"),
        ({"hosts": {"a": {"ports": {"web:80": 0}}}}, None, "0 is not a port: expected 1 to 65535"),
        ({"hosts": {"a": {"ports": {"web:80": "81"}}}}, None, "valid integer"),
        ({"hosts": {"a": {"ports": {"web:80": True}}}}, None, "valid integer"),
        ({"hosts": {"a": {"listen": {"web": "never"}}}}, None, "expected ROLE:PORT"),
        ({"hosts": {"a": {"listen": {"web:80": "now"}}}}, None, "'on-demand', 'always' or 'never'"),
        ({"hosts": {"a": {"listen": "never"}}}, ("hosts", "a", "listen"), "valid dictionary"),
        ({"hosts": {"a": {"port": 80}}}, ("hosts", "a", "port"), "Extra inputs"),
        ({"host": {}}, ("host",), "Extra inputs"),
        ({"roles": {"web": {"listens": {"web:70000": {}}}}}, None, "70000 is not a port"),
        ({"roles": {"web": {"listens": {"web:080": {}}}}}, None, "expected web:80"),
        ({"roles": {"web": {"connects": ["web:http"]}}}, None, "is not a service"),
        ({"roles": {"web": {"connects": [{"note": "x"}]}}}, None, "Field required"),
        ({"roles": {"web": {"listens": {"web:80": {"row": 0}}}}}, None, "greater than or equal"),
        ({"roles": {"web": {"title": "x" * (MAX_NOTE + 1)}}}, None, "at most 500"),
        ({"deny": [{"from": "web"}]}, ("deny", 0, "to"), "Field required"),
        ({"deny": [{"to": "web:80"}]}, ("deny", 0, "from"), "Field required"),
        ({"rows": [{"port": 80, "component": "Web", "traffic": "both"}]}, None, "'inbound'"),
        ({"checks": {"interval_s": 0}}, ("checks", "interval_s"), "greater than or equal to 0.5"),
        ({"checks": {"interval_s": float("nan")}}, ("checks", "interval_s"), "equal to"),
        ({"checks": {"timeout_s": float("inf")}}, ("checks", "timeout_s"), "less than or equal"),
    ],
)
def test_a_value_that_cannot_be_is_refused_at_its_place(
    content: dict[str, Any], where: tuple[int | str, ...] | None, why: str
) -> None:
    """One mistake is one error, where it stands, with what was expected."""
    [(found, message)] = refusal(content)
    assert why in message
    assert where is None or found == where


@pytest.mark.parametrize(
    ("listen", "expected"),
    [
        ({"protocol": "imap"}, "unknown protocol 'imap': expected one of dns, http, https, nats,"),
        ({"transport": "sctp"}, "'tcp' or 'udp'"),
        ({"listen": "sometimes"}, "'on-demand', 'always' or 'never'"),
        ({"basis": "rumour"}, "'documented', 'observed-in-source' or 'local'"),
    ],
)
def test_an_unknown_word_is_refused_with_those_that_are_known(
    listen: dict[str, str], expected: str
) -> None:
    """The message is enough to correct the file."""
    [(_, message)] = refusal({"roles": {"web": {"listens": {"web:80": listen}}}})
    assert expected in message


def test_a_topology_has_a_bounded_number_of_hosts() -> None:
    """Every pair of hosts may be a flow: a file out of hand is refused, not planned."""
    [(where, message)] = refusal({"hosts": {f"pc-{n}": {} for n in range(MAX_HOSTS + 1)}})
    assert where == ("hosts",)
    assert "at most 20000" in message


@given(st.text(max_size=30))
def test_any_text_at_all_is_an_address_or_a_refusal(text: str) -> None:
    """No text makes the address check fail in another way."""
    try:
        [address] = Host.model_validate({"addresses": [text]}).addresses
    except ValidationError:
        return
    assert Host.model_validate({"addresses": [address]}).addresses == [address]
