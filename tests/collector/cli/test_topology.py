"""`reachmap topology`: files checked, shown and imported."""

import json
from pathlib import Path
from typing import Any

import pytest

from reachmap_collector.topology.load import load_profile

GOOD = """
profiles = ["openuem"]
[hosts]
nats-1 = { roles = ["nats-server"], addresses = ["10.0.0.1"] }
nats-2 = { roles = ["nats-server"], addresses = ["10.0.0.2"] }
"""

TABLE = """
| Port | Component | Traffic  | Description |
|------|-----------|----------|-------------|
| 22   | Server    | Inbound  | SSH         |
| 22   | Client    | Outbound | SSH         |
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


# check


def test_a_good_topology_is_counted(reachmap: Any, here: Path) -> None:
    """Before any agent says more of its host."""
    (here / "t.toml").write_text('admit = ["agent"]' + GOOD)
    result = reachmap("topology", "check", "t.toml")
    assert result.exit_code == 0
    assert result.stdout == "t.toml: good; 2 hosts, 11 roles, 2 flows before agents announce more\n"


def test_one_of_each_is_counted_in_the_singular(reachmap: Any, here: Path) -> None:
    """As a person would."""
    (here / "t.toml").write_text(
        '[roles.a]\nlistens = { "a:1" = {} }\nconnects = ["a:1"]\n[hosts.x]\nroles = ["a"]'
    )
    result = reachmap("topology", "check", "t.toml")
    assert result.stdout.startswith("t.toml: good; 1 host, 1 role, 0 flows")


def test_a_wrong_topology_is_told_whole(reachmap: Any, here: Path) -> None:
    """Each problem on standard error, with its file and place; nothing on standard output."""
    (here / "t.toml").write_text('[hosts.x]\nroles = ["a", "b"]')
    result = reachmap("topology", "check", "t.toml")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.splitlines() == [
        "reachmap: t.toml: hosts.x.roles[0]: unknown role 'a': expected one of (none is defined)",
        "reachmap: t.toml: hosts.x.roles[1]: unknown role 'b': expected one of (none is defined)",
    ]


def test_a_file_that_is_not_there_is_told(reachmap: Any, here: Path) -> None:
    """As any other that cannot be read."""
    result = reachmap("topology", "check", "t.toml")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == "reachmap: t.toml: cannot be read: No such file or directory\n"


@pytest.mark.parametrize(("options", "code"), [([], 0), (["--strict"], 1)])
def test_what_deserves_a_look_is_told(
    reachmap: Any, here: Path, options: list[str], code: int
) -> None:
    """On standard error; only who asks for it gets an exit code."""
    (here / "t.toml").write_text('[roles.a]\n[hosts.x]\nroles = ["a"]')
    result = reachmap("topology", "check", "t.toml", *options)
    assert result.exit_code == code
    assert result.stdout.startswith("t.toml: good; ")
    assert result.stderr == (
        "t.toml: hosts.x: a neither listens nor connects: no flow begins or ends here\n"
    )


def test_a_topology_with_nothing_to_say_of_is_fine_when_strict(reachmap: Any, here: Path) -> None:
    """Exit code 0, so that it can stand in CI."""
    (here / "t.toml").write_text(
        '[roles.a]\nlistens = { "a:1" = {} }\nconnects = ["a:1"]\n'
        '[hosts]\nx = { roles = ["a"] }\ny = { roles = ["a"] }'
    )
    result = reachmap("topology", "check", "t.toml", "--strict")
    assert (result.exit_code, result.stderr) == (0, "")


# show


def test_a_built_in_profile_is_shown(reachmap: Any) -> None:
    """With the rows of its table."""
    result = reachmap("topology", "show", "openuem")
    assert result.exit_code == 0
    assert "nats-server:4433 nats #10" in result.stdout
    shown = json.loads(reachmap("topology", "show", "openuem", "--format", "json").stdout)
    assert {role["role"] for role in shown["roles"]} == set(load_profile("openuem").roles)
    assert shown["hosts"] == []


def test_a_file_is_shown(reachmap: Any, here: Path) -> None:
    """A topology or a profile of one's own, which may build on others beside it."""
    (here / "own.toml").write_text('[roles.web]\nlistens = { "web:80" = {} }')
    (here / "t.toml").write_text('profiles = ["own.toml"]\n[hosts.w]\nroles = ["web"]')
    for name in ("own.toml", "t.toml"):
        shown = json.loads(reachmap("topology", "show", name, "--format", "json").stdout)
        assert [role["role"] for role in shown["roles"]] == ["web"]
    assert [host["host"] for host in shown["hosts"]] == ["w"]


@pytest.mark.parametrize(
    ("what", "line"),
    [
        (
            "opnuem",
            "no file opnuem, and no built-in profile of that name; did you mean openuem?",
        ),
        (
            "quite-else",
            "no file quite-else, and no built-in profile of that name: there is openuem",
        ),
        (
            "my/topology.toml",
            "no file my/topology.toml, and no built-in profile of that name: there is openuem",
        ),
    ],
)
def test_what_is_neither_file_nor_profile_is_told(
    reachmap: Any, here: Path, what: str, line: str
) -> None:
    """With what was probably meant."""
    result = reachmap("topology", "show", what)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.splitlines()[-1] == f"Error: {line}"


def test_a_file_that_cannot_be_read_is_told(reachmap: Any, here: Path) -> None:
    """It is there, so no other name was meant."""
    (here / "openum").mkdir()
    (here / "nowhere").symlink_to("gone")
    for name, reason in (
        ("openum", "Is a directory"),
        ("nowhere", "No such file or directory"),
    ):
        result = reachmap("topology", "show", name)
        assert (result.exit_code, result.stdout) == (2, "")
        assert result.stderr == f"reachmap: {name}: cannot be read: {reason}\n"


def test_the_collector_s_own_is_shown(reachmap: Any, asked: Any) -> None:
    """Where nothing is named."""
    asked(GOOD)
    shown = json.loads(reachmap("topology", "show", "--format", "json").stdout)
    assert [host["host"] for host in shown["hosts"]] == ["nats-1", "nats-2"]


def test_a_topology_has_a_row_for_each_line_of_its_matrix(reachmap: Any) -> None:
    """For spreadsheets: who listens, who connects, and which row says so."""
    result = reachmap("topology", "show", "openuem", "--format", "csv")
    lines = result.stdout.splitlines()
    assert lines[0] == "role,does,service,basis,row,protocol,transport,note"
    assert lines[1].startswith("nats-server,listens,nats-server:4433,documented,")
    assert result.stderr == (
        "reachmap: csv leaves out titles, hosts, deny rules and how often is checked; "
        "--format json has it all\n"
    )


# import


def test_a_table_becomes_a_profile_on_standard_output(reachmap: Any, here: Path) -> None:
    """Ready to be redirected to a file, with what deserves a look on standard error."""
    (here / "ports.md").write_text(TABLE)
    result = reachmap("topology", "import", "ports.md", "--title", "Ours")
    assert (result.exit_code, result.stderr) == (0, "")
    (here / "ports.toml").write_text(result.stdout)
    profile = load_profile("ports.toml")
    assert profile.title == "Ours"
    assert [row.port for row in profile.rows] == [22, 22]
    assert [connect.to for connect in profile.roles["client"].connects] == ["server:22"]


def test_what_a_table_leaves_open_is_told(reachmap: Any, here: Path) -> None:
    """On standard error, with the row that it is about."""
    (here / "ports.md").write_text(TABLE + "| 99 | Client | Outbound | |\n")
    result = reachmap("topology", "import", "ports.md", "-o", "ports.toml")
    assert result.exit_code == 0
    assert result.stdout == "ports.toml: 3 rows, 3 roles\n"
    assert result.stderr.startswith("ports.md: row 3: no row listens on tcp port 99")
    assert load_profile("ports.toml").rows[2].port == 99


@pytest.mark.parametrize("what", ["a file", "a folder"])
def test_what_is_there_is_not_overwritten(reachmap: Any, here: Path, what: str) -> None:
    """Unless one says so; it may have been edited since."""
    (here / "ports.md").write_text(TABLE)
    out = here / "ports.toml"
    if what == "a file":
        out.write_text("edited")
    else:
        out.mkdir()
    result = reachmap("topology", "import", "ports.md", "-o", "ports.toml")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "ports.toml exists already: pass --force to overwrite it" in result.stderr
    assert what == "a folder" or out.read_text() == "edited"
    result = reachmap("topology", "import", "ports.md", "-o", "ports.toml", "--force")
    if what == "a file":
        assert result.exit_code == 0
        assert load_profile("ports.toml").rows
    else:
        assert result.exit_code == 2
        assert result.stderr == "reachmap: ports.toml: cannot be written: Is a directory\n"


def test_an_output_that_cannot_be_written_is_told(reachmap: Any, here: Path) -> None:
    """As a file of the user's that is refused."""
    (here / "ports.md").write_text(TABLE)
    result = reachmap("topology", "import", "ports.md", "-o", "nowhere/ports.toml")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == (
        "reachmap: nowhere/ports.toml: cannot be written: No such file or directory\n"
    )


@pytest.mark.parametrize("text", ["no table at all", None])
def test_what_holds_no_port_table_is_refused(reachmap: Any, here: Path, text: str | None) -> None:
    """Nothing is written."""
    if text is not None:
        (here / "ports.md").write_text(text)
    result = reachmap("topology", "import", "ports.md", "-o", "ports.toml")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("reachmap: ports.md: ")
    assert not (here / "ports.toml").exists()


def test_the_example_of_the_help_works(reachmap: Any, here: Path) -> None:
    """Line by line, as a person would type it."""
    (here / "ports.md").write_text(TABLE)
    text = reachmap("topology", "import", "--help").stdout
    lines = [line.strip() for line in text.splitlines() if line.startswith("    reachmap ")]
    assert len(lines) == 2
    for line in lines:
        assert reachmap(*line.split()[1:]).exit_code == 0, line
