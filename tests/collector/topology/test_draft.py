"""What is guessed where a port table is silent, and that each guess is told."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reachmap_collector.topology.draft import Entry, draft_roles, slug
from reachmap_collector.topology.findings import FindingKind
from reachmap_collector.topology.schema import Basis, Role, Row
from reachmap_shared.names import role_name
from reachmap_shared.vocabulary import Transport

TCP, UDP = Transport.TCP, Transport.UDP


def entries(
    *rows: tuple[int, str, str, str] | tuple[int, str, str, str, set[Transport]],
) -> list[Entry]:
    """Rows of port, component, direction, description and the transports that they name."""
    made = []
    for number, (port, component, traffic, description, *transports) in enumerate(rows, 1):
        content = {
            "port": port,
            "component": component,
            "traffic": traffic,
            "description": description,
        }
        made.append(
            Entry(
                number=number,
                line=number + 2,
                row=Row.model_validate(content),
                role=slug(component),
                transports=frozenset(*transports),
                protocol="",
            )
        )
    return made


def connections(roles: dict[str, Role]) -> dict[str, list[str]]:
    """Whom each role connects to."""
    found = {name: [connect.to for connect in role.connects] for name, role in roles.items()}
    return {name: services for name, services in found.items() if services}


@pytest.mark.parametrize(
    ("port", "component", "description", "protocol"),
    [
        (4433, "Bus", "NATS Server", "nats"),
        (4433, "NATS Server", "cluster port", "nats"),
        (8222, "NATS Server", "HTTP monitor", "http"),
        (8000, "OCSP Responder", "", "ocsp"),
        (5433, "Database", "PostgreSQL", "postgres"),
        (2022, "Agent", "SFTP Server", "ssh"),
        (8443, "Console", "Web over https", "https"),
        (8080, "Console", "NATS over HTTP", "nats"),
        (22, "Host", "login", "ssh"),
        (443, "Host", "", "https"),
        (5432, "Host", "", "postgres"),
        (443, "NATS websocket", "", "nats"),
    ],
)
def test_a_protocol_is_told_by_words_and_then_by_the_port(
    port: int, component: str, description: str, protocol: str
) -> None:
    """The description tells more than the component, and both more than the port."""
    roles, findings = draft_roles(entries((port, component, "inbound", description)))
    assert roles[slug(component)].listens[f"{slug(component)}:{port}"].protocol == protocol
    assert [finding.kind for finding in findings] == [FindingKind.NEVER_DIALLED]


@pytest.mark.parametrize("description", ["Web server", "Auth server", "SSHD-less", "", "natsy"])
def test_a_protocol_that_nothing_tells_is_plain_tcp_and_told(description: str) -> None:
    """A web server may speak HTTP or HTTPS: a wrong guess would be an outage that is none."""
    roles, findings = draft_roles(entries((1323, "Console", "inbound", description)))
    assert roles["console"].listens["console:1323"].protocol == "tcp"
    assert findings[0].kind is FindingKind.GUESSED_PROTOCOL


def test_udp_is_udp_whatever_the_words_say() -> None:
    """No other protocol is checked over UDP."""
    roles, _ = draft_roles(entries((443, "Web", "inbound", "HTTPS", {UDP})))
    listen = roles["web"].listens["web:443"]
    assert (listen.protocol, listen.transport) == ("udp", UDP)


def test_an_outbound_row_means_whoever_listens_on_its_port() -> None:
    """Rows are paired by port, in whichever order they stand."""
    roles, findings = draft_roles(
        entries((22, "Admin", "outbound", ""), (22, "Host", "inbound", "SSH"))
    )
    assert connections(roles) == {"admin": ["host:22"]}
    assert findings == ()


def test_a_component_may_mean_its_own_kind() -> None:
    """Members of a cluster connect to one another."""
    roles, _ = draft_roles(entries((4444, "N", "inbound", "nats"), (4444, "N", "outbound", "")))
    assert connections(roles) == {"n": ["n:4444"]}


def test_a_port_of_several_components_is_connected_to_at_each_and_told() -> None:
    """Which of them is meant, only a person knows."""
    roles, findings = draft_roles(
        entries((22, "A", "inbound", ""), (22, "B", "inbound", ""), (22, "C", "outbound", ""))
    )
    assert connections(roles) == {"c": ["a:22", "b:22"]}
    assert {connect.row for connect in roles["c"].connects} == {3}
    [finding] = findings
    assert (finding.kind, finding.where) == (FindingKind.SEVERAL_LISTENERS, "row 3")
    assert "a:22 and b:22" in finding.message


def test_transports_that_rows_name_tell_listeners_apart() -> None:
    """53/udp is not 53/tcp; a row that names none means both."""
    roles, findings = draft_roles(
        entries(
            (53, "A", "inbound", "", {UDP}),
            (53, "B", "inbound", "", {TCP}),
            (53, "C", "outbound", "", {UDP}),
            (53, "D", "outbound", "", {TCP}),
            (53, "E", "outbound", ""),
        )
    )
    assert connections(roles) == {"c": ["a:53"], "d": ["b:53"], "e": ["a:53", "b:53"]}
    assert [finding.where for finding in findings if "each" in finding.message] == ["row 5"]


def test_a_row_of_both_transports_is_taken_as_tcp_and_told() -> None:
    """A service has one transport; that the other goes unchecked has to be known."""
    roles, findings = draft_roles(
        entries((53, "A", "inbound", "", {TCP, UDP}), (53, "B", "outbound", "", {TCP, UDP}))
    )
    assert roles["a"].listens["a:53"].transport is TCP
    assert connections(roles) == {"b": ["a:53"]}
    told = [finding for finding in findings if finding.kind is FindingKind.TWO_TRANSPORTS]
    assert [finding.where for finding in told] == ["row 1", "row 2"]


@pytest.mark.parametrize(
    ("descriptions", "role", "title"),
    [
        (["Postgres connection"], "postgres", "Postgres"),
        (["Redis: cache"], "redis", "Redis"),
        (["", "to the cache", "Redis cache"], "redis", "Redis"),
        (["Connection to Postgres"], "port-9999", ""),
        (["traffic"], "port-9999", ""),
        (["???"], "port-9999", ""),
        (["4433 and more"], "port-9999", ""),
        (["X"], "port-9999", ""),
        (["x" * 64], "port-9999", ""),
        (["Dialler0 peers"], "port-9999", ""),
        ([""], "port-9999", ""),
    ],
)
def test_a_port_that_nobody_listens_on_gets_a_listener(
    descriptions: list[str], role: str, title: str
) -> None:
    """Rows of one port share it; its name is the first one that their descriptions begin with."""
    rows = [
        (9999, f"Dialler{index}", "outbound", description)
        for index, description in enumerate(descriptions)
    ]
    roles, findings = draft_roles(entries(*rows))
    assert set(roles) == {role, *(f"dialler{index}" for index in range(len(rows)))}
    assert roles[role].title == title
    listen = roles[role].listens[f"{role}:9999"]
    assert (listen.basis, listen.row) == (Basis.LOCAL, None)
    assert listen.note
    assert set(map(tuple, connections(roles).values())) == {(f"{role}:9999",)}
    [finding] = findings
    assert finding.kind is FindingKind.NO_LISTENER
    assert f"role {role} was made up" in finding.message


def test_rows_that_name_different_listeners_share_one_and_it_is_told() -> None:
    """One port outbound may well lead to two places."""
    roles, findings = draft_roles(
        entries((443, "A", "outbound", "Github pull"), (443, "B", "outbound", "Mirror"))
    )
    assert connections(roles) == {"a": ["github:443"], "b": ["github:443"]}
    [finding] = findings
    assert finding.where == "rows 1, 2"
    assert finding.message.endswith("the rows also name mirror")


def test_a_name_that_is_a_component_s_is_taken_for_that_component() -> None:
    """A row about the console most likely means the console, even on a port it does not list."""
    roles, findings = draft_roles(
        entries((22, "Console", "inbound", "SSH"), (9999, "Agent", "outbound", "Console login"))
    )
    assert connections(roles) == {"agent": ["console:9999"]}
    assert set(roles["console"].listens) == {"console:22", "console:9999"}
    assert "role console was taken" in findings[-1].message


def test_a_made_up_listener_never_takes_a_service_that_is_there() -> None:
    """One service has one transport: over the other, it is another role's."""
    roles, _ = draft_roles(
        entries(
            (53, "DNS", "inbound", "", {UDP}),
            (53, "Port 53", "inbound", "", {UDP}),
            (53, "Agent", "outbound", "DNS lookup", {TCP}),
        )
    )
    assert connections(roles) == {"agent": ["port-53-2:53"]}
    assert roles["dns"].listens["dns:53"].transport is UDP
    assert roles["port-53-2"].listens["port-53-2:53"].transport is TCP


def test_a_listener_that_no_row_dials_is_told() -> None:
    """Somebody does dial it, or it would not be in the table."""
    _, findings = draft_roles(
        entries((22, "A", "inbound", "SSH"), (23, "A", "inbound", "ssh"), (22, "B", "outbound", ""))
    )
    assert [(finding.kind, finding.where) for finding in findings] == [
        (FindingKind.NEVER_DIALLED, "row 2")
    ]


def test_roles_and_connections_keep_the_table_s_order() -> None:
    """A person compares the profile with the table."""
    roles, _ = draft_roles(
        entries(
            (9999, "B", "outbound", "Redis"),
            (22, "A", "inbound", "SSH"),
            (22, "B", "outbound", ""),
        )
    )
    assert list(roles) == ["b", "a", "redis"]
    assert [connect.row for connect in roles["b"].connects] == [1, 3]


@given(st.text(max_size=40))
def test_a_slug_is_a_role_s_name_or_nothing(text: str) -> None:
    """What has a letter or a digit of ASCII becomes a name, and its own slug."""
    name = slug(text)
    assert slug(name) == name
    assert name == "" or role_name(name[:63]) == name[:63]
