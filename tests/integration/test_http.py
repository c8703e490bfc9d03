"""The HTTP API of a real collector, as strangers' tools see it."""

import json
import os
import shutil
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest

TOPOLOGY = """
profiles = ["openuem"]
[hosts.nats-1]
roles = ["nats-server", "ocsp-responder"]
addresses = ["127.77.1.1"]
[hosts.db-1]
roles = ["postgres"]
agent = false
addresses = ["127.77.1.2"]
[hosts.pc-17]
roles = ["agent", "agent-updater"]
addresses = ["127.77.1.3"]
"""


@pytest.fixture
def token(deployment: Any) -> Path:
    path = deployment.folder / "token"
    path.touch(0o600)
    path.write_text("0123456789abcdef\n")
    return path


def serve(deployment: Any, port: int, *options: str) -> tuple[str, subprocess.Popen[bytes]]:
    deployment.topology.write_text(TOPOLOGY)
    bus = ["--nats", "embedded", "--nats-port", str(deployment.nats_port)]
    process = deployment.serve(*bus, "--http", f"127.0.0.1:{port}", *options)
    return f"http://127.0.0.1:{port}", process


def get(url: str, token: Path | None = None) -> tuple[int, Any]:
    headers = {"Authorization": f"Bearer {token.read_text().strip()}"} if token else {}
    try:
        with urllib.request.urlopen(
            urllib.request.Request(url, headers=headers), timeout=10
        ) as got:
            return got.status, json.loads(got.read())
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())


@pytest.mark.timeout(240)
@pytest.mark.parametrize("with_token", [False, True])
def test_schemathesis_finds_nothing_wrong(
    deployment: Any, port: int, token: Path, with_token: bool
) -> None:
    """Every answer to whatever it makes up is as /openapi.json says."""
    own = ["--http-token-file", str(token)] if with_token else []
    url, _ = serve(deployment, port, *own)
    program = shutil.which("schemathesis", path=str(Path(sys.executable).parent))
    assert program, "it is among the development requirements"
    show = ["-H", f"Authorization: Bearer {token.read_text().strip()}"] if with_token else []
    done = subprocess.run(
        [
            *(program, "run", f"{url}/openapi.json", "--checks", "all", "--max-examples", "10"),
            *("--generation-database", "none"),
            *show,
        ],
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
        cwd=deployment.folder,
        env={**os.environ, "NO_COLOR": "1"},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "No issues found" in done.stdout
    assert "Tested: 13" in done.stdout


def test_it_says_what_the_command_line_says(deployment: Any, port: int) -> None:
    """And it ends with the collector, which ends well."""
    url, process = serve(deployment, port)
    status, page = get(f"{url}/api/v1/flows?row=3")
    assert status == 200
    [row] = page["rows"]
    assert row["text"].startswith("4433 | Agent Updater | Outbound")
    lines = deployment.reachmap("flows", "--row", "3", "--format", "json")
    assert json.loads(lines.stdout) == page["flows"]
    assert len(page["flows"]) == 1
    assert get(f"{url}/readyz") == (200, {"status": "ok"})
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=10) == 0
    with pytest.raises(urllib.error.URLError):
        get(f"{url}/healthz")


def test_a_token_is_asked_for(deployment: Any, port: int, token: Path) -> None:
    """Where one was given."""
    url, _ = serve(deployment, port, "--http-token-file", str(token))
    status, problem = get(f"{url}/api/v1/status")
    assert (status, problem["title"]) == (401, "Unauthorized")
    assert get(f"{url}/api/v1/status", token)[0] == 200


def test_beyond_loopback_nothing_starts_without_a_token_and_tls(deployment: Any) -> None:
    """And it is said what to do."""
    deployment.topology.write_text(TOPOLOGY)
    done = deployment.reachmap("serve", "--http", "0.0.0.0:8686")
    assert done.returncode == 2
    assert "needs --http-token-file FILE and --http-certificate FILE" in done.stderr
    assert not (deployment.folder / "data").exists()
