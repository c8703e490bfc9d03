"""The built-in OpenUEM profile against the table that its documentation publishes."""

import pytest

from reachmap_collector.topology.load import load_profile
from reachmap_collector.topology.markdown import import_table
from reachmap_collector.topology.model import NamedProfile, Topology, assemble
from reachmap_collector.topology.schema import Basis, ProfileFile, TopologyFile
from reachmap_shared.names import ServiceName
from reachmap_shared.vocabulary import Transport

# The documented table; no row of it may be read off the profile under test.
TABLE = [
    (1443, "Agent", "Inbound", "NoVNC Proxy server"),
    (2022, "Agent", "Inbound", "SFTP Server"),
    (4433, "Agent Updater", "Outbound", "NATS traffic with server"),
    (8000, "Agent", "Outbound", "OCSP traffic with server"),
    (1323, "Console", "Inbound", "Web server"),
    (1324, "Console", "Inbound", "Auth server"),
    (4433, "Agent Worker", "Outbound", "NATS traffic with server"),
    (4433, "Cert Manager Worker", "Outbound", "NATS traffic with server"),
    (4433, "Notification Worker", "Outbound", "NATS traffic with server"),
    (4433, "NATS Server", "Inbound", "NATS Server"),
    (4433, "Server Updater", "Outbound", "NATS traffic with server"),
    (4444, "NATS Server", "Inbound", "NATS Server cluster port"),
    (5432, "Agent Worker", "Outbound", "Postgres connection"),
    (5432, "Cert Manager Worker", "Outbound", "Postgres connection"),
    (5432, "Console", "Outbound", "Postgres connection"),
    (5432, "Notification Worker", "Outbound", "Postgres connection"),
    (5432, "OCSP Responder", "Outbound", "Postgres connection"),
    (5432, "Server Updater", "Outbound", "Postgres connection"),
    (8000, "OCSP Responder", "Inbound", "OCSP Responder port"),
    (8000, "Cert Manager Worker", "Outbound", "OCSP traffic with server"),
    (8000, "NATS Server", "Outbound", "OCSP traffic with server"),
]

ROLES = {
    "Agent": "agent",
    "Agent Updater": "agent-updater",
    "Agent Worker": "agent-worker",
    "Cert Manager Worker": "cert-manager-worker",
    "Console": "console",
    "NATS Server": "nats-server",
    "Notification Worker": "notification-worker",
    "OCSP Responder": "ocsp-responder",
    "Server Updater": "server-updater",
}

LISTENERS = {
    4433: "nats-server:4433",
    5432: "postgres:5432",
    8000: "ocsp-responder:8000",
}
"""Whom an outbound row of a port means."""

UNDOCUMENTED = [
    ("agent", "nats-server:4433"),
    ("console", "nats-server:4433"),
    ("console", "ocsp-responder:8000"),
    ("console", "agent:2022"),
    ("nats-server", "nats-server:4444"),
    ("admin-browser", "console:1323"),
    ("admin-browser", "console:1324"),
    ("admin-browser", "agent:1443"),
]
"""Connections that the components make and the table does not say."""

Flow = tuple[int, str, str, str]
"""A row's number, what its role does, that role, and the service."""


@pytest.fixture(scope="module")
def profile() -> ProfileFile:
    return load_profile("openuem")


def documented(profile: ProfileFile) -> list[Flow]:
    """Everything in a profile that a row of the table says."""
    flows = [
        (listen.row or 0, "listens", name, service)
        for name, role in profile.roles.items()
        for service, listen in role.listens.items()
        if listen.basis is Basis.DOCUMENTED
    ]
    flows += [
        (connect.row or 0, "connects", name, connect.to)
        for name, role in profile.roles.items()
        for connect in role.connects
        if connect.basis is Basis.DOCUMENTED
    ]
    return sorted(flows)


def expected(number: int) -> Flow:
    """What a row of the table says."""
    port, component, traffic, _ = TABLE[number - 1]
    role = ROLES[component]
    if traffic == "Inbound":
        return number, "listens", role, f"{role}:{port}"
    return number, "connects", role, LISTENERS[port]


def test_the_profile_quotes_the_table_row_by_row(profile: ProfileFile) -> None:
    """All 21 rows, in the table's order and in its words."""
    assert [
        (row.port, row.component, row.traffic.capitalize(), row.description) for row in profile.rows
    ] == TABLE
    assert [row[2] for row in TABLE].count("Inbound") == 7
    assert [row[2] for row in TABLE].count("Outbound") == 14


@pytest.mark.parametrize("number", range(1, len(TABLE) + 1))
def test_a_row_is_accounted_for_once(profile: ProfileFile, number: int) -> None:
    """Its role listens on its port, or connects to the one who does; once, and nothing else."""
    assert [flow for flow in documented(profile) if flow[0] == number] == [expected(number)]


def test_nothing_is_called_documented_without_a_row(profile: ProfileFile) -> None:
    """What the table does not say is not passed off as its word."""
    assert {flow[0] for flow in documented(profile)} == set(range(1, len(TABLE) + 1))
    for role in profile.roles.values():
        said = [(listen.row, listen.basis) for listen in role.listens.values()]
        said += [(connect.row, connect.basis) for connect in role.connects]
        for row, basis in said:
            assert (row is None) == (basis is not Basis.DOCUMENTED)


@pytest.mark.parametrize(("role", "service"), UNDOCUMENTED)
def test_a_connection_that_the_table_leaves_out_is_there(
    profile: ProfileFile, role: str, service: str
) -> None:
    """A firewall opened after the table alone would break it."""
    [connect] = [connect for connect in profile.roles[role].connects if connect.to == service]
    assert (connect.basis, connect.row) == (Basis.OBSERVED, None)


def test_nothing_is_there_besides(profile: ProfileFile) -> None:
    """Every connection is a row of the table, or one that the source code was seen to make."""
    observed = [
        (name, connect.to)
        for name, role in profile.roles.items()
        for connect in role.connects
        if connect.basis is not Basis.DOCUMENTED
    ]
    assert sorted(observed) == sorted(UNDOCUMENTED)
    unlisted = [
        service
        for role in profile.roles.values()
        for service, listen in role.listens.items()
        if listen.basis is not Basis.DOCUMENTED
    ]
    assert unlisted == ["postgres:5432"]


def test_the_browser_shows_the_desktop_and_not_the_console(profile: ProfileFile) -> None:
    """Remote desktop goes from the administrator's machine; the console dials no 1443."""
    dialling = [
        name
        for name, role in profile.roles.items()
        if any(connect.to == "agent:1443" for connect in role.connects)
    ]
    assert dialling == ["admin-browser"]


@pytest.mark.parametrize(
    ("service", "protocol"),
    [
        ("agent:1443", "https"),
        ("agent:2022", "ssh"),
        ("console:1323", "https"),
        ("console:1324", "https"),
        ("nats-server:4433", "nats"),
        ("nats-server:4444", "nats"),
        ("ocsp-responder:8000", "ocsp"),
        ("postgres:5432", "postgres"),
    ],
)
def test_a_service_is_checked_in_its_own_protocol(
    profile: ProfileFile, service: str, protocol: str
) -> None:
    """What a client sees on the port; all of it is TCP."""
    listen = profile.roles[service.partition(":")[0]].listens[service]
    assert (listen.protocol, listen.transport) == (protocol, Transport.TCP)


def test_the_row_that_no_component_follows_is_marked(profile: ProfileFile) -> None:
    """Row 20 is what firewalls are asked for, but the worker calls nobody."""
    [connect] = [
        entry for entry in profile.roles["cert-manager-worker"].connects if entry.row == 20
    ]
    assert connect.note.startswith("informational")


def assembled(profile: ProfileFile) -> Topology:
    topology, problems = assemble(TopologyFile(), [NamedProfile("openuem", profile)])
    assert problems == []
    return topology


def test_the_profile_makes_sense_by_itself(profile: ProfileFile) -> None:
    """Nothing in it points to what is not there, and its rows are found from its services."""
    topology = assembled(profile)
    row = topology.listener(ServiceName("nats-server", 4444)).table_row
    assert str(row) == "4444 | NATS Server | Inbound | NATS Server cluster port"


def test_importing_the_table_says_what_the_profile_says() -> None:
    """The importer and the profile's author read the 21 rows alike."""
    lines = [
        "| Port | Component | Traffic | Description |",
        "|---|---|---|---|",
        *("| " + " | ".join(map(str, row)) + " |" for row in TABLE),
    ]
    imported = import_table("\n".join(lines), "ports.md").profile
    builtin = load_profile("openuem")
    assert documented(imported) == documented(builtin)
    assert imported.rows == builtin.rows
    assert len(assembled(imported).rows) == len(TABLE)
    for name, role in imported.roles.items():
        assert name == "postgres" or role.title == builtin.roles[name].title
        for service, listen in role.listens.items():
            # "Web server" leaves open whether that is HTTP or HTTPS: a plain connection it is.
            assert listen.protocol in {"tcp", builtin.roles[name].listens[service].protocol}


def test_an_outage_of_the_database_takes_these_along(profile: ProfileFile) -> None:
    """Console and responder listen only while it answers, and logins at NATS need the responder."""
    topology, _ = assemble(TopologyFile(), [NamedProfile("openuem", profile)])
    assert topology.dependencies() == {
        "nats-server:4433": ["ocsp-responder:8000"],
        "ocsp-responder:8000": ["postgres:5432"],
        "console:1323": ["postgres:5432"],
        "console:1324": ["postgres:5432"],
    }
