"""Watching real changes, over the death of the collector and of the bus with it."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

TOPOLOGY = """
checks = {{ interval_s = 0.5, timeout_s = 0.5 }}
[roles.web]
listens = {{ "web:{port}" = {{ protocol = "tcp", listen = "never" }} }}
[roles.browser]
connects = ["web:{port}"]
[hosts.server]
roles = ["web"]
addresses = ["127.77.1.1"]
agent = false
[hosts.client]
roles = ["browser"]
addresses = ["127.77.1.2"]
"""


def lines(path: Path) -> list[Any]:
    """What was told so far, whole lines alone."""
    text = path.read_text()
    return [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]


def test_a_watch_loses_and_repeats_nothing(deployment: Any, port: int) -> None:
    """What changes while the collector and its bus are dead comes once, in order, after them."""
    deployment.topology.write_text(TOPOLOGY.format(port=port))
    collector = deployment.serve()
    deployment.agent("client", "127.77.1.2")
    deployment.until(lambda: deployment.flow()["outcome"] == "refused", "it is refused")
    told = deployment.folder / "told"
    environment = {
        **deployment.environment,
        "REACHMAP_NATS_URL": deployment.url,
        "REACHMAP_NATS_CREDENTIALS": str(deployment.access.credentials),
    }
    command = [sys.executable, "-m", "reachmap_collector", "watch", "--format", "ndjson"]
    with told.open("wb") as out, (deployment.folder / "watch.log").open("wb") as err:
        watching = subprocess.Popen(
            command, stdout=out, stderr=err, env=environment, start_new_session=True
        )
    service = [sys.executable, str(deployment.folder / "service.py")]
    (deployment.folder / "service.py").write_text(
        f"import socket\nserver = socket.create_server(('127.77.1.1', {port}))\n"
        "while True:\n    server.accept()[0].close()\n"
    )
    log = deployment.folder / "watch.log"
    deployment.until(lambda: "watching" in log.read_text(), "it watches")

    def outcomes() -> list[str]:
        return [one["outcome"] for one in lines(told)]

    try:
        running = deployment.start_program(*service)
        deployment.until(lambda: len(outcomes()) == 1, "the watch tells of the service")
        running.kill()
        deployment.until(lambda: outcomes()[-1:] == ["refused"], "the watch tells of the end")
        before = len(outcomes())

        os.kill(collector.pid, signal.SIGKILL)
        collector.wait()
        running = deployment.start_program(*service)
        deployment.until(lambda: "bus lost" in log.read_text(), "the watch has lost the bus")
        deployment.serve()
        deployment.until(lambda: len(outcomes()) > before, "the watch tells what came meanwhile")
        running.kill()
        deployment.until(lambda: outcomes()[-1] == "refused", "and goes on")

        history = deployment.reachmap("history", "--format", "json")
        kept = [one["sequence"] for one in json.loads(history.stdout)][::-1]
        sequences = [one["sequence"] for one in lines(told)]
        assert sequences == kept[-len(sequences) :]
        watching.send_signal(signal.SIGINT)
        assert watching.wait(10) == 0
        assert "Traceback" not in log.read_text()
    finally:
        watching.kill()
        watching.wait()


def test_a_watch_without_a_collector_ends(deployment: Any) -> None:
    """At once, with what to look at; and so does one of an unknown host, with those that are near."""
    assert deployment.reachmap("watch").returncode == 3
    deployment.topology.write_text(TOPOLOGY.format(port=1))
    deployment.serve()
    wrong = deployment.reachmap("watch", "--source", "clinet")
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert "unknown host 'clinet'; did you mean client?" in wrong.stderr
