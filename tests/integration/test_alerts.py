"""From a service that is killed to an alert in a real Alertmanager, and from its return to the end."""

import hashlib
import hmac
import json
import os
import shutil
import signal
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from ports import free_port

ADDRESS = "127.77.5.1"
CLIENTS = 3
INTERVAL_S = float(os.environ.get("REACHMAP_ALERT_INTERVAL_S", "4"))
"""Between two checks: what is promised is a multiple of it."""

TOPOLOGY = """
checks = {{ interval_s = {interval}, timeout_s = 1.0 }}
[roles.web]
listens = {{ "web:{port}" = {{ protocol = "http" }} }}
[roles.browser]
connects = ["web:{port}"]
[hosts.server]
roles = ["web"]
addresses = ["{address}"]
"""

CONFIG = """
[[alerts.outlets]]
name = "alertmanager"
kind = "alertmanager"
url = "http://127.0.0.1:{alertmanager}"
labels = {{ deployment = "test" }}

[[alerts.outlets]]
name = "hook"
kind = "webhook"
url_env = "REACHMAP_TEST_HOOK"
secret_file = "hook.secret"

[[alerts.outlets]]
name = "dead"
kind = "webhook"
url = "http://127.0.0.1:{dead}/nobody"
"""

SECRET = "a secret of the hook's"


class Hook:
    """A webhook's receiver, which checks what is signed."""

    def __init__(self) -> None:
        self.told: list[dict[str, Any]] = []
        hook = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                at = self.headers["Reachmap-Timestamp"]
                good = hmac.new(SECRET.encode(), at.encode() + b"." + body, hashlib.sha256)
                is_good = self.headers["Reachmap-Signature"] == f"sha256={good.hexdigest()}"
                if is_good:
                    hook.told.append(json.loads(body))
                self.send_response(204 if is_good else 403)
                self.end_headers()

            def log_message(self, *_arguments: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/hook/top-secret-path"

    def statuses(self) -> list[tuple[str, str]]:
        return [(told["status"], told["kind"]) for told in self.told]


@pytest.fixture
def hook() -> Iterator[Hook]:
    made = Hook()
    thread = threading.Thread(target=made.server.serve_forever)
    thread.start()
    yield made
    made.server.shutdown()
    thread.join()
    made.server.server_close()


class Alertmanager:
    """A real one."""

    def __init__(self, deployment: Any) -> None:
        binary = shutil.which("prometheus-alertmanager")
        if binary is None:
            pytest.skip("no prometheus-alertmanager is installed")
        self.port = free_port()
        config = deployment.folder / "alertmanager.yml"
        config.write_text("route: {receiver: nobody}\nreceivers: [{name: nobody}]\n")
        deployment.start_program(
            binary,
            f"--config.file={config}",
            f"--storage.path={deployment.folder / 'alertmanager'}",
            f"--web.listen-address=127.0.0.1:{self.port}",
            "--cluster.listen-address=",
        )
        deployment.until(self.is_ready, "Alertmanager is ready")

    def get(self, path: str) -> Any:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=5) as answer:
            return answer.read()

    def is_ready(self) -> bool:
        try:
            self.get("/-/ready")
        except OSError:
            return False
        return True

    def alerts(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(self.get("/api/v2/alerts"))
        return found


def serve_web(deployment: Any, port: int) -> Any:
    folder = deployment.folder / "www"
    folder.mkdir(exist_ok=True)
    options = ["--bind", ADDRESS, "--directory", str(folder), str(port)]
    return deployment.start_program(sys.executable, "-m", "http.server", *options)


@pytest.mark.timeout(300)
def test_a_killed_service_is_one_alert_where_people_look(deployment: Any, hook: Hook) -> None:
    """Within one and a half intervals, exactly once, over a collector's death, with its end."""
    port = free_port()
    text = TOPOLOGY.format(interval=INTERVAL_S, port=port, address=ADDRESS)
    for number in range(CLIENTS):
        text += (
            f'[hosts.pc-{number}]\nroles = ["browser"]\naddresses = ["127.77.5.{10 + number}"]\n'
        )
    deployment.topology.write_text(text)
    alertmanager = Alertmanager(deployment)
    config = deployment.folder / "collector.toml"
    config.write_text(CONFIG.format(alertmanager=alertmanager.port, dead=free_port()))
    (deployment.folder / "hook.secret").write_text(SECRET + "\n")
    deployment.environment["REACHMAP_TEST_HOOK"] = hook.url
    own = ["--nats", "embedded", "--nats-port", str(deployment.nats_port)]
    options = [*own, "--config", str(config)]
    web = serve_web(deployment, port)
    collector = deployment.serve(*options)
    deployment.agent("server", ADDRESS)
    for number in range(CLIENTS):
        deployment.agent(f"pc-{number}", f"127.77.5.{10 + number}")

    def is_served() -> bool:
        flows = deployment.ask("flows")["flows"]
        return len(flows) == CLIENTS and all(
            (flow["state"], flow["answered_by"]) == ("ok", "service") for flow in flows
        )

    deployment.until(is_served, "every browser reaches the service")
    tried = deployment.reachmap("alerts", "test", "hook")
    assert tried.returncode == 0, tried.stdout + tried.stderr
    dead = deployment.reachmap("alerts", "test", "dead")
    assert dead.returncode == 1
    assert "not delivered" in dead.stdout
    time.sleep(1.5 * INTERVAL_S)  # for an alert that must not come
    assert alertmanager.alerts() == []
    assert hook.statuses() == [("firing", "flow")]  # the trial
    hook.told.clear()

    web.send_signal(signal.SIGKILL)
    killed = time.monotonic()
    web.wait()
    deployment.until(alertmanager.alerts, "an alert is in Alertmanager")
    took_s = time.monotonic() - killed
    (deployment.folder / "took_s").write_text(f"{took_s:.2f}\n")
    assert took_s <= 1.5 * INTERVAL_S
    [alert] = alertmanager.alerts()
    told = alert["labels"]
    assert (told["kind"], told["subject"]) == ("service-down", f"server:{port}/tcp")
    assert (told["severity"], told["deployment"]) == ("critical", "test")
    assert "start web" in alert["annotations"]["advice"]

    def listed() -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = deployment.ask("alerts")["alerts"]
        return found

    deployment.until(lambda: listed()[0]["explains"] == CLIENTS, "the alert explains every flow")
    acked = deployment.reachmap("alerts", "ack", told["id"], "--by", "ann")
    assert acked.returncode == 0, acked.stderr
    collector.kill()
    collector.wait()
    collector = deployment.serve(*options)
    [kept] = listed()
    assert (kept["id"], kept["acknowledged_by"]) == (told["id"], "ann")
    deployment.until(
        lambda: all(flow["state"] == "broken" for flow in deployment.ask("flows")["flows"]),
        "the new collector has heard of the outage",
    )
    outlets = {row["outlet"]: row for row in deployment.ask("alerts")["outlets"]}
    assert outlets["dead"]["waiting"] == 1  # nothing is lost over a restart

    serve_web(deployment, port)
    deployment.until(lambda: not alertmanager.alerts(), "the alert has ended in Alertmanager")
    deployment.until(lambda: len(hook.told) == 2, "the hook has heard of the end")
    assert hook.statuses() == [("firing", "service-down"), ("resolved", "service-down")]
    assert {one["id"] for one in hook.told} == {told["id"]}
    assert deployment.ask("alerts")["alerts"] == []
    logs = "".join(path.read_text() for path in deployment.folder.glob("*.log"))
    assert "top-secret-path" not in logs and SECRET not in logs


def test_a_wrong_configuration_starts_nothing_and_reloads_nothing(deployment: Any) -> None:
    """It says which key, and the last good one stays in force."""
    deployment.topology.write_text(TOPOLOGY.format(interval=1, port=4433, address=ADDRESS))
    config = deployment.folder / "collector.toml"
    wrong = '[[alerts.outlets]]\nname = "a"\nkind = "webhook"\nurl = "ftp://x"\n'
    config.write_text(wrong)
    data = ["--topology", str(deployment.topology), "--data", str(deployment.folder / "data")]
    refused = deployment.reachmap("serve", *data)  # it is beside the topology
    assert refused.returncode == 2
    assert "alerts.outlets[0].url: expected a URL" in refused.stderr
    config.write_text(wrong.replace("ftp://", "http://127.0.0.1:9/"))
    own = ["--nats", "embedded", "--nats-port", str(deployment.nats_port)]
    collector = deployment.serve(*own, "--config", str(config))

    def outlets() -> set[str]:
        return {row["outlet"] for row in deployment.ask("alerts")["outlets"]}

    deployment.until(lambda: outlets() == {"a", "bus"}, "the outlets are there")
    config.write_text(wrong)
    collector.send_signal(signal.SIGHUP)
    log: Path = deployment.folder / "0.log"
    deployment.until(lambda: "configuration refused" in log.read_text(), "it is refused")
    assert outlets() == {"a", "bus"}
    config.write_text("")
    collector.send_signal(signal.SIGHUP)
    deployment.until(lambda: outlets() == {"bus"}, "a good one is taken up")


def test_operators_silence_try_and_follow(deployment: Any) -> None:
    """From the command line, over the bus, with an operator's own rights."""
    deployment.topology.write_text(TOPOLOGY.format(interval=1, port=4433, address=ADDRESS))
    deployment.serve()
    assert "No alert" in deployment.reachmap("alerts").stdout
    made = deployment.reachmap("alerts", "silence", "--host", "pc-*", "--for", "2h", "--by", "ann")
    assert made.returncode == 0, made.stderr
    ident = made.stdout.split()[1].rstrip(":")
    listed = json.loads(deployment.reachmap("alerts", "--format", "json").stdout)
    assert [(one["id"], one["hosts"]) for one in listed["silences"]] == [(ident, ["pc-*"])]
    assert f"silence {ident} until" in deployment.reachmap("alerts").stdout
    ended = deployment.reachmap("alerts", "silence", "--end", ident)
    assert ended.stdout == f"silence {ident}: ended\n"
    refused = deployment.reachmap("alerts", "ack", "nothing")
    assert (refused.returncode, "no alert 'nothing' fires" in refused.stderr) == (2, True)
    assert deployment.reachmap("alerts", "--format", "csv").stdout.startswith("id,status,severity")
    shown = deployment.environment
    shown["REACHMAP_NATS_URL"] = deployment.url
    shown["REACHMAP_NATS_CREDENTIALS"] = str(deployment.access.credentials)
    deployment.start("reachmap_collector", "watch", "--alerts")
    log: Path = max(deployment.folder.glob("[0-9]*.log"), key=lambda path: int(path.stem))

    def is_followed() -> bool:
        assert deployment.reachmap("alerts", "test", "bus").returncode == 0
        return "a trial of reachmap's outlet bus" in log.read_text()

    deployment.until(is_followed, "the trial is seen")
    assert json.loads(log.read_text().splitlines()[0])["kind"] == "flow"
