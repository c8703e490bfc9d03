"""`roles = "auto"` end to end: from OpenUEM's own settings on a host to what others dial there."""

import sys
from pathlib import Path
from typing import Any

from reachmap_collector.identity.servers import Mode
from reachmap_shared.access import write_secret

TOPOLOGY = """
profiles = ["openuem"]
checks = { interval_s = 0.5, timeout_s = 0.4 }
[hosts.pc-17]
addresses = ["127.77.1.1"]
[hosts.console-1]
roles = ["console"]
addresses = ["127.77.1.2"]
[hosts.nats-1]
roles = ["nats-server"]
addresses = ["127.77.1.3"]
agent = false
"""

INI = """\
[Agent]
UUID        = 6a2f-uuids3cret
SFTPPort    = {port}
VNCPassword = vncs3cret

[NATS]
NATSServers = tls://user:natss3cret@127.77.1.9:4433
"""

AGENT = """\
import sys
from reachmap_agent import cli, discovery, openuem
discovery._PLACES = {{sys.platform: (({ini!r}, openuem.agent),)}}
cli.main()
"""
"""An agent whose host keeps OpenUEM's settings elsewhere: this one's own are not the test's."""


def test_a_changed_port_is_dialled_and_a_strange_target_noted(
    deployment: Any, port: int, tmp_path: Path
) -> None:
    """Nobody told the collector; no secret beside it is told to anybody."""
    ini = tmp_path / "openuem.ini"
    ini.write_text(INI.format(port=port))
    deployment.topology.write_text(TOPOLOGY)
    deployment.serve()
    deployment.agent("console-1", "127.77.1.2")
    own = deployment.store
    credentials = tmp_path / "pc-17.creds"
    write_secret(credentials, own.enroll("pc-17", Mode.JWT).credentials)
    deployment.start_program(
        *(sys.executable, "-c", AGENT.format(ini=str(ini)), "run", "--id", "pc-17"),
        *("--roles", "auto", "--nats", deployment.url, "--address", "127.77.1.1"),
        *("--nats-credentials", str(credentials)),
    )

    def flow() -> dict[str, Any]:
        rows = deployment.ask("flows", service="agent:2022")["flows"]
        return next((dict(row) for row in rows if row["destination"] == "pc-17"), {})

    deployment.until(lambda: flow().get("state") == "ok", "the agent's listener answers")
    assert (flow()["source"], flow()["port"]) == ("console-1", port)
    assert flow()["answered_by"] == "listener"

    (row,) = [row for row in deployment.agents() if row["agent"] == "pc-17"]
    assert row["roles"] == ["agent", "agent-updater"]
    assert row["announced_ports"] == {"agent:2022": port}
    assert row["announced_targets"] == {"nats-server": ["127.77.1.9"]}
    noted = "is told to reach nats-server at 127.77.1.9, where the topology has no such host"
    assert row["notes"] == [noted]
    shown = deployment.reachmap("agents").stdout
    assert "127.77.1.9" in " ".join(shown.split())
    (host,) = [one for one in deployment.ask("topology")["hosts"] if one["host"] == "pc-17"]
    assert host["ports"] == {"agent:2022": port}

    for file in deployment.folder.rglob("*"):
        if file.is_file() and file != ini:
            content = file.read_bytes()
            assert b"s3cret" not in content, file
