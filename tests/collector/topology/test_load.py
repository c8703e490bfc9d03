"""Files on disk: what makes sense is loaded, what does not is refused whole and told."""

import os
import threading
from pathlib import Path

import pytest

from reachmap_collector.errors import InvalidFile
from reachmap_collector.topology.load import (
    MAX_FILE,
    builtin_profiles,
    load_profile,
    load_topology,
    parse_topology,
    read_text,
)

CONTRACT = """
profiles = ["openuem"]

[hosts.nats-1]
roles = ["nats-server"]
addresses = ["10.0.0.5", "fd00::5"]
ports = { "nats-server:4433" = 14433 }

[hosts.pc-17]
roles = ["agent"]

[roles.web]
listens = { "web:8080" = { protocol = "http" } }
[roles.browser]
connects = ["web:8080"]

[[deny]]
from = "agent"
to = "postgres:5432"
"""


@pytest.fixture
def topology_file(tmp_path: Path) -> Path:
    return tmp_path / "topology.toml"


def refusal(path: Path) -> list[str]:
    """The lines that a person reads when a file is refused."""
    with pytest.raises(InvalidFile) as caught:
        load_topology(path)
    assert caught.value.problems
    return str(caught.value).splitlines()


def test_the_contract_s_example_loads(topology_file: Path) -> None:
    """What the documentation shows is a topology."""
    topology_file.write_text(CONTRACT)
    topology = load_topology(topology_file)
    assert set(topology.hosts) == {"nats-1", "pc-17"}
    assert topology.hosts["nats-1"].ports == {"nats-server:4433": 14433}
    assert {"web", "browser", "nats-server", "agent"} <= set(topology.roles)
    assert [(deny.role, str(deny.service)) for deny in topology.denies] == [
        ("agent", "postgres:5432")
    ]
    assert len(topology.rows) == 21
    assert {row.profile for row in topology.rows} == {"openuem"}


@pytest.mark.parametrize(
    ("text", "places"),
    [
        pytest.param(
            'profiles = ["openuem"]\nhosts.db.roles = ["postgress"]',
            ["hosts.db.roles[0]: unknown role 'postgress': did you mean postgres?"],
            id="unknown role",
        ),
        pytest.param(
            'profiles = ["openuem"]\n[hosts.n]\nroles = ["nats-server"]\n'
            'ports = { "nats-server:4433" = 70000 }',
            ['hosts.n.ports."nats-server:4433": 70000 is not a port: expected 1 to 65535'],
            id="port 70000 of a host",
        ),
        pytest.param(
            'roles.web.listens."web:70000" = {}',
            ['roles.web.listens."web:70000": 70000 is not a port: expected 1 to 65535'],
            id="port 70000 of a service",
        ),
        pytest.param(
            'roles.web.listens."web:80" = {}\nroles.browser.connects = ["web:81"]',
            ["roles.browser.connects[0]: service nobody listens on 'web:81': did you mean web:80?"],
            id="a service nobody listens on",
        ),
        pytest.param(
            "[hosts.pc-1]\n[hosts.pc-2]\n[hosts.pc-1]\n",
            ["not TOML: Cannot declare ('hosts', 'pc-1') twice (at line 3"],
            id="two hosts of one name",
        ),
        pytest.param(
            "[hosts.pc-1]\n[hosts.PC-1]\n",
            ["hosts.PC-1: differs from host 'pc-1' only in upper and lower case"],
            id="two hosts of one name but for case",
        ),
        pytest.param(
            "hosts.a = {}\nhosts = {}",
            ["not TOML: Cannot overwrite a value"],
            id="a key given twice",
        ),
        pytest.param(
            "# a heading\n\nhosts:\n  - pc-1\n",
            ["not TOML: Expected '=' after a key in a key/value pair (at line 3"],
            id="YAML",
        ),
        pytest.param(
            f"checks.interval_s = {'9' * 5000}",
            ["not TOML: Exceeds the limit"],
            id="an endless number",
        ),
        pytest.param(
            "hosts.a.x = " + "[" * 5000,
            ["not TOML: "],
            id="endless nesting",
        ),
        pytest.param(
            'hosts.a = { role = ["web"] }\nadmitted = []\n"my key" = 1',
            ["hosts.a.role: unknown key", "admitted: unknown key", '"my key": unknown key'],
            id="unknown keys",
        ),
        pytest.param(
            'hosts.a.addresses = ["10.0.0.256", "10.0.0.1"]',
            ["hosts.a.addresses[0]: '10.0.0.256' is neither an IP address nor a DNS name"],
            id="bad address",
        ),
        pytest.param(
            'roles.web.listens."web:80" = { protocol = "htpp" }',
            [
                (
                    "roles.web.listens.\"web:80\".protocol: unknown protocol 'htpp': "
                    "expected one of dns, http, https, nats, ntp, ocsp, postgres, smtp, ssh, tcp, "
                    "tls, udp, websocket, wss"
                )
            ],
            id="unknown protocol",
        ),
        pytest.param(
            "hosts = 5",
            ["hosts: input should be a valid dictionary, got 5"],
            id="a number for a table",
        ),
        pytest.param(
            'profiles = ["openeum"]',
            [
                (
                    "profiles[0]: unknown profile 'openeum': expected one of openuem, "
                    "or the path of a .toml file"
                )
            ],
            id="unknown profile",
        ),
        pytest.param(
            'profiles = ["openuem", "mine.toml"]',
            ["profiles[1]: no profile file at {folder}/mine.toml"],
            id="no such profile file",
        ),
    ],
)
def test_a_mistake_refuses_the_file_with_its_place(
    topology_file: Path, text: str, places: list[str]
) -> None:
    """Each problem is a line: the file, the key path or line, and what was expected."""
    topology_file.write_text(text)
    found = refusal(topology_file)
    assert len(found) == len(places)
    for line, place in zip(found, places, strict=True):
        # What is no TOML is told in Python's words, whose ends differ between its versions.
        expected = place.format(folder=topology_file.parent)
        assert line.startswith(f"{topology_file}: {expected}")


def test_a_profile_s_path_of_any_length_is_a_problem_and_no_crash(topology_file: Path) -> None:
    """What the system has to say of a path is told like any other problem."""
    topology_file.write_text(f'profiles = ["{"a" * 5000}.toml"]')
    [line] = refusal(topology_file)
    assert line.startswith(f"{topology_file}: profiles[0]: ")


def test_many_problems_are_told_in_part(topology_file: Path) -> None:
    """A file that is wrong throughout does not fill the screen, and says how much is left."""
    topology_file.write_text("\n".join(f'hosts.h{n}.roles = ["x"]' for n in range(30)))
    lines = refusal(topology_file)
    assert len(lines) == 21
    assert lines[-1] == f"{topology_file}: and 10 more problems"


def test_a_name_given_twice_says_that_it_may_stand_once(topology_file: Path) -> None:
    """Python's word for it, "declare", is not the user's."""
    topology_file.write_text("[hosts.pc-1]\n[hosts.pc-1]\n")
    [line] = refusal(topology_file)
    assert line.endswith(": each name may stand once")


@pytest.mark.parametrize(
    "files",
    [
        pytest.param({"topology": "topology"}, id="itself"),
        pytest.param({"topology": "a", "a": "a"}, id="a profile on itself"),
        pytest.param({"topology": "a", "a": "b", "b": "a"}, id="two"),
        pytest.param({"topology": "a", "a": "b", "b": "c", "c": "a"}, id="three"),
        pytest.param({"topology": "a", "a": "b", "b": "topology"}, id="back to the topology"),
    ],
)
@pytest.mark.parametrize("spelling", ["{}.toml", "./{}.toml", "../here/{}.toml"])
def test_a_cycle_of_profiles_is_refused(
    tmp_path: Path, files: dict[str, str], spelling: str
) -> None:
    """A profile that builds on itself is told as the way round, however its path is spelt."""
    folder = tmp_path / "here"
    folder.mkdir()
    for name, other in files.items():
        (folder / f"{name}.toml").write_text(f'profiles = ["{spelling.format(other)}"]')
    [line] = refusal(folder / "topology.toml")
    last = list(files)[-1]
    assert f"{last}.toml: profiles[0]: a cycle of profiles: " in line
    way = line.partition("cycle of profiles: ")[2].split(" -> ")
    assert way[0] == way[-1] == str((folder / f"{files[last]}.toml").resolve())
    assert len(way) == len(set(way)) + 1


def test_a_profile_reached_by_two_ways_is_one_profile(tmp_path: Path) -> None:
    """A diamond is no cycle, and defines nothing twice."""
    (tmp_path / "base.toml").write_text('roles.web.listens."web:80" = {}')
    for name, base in (("a", "base.toml"), ("b", f"../{tmp_path.name}/base.toml")):
        (tmp_path / f"{name}.toml").write_text(
            f'profiles = ["{base}"]\nroles.{name}.connects = ["web:80"]'
        )
    (tmp_path / "topology.toml").write_text('profiles = ["a.toml", "b.toml"]')
    assert set(load_topology(tmp_path / "topology.toml").roles) == {"web", "a", "b"}


def test_two_profiles_of_one_file_name_are_told_apart(tmp_path: Path) -> None:
    """A row is known by its profile's name and its number, so no two profiles share a name."""
    row = 'rows = [{ port = 1, component = "A", traffic = "inbound" }]\n'
    for folder in ("x", "y"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "ports.toml").write_text(
            f'{row}roles.{folder}.listens."{folder}:1" = {{ row = 1 }}'
        )
    (tmp_path / "topology.toml").write_text('profiles = ["x/ports.toml", "y/ports.toml"]')
    rows = load_topology(tmp_path / "topology.toml").rows
    assert [row.number for row in rows] == [1, 1]
    assert len({row.profile for row in rows}) == 2


def test_a_mistake_in_a_profile_is_told_of_the_profile(tmp_path: Path) -> None:
    """The file that has to be corrected is the one that is named."""
    (tmp_path / "mine.toml").write_text("roles.web.liste = 1")
    (tmp_path / "topology.toml").write_text('profiles = ["mine.toml"]')
    assert refusal(tmp_path / "topology.toml") == [
        f"{tmp_path}/mine.toml: roles.web.liste: unknown key"
    ]


def test_fifty_megabytes_are_refused(topology_file: Path) -> None:
    """A file out of all proportion is read up to the bound, and refused there unparsed."""
    with topology_file.open("wb") as file:
        file.truncate(50 << 20)
    assert refusal(topology_file) == [
        f"{topology_file}: too large: expected at most 16777216 bytes (16 MiB)"
    ]


def test_the_largest_file_that_is_read_is_read_whole(topology_file: Path) -> None:
    """The bound is exact, and what lies within it is not cut off."""
    topology_file.write_bytes(b"#" * (MAX_FILE - 1) + b"\n")
    assert len(read_text(topology_file)) == MAX_FILE
    topology_file.write_bytes(b"#" * MAX_FILE + b"\n")
    assert "expected at most" in refusal(topology_file)[0]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_a_pipe_is_read_like_a_file(tmp_path: Path) -> None:
    """`reachmap topology check <(generate)` works: no size is asked of what has none."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_text, args=("hosts.a = {}",), daemon=True)
    writer.start()
    assert read_text(pipe) == "hosts.a = {}"
    writer.join()


def test_a_file_that_is_not_utf8_is_refused_with_the_byte(topology_file: Path) -> None:
    """A file in another encoding is refused before it is taken for broken TOML."""
    topology_file.write_bytes('title = "Zürich"'.encode("latin-1"))
    assert refusal(topology_file) == [f"{topology_file}: byte 10: expected UTF-8 text"]


def test_a_byte_order_mark_and_windows_line_ends_are_no_mistake(topology_file: Path) -> None:
    """An editor on Windows writes them unasked."""
    topology_file.write_bytes(b"\xef\xbb\xbfhosts.a = {}\r\nhosts.b = {}\r\n")
    assert set(load_topology(topology_file).hosts) == {"a", "b"}


@pytest.mark.parametrize("kind", ["absent", "folder"])
def test_what_cannot_be_read_is_refused_with_the_reason(tmp_path: Path, kind: str) -> None:
    """The system's own words say why."""
    path = tmp_path if kind == "folder" else tmp_path / "absent.toml"
    [line] = refusal(path)
    assert line.startswith(f"{path}: cannot be read: ")


def test_a_topology_from_elsewhere_finds_profiles_beside_its_path(tmp_path: Path) -> None:
    """Text that was pushed is read as if it stood in the file that it will become."""
    (tmp_path / "mine.toml").write_text("roles.web = {}")
    topology = parse_topology('profiles = ["mine.toml"]', tmp_path / "not-yet.toml")
    assert set(topology.roles) == {"web"}


def test_a_profile_is_loaded_by_name_or_by_path(tmp_path: Path) -> None:
    """Built-in profiles are found by name, others by path, and neither is guessed at."""
    assert builtin_profiles() == ["openuem"]
    assert load_profile("openuem").title == "OpenUEM, default ports"
    (tmp_path / "mine.toml").write_text('title = "Mine"')
    assert load_profile(str(tmp_path / "mine.toml")).title == "Mine"
    for absent in ("mine", str(tmp_path / "other.toml")):
        with pytest.raises(InvalidFile) as caught:
            load_profile(absent)
        assert absent in str(caught.value)
