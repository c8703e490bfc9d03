"""Enrolling, revoking, and what servers have to know: the commands, and real servers."""

import stat
import tomllib
from pathlib import Path
from typing import Any

import pytest

from reachmap_collector.cli import bus as commands
from reachmap_collector.identity.servers import Mode
from reachmap_collector.identity.store import Place, Store
from reachmap_shared import bus
from reachmap_shared.access import Access, write_secret
from reachmap_shared.bundle import Bundle
from reachmap_shared.errors import AccessRefused, InvalidSettings
from reachmap_shared.permissions import Party, inbox


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The default data directory, of a collector whose server other machines reach."""
    monkeypatch.setattr(commands.access, "default_data", lambda: tmp_path / "data")
    store = Store(tmp_path / "data")
    store.prepare()
    place = Place(Mode.JWT, ("tls://127.0.0.1:4222",), ("tls://map.example:4222",))
    store.place = place
    return tmp_path / "data"


def unpacked(bundle: Bundle, folder: Path) -> Access:
    """What an agent that has joined connects with."""
    folder.mkdir(exist_ok=True)
    files: dict[str, Path] = {}
    for part in ("credentials", "nkey", "ca", "certificate", "key"):
        if text := getattr(bundle, part):
            files[part] = folder / part
            write_secret(files[part], text)
    return Access(**files, inbox=inbox(bundle.id))


def test_a_bundle_is_printed(reachmap: Any, data: Path) -> None:
    """Nothing else is, where a program reads it."""
    result = reachmap("enroll", "pc-17", "--data", str(data))
    assert (result.exit_code, result.stderr) == (0, "")
    bundle = Bundle.parse(result.stdout)
    assert (bundle.id, bundle.nats) == ("pc-17", ("tls://map.example:4222",))
    assert "BEGIN NATS USER JWT" in bundle.credentials
    assert "\n" in tomllib.loads(result.stdout)["credentials"]
    assert "\\n" not in result.stdout  # people look into it


def test_a_bundle_is_written_for_its_owner_alone(reachmap: Any, data: Path, tmp_path: Path) -> None:
    """And never over another unasked."""
    path = tmp_path / "pc-17.toml"
    arguments = ("enroll", "pc-17", "--data", str(data), "--output", str(path))
    result = reachmap(*arguments)
    assert result.exit_code == 0
    assert "reachmap-agent join pc-17.toml" in result.stdout
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    first = path.read_text()
    again = reachmap(*arguments)
    assert again.exit_code == 2
    assert "--force" in again.stderr
    assert path.read_text() == first
    assert reachmap(*arguments, "--force").exit_code == 0
    assert path.read_text() != first


def test_a_terminal_gets_no_secret_unasked(
    reachmap: Any, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would stay in its history."""

    monkeypatch.setattr(commands, "_is_shown_to_people", lambda: True)
    result = reachmap("enroll", "pc-17", "--data", str(data))
    assert result.exit_code == 2
    assert "a bundle is a secret" in result.stderr
    assert list(Store(data).enrolled()) == []


@pytest.mark.parametrize("command", ["enroll", "revoke"])
def test_where_no_bus_is_kept_no_keys_are_made(reachmap: Any, tmp_path: Path, command: str) -> None:
    """They would open nothing; one is told what to do."""
    result = reachmap(command, "pc-17", "--data", str(tmp_path / "none"))
    assert result.exit_code == 2
    assert "reachmap serve" in result.stderr and "--data" in result.stderr
    assert not (tmp_path / "none").exists()


def test_a_bus_on_loopback_is_told_of(reachmap: Any, data: Path) -> None:
    """Its bundle is of no use elsewhere, unless one says where the bus is."""
    store = Store(data)
    store.place = Place(Mode.JWT, ("nats://127.0.0.1:4222",))
    result = reachmap("enroll", "pc-17", "--data", str(data))
    assert "loopback alone" in result.stderr
    result = reachmap("enroll", "pc-17", "--data", str(data), "--nats", "tls://a:1, tls://b:2")
    assert result.stderr == ""
    assert Bundle.parse(result.stdout).nats == ("tls://a:1", "tls://b:2")
    result = reachmap("enroll", "pc-17", "--data", str(data), "--nats", "what")
    assert Bundle.parse(result.stdout).nats == ("what",)
    result = reachmap("enroll", "pc-17", "--data", str(data), "--nats", "http://a")
    assert result.exit_code == 2


@pytest.mark.parametrize("name", ["a.b", "*", "", "a b"])
def test_what_cannot_name_a_host_is_refused(reachmap: Any, data: Path, name: str) -> None:
    """A wildcard would be everybody."""
    assert reachmap("enroll", name, "--data", str(data)).exit_code == 2
    assert list(Store(data).enrolled()) == []


def test_what_is_revoked_is_kept_in_mind(reachmap: Any, data: Path) -> None:
    """All of a host's, or all but the newest; others' stay."""
    for name in ("pc-1", "pc-2", "pc-1", "pc-1"):
        reachmap("enroll", name, "--data", str(data))
    store = Store(data)
    first, second, third = (one.identity for one in store.enrolled("pc-1"))
    result = reachmap("revoke", "pc-1", "--older", "--data", str(data))
    assert result.stdout.startswith("revoked 2 of 3 credentials of pc-1\n")
    assert "reachmap bus config --mode jwt" in result.stdout
    assert [one.identity for one in store.enrolled("pc-1")] == [third]
    assert store.revoked().keys() == {first, second}
    assert reachmap("revoke", "pc-1", "--older", "--data", str(data)).exit_code == 2
    assert reachmap("revoke", "pc-1", "--data", str(data)).exit_code == 0
    assert [one.name for one in store.enrolled()] == ["pc-2"]


# Servers that are not ours.


@pytest.fixture
def site(reachmap: Any, nats_server: Any, tmp_path: Path) -> Any:
    """A server that includes what the command prints."""
    data = tmp_path / "data"

    def configure(mode: str) -> None:
        result = reachmap(
            *("bus", "config", "--mode", mode, "--data", str(data)),
            *("--server-files", str(tmp_path / "server")),
        )
        assert result.exit_code == 0, result.stderr
        (tmp_path / "reachmap.conf").write_text(result.stdout)

    nats_server.stop()
    nats_server.configure(f'jetstream {{ store_dir: "{tmp_path}/js" }}\ninclude "./reachmap.conf"')
    return configure


@pytest.mark.parametrize("mode", list(Mode))
async def test_a_server_of_the_site_s_lets_in_whom_we_enrolled(
    reachmap: Any, nats_server: Any, tmp_path: Path, site: Any, eventually: Any, mode: Mode
) -> None:
    """In each mode, from the commands' output alone; who is revoked stays out."""
    data = tmp_path / "data"
    site(str(mode))
    names = ("localhost", "127.0.0.1")
    made = reachmap(
        "bus", "certificate", *names, "--output", str(tmp_path / "server"), "--data", str(data)
    )
    assert made.exit_code == 0
    where = ("--data", str(data), "--nats", nats_server.url)
    if mode is not Mode.MTLS:  # the others go without TLS on loopback
        Store(data).place = Place(mode)
    bundles = [Bundle.parse(reachmap("enroll", "pc-1", *where).stdout) for _ in range(2)]
    site(str(mode))
    nats_server.start()
    old, new = (unpacked(bundle, tmp_path / f"host{n}") for n, bundle in enumerate(bundles))
    store = Store(data)
    shown = [old, new, store.access(Party.COLLECTOR, mode), store.access(Party.OPERATOR, mode)]
    for access in shown:
        async with bus.connected([nats_server.url], "test", access):
            pass
    assert reachmap("revoke", "pc-1", "--older", "--data", str(data)).exit_code == 0
    site(str(mode))
    nats_server.reload()

    async def old_is_refused() -> bool:
        try:
            async with bus.connected([nats_server.url], "test", old):
                return False
        except AccessRefused:
            return True

    await eventually(old_is_refused)
    for access in shown[1:]:
        async with bus.connected([nats_server.url], "test", access):
            pass


async def test_an_end_is_kept(
    reachmap: Any, nats_server: Any, tmp_path: Path, site: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Credentials for so many days are refused after them, with the reason and the file."""
    site("jwt")
    data = tmp_path / "data"
    monkeypatch.setattr(commands.time, "time", lambda: 1_000_000_000)
    result = reachmap(
        "enroll", "pc-1", "--days", "7", "--data", str(data), "--nats", nats_server.url
    )
    monkeypatch.undo()
    access = unpacked(Bundle.parse(result.stdout), tmp_path / "host")
    site("jwt")
    nats_server.start()
    with pytest.raises(AccessRefused, match=str(access.credentials)):
        async with bus.connected([nats_server.url], "test", access):
            pytest.fail("it is past its end")


def test_a_site_s_own_certificates_are_listed(reachmap: Any, data: Path) -> None:
    """By what the operator says stands in them."""
    result = reachmap(
        *("bus", "config", "--mode", "mtls", "--users-only", "--data", str(data)),
        *("--agent", "pc-17=CN=pc-17,OU=agent,O=Example", "--collector", "map.example"),
    )
    assert result.exit_code == 0
    assert '{ user: "CN=pc-17,OU=agent,O=Example", permissions: {' in result.stdout
    assert '"reachmap.report.pc-17"' in result.stdout
    assert '{ user: "map.example", permissions: {' in result.stdout
    assert "collector.reachmap" not in result.stdout
    assert "authorization" not in result.stdout
    wrong = reachmap("bus", "config", "--mode", "mtls", "--agent", "pc-17", "--data", str(data))
    assert wrong.exit_code == 2


def test_a_running_server_takes_what_it_is_told_later(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It refuses to reload when its operator's token changed, if only by the time of issue."""
    store = Store(data)
    before = store.tokens()
    monkeypatch.setattr("time.time", lambda: 2_000_000_000)
    store.enroll("pc-1", Mode.JWT)
    after = store.tokens()
    assert (before.operator, before.system) == (after.operator, after.system)
    assert before.accounts[1] == after.accounts[1]
    assert before.accounts[0][0] == after.accounts[0][0]


def test_loose_credentials_are_told_to_whoever_asks(
    reachmap: Any, nats_server: Any, tmp_path: Path
) -> None:
    """With what to do, and exit code 2."""
    path = tmp_path / "a.creds"
    path.write_text("secret")
    path.chmod(0o644)
    result = reachmap("agents", "--nats", nats_server.url, "--creds", str(path))
    assert result.exit_code == 2
    assert f"chmod 600 {path}" in result.stderr
    with pytest.raises(InvalidSettings):
        Access(credentials=path).check([nats_server.url])
