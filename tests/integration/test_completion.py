"""Tab at a real collector, whose bus lets in nobody without credentials."""

import subprocess
import sys
from typing import Any

TOPOLOGY = """
profiles = ["openuem"]
[hosts.nats-1]
roles = ["nats-server"]
addresses = ["127.77.1.1"]
[hosts.pc-17]
roles = ["agent"]
addresses = ["127.77.1.3"]
"""


def complete(deployment: Any, *words: str, **environment: str) -> list[str]:
    """What bash is offered for the last word."""
    done = subprocess.run(
        [sys.executable, "-m", "reachmap_collector"],
        env={
            **deployment.environment,
            "REACHMAP_NATS_URL": deployment.url,
            "_REACHMAP_COMPLETE": "bash_complete",
            "COMP_WORDS": " ".join(["reachmap", *words]),
            "COMP_CWORD": str(len(words)),
            **environment,
        },
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.stderr == ""
    return [line.partition(",")[2] for line in done.stdout.splitlines() if line]


def test_names_are_told_to_those_who_may_ask(deployment: Any) -> None:
    """Credentials count as they do for the command that is being typed; a stranger gets none."""
    deployment.topology.write_text(TOPOLOGY)
    deployment.serve()
    shown = str(deployment.access.credentials)
    # An answer that took too long is none, so a busy machine may need another try.
    deployment.until(
        lambda: complete(deployment, "explain", "--creds", shown, "pc-") == ["pc-17"],
        "a host's name, by --creds",
    )
    deployment.until(
        lambda: (
            complete(deployment, "explain", "nats", REACHMAP_NATS_CREDENTIALS=shown) == ["nats-1"]
        ),
        "a host's name, by the environment",
    )
    assert complete(deployment, "explain", "pc-") == []
