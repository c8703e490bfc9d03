"""Enrolling, joining and revoking as people do it: by the commands, with real processes."""

import json
import os
import subprocess
import sys
from typing import Any

TOPOLOGY = """
[roles.web]
[hosts.pc-1]
roles = ["web"]
[hosts.pc-2]
roles = ["web"]
"""


def join(deployment: Any, bundle: str, *options: str) -> subprocess.CompletedProcess[str]:
    """`reachmap-agent join -`, on a host whose /etc is a folder of the test's."""
    config = deployment.folder / "etc" / "agent.toml"
    return subprocess.run(
        [sys.executable, "-m", "reachmap_agent", "join", "-", "--config", str(config), *options],
        input=bundle,
        env=deployment.environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


WAY = ("name", "route", "tcp", "server", "tls", "login", "permission", "clock", "plan", "disk")


def doctor(deployment: Any) -> dict[str, dict[str, str]]:
    """`reachmap-agent doctor --json` on that host, by step."""
    config = deployment.folder / "etc" / "agent.toml"
    done = subprocess.run(
        [sys.executable, "-m", "reachmap_agent", "doctor", "--json", "--config", str(config)],
        env=deployment.environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return {row["name"]: row for row in json.loads(done.stdout)}


def test_a_host_is_enrolled_joins_is_revoked_and_joins_again(deployment: Any, port: int) -> None:
    """Over TLS, by what the bundle brings; the agent is never restarted, and logs each once."""
    deployment.topology.write_text(TOPOLOGY)
    data = str(deployment.folder / "data")
    deployment.nats_port = port
    where = ["--nats", "embedded", "--nats-port", str(port)]
    deployment.url = f"tls://127.0.0.1:{deployment.nats_port}"
    deployment.start(
        *("reachmap_collector", "serve", "--topology", str(deployment.topology)),
        *("--data", data, *where, "--nats-listen", "0.0.0.0", "--nats-name", "localhost"),
    )
    ca = deployment.store.folder / "ca.pem"
    place = deployment.store.folder / "place.json"
    deployment.until(place.exists, "the collector's server is up")
    deployment.environment["REACHMAP_NATS_CA"] = str(ca)
    deployment.until(lambda: deployment.reachmap("agents").returncode == 0, "it answers")

    enrolled = deployment.reachmap("enroll", "pc-1", "--data", data)
    assert enrolled.returncode == 0
    del deployment.environment["REACHMAP_NATS_CA"]
    joined = join(deployment, enrolled.stdout)
    assert joined.returncode == 0, joined.stderr
    assert f"tls://localhost:{deployment.nats_port} lets this host in" in joined.stdout

    config = deployment.folder / "etc" / "agent.toml"
    agent = deployment.start(
        "reachmap_agent", "run", "--config", str(config), "--address", "127.77.1.1"
    )
    log = deployment.folder / "1.log"

    def state() -> str:
        found = deployment.reachmap("agents", "--format", "csv", "--ca", str(ca))
        [row] = [line for line in found.stdout.splitlines() if line.startswith("pc-1,")] or [""]
        return row

    deployment.until(lambda: "fresh" in state(), "pc-1 reports")
    found = doctor(deployment)
    assert [found[step]["result"] for step in WAY] == ["pass"] * len(WAY), found
    assert found["permission"]["found"].startswith("pc-1 may speak under its own name")

    revoked = deployment.reachmap("revoke", "pc-1", "--data", data)
    assert "has thrown them out" in revoked.stdout
    deployment.until(lambda: "bus refuses us" in log.read_text(), "the agent says that it is out")
    refused = join(deployment, enrolled.stdout)
    assert refused.returncode == 1
    found = doctor(deployment)
    assert (found["tls"]["result"], found["login"]["result"]) == ("pass", "fail")
    assert "reachmap enroll pc-1" in found["login"]["to_do"]
    assert found["permission"]["result"] == "skipped"
    assert f"{config.parent / 'agent.creds'}" in refused.stderr

    again = deployment.reachmap("enroll", "pc-1", "--data", data)
    assert join(deployment, again.stdout).returncode == 2  # it is enrolled, if in vain
    assert join(deployment, again.stdout, "--force").returncode == 0
    deployment.until(lambda: "bus back" in log.read_text(), "it is let in again")
    assert agent.poll() is None
    assert log.read_text().count("bus refuses us") <= 2
    seeds = [line for line in again.stdout.splitlines() if line.startswith("SU")]
    assert seeds
    for file in deployment.folder.glob("*.log"):
        assert seeds[0] not in file.read_text()


def test_an_agent_without_credentials_says_so_and_stays(deployment: Any) -> None:
    """One line in its log, and it goes on trying: somebody may yet let it in."""
    deployment.topology.write_text(TOPOLOGY)
    deployment.serve()
    stranger = deployment.start(
        *("reachmap_agent", "run", "--id", "pc-2", "--nats", deployment.url, "--config", os.devnull)
    )
    log = deployment.folder / "1.log"
    deployment.until(lambda: "bus refuses us" in log.read_text(), "it says that it is refused")
    assert "a client without credentials" in log.read_text()
    assert stranger.poll() is None
    assert [row["agent"] for row in deployment.agents() if row["state"] == "fresh"] == []
