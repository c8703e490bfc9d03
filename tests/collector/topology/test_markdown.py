"""Port tables in Markdown: what they say becomes a profile, what is wrong with them is told."""

import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reachmap_collector.errors import InvalidFile
from reachmap_collector.topology.findings import FindingKind
from reachmap_collector.topology.load import load_profile
from reachmap_collector.topology.markdown import Imported, import_table, to_toml
from reachmap_collector.topology.model import NamedProfile, assemble
from reachmap_collector.topology.schema import (
    Basis,
    Connect,
    Deny,
    Listen,
    ProfileFile,
    Role,
    Row,
    TopologyFile,
)
from reachmap_shared.vocabulary import PROTOCOLS, Transport

DOCUMENT = Path(__file__).with_name("openuem-ports.md")

HEADER = "| Port | Component | Traffic | Description |\n|---|---|---|---|\n"


def imported(*rows: str, header: str = HEADER) -> Imported:
    return import_table(header + "\n".join(rows), "ports.md")


def refusal(text: str) -> list[str]:
    """The lines that a person reads when a document is refused."""
    with pytest.raises(InvalidFile) as caught:
        import_table(text, "ports.md")
    return [line.removeprefix("ports.md: ") for line in str(caught.value).splitlines()]


def flows(profile: ProfileFile) -> dict[int, list[tuple[str, str]]]:
    """What each row of a profile became: a role and the service that it offers or dials."""
    found: dict[int, list[tuple[str, str]]] = {}
    for name, role in profile.roles.items():
        for service, listen in role.listens.items():
            if listen.row:
                found.setdefault(listen.row, []).append((name, service))
        for connect in role.connects:
            if connect.row:
                found.setdefault(connect.row, []).append((name, connect.to))
    return found


def problems(profile: ProfileFile) -> list[str]:
    """What a topology upon a profile would be refused for."""
    return [str(problem) for problem in assemble(TopologyFile(), [NamedProfile("p", profile)])[1]]


@pytest.fixture(scope="module")
def openuem() -> Imported:
    """The table that OpenUEM publishes, in a document of somebody else's."""
    return import_table(DOCUMENT.read_text(encoding="utf-8"), DOCUMENT, "OpenUEM")


def test_every_row_of_openuem_s_is_in_the_profile_and_does_something(openuem: Imported) -> None:
    """21 rows, each of which is one listener or one connection of its component."""
    rows = openuem.profile.rows
    assert rows == load_profile("openuem").rows
    accounted = flows(openuem.profile)
    assert sorted(accounted) == list(range(1, 22))
    for number, row in enumerate(rows, 1):
        [(role, service)] = accounted[number]
        assert role == row.component.lower().replace(" ", "-")
        assert service.endswith(f":{row.port}")
        assert (service.startswith(f"{role}:")) == (row.traffic == "inbound")


def test_the_database_that_has_no_row_is_made_up(openuem: Imported) -> None:
    """Six rows connect to it, so it is there, and known as a guess."""
    postgres = openuem.profile.roles["postgres"]
    assert postgres.title == "Postgres"
    listen = postgres.listens["postgres:5432"]
    assert (listen.basis, listen.row, listen.protocol) == (Basis.LOCAL, None, "postgres")
    assert "not in the table" in listen.note


def test_openuem_s_findings_are_what_a_person_has_to_look_at(openuem: Imported) -> None:
    """Who dials five listeners, what three speak, and the database."""
    assert [(finding.kind, finding.where) for finding in openuem.findings] == [
        (FindingKind.GUESSED_PROTOCOL, "row 1"),
        (FindingKind.NEVER_DIALLED, "row 1"),
        (FindingKind.NEVER_DIALLED, "row 2"),
        (FindingKind.GUESSED_PROTOCOL, "row 5"),
        (FindingKind.NEVER_DIALLED, "row 5"),
        (FindingKind.GUESSED_PROTOCOL, "row 6"),
        (FindingKind.NEVER_DIALLED, "row 6"),
        (FindingKind.NEVER_DIALLED, "row 12"),
        (FindingKind.NO_LISTENER, "rows 13, 14, 15, 16, 17, 18"),
    ]
    assert "role postgres was made up" in openuem.findings[-1].message


def test_a_profile_says_where_it_comes_from(openuem: Imported) -> None:
    """The title is the caller's, the source is the file's name without its folder."""
    assert openuem.profile.title == "OpenUEM"
    assert openuem.profile.source == "port table in openuem-ports.md"


def test_an_import_makes_a_topology(openuem: Imported) -> None:
    """What was imported can be used as it is."""
    assert problems(openuem.profile) == []


@pytest.mark.parametrize(
    "header",
    [
        "| Port | Component | Traffic | Description |",
        "| PORT | component | Traffic (in/out) | Notes |",
        "| **Default port** | Service | Direction | Purpose |",
        "| Ports | `Role` | Traffic Direction | Comment |",
        "Port | Application | Traffic | Description",
    ],
)
def test_columns_are_known_by_their_usual_headers(header: str) -> None:
    """Case, marks and the usual synonyms make no difference."""
    rows = "\n|---|---|---|---|\n| 22 | Shell | Inbound | SSH |"
    [row] = import_table(header + rows, "ports.md").profile.rows
    assert row == Row(port=22, component="Shell", traffic="inbound", description="SSH")


def test_columns_stand_in_any_order_and_others_are_ignored() -> None:
    """A table made for people has columns that no profile needs, and may have no description."""
    header = "| Owner | Traffic | Port | Ticket | Component |\n|---|---|---|---|---|\n"
    [row] = imported("| Ann | Inbound | 22 | 7 | Shell |", header=header).profile.rows
    assert row == Row(port=22, component="Shell", traffic="inbound")


def test_of_two_columns_for_one_thing_the_likelier_counts() -> None:
    """Where there is a component, a service is something else."""
    header = "| Service | Port | Component | Traffic |\n|---|---|---|---|\n"
    assert list(imported("| ssh | 22 | Shell | In |", header=header).profile.roles) == ["shell"]


@pytest.mark.parametrize(
    ("word", "traffic"),
    [
        ("Inbound", "inbound"),
        ("OUTBOUND", "outbound"),
        ("in", "inbound"),
        ("Outgoing", "outbound"),
        ("**Ingress**", "inbound"),
    ],
)
def test_a_direction_is_known_by_its_usual_words(word: str, traffic: str) -> None:
    """What a person would not mistake is not refused."""
    assert imported(f"| 22 | Shell | {word} | |").profile.rows[0].traffic == traffic


@pytest.mark.parametrize(
    ("component", "role"),
    [
        ("Cert Manager Worker", "cert-manager-worker"),
        ("NATS Server", "nats-server"),
        ("  Wi-Fi / AP (new) ", "wi-fi-ap-new"),
        ("Über_Dienst", "uber-dienst"),
        (r"A\|B", "a-b"),
        ("3com", "3com"),
    ],
)
def test_a_component_becomes_a_role(component: str, role: str) -> None:
    """A role's name is its component's in lower case, and its title is the component as it is."""
    profile = imported(f"| 22 | {component} | Inbound | |").profile
    assert list(profile.roles) == [role]
    assert profile.roles[role].title == profile.rows[0].component


@pytest.mark.parametrize(
    ("port", "transport"),
    [
        ("53", Transport.TCP),
        ("53/tcp", Transport.TCP),
        ("53/udp", Transport.UDP),
        ("53 (UDP)", Transport.UDP),
        ("UDP 53", Transport.UDP),
        ("`udp/53`", Transport.UDP),
    ],
)
def test_a_port_may_name_its_transport(port: str, transport: Transport) -> None:
    """It is TCP unless the table says UDP; and what is UDP is checked as that."""
    profile = imported(f"| {port} | DNS | Inbound | |").profile
    listen = profile.roles["dns"].listens["dns:53"]
    assert (listen.transport, listen.protocol) == (transport, transport.value)


@pytest.mark.parametrize("column", ["Protocol", "Transport", "Proto"])
def test_a_column_may_name_the_transport(column: str) -> None:
    """Many tables have a column of their own for it."""
    header = f"| Port | {column} | Component | Traffic |\n|---|---|---|---|\n"
    listens = imported("| 53 | UDP | DNS | In |", "| 54 | TCP | DNS | In |", header=header)
    assert {
        service: listen.transport
        for service, listen in listens.profile.roles["dns"].listens.items()
    } == {"dns:53": Transport.UDP, "dns:54": Transport.TCP}


def test_several_tables_make_one_profile() -> None:
    """Rows count on from table to table, and pair across them."""
    text = (
        f"{HEADER}| 22 | Shell | Inbound | SSH |\n\n# More\n\n"
        "| Role | Direction | Port |\n|---|---|---|\n| Admin | Out | 22 |\n"
    )
    profile = import_table(text, "ports.md").profile
    assert [row.component for row in profile.rows] == ["Shell", "Admin"]
    assert profile.roles["admin"].connects == [
        Connect(to="shell:22", basis=Basis.DOCUMENTED, row=2)
    ]


def test_a_table_of_ports_that_lacks_a_column_is_left_out_and_told() -> None:
    """It may be rows that nobody will miss until a firewall drops them."""
    text = (
        f"{HEADER}| 22 | Shell | Inbound | SSH |\n\n"
        "| Port | Component |\n|---|---|\n| 23 | Telnet |\n\n"
        "| Name | Mail |\n|---|---|\n| A | B |\n"
    )
    result = import_table(text, "ports.md")
    assert len(result.profile.rows) == 1
    told = [str(found) for found in result.findings if found.kind is FindingKind.TABLE_LEFT_OUT]
    assert told == [
        "line 5: a table with the columns Port, Component, but none for Traffic: left out"
    ]


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        (["| 70000 | A | In | |"], ["line 3: 70000 is not a port: expected 1 to 65535"]),
        (["| 0 | A | In | |"], ["line 3: 0 is not a port: expected 1 to 65535"]),
        (
            ["| 80, 443 | A | In | |"],
            [
                (
                    "line 3: '80, 443' is not a port: "
                    "expected one number from 1 to 65535, as in 4433 or 53/udp"
                )
            ],
        ),
        (["| | A | In | |"], ["line 3: '' is not a port:"]),
        (["| 8000-8010 | A | In | |"], ["line 3: '8000-8010' is not a port:"]),
        (["| -1 | A | In | |"], ["line 3: '-1' is not a port:"]),
        (["| ٢٢ | A | In | |"], ["line 3: '٢٢' is not a port:"]),
        ([f"| {'9' * 5000} | A | In | |"], [f"line 3: '{'9' * 100}...' is not a port:"]),
        (
            ["| 80 | A | Both | |"],
            ["line 3: 'Both' is no direction: expected Inbound or Outbound"],
        ),
        (["| 80 | A | | |"], ["line 3: '' is no direction: expected Inbound or Outbound"]),
        (
            ["| 80 | ??? | In | |"],
            [
                (
                    "line 3: component '???' cannot become a role: "
                    "expected letters and digits, at most 63 of a-z 0-9 - when joined"
                )
            ],
        ),
        (["| 80 | 数据库 | In | |"], ["line 3: component '数据库' cannot become a role:"]),
        ([f"| 80 | {'a' * 64} | In | |"], [f"line 3: component '{'a' * 64}' cannot become"]),
        ([f"| 80 | {'a ' * 400} | In | |"], ["line 3: a component of 799 characters: expected"]),
        ([f"| 80 | A | In | {'x' * 501} |"], ["line 3: a description of 501 characters: expected"]),
        (
            ["| 80 | A | In |"],
            [r"line 3: found 3 cells, expected 4; a | in a cell is written \|"],
        ),
        (["| 80 | A | In | a | b |"], ["line 3: found 5 cells, expected 4;"]),
        (["| 80 | A | In | `a|b` |"], ["line 3: found 5 cells, expected 4;"]),
        (["| 80 | A | In | x |", "And so on."], ["line 4: found 1 cells, expected 4;"]),
        ([], ["line 1: the table has no rows: expected one for each port"]),
        (
            ["| 80 | A | In | x |", "| 81 | A | In | x |", "| 80 | A | In | x |"],
            ["line 5: the same port, component and traffic as line 3: expected one row for both"],
        ),
        (
            ["| 80 | A b | Out | x |", "| 80 | a-B | Out | y |"],
            ["line 4: the same port, component and traffic as line 3: expected one row for both"],
        ),
        (
            ["| 53 | A | Out | |", "| 53/udp | A | Out | |"],
            ["line 4: the same port, component and traffic as line 3: expected one row for both"],
        ),
        (
            ["| 53/tcp | A | In | |", "| 53/udp | A | In | |"],
            [
                (
                    "line 4: a:53 is on tcp at line 3, here on udp: "
                    "expected another component for one of them"
                )
            ],
        ),
    ],
)
def test_a_row_that_cannot_be_is_refused_with_its_line(
    rows: list[str], expected: list[str]
) -> None:
    """The line, what is wrong there, and what was expected."""
    found = refusal(HEADER + "\n".join(rows))
    assert len(found) == len(expected)
    for line, beginning in zip(found, expected, strict=True):
        assert line.startswith(beginning)


def test_all_mistakes_are_told_at_once_in_the_file_s_order() -> None:
    """Several in a row, in several rows, in several tables."""
    table = f"{HEADER}| 0 | ? | In | |\n| 80 | A | In |\n| 81 | A | In | |\n| 81 | A | In | |\n"
    lines = refusal(f"{table}\n{HEADER}| 1 | A | up | |\n\n{HEADER}\nText\n")
    assert [line.partition(":")[0] for line in lines] == [
        "line 3",
        "line 3",
        "line 4",
        "line 6",
        "line 10",
        "line 12",
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "# Ports\n\nSee below.\n",
            [
                (
                    "no table in it: "
                    "expected one with the columns Port, Component, Traffic and perhaps Description"
                )
            ],
        ),
        ("", ["no table in it: expected one with the columns Port,"]),
        (f"```\n{HEADER}| 80 | A | In | |\n```\n", ["no table in it: expected"]),
        (
            "| Name | Mail |\n|---|---|\n| A | B |\n\n| Port | Traffic | |\n|---|---|---|\n",
            [
                "no table of ports in it: expected one with the columns Port, Component, Traffic",
                (
                    "line 1: a table with the columns Name, Mail, "
                    "but none for Port or Component or Traffic"
                ),
                (
                    "line 5: a table with the columns Port, Traffic, (nameless), "
                    "but none for Component"
                ),
            ],
        ),
        (
            "Ports:\n\n| Port | Component | Traffic |\n|---|---|\n| 1 | A | In |\n",
            ["line 3: the header of a table, but expected |---|---|---| in the line below it"],
        ),
    ],
)
def test_a_document_without_a_port_table_is_refused(text: str, expected: list[str]) -> None:
    """The message says which columns were looked for, and which tables there are."""
    found = refusal(text)
    assert len(found) == len(expected)
    for line, beginning in zip(found, expected, strict=True):
        assert line.startswith(beginning)


def test_a_second_table_that_is_none_refuses_the_document() -> None:
    """Half of the rows must not be lost because of a slip in one line."""
    text = (
        f"{HEADER}| 80 | A | In | |\n\n| Port | Component | Traffic |\n|---|---|\n| 1 | A | In |\n"
    )
    [line] = refusal(text)
    assert line.startswith("line 5: the header of a table, but expected")


def test_a_title_of_any_length_is_cut_to_what_a_title_holds() -> None:
    """A file's first heading may be a sermon."""
    profile = import_table(f"{HEADER}| 80 | A | In | |", "x" * 600, "t" * 600).profile
    assert len(profile.title) == len(profile.source) == 500


ports = st.sampled_from([22, 53, 80, 443, 5432])
cells = st.text(
    st.characters(codec="ascii", categories=["L", "N"], include_characters=" -./"), max_size=20
)
table_rows = st.lists(
    st.tuples(
        st.tuples(ports, st.sampled_from(["", "/tcp", "/udp", " TCP/UDP"])),
        st.sampled_from(["Agent", "DNS", "Console", "Port 53", "SSH Server"]),
        st.sampled_from(["Inbound", "Outbound"]),
        st.one_of(cells, st.sampled_from(["DNS lookup", "Console login", "Agent", "Shell access"])),
    ),
    min_size=1,
    max_size=12,
)


@given(table_rows)
def test_every_row_of_any_table_is_accounted_for(
    rows: list[tuple[tuple[int, str], str, str, str]],
) -> None:
    """Each inbound row is a listener and each outbound row a connection, in a usable profile."""
    said = {(port, who, way) for (port, _), who, way, _ in rows}
    try:
        profile = imported(
            *(f"| {port}{kind} | {who} | {way} | {what} |" for (port, kind), who, way, what in rows)
        ).profile
    except InvalidFile:
        assert len(said) < len(rows)
        return
    assert problems(profile) == []
    accounted = flows(profile)
    assert sorted(accounted) == list(range(1, len(rows) + 1))
    for number, ((port, _), _, way, _) in enumerate(rows, 1):
        assert {int(service.rpartition(":")[2]) for _, service in accounted[number]} == {port}
        assert way == "Outbound" or len(accounted[number]) == 1
    assert ProfileFile.model_validate(tomllib.loads(to_toml(profile))) == profile


@given(st.text(st.sampled_from("| -:\\\n`>#12PAIn/udp"), max_size=80))
def test_no_table_makes_the_import_fail_otherwise(text: str) -> None:
    """Whatever stands below a header, the answer is a profile or a refusal."""
    try:
        profile = import_table(HEADER + text, "ports.md").profile
    except InvalidFile:
        return
    assert problems(profile) == []


names = st.from_regex(r"[a-z0-9][a-z0-9-]{0,8}", fullmatch=True)
notes = st.text(max_size=20)
bases = st.sampled_from(Basis)
numbers = st.none() | st.integers(1, 99)
services = st.builds(lambda role, port: f"{role}:{port}", names, st.integers(1, 65535))
profiles = st.builds(
    ProfileFile,
    title=notes,
    source=notes,
    profiles=st.lists(notes, max_size=2),
    rows=st.lists(
        st.builds(
            Row,
            port=st.integers(1, 65535),
            component=notes,
            traffic=st.sampled_from(["inbound", "outbound"]),
            description=notes,
        ),
        max_size=3,
    ),
    roles=st.dictionaries(
        names,
        st.builds(
            Role,
            title=notes,
            listens=st.dictionaries(
                services,
                st.builds(
                    Listen,
                    protocol=st.sampled_from(sorted(PROTOCOLS)),
                    transport=st.sampled_from(Transport),
                    basis=bases,
                    row=numbers,
                    note=notes,
                ),
                max_size=3,
            ),
            connects=st.lists(
                st.builds(Connect, to=services, basis=bases, row=numbers, note=notes), max_size=3
            ),
        ),
        max_size=3,
    ),
    deny=st.lists(st.builds(Deny, source=names, to=services, note=notes), max_size=2),
)


@given(profiles)
def test_a_profile_that_is_written_loads_as_itself(profile: ProfileFile) -> None:
    """Nothing is lost and nothing is added, whatever stands in its texts."""
    assert ProfileFile.model_validate(tomllib.loads(to_toml(profile))) == profile


@pytest.mark.parametrize("name", ["openuem"])
def test_a_built_in_profile_that_is_written_loads_as_itself(name: str) -> None:
    """The form is the one in which people write profiles, so theirs pass through it too."""
    profile = load_profile(name)
    assert ProfileFile.model_validate(tomllib.loads(to_toml(profile))) == profile


def test_a_written_profile_is_one_to_read() -> None:
    """One line a row, a service or a connection, and nothing that goes without saying."""
    result = imported("| 22 | Shell | In | SSH |", "| 22 | Admin | Out | |")
    assert to_toml(result.profile) == (
        'source = "port table in ports.md"\n'
        "rows = [\n"
        '  { port = 22, component = "Shell", traffic = "inbound", description = "SSH" },\n'
        '  { port = 22, component = "Admin", traffic = "outbound" },\n'
        "]\n"
        "\n"
        "[roles.shell]\n"
        'title = "Shell"\n'
        "[roles.shell.listens]\n"
        '"shell:22" = { protocol = "ssh", basis = "documented", row = 1 }\n'
        "\n"
        "[roles.admin]\n"
        'title = "Admin"\n'
        "connects = [\n"
        '  { to = "shell:22", basis = "documented", row = 2 },\n'
        "]\n"
    )
