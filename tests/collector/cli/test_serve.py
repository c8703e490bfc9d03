"""`reachmap serve`: what is typed, and what the collector is started with."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from reachmap_collector.app import ServeSettings
from reachmap_collector.cli import serve
from reachmap_collector.cli.access import NATS_VARIABLE
from reachmap_collector.demo.deployment import free_port
from reachmap_collector.embedded import Listening
from reachmap_shared.access import Access


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[ServeSettings]:
    """The settings of each collector that would have run."""
    found: list[ServeSettings] = []

    async def run(settings: ServeSettings) -> None:
        found.append(settings)

    monkeypatch.setattr(serve, "run_collector", run)
    return found


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", free_port("127.0.0.1"))) as server:
        yield server.getsockname()[1]


@pytest.mark.parametrize(
    ("arguments", "environment", "nats"),
    [
        ([], {}, None),
        (["--nats", "embedded"], {}, None),
        (["--nats", "nats://a:1"], {}, ("nats://a:1",)),
        (["--nats", "nats://a:1, nats://b:2"], {}, ("nats://a:1", "nats://b:2")),
        ([], {NATS_VARIABLE: "nats://c:3"}, ("nats://c:3",)),
        (["--nats", "embedded"], {NATS_VARIABLE: "nats://c:3"}, None),
    ],
)
def test_where_its_nats_server_is(
    reachmap: Any,
    started: list[ServeSettings],
    arguments: list[str],
    environment: dict[str, str],
    nats: tuple[str, ...] | None,
) -> None:
    """Its own, unless one is named; what is typed wins over the environment."""
    assert reachmap("serve", *arguments, **environment).exit_code == 0
    assert [settings.nats for settings in started] == [nats]


@pytest.mark.parametrize(
    ("nats", "shown"),
    [
        ("http://a:1", "http://a:1"),
        ("nats://", "nats://"),
        ("nats://a:x", "nats://a:x"),
        ("nats://a:1,", ""),
        ("", ""),
        ("nats://user:secret@a:0", "nats://a:0"),
    ],
)
def test_what_is_no_nats_url_starts_nothing(
    reachmap: Any, started: list[ServeSettings], nats: str, shown: str
) -> None:
    """It would wait for ever for a server that there cannot be; a password is not repeated."""
    result = reachmap("serve", "--nats", nats)
    assert (result.exit_code, started) == (2, [])
    assert result.stderr.splitlines()[-1] == (
        f"Error: --nats: {shown!r} is neither a NATS URL such as nats://127.0.0.1:4222 nor 'embedded'"
    )


def test_what_it_is_started_with(reachmap: Any, started: list[ServeSettings]) -> None:
    """Files, port, and a place for its state."""
    result = reachmap("serve", "--topology", "t.toml", "--data", "here", "--nats-port", "4333")
    assert result.exit_code == 0
    assert started == [ServeSettings(Path("t.toml"), Path("here"), None, Listening(4333))]


def test_http_and_a_bus_of_one_s_own_go_together(
    reachmap: Any, started: list[ServeSettings]
) -> None:
    """Each part of the settings gets where it belongs."""
    result = reachmap(
        *("serve", "--nats", "tls://a:1", "--ca", "ca.pem", "--creds", "a.creds"),
        *("--http", "127.0.0.1:8686"),
    )
    assert result.exit_code == 0
    [settings] = started
    assert settings.access == Access(credentials=Path("a.creds"), ca=Path("ca.pem"))
    assert settings.http is not None and settings.http.port == 8686


@pytest.mark.parametrize(
    ("user", "state", "expected"),
    [
        (0, None, "/var/lib/reachmap-collector"),
        (0, "/state", "/var/lib/reachmap-collector"),
        (1000, "/state", "/state/reachmap"),
        (1000, None, "/home/me/.local/state/reachmap"),
        (1000, "", "/home/me/.local/state/reachmap"),
    ],
)
def test_where_its_state_is_by_default(
    reachmap: Any,
    started: list[ServeSettings],
    monkeypatch: pytest.MonkeyPatch,
    user: int,
    state: str | None,
    expected: str,
) -> None:
    """The system's place for root, and XDG's for everyone else."""
    monkeypatch.setattr(os, "geteuid", lambda: user)
    monkeypatch.setattr(Path, "home", lambda: Path("/home/me"))
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    if state is not None:
        monkeypatch.setenv("XDG_STATE_HOME", state)
    reachmap("serve")
    assert started[0].data == Path(expected)
    assert started[0].topology == Path("/etc/reachmap/topology.toml")


def test_a_wrong_topology_starts_nothing(reachmap: Any, tmp_path: Path) -> None:
    """It is told, and not even the folder is made."""
    (tmp_path / "t.toml").write_text("hosts = 7")
    result = reachmap(
        "serve", "--topology", str(tmp_path / "t.toml"), "--data", str(tmp_path / "data")
    )
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith(f"reachmap: {tmp_path / 't.toml'}: hosts: ")
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("missing", ["a file in the way", "no way there"])
def test_a_folder_that_cannot_be_used_is_told(reachmap: Any, tmp_path: Path, missing: str) -> None:
    """In a line, with its name."""
    (tmp_path / "t.toml").write_text("")
    (tmp_path / "file").write_text("")
    data = tmp_path / "file" if missing == "a file in the way" else tmp_path / "file" / "data"
    result = reachmap("serve", "--topology", str(tmp_path / "t.toml"), "--data", str(data))
    assert (result.exit_code, result.stdout) == (2, "")
    assert str(data) in result.stderr


def test_a_port_that_is_taken_is_told(reachmap: Any, tmp_path: Path, taken: int) -> None:
    """With what to do about it, and without a traceback."""
    (tmp_path / "t.toml").write_text("")
    arguments = ["--topology", str(tmp_path / "t.toml"), "--data", str(tmp_path / "data")]
    result = reachmap("serve", *arguments, "--nats-port", str(taken))
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith(f"reachmap: port {taken} of 127.0.0.1 is taken")
