"""What an agent is told on its own host: the last word wins, a mistake names where it stands."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reachmap_agent import settings
from reachmap_agent.limits import ListenerLimits
from reachmap_agent.settings import Settings, load
from reachmap_shared.access import Access
from reachmap_shared.errors import InvalidSettings
from reachmap_shared.names import host_name

NAMES = {
    "nats": "REACHMAP_NATS_URL",
    "id": "REACHMAP_ID",
    "roles": "REACHMAP_ROLES",
    "addresses": "REACHMAP_ADDRESSES",
}
OPTIONS = {"nats": "--nats", "id": "--id", "roles": "--roles", "addresses": "--address"}
SILENT: dict[str, Any] = {"nats": None, "id": None, "roles": None, "addresses": None}


@pytest.fixture(autouse=True)
def no_default_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The machine's own settings have no say in a test; where they would be."""
    path = tmp_path / "default.toml"
    monkeypatch.setattr(settings, "DEFAULT_PATH", path)
    return path


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "agent.toml"


def refusal(path: Path | None, environment: Any = None, arguments: Any = None) -> str:
    """What a person reads when the settings are refused."""
    with pytest.raises(InvalidSettings) as caught:
        load(path, environment or {}, {**SILENT, **(arguments or {})})
    return str(caught.value)


STATE = Path("/var/lib/reachmap-agent")


def test_without_any_setting_there_are_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    """NATS on loopback, the first label of the hostname, no roles, addresses to be found out."""
    monkeypatch.setattr("os.geteuid", lambda: 0)
    monkeypatch.setattr(settings, "hostname", lambda: "pc-17.office.example")
    assert load(None, {}, SILENT) == Settings(
        nats=("nats://127.0.0.1:4222",), id="pc-17", roles=(), addresses=(), state=STATE
    )


@pytest.mark.parametrize(
    ("environment", "uid", "expected"),
    [
        ({}, 0, STATE),
        ({"XDG_STATE_HOME": "/home/x/state"}, 1000, Path("/home/x/state/reachmap-agent")),
        ({"STATE_DIRECTORY": "/var/lib/private/a:/other"}, 1000, Path("/var/lib/private/a")),
        ({"REACHMAP_STATE": "/srv/state", "STATE_DIRECTORY": "/var/lib/a"}, 0, Path("/srv/state")),
    ],
)
def test_state_is_kept_where_the_system_keeps_it(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], uid: int, expected: Path
) -> None:
    """Where systemd says, or root's usual place, or the user's; an operator's word goes first."""
    monkeypatch.setattr("os.geteuid", lambda: uid)
    assert load(None, environment, SILENT).state == expected


VALUES: dict[str, tuple[Any, Any, Any]] = {
    "nats": ("nats://file:1", "nats://environment:2", "nats://argument:3"),
    "id": ("from-file", "from-environment", "from-argument"),
    "roles": (["file"], "environment", "argument"),
    "addresses": (["10.0.0.1"], "10.0.0.2", ["10.0.0.3"]),
}


@pytest.mark.parametrize("key", VALUES)
@pytest.mark.parametrize("given_", [{0}, {1}, {2}, {0, 1}, {0, 2}, {1, 2}, {0, 1, 2}])
def test_the_last_word_wins(file: Path, key: str, given_: set[int]) -> None:
    """File, then environment, then command line; key by key."""
    of_file, of_environment, of_argument = VALUES[key]
    file.write_text(f"{key} = {of_file!r}\n" if 0 in given_ else "")
    environment = {NAMES[key]: of_environment} if 1 in given_ else {}
    arguments = {**SILENT, key: of_argument} if 2 in given_ else SILENT
    last = VALUES[key][max(given_)]
    expected = last if key == "id" else tuple(last) if isinstance(last, list) else (last,)
    assert getattr(load(file, environment, arguments), key) == expected


def test_each_key_has_its_own_last_word(file: Path) -> None:
    """One from each place, together."""
    file.write_text('nats = "nats://f:1"\nid = "f"\nroles = ["f"]\n')
    loaded = load(file, {NAMES["id"]: "e", NAMES["roles"]: "e"}, {**SILENT, "roles": "a"})
    assert (loaded.nats, loaded.id, loaded.roles) == (("nats://f:1",), "e", ("a",))


@pytest.mark.parametrize("empty", ["", None])
def test_an_empty_setting_is_none(file: Path, empty: Any) -> None:
    """`REACHMAP_ID=` in a unit file does not take the name away."""
    file.write_text('id = "f"\nroles = ["f"]\n')
    environment = dict.fromkeys(NAMES.values(), "") if empty == "" else {}
    loaded = load(file, environment, {**SILENT, "id": empty, "addresses": []})
    assert (loaded.id, loaded.roles) == ("f", ("f",))


def test_several_stand_with_commas_or_in_a_list(file: Path) -> None:
    """Blanks and empty parts are nothing."""
    file.write_text('roles = "a, b ,,c"\naddresses = ["10.0.0.1", " fd00::1 "]\n')
    loaded = load(file, {NAMES["nats"]: "nats://a:1,nats://b:2"}, SILENT)
    assert loaded.roles == ("a", "b", "c")
    assert loaded.addresses == ("10.0.0.1", "fd00::1")
    assert loaded.nats == ("nats://a:1", "nats://b:2")


@pytest.mark.parametrize(
    "url",
    [
        "nats://h",
        "nats://h:4222",
        "tls://h:4433",
        "h",
        "h:4222",
        "10.0.0.1:4222",
        "nats://[::1]:1",
        "nats://user:secret@h:4222",
    ],
)
def test_urls_that_the_client_understands(url: str) -> None:
    """The scheme may be left out."""
    assert load(None, {}, {**SILENT, "id": "x", "nats": url}).nats == (url,)


WRONG: list[tuple[str, Any, str]] = [
    ("id", "pc.17", "'pc.17' cannot name a host"),
    ("id", "a b", "'a b' cannot name a host"),
    ("id", "*", "'*' cannot name a host"),
    ("id", "x" * 64, "cannot name a host"),
    ("roles", "Web", "'Web' cannot name a role"),
    ("roles", "web,-x", "'-x' cannot name a role"),
    ("addresses", "10.0.0.256", "'10.0.0.256' does not appear to be an IPv4 or IPv6 address"),
    ("addresses", "pc-17.example", "does not appear to be an IPv4 or IPv6 address"),
    ("nats", "http://h", "'http://h' is not a NATS URL such as nats://127.0.0.1:4222"),
    ("nats", "nats://", "is not a NATS URL"),
    ("nats", "nats://h:port", "is not a NATS URL"),
    ("nats", "nats://h:0", "is not a NATS URL"),
    ("nats", "h:99999", "is not a NATS URL"),
    ("nats", "nats://[::1", "is not a NATS URL"),
    ("nats", "nats://a:1,ftp://b", "'ftp://b' is not a NATS URL"),
    ("nats", " , ", "expected at least one NATS URL"),
]


@pytest.mark.parametrize("place", ["file", "environment", "argument"])
@pytest.mark.parametrize(("key", "value", "reason"), WRONG)
def test_a_wrong_setting_is_told_with_its_place(
    file: Path, place: str, key: str, value: str, reason: str
) -> None:
    """Whoever reads it knows which file, variable or option to change."""
    if place == "file":
        file.write_text(f'{key} = "{value}"\n')
        message = refusal(file)
        assert message.startswith(f"{file}: {key}: ")
    elif place == "environment":
        message = refusal(None, {NAMES[key]: value})
        assert message.startswith(f"{NAMES[key]}: ")
    else:
        message = refusal(None, None, {key: value})
        assert message.startswith(f"{OPTIONS[key]}: ")
    assert reason in message


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("id = 5", "id: expected a string"),
        ('id = ["a"]', "id: expected a string"),
        ("roles = 5", "roles: expected a string or a list of strings"),
        ("roles = [1]", "roles: expected a string or a list of strings"),
        ("roles = true", "roles: expected a string or a list of strings"),
        ("nats = { url = 1 }", "nats: expected a string or a list of strings"),
        ("addresses = 1.5", "addresses: expected a string or a list of strings"),
        ('rolle = "web"', "unknown key rolle: expected one of nats, id, roles, addresses"),
        ('[agent]\nid = "x"', "unknown key agent"),
        ("id =", "not TOML: "),
        ("id: x", "not TOML: "),
        (f"id = {'9' * 5000}", "not TOML: "),
        ("x = " + "[" * 5000, "not TOML: "),
    ],
    ids=lambda text: text[:20],
)
def test_a_wrong_file_is_told(file: Path, text: str, reason: str) -> None:
    """The file, the key and what was expected; never a traceback."""
    file.write_text(text)
    assert refusal(file).startswith(f"{file}: {reason}")


def test_the_listeners_limits_are_settings(file: Path) -> None:
    """Those that are given; the others stay as they are. A whole number is a number of seconds."""
    assert load(None, {}, SILENT).listeners == ListenerLimits()
    file.write_text('id = "x"\n[listeners]\nidle_places = 1000\nvisit_s = 2\nfarewell_s = 0.5\n')
    assert load(file, {}, SILENT).listeners == replace(
        ListenerLimits(), idle_places=1000, visit_s=2, farewell_s=0.5
    )


def test_diagnosis_can_be_switched_off(file: Path) -> None:
    """In the file alone; it is on by default."""
    assert load(None, {}, SILENT).diagnosis is True
    file.write_text('id = "x"\ndiagnosis = false\n')
    assert load(file, {}, SILENT).diagnosis is False
    file.write_text('id = "x"\ndiagnosis = "no"\n')
    assert refusal(file) == f"{file}: diagnosis: expected true or false, got 'no'"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("listeners = 5", "listeners: expected a table"),
        ("[[listeners]]\nbacklog = 1", "listeners: expected a table"),
        ("[listeners]\nplaces = 5", "listeners: unknown key places: expected one of idle_places, "),
        (
            "[listeners]\nidle_places = 0",
            "listeners.idle_places: expected a whole number from 1 to 100000, got 0",
        ),
        ("[listeners]\nidle_places = 100001", "listeners.idle_places: expected a whole number"),
        ("[listeners]\nidle_places = 12.0", "listeners.idle_places: expected a whole number"),
        ("[listeners]\nidle_places = true", "listeners.idle_places: expected a whole number"),
        ('[listeners]\nbacklog = "many"', "listeners.backlog: expected a whole number from 1"),
        ("[listeners.backlog]\nsize = 5", "listeners.backlog: expected a whole number from 1"),
        (
            "[listeners]\nvisit_s = 0",
            "listeners.visit_s: expected a number of seconds from 0.1 to 300, got 0",
        ),
        ("[listeners]\nvisit_s = nan", "listeners.visit_s: expected a number of seconds"),
        ("[listeners]\nvisit_s = inf", "listeners.visit_s: expected a number of seconds"),
        ("[listeners]\nvisit_s = true", "listeners.visit_s: expected a number of seconds"),
        ("[listeners]\nwindow_s = '5s'", "listeners.window_s: expected a number of seconds"),
    ],
)
def test_a_limit_that_makes_no_sense_is_told(file: Path, text: str, reason: str) -> None:
    """With the key's whole path, and what was expected."""
    file.write_text(text)
    assert refusal(file).startswith(f"{file}: {reason}")


def test_a_file_in_another_encoding_is_no_toml(file: Path) -> None:
    """Said, not guessed."""
    file.write_bytes('id = "Zürich"'.encode("latin-1"))
    assert refusal(file).startswith(f"{file}: not TOML: ")


def test_a_byte_order_mark_and_windows_line_ends_are_no_mistake(file: Path) -> None:
    """An editor on Windows writes them unasked."""
    file.write_bytes(b'\xef\xbb\xbfid = "x"\r\nroles = ["a"]\r\n')
    assert load(file, {}, SILENT).id == "x"


@pytest.mark.parametrize("url", ["nats://user:secret@h:port", "user:secret@h:99999"])
def test_no_password_is_told(url: str) -> None:
    """The error goes into a journal that others read."""
    assert "secret" not in refusal(None, {}, {"nats": url})


def test_a_named_file_must_exist(file: Path, tmp_path: Path) -> None:
    """A typo in --config is not passed over."""
    assert refusal(file) == f"{file}: cannot be read: No such file or directory"
    assert refusal(tmp_path).startswith(f"{tmp_path}: cannot be read: ")


def test_the_default_file_is_read_when_it_is_there(no_default_file: Path) -> None:
    """And its mistakes are told like any other's."""
    no_default_file.write_text('id = "from-default"')
    assert load(None, {}, SILENT).id == "from-default"
    no_default_file.write_text('id = "a b"')
    assert refusal(None).startswith(f"{no_default_file}: id: ")


def test_a_default_file_that_cannot_be_read_is_told(no_default_file: Path) -> None:
    """An agent without its settings would report under another name."""
    no_default_file.mkdir()
    assert refusal(None).startswith(f"{no_default_file}: cannot be read: ")


def test_a_default_file_behind_a_closed_door_is_told(
    no_default_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when /etc/reachmap is for its owner only and the agent is somebody else."""

    def closed(*_: Any, **__: Any) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_text", closed)
    monkeypatch.setattr(Path, "stat", closed)
    assert refusal(None) == f"{no_default_file}: cannot be read: Permission denied"


@pytest.mark.parametrize("name", ["", "-", "host name", "b\u00fcro", "x" * 64 + ".example"])
def test_a_hostname_that_is_no_name_asks_for_one(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Rather than to invent one; a hyphen alone is odd but possible."""
    monkeypatch.setattr(settings, "hostname", lambda: name)
    if name == "-":
        assert load(None, {}, SILENT).id == "-"
    else:
        message = refusal(None)
        assert message.startswith("this machine's hostname: ")
        assert message.endswith("choose one with --id")


@given(st.text(), st.text(), st.text(), st.text())
def test_any_text_is_settings_or_refused(nats: str, id_: str, roles: str, addresses: str) -> None:
    """Nothing that somebody writes into the environment is a crash, and what passes is safe."""
    environment = dict(zip(NAMES.values(), (nats, id_, roles, addresses), strict=True))
    try:
        loaded = load(None, environment, SILENT)
    except InvalidSettings:
        return
    assert host_name(loaded.id)
    assert loaded.nats


def test_a_certificate_and_its_key_are_files() -> None:
    """Shown to servers that ask; a key alone is a mistake."""
    given = {"certificate": "/etc/reachmap/agent.cer", "key": "/etc/reachmap/agent.key"}
    loaded = load(None, {}, {**SILENT, **given})
    assert loaded.certificate == Path("/etc/reachmap/agent.cer")
    assert loaded.key == Path("/etc/reachmap/agent.key")
    said = refusal(None, {"REACHMAP_KEY": "/etc/reachmap/agent.key"})
    assert "REACHMAP_KEY" in said and "certificate" in said


FILES = ("nats_credentials", "nats_nkey", "nats_ca", "nats_certificate", "nats_key")


@pytest.mark.parametrize("key", FILES)
def test_what_is_shown_to_the_bus_comes_from_file_environment_or_option(
    file: Path, key: str
) -> None:
    """The last word wins here too; a file's path is a string."""
    file.write_text(f'id = "pc-17"\n{key} = "/from/file"\n')
    variable = f"REACHMAP_{key.upper()}"
    assert getattr(load(file, {}, SILENT), key) == Path("/from/file")
    assert getattr(load(file, {variable: "/environment"}, SILENT), key) == Path("/environment")
    typed = {**SILENT, key: "/argument"}
    assert getattr(load(file, {variable: "/environment"}, typed), key) == Path("/argument")
    file.write_text(f"{key} = 7\n")
    assert refusal(file) == f"{file}: {key}: expected a string"


def test_how_the_bus_is_reached_is_one_object(file: Path) -> None:
    """With an inbox of this host's own, which the server lets nobody else listen at."""
    file.write_text('id = "pc-17"\n' + "".join(f'{key} = "/{key}"\n' for key in FILES))
    assert load(file, {}, SILENT).access == Access(
        credentials=Path("/nats_credentials"),
        nkey=Path("/nats_nkey"),
        ca=Path("/nats_ca"),
        certificate=Path("/nats_certificate"),
        key=Path("/nats_key"),
        inbox="_INBOX.pc-17",
    )
