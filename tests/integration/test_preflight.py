"""Preflight with real processes: what it waits for, what it says, and how it ends."""

import xml.etree.ElementTree as ET
from typing import Any


def test_preflight_from_nothing_to_ready(deployment: Any, port: int) -> None:
    """Away: 3, at once. Another topology: 2. An agent missing: 1, in time. All there: 0."""
    deployment.write_small(port)
    command = ["preflight", "--topology", str(deployment.topology)]
    away = deployment.reachmap(*command)
    assert (away.returncode, away.stdout) == (3, "")
    assert "is the collector running" in away.stderr

    deployment.serve()
    other = deployment.folder / "other.toml"
    other.write_text(deployment.topology.read_text() + '[hosts.third]\nroles = ["browser"]\n')
    wrong = deployment.reachmap("preflight", "--topology", str(other))
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert "runs with another topology" in wrong.stderr
    assert "hosts in this file alone: 1, such as third" in wrong.stderr

    deployment.agent("server", "127.77.1.1")
    early = deployment.reachmap(*command, "--timeout", "1s")
    assert early.returncode == 1
    assert "not ready: 1 unknown; not all was checked: " in early.stdout
    assert "client" in early.stderr

    deployment.agent("client", "127.77.1.2")
    ready = deployment.reachmap(*command, "--timeout", "30s")
    assert ready.returncode == 0, ready.stdout + ready.stderr
    assert ready.stdout == "ready: all 1 flows are as expected\n"
    assert ready.stderr.splitlines()[-1] == "2 of 2 agents; 1 of 1 flows checked"

    junit = deployment.reachmap(*command, "--format", "junit")
    assert junit.returncode == 0
    assert ET.fromstring(junit.stdout).get("tests") == "1"
    assert "ready: all 1 flows" in junit.stderr
    for style in ("markdown", "csv"):
        assert deployment.reachmap(*command, "--format", style).returncode == 0
