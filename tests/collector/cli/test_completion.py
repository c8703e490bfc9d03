"""Tab: scripts for three shells, and names that the collector knows, at once or not at all."""

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from reachmap_collector.cli import access, main, names
from reachmap_collector.identity.servers import Mode
from reachmap_collector.identity.store import Place, Store
from reachmap_shared import bus
from reachmap_shared.access import Access
from reachmap_shared.urls import DEFAULT_URL

SHELLS = ("bash", "zsh", "fish")


@pytest.fixture
def known(asked: Any, openuem: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A collector that is asked in this process."""
    from reachmap_collector.cli import query

    asked(openuem(1))

    def ask(_context: Any, name: str, parameters: Any, _rows: str) -> Any:
        return query.ask(None, None, name, parameters)

    monkeypatch.setattr(names, "_asked", ask)


def complete(*words: str, **environment: str) -> list[str]:
    """What bash is offered for the last word."""
    result = CliRunner().invoke(
        main,
        [],
        prog_name="reachmap",
        env={
            "_REACHMAP_COMPLETE": "bash_complete",
            "COMP_WORDS": " ".join(["reachmap", *words]),
            "COMP_CWORD": str(len(words)),
            **environment,
        },
    )
    assert result.stderr == ""
    return [line.partition(",")[2] for line in result.stdout.splitlines() if line]


@pytest.mark.parametrize("shell", SHELLS)
def test_a_script_for_each_shell(reachmap: Any, shell: str) -> None:
    """Which the shell itself finds no fault in, where there is one."""
    result = reachmap("completion", shell)
    assert (result.exit_code, result.stderr) == (0, "")
    assert f"_REACHMAP_COMPLETE={shell}_complete" in result.stdout
    if (program := shutil.which(shell)) is not None:
        subprocess.run([program, "-n"], input=result.stdout, text=True, check=True)


def test_commands_and_states_need_no_collector() -> None:
    """They are known here."""
    assert complete("ex") == ["explain", "export"]
    assert complete("flows", "--state", "") == ["ok", "degraded", "broken", "exposed", "unknown"]
    assert "--per-flow" in complete("export", "--p")


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (["explain", "nats-"], ["nats-server-1"]),
        (["explain", "agent-1", "post"], ["postgres-1"]),
        (["flows", "--source", "agent-w"], ["agent-worker-1"]),
        (["map", "--destination", "ocsp"], ["ocsp-responder-1"]),
        (["export", "--role", "not"], ["notification-worker"]),
        (["flows", "--service", "nats"], ["nats-server:4433", "nats-server:4444"]),
        (["flows", "--row", "2"], ["2", "20", "21"]),
        (["explain", "--row", "9"], ["9"]),
    ],
)
def test_names_are_asked_of_the_collector(
    known: None, words: list[str], offered: list[str]
) -> None:
    """Hosts, roles, services, and rows of the port table."""
    assert complete(*words) == offered


@pytest.fixture
def deaf() -> Iterator[str]:
    """A server that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"nats://127.0.0.1:{server.getsockname()[1]}"


def test_no_answer_is_no_name_and_no_word(
    deaf: str, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Soon, and not only when the bus gives up: whoever presses Tab waits for it."""
    assert names.TIMEOUT_S < 1
    monkeypatch.setattr(names, "TIMEOUT_S", 0.3)
    for url in (deaf, f"nats://127.0.0.1:{port}", "nonsense://"):
        began = time.monotonic()
        assert complete("explain", "pc", REACHMAP_NATS_URL=url) == []
        assert complete("flows", "--nats", url, "--row", "") == []
        assert time.monotonic() - began < 2 * bus._CONNECT_TIMEOUT_S


def test_the_collector_is_found_as_the_command_finds_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By what its user's collector keeps; what is typed goes before it. Hosts come in pages."""
    monkeypatch.setattr(access, "default_data", lambda: tmp_path)
    store = Store(tmp_path)
    store.prepare()
    store.place = Place(Mode.JWT, ("nats://127.0.0.1:4777",))
    found: list[tuple[list[str], Access]] = []

    class Connection:
        async def query(self, _name: str, parameters: Any) -> Any:
            page = {"hosts": [{"host": "ca-1"}], "next": "ca-1"}
            return page if parameters["after"] is None else {"hosts": [{"host": "pc-17"}]}

    @asynccontextmanager
    async def connected(
        urls: Sequence[str], _name: str, shown: Access
    ) -> AsyncIterator[Connection]:
        found.append((list(urls), shown))
        yield Connection()

    monkeypatch.setattr(names.bus, "connected", connected)
    assert complete("explain", "pc") == ["pc-17"]
    assert complete("explain", "--nats", "nats://b:2", "--nkey", "seed", "pc") == ["pc-17"]
    assert complete("explain", "pc", REACHMAP_NATS_CREDENTIALS="a.creds") == ["pc-17"]
    assert complete("explain", "--nats", "nats://b:2", "--context", "c", "pc") == []
    assert found == [
        (["nats://127.0.0.1:4777"], Access(credentials=store.folder / "operator.creds")),
        (["nats://b:2"], Access(nkey=Path("seed"))),
        ([DEFAULT_URL], Access(credentials=Path("a.creds"))),
    ]


def test_bash_completes(reachmap: Any, tmp_path: Path) -> None:
    """In the shell itself, by the script, with the program on its path."""
    bash = shutil.which("bash")
    assert bash, "it is where these tests run"
    program = tmp_path / "reachmap"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m reachmap_collector "$@"\n')
    program.chmod(0o755)
    script = (
        f"{reachmap('completion', 'bash').stdout}\n"
        "COMP_WORDS=(reachmap flows --state b) COMP_CWORD=3\n"
        "_reachmap_completion reachmap\n"
        'echo "${COMPREPLY[@]}"\n'
    )
    path = f"{tmp_path}:{os.environ['PATH']}"
    done = subprocess.run(
        [bash, "--norc"],
        input=script,
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == ["broken"]
