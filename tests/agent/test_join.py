"""How a host joins the bus: what is written, what is left alone, and what is refused."""

import os
import stat
import tomllib
from pathlib import Path
from typing import Any

import pytest
from nkeys import PREFIX_BYTE_USER, encode_seed, from_seed

from reachmap_agent import join, settings
from reachmap_agent.cli import main
from reachmap_shared import log
from reachmap_shared.bundle import Bundle
from reachmap_shared.errors import InvalidSettings

SEED = encode_seed(b"s" * 32, PREFIX_BYTE_USER).decode()
PUBLIC = from_seed(bytearray(SEED.encode())).public_key.decode()


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """The command's way to log is a process's own, and must not become the tests'."""
    monkeypatch.setattr(log, "configure", lambda **_: None)


NATS = ("tls://a.example:4222", "tls://b.example:4222")
BUNDLE = Bundle("pc-17", NATS, ca="the CA\n", credentials="a secret\n")


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return tmp_path / "etc" / "agent.toml"


def written(config: Path) -> dict[str, Any]:
    return tomllib.loads(config.read_text())


def test_settings_and_secrets_are_written(config: Path) -> None:
    """The settings name the secrets, which stand beside them, for their owner alone."""
    joined = join.write(BUNDLE, config, force=False)
    folder = config.parent
    assert written(config) == {
        "id": "pc-17",
        "nats": list(NATS),
        "nats_credentials": str(folder / "agent.creds"),
        "nats_ca": str(folder / "bus-ca.pem"),
    }
    assert (folder / "agent.creds").read_text() == "a secret\n"
    assert stat.S_IMODE((folder / "agent.creds").stat().st_mode) == 0o600
    assert set(joined.written) == {config, folder / "agent.creds", folder / "bus-ca.pem"}
    assert sorted(file.name for file in folder.iterdir()) == [
        "agent.creds",
        "agent.toml",
        "bus-ca.pem",
    ]
    loaded = settings.load(config, {}, {})
    assert loaded.access.credentials == folder / "agent.creds"
    assert loaded.access.inbox == "_INBOX.pc-17"
    assert "a secret" not in "\n".join(joined.lines())


def test_certificates_and_keys_are_written(config: Path) -> None:
    """Where that is what the servers know a host by."""
    join.write(Bundle("pc-17", NATS, certificate="cert", key="its key"), config, force=False)
    loaded = settings.load(config, {}, {})
    assert loaded.nats_certificate is not None and loaded.nats_certificate.read_text() == "cert"
    assert loaded.nats_key is not None and loaded.nats_key.read_text() == "its key"
    assert stat.S_IMODE(loaded.nats_key.stat().st_mode) == 0o600


def test_other_settings_stay_as_they_were_written(config: Path) -> None:
    """With their comments; what the bundle does not say stays too."""
    config.parent.mkdir()
    before = '# ours\nroles = ["web"]\n\nnats = "nats://old:4222"  # old\n'
    config.write_text(before)
    config.chmod(0o640)
    join.write(Bundle("pc-17", nkey=SEED), config, force=False)
    text = config.read_text()
    assert text.startswith(before)
    assert written(config)["nats_nkey"] == str(config.parent / "agent.nk")
    assert stat.S_IMODE(config.stat().st_mode) == 0o640


def test_settings_over_several_lines_are_not_torn(config: Path) -> None:
    """Comments may go; settings may not."""
    config.parent.mkdir()
    config.write_text('nats = [\n  "nats://old:4222",\n]\nroles = ["web"]\n')
    join.write(BUNDLE, config, force=False)
    assert written(config)["nats"] == list(NATS)
    assert written(config)["roles"] == ["web"]


@pytest.mark.parametrize("nats", ['nats = "nats://old"', 'nats = [\n  "nats://old",\n]'])
def test_tables_stay_tables(config: Path, nats: str) -> None:
    """What is ours goes before them, or it would be theirs."""
    config.parent.mkdir()
    config.write_text(f"{nats}\n\n[listeners]\nplaces = 7\nid = 3\nseconds = 1.5\n")
    join.write(BUNDLE, config, force=False)
    assert written(config)["listeners"] == {"places": 7, "id": 3, "seconds": 1.5}
    assert written(config)["nats"] == list(NATS)
    assert written(config)["id"] == "pc-17"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_who_could_read_the_settings_still_can(config: Path) -> None:
    """A package gives them to the service's group."""
    config.parent.mkdir()
    config.write_text("")
    config.chmod(0o640)
    os.chown(config, 0, 4242)
    join.write(BUNDLE, config, force=False)
    after = config.stat()
    assert (after.st_uid, after.st_gid, stat.S_IMODE(after.st_mode)) == (0, 4242, 0o640)


def test_joining_again_with_the_same_bundle_changes_nothing(config: Path) -> None:
    """And says so."""
    join.write(BUNDLE, config, force=False)
    before = {file: file.stat().st_mtime_ns for file in config.parent.iterdir()}
    again = join.write(BUNDLE, config, force=False)
    assert again.written == ()
    assert "nothing was written" in "\n".join(again.lines())
    assert {file: file.stat().st_mtime_ns for file in config.parent.iterdir()} == before


@pytest.mark.parametrize(
    ("bundle", "message"),
    [
        (Bundle("pc-18", NATS, credentials="a secret\n"), "this host is pc-17 already"),
        (Bundle("pc-17", NATS, ca="the CA\n", credentials="another"), "holds something else"),
        (Bundle("pc-17", NATS, nkey=SEED), "nats_credentials names"),
    ],
)
def test_another_enrolment_is_not_replaced_unasked(
    config: Path, bundle: Bundle, message: str
) -> None:
    """Nothing of it is touched; with --force all of it is."""
    join.write(BUNDLE, config, force=False)
    before = {file: file.read_text() for file in config.parent.iterdir()}
    with pytest.raises(InvalidSettings, match=message) as caught:
        join.write(bundle, config, force=False)
    assert "--force" in str(caught.value)
    assert {file: file.read_text() for file in config.parent.iterdir()} == before
    join.write(bundle, config, force=True)
    loaded = settings.load(config, {}, {})
    assert loaded.id == bundle.id
    shown = loaded.nats_credentials or loaded.nats_nkey
    assert shown is not None and shown.read_text() == (bundle.credentials or bundle.nkey)
    assert (loaded.nats_credentials is None) == (not bundle.credentials)


def test_a_folder_that_cannot_be_written_is_told() -> None:
    """With what to do; in /proc not even root may make one."""
    with pytest.raises(InvalidSettings, match="run it as root, or say where with --config"):
        join.write(BUNDLE, Path("/proc/reachmap/agent.toml"), force=False)


def test_settings_that_are_no_toml_are_told(config: Path) -> None:
    """And left alone."""
    config.parent.mkdir()
    config.write_text("no toml")
    with pytest.raises(InvalidSettings, match="not TOML"):
        join.write(BUNDLE, config, force=False)
    assert config.read_text() == "no toml"


# The command, with a real server.


def bundle_file(path: Path, url: str) -> Path:
    path.write_text(f'format = 1\nid = "pc-17"\nnats = ["{url}"]\nnkey = "{SEED}"\n')
    return path


@pytest.fixture
def guarded(nats_server: Any) -> Any:
    """A server that knows this host's key."""
    nats_server.stop()
    nats_server.configure(f'authorization {{ users: [ {{ nkey: "{PUBLIC}" }} ] }}')
    nats_server.start()
    return nats_server


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    code = caught.value.code
    return code if isinstance(code, int) else 0


def test_join_says_what_it_did_and_whether_it_is_let_in(
    guarded: Any, config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """And what comes next; no secret is printed."""
    path = bundle_file(tmp_path / "bundle.toml", guarded.url)
    assert run("join", str(path), "--config", str(config)) == 0
    said = capsys.readouterr()
    assert "this host is pc-17 on the bus" in said.out
    assert f"wrote {config}" in said.out
    assert "lets this host in" in said.out
    assert "systemctl restart reachmap-agent" in said.out
    assert SEED not in said.out + said.err


def test_join_says_that_it_is_not_let_in(
    guarded: Any, config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With exit code 1; what was written stays, since an administrator may let it in."""
    guarded.configure('authorization { user: "a", password: "b" }')
    guarded.stop()
    guarded.start()
    path = bundle_file(tmp_path / "bundle.toml", guarded.url)
    assert run("join", str(path), "--config", str(config)) == 1
    said = capsys.readouterr()
    assert f"does not accept {config.parent / 'agent.nk'}" in said.err
    assert written(config)["id"] == "pc-17"
    assert SEED not in said.out + said.err


@pytest.mark.parametrize("text", ["", "no toml", 'format = 2\nid = "x"', 'format = 1\nid = "a.b"'])
def test_what_is_no_bundle_is_refused(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str
) -> None:
    """With exit code 2, before anything is written."""
    (tmp_path / "bundle.toml").write_text(text)
    assert run("join", str(tmp_path / "bundle.toml"), "--config", str(config)) == 2
    assert "not a bundle" in capsys.readouterr().err
    assert not config.exists()
