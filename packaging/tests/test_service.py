"""The agent's package on a machine with a real systemd, seen by a packaged collector outside of it.

One machine for all, in the order of an agent's life: installed, joined, started; then what befalls
it; upgraded, purged.
"""

import json
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import machine
import pytest
from machine import OUTSIDE, Machine, Network, files, repacked, until

pytestmark = pytest.mark.timeout(300)

Find = Callable[..., Path]

TOPOLOGY = f"""
checks = {{ interval_s = 1, timeout_s = 1 }}
[hosts.pc-17]
roles = ["client"]
[hosts.map]
roles = ["bus"]
addresses = ["{OUTSIDE}"]
[roles.bus]
listens = {{ "bus:4222" = {{ protocol = "nats" }} }}
[roles.client]
connects = ["bus:4222"]
"""


class Collector:
    """The packaged collector on the other end of the cable."""

    def __init__(self, package: Path, network: Network, folder: Path) -> None:
        subprocess.run(["dpkg-deb", "--extract", str(package), str(folder / "root")], check=True)
        self._program = str(folder / "root/usr/lib/reachmap-collector/reachmap")
        self._network = network
        self._data = folder / "data"
        self._log = folder / "collector.log"
        self._topology = folder / "topology.toml"
        self._topology.write_text(TOPOLOGY)
        self._environment = {
            "PATH": "/usr/bin:/bin",
            "LANG": "C.UTF-8",
            "REACHMAP_NATS_URL": f"tls://{OUTSIDE}:4222",
            "REACHMAP_NATS_CREDENTIALS": str(self._data / "bus/collector.creds"),
            "REACHMAP_NATS_CA": str(self._data / "bus/ca.pem"),
        }
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Serve, beyond loopback."""
        plain = {key: its for key, its in self._environment.items() if "REACHMAP" not in key}
        with self._log.open("wb") as output:
            self._process = subprocess.Popen(
                self._command(
                    *("serve", "--topology", str(self._topology), "--data", str(self._data)),
                    *("--nats-listen", OUTSIDE, "--nats-name", OUTSIDE),
                ),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=plain,
            )
        until(lambda: "collector ready" in self._log.read_text(), "it serves", self._log.read_text)

    def enroll(self, name: str) -> str:
        """A bundle for a host."""
        return self._run("enroll", name, "--data", str(self._data))

    def agent(self) -> dict[str, Any]:
        """What the map says of the machine."""
        rows = json.loads(self._run("agents", "--format", "json"))
        return next((row for row in rows if row["agent"] == "pc-17"), {})

    def flow(self) -> dict[str, Any]:
        """The only flow."""
        (flow,) = json.loads(self._run("flows", "--format", "json"))
        return dict(flow)

    def stop(self) -> None:
        """End it, and with it its NATS server."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(timeout=20)
            self._process = None

    def log(self) -> str:
        return self._log.read_text()[-3000:]

    def _command(self, *arguments: str) -> list[str]:
        target = str(self._network.outside)
        return ["nsenter", "--net", "--target", target, "--", self._program, *arguments]

    def _run(self, *arguments: str) -> str:
        done = subprocess.run(
            self._command(*arguments),
            capture_output=True,
            text=True,
            check=False,
            env=self._environment,
            timeout=60,
        )
        assert done.returncode == 0, f"{arguments}: {done.stdout}{done.stderr}\n{self.log()}"
        return done.stdout


@pytest.fixture(scope="module")
def network(pristine_root: Path, need: Callable[[str, str], None]) -> Iterator[Network]:
    need("systemd-nspawn", "systemd-container")
    need("ip", "iproute2")
    with machine.network() as made:
        yield made


@pytest.fixture(scope="module")
def collector(
    network: Network, package: Find, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Collector]:
    made = Collector(package("collector"), network, tmp_path_factory.mktemp("collector"))
    made.start()
    yield made
    made.stop()


@pytest.fixture(scope="module")
def pc(root: Path, network: Network) -> Iterator[Machine]:
    """The machine, with nothing of ours on it."""
    made = Machine(root, network, root.parent / "console.log")
    yield made
    made.power_off()


def seen(pc: Machine, collector: Collector, state: str = "ok") -> None:
    """Wait until the map has the machine's flow in a state."""
    until(
        lambda: collector.flow()["state"] == state and collector.agent().get("state") == "fresh",
        f"the flow is {state}",
        lambda: f"{collector.flow()}\n{collector.agent()}\n{pc.journal()}\n{collector.log()}",
    )


def test_installing_enables_and_starts_nothing(pc: Machine, package: Find) -> None:
    """An administrator says when; settings and state are the agent's alone."""
    pc.install(package("agent"))
    assert pc.run("systemctl", "is-enabled", "reachmap-agent", check=False).strip() == "disabled"
    assert pc.show("ActiveState") == "inactive"
    mode = pc.run("stat", "--format", "%a %U %G", "/etc/reachmap/agent.toml").strip()
    assert mode == "640 root reachmap-agent"
    assert "reachmap-agent" in pc.run("reachmap-agent", "--version")
    assert pc.run("sh", "-c", "command -v python3 || echo none").strip() == "none"


def test_joined_and_enabled_it_appears_on_the_map(pc: Machine, collector: Collector) -> None:
    """One package, one bundle, one command."""
    told = pc.run("reachmap-agent", "join", "-", text=collector.enroll("pc-17"))
    assert "lets this host in" in told
    assert (
        pc.run("stat", "--format", "%a %U", "/etc/reachmap/agent.creds") == "600 reachmap-agent\n"
    )
    pc.run("systemctl", "enable", "--now", "reachmap-agent")
    assert "reachmap agent" in pc.run("systemctl", "status", "reachmap-agent")
    assert pc.show("ActiveState") == "active"
    seen(pc, collector)
    until(lambda: "1 checks" in pc.show("StatusText"), "its status", lambda: pc.show("StatusText"))
    assert "on the bus" in pc.show("StatusText")
    assert pc.show("User") == "reachmap-agent"


def test_doctor_finds_nothing_wrong(pc: Machine) -> None:
    """As the service's own user, who has no more than the service."""
    told = pc.run(
        "setpriv",
        "--reuid=reachmap-agent",
        "--regid=reachmap-agent",
        "--clear-groups",
        "reachmap-agent",
        "doctor",
        "--json",
        "--state",
        "/var/lib/reachmap-agent",
    )
    assert [one for one in json.loads(told) if one["result"] == "fail"] == []


def test_a_reload_keeps_the_process(pc: Machine, collector: Collector) -> None:
    """`systemctl reload` returns once the settings are in force, and the map goes on."""
    pid = pc.show("MainPID")
    pc.run("systemctl", "reload", "reachmap-agent")
    assert pc.show("ActiveState") == "active"
    assert pc.show("MainPID") == pid
    seen(pc, collector)


def test_a_restart_is_quick_and_clean(pc: Machine, collector: Collector) -> None:
    """It stops in less than its five seconds, by itself."""
    begun = time.monotonic()
    pc.run("systemctl", "stop", "reachmap-agent")
    assert time.monotonic() - begun < 5
    assert pc.show("Result") == "success"
    pc.run("systemctl", "start", "reachmap-agent")
    seen(pc, collector)


def test_killed_it_comes_back(pc: Machine, collector: Collector) -> None:
    """By systemd, which was told to."""
    pid = pc.show("MainPID")
    pc.run("systemctl", "kill", "--signal=KILL", "reachmap-agent")
    until(lambda: pc.show("MainPID") not in ("0", pid), "another process", pc.journal)
    until(lambda: pc.show("ActiveState") == "active", "it is active", pc.journal)
    seen(pc, collector)


def test_an_outage_of_the_bus_ends_nothing(
    pc: Machine, collector: Collector, network: Network
) -> None:
    """Neither a pulled cable nor a collector that goes: the same process is there afterwards."""
    pid = pc.show("MainPID")
    network.unplug()
    until(lambda: "no bus" in pc.show("StatusText"), "it notices", lambda: pc.show("StatusText"))
    network.plug()
    seen(pc, collector)
    collector.stop()
    until(lambda: "no bus" in pc.show("StatusText"), "it notices", lambda: pc.show("StatusText"))
    collector.start()
    seen(pc, collector)
    assert pc.show("MainPID") == pid


def test_it_starts_without_a_bus(pc: Machine, collector: Collector, network: Network) -> None:
    """`systemctl start` does not wait for a network that is not there."""
    network.unplug()
    begun = time.monotonic()
    pc.run("systemctl", "stop", "reachmap-agent")
    assert time.monotonic() - begun < 5
    assert pc.show("Result") == "success"
    pc.run("systemctl", "start", "reachmap-agent")
    assert time.monotonic() - begun < 10
    assert pc.show("ActiveState") == "active"
    network.plug()
    seen(pc, collector)


def test_wrong_settings_are_not_tried_again(pc: Machine, collector: Collector) -> None:
    """Exit code 2 is the end until somebody mends them."""
    settings = pc.root / "etc/reachmap/agent.toml"
    good = settings.read_text()
    settings.write_text(f"{good}\naddresses = 17\n")
    pc.run("systemctl", "restart", "reachmap-agent", check=False)
    until(lambda: pc.show("ActiveState") == "failed", "it failed", pc.journal)
    assert pc.show("ExecMainStatus") == "2"
    assert pc.show("NRestarts") == "0"
    assert "addresses: expected" in pc.journal()
    settings.write_text(good)
    pc.run("systemctl", "restart", "reachmap-agent")
    seen(pc, collector)


def test_the_units_please_systemd_itself(pc: Machine, package: Find) -> None:
    """Nothing that it does not know or misses, and as little exposure as was promised."""
    pc.install(package("collector"))
    units = {"reachmap-agent": 16, "reachmap-collector": 16}
    for name, most in units.items():
        assert pc.run("systemd-analyze", "verify", "--man=no", f"{name}.service") == ""
        threshold = ["--offline=true", f"--threshold={most}"]
        pc.run("systemd-analyze", "security", *threshold, f"/usr/lib/systemd/system/{name}.service")


def test_without_privileges_it_works_too(pc: Machine, collector: Collector) -> None:
    """The drop-in of the examples is taken, needs no other, and exposes even less."""
    pc.run("mkdir", "-p", "/etc/systemd/system/reachmap-agent.service.d")
    example = "/usr/share/doc/reachmap-agent/examples/unprivileged.conf"
    pc.run("cp", example, "/etc/systemd/system/reachmap-agent.service.d/unprivileged.conf")
    pc.run("systemctl", "daemon-reload")
    pc.run("systemctl", "restart", "reachmap-agent")
    seen(pc, collector)
    pc.run("systemd-analyze", "security", "--threshold=12", "reachmap-agent.service")


def test_an_upgrade_goes_on_by_itself(
    pc: Machine, collector: Collector, package: Find, tmp_path: Path
) -> None:
    """The newer program runs, settings and enrolment stay; going back is said and possible."""
    newer = repacked("agent", "99.0", tmp_path)
    pid = pc.show("MainPID")
    before = (pc.root / "etc/reachmap/agent.toml").read_text()
    pc.install(newer)
    assert pc.show("MainPID") not in (pid, "0")
    assert pc.show("ActiveState") == "active"
    assert (pc.root / "etc/reachmap/agent.toml").read_text() == before
    seen(pc, collector)
    refused = pc.install(package("agent"), "--refuse-downgrade", check=False)
    assert "downgrade" in refused
    assert "99.0" in pc.run("dpkg-query", "--show", "reachmap-agent")
    assert "downgrading" in pc.install(package("agent"))
    seen(pc, collector)


def test_purging_leaves_nothing(pc: Machine) -> None:
    """No file, no user, no unit, of either package."""
    pc.run("dpkg", "--purge", "reachmap-agent", "reachmap-collector")
    assert files(pc.root) == set()
    assert "reachmap" not in (pc.root / "etc/passwd").read_text()
    assert "reachmap" not in (pc.root / "etc/group").read_text()
    assert pc.run("systemctl", "list-units", "--all", "--no-legend", "reachmap*") == ""
