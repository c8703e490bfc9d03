"""What an idle agent costs its host, beside what monitoring systems put there.

All in one run, in a network of its own: the agent as packaged where `make packages` was run, else
from this environment; on a bus with TLS and credentials, with one check every 30 s. The others are
Debian's packages, as they come, with nobody who asks them anything.
"""

import asyncio
import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from common import HERE, figure, in_a_network_of_its_own, left_out

from reachmap_shared import bus
from reachmap_shared.access import Access

ADDRESS = "10.89.0.1"
SETTLE_S = 10.0
IDLE_S = 30.0
GOAL_MB = 31.0
GOAL_CPU = 0.1
GOAL_START_S = 1.5
PATIENCE_S = 30.0

TOPOLOGY = f"""
checks = {{ interval_s = 30, timeout_s = 3.5 }}
[hosts.pc]
roles = ["client"]
[hosts.map]
roles = ["bus"]
addresses = ["{ADDRESS}"]
[roles.bus]
listens = {{ "bus:4222" = {{ protocol = "nats" }} }}
[roles.client]
connects = ["bus:4222"]
"""

PEERS = (
    ("prometheus-node-exporter", ["--web.listen-address=127.0.0.1:0"]),
    (
        "prometheus-blackbox-exporter",
        ["--web.listen-address=127.0.0.1:0", "--config.file=/etc/prometheus/blackbox.yml"],
    ),
    ("zabbix_agent2", ["--foreground"]),
)


def main() -> None:
    """Measure in a network of its own, and print."""
    print("\nfootprint of an idle agent")
    printed = in_a_network_of_its_own("footprint.py") if os.geteuid() == 0 else None
    if printed is None:
        left_out("it needs root, and a network namespace")
        return
    for line in printed.splitlines():
        row = json.loads(line)
        if "left_out" in row:
            left_out(row["left_out"])
        else:
            figure(row["what"], row["value"], row.get("goal", ""), row.get("met", True))


def inside() -> None:
    """Run the programs, and print a JSON object a line."""
    for command in (["link", "set", "lo", "up"], ["address", "add", f"{ADDRESS}/32", "dev", "lo"]):
        subprocess.run(["ip", *command], check=True)
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as running:
        folder = Path(name)
        agent = _agent(running, folder)
        peers = {}
        for program, options in PEERS:
            found = shutil.which(program, path=f"{os.environ['PATH']}:/usr/sbin:/usr/bin")
            if found is None:
                _say(left_out=f"{program} is not installed")
            else:
                peers[program] = running.enter_context(_program([found, *options], folder)).pid
        time.sleep(SETTLE_S)
        everyone = {"the agent": agent, **peers}
        before = {who: _cpu_s(pid) for who, pid in everyone.items()}
        time.sleep(IDLE_S)
        for who, pid in everyone.items():
            if not Path(f"/proc/{pid}/stat").exists():
                _say(left_out=f"{who} does not run here")
                continue
            size = _memory_mb(pid)
            share = (_cpu_s(pid) - before[who]) / IDLE_S * 100
            own = who == "the agent"
            _say(
                what=f"memory of {who}",
                value=f"{size:.1f} MB",
                goal=f"{GOAL_MB:g} MB" if own else "",
                met=size <= GOAL_MB,
            )
            _say(
                what=f"processor time of {who}",
                value=f"{share:.2f} %",
                goal=f"{GOAL_CPU:g} %" if own else "",
                met=share <= GOAL_CPU,
            )


def _agent(running: contextlib.ExitStack, folder: Path) -> int:
    """Start a collector, and an agent whose first report is waited for; returns the agent's pid."""
    (folder / "topology.toml").write_text(TOPOLOGY)
    data = folder / "data"
    serve = ["serve", "--topology", str(folder / "topology.toml"), "--data", str(data)]
    serve += ["--nats-listen", ADDRESS, "--nats-name", ADDRESS]
    collector = [sys.executable, "-m", "reachmap_collector"]
    running.enter_context(_program([*collector, *serve], folder, "collector"))
    _until(lambda: "collector ready" in (folder / "collector").read_text(), folder)
    bundle = folder / "bundle"
    enroll = ["enroll", "pc", "--data", str(data), "--output", str(bundle)]
    subprocess.run([*collector, *enroll], check=True, capture_output=True)
    packaged = HERE.parent / "build/agent/reachmap-agent/reachmap-agent"
    agent = [str(packaged)] if packaged.exists() else [sys.executable, "-m", "reachmap_agent"]
    config = ["--config", str(folder / "agent.toml")]
    subprocess.run([*agent, "join", str(bundle), *config], check=True, capture_output=True)
    begun = time.time()
    own = running.enter_context(
        _program([*agent, "run", *config, "--state", str(folder / "state")], folder, "agent")
    )
    seen = _first_report(data, folder)
    _say(
        what=f"start to first report{'' if packaged.exists() else ' (not packaged)'}",
        value=f"{seen - begun:.2f} s",
        goal=f"{GOAL_START_S:g} s",
        met=seen - begun <= GOAL_START_S,
    )
    return own.pid


def _first_report(data: Path, folder: Path) -> float:
    """When the collector had the agent's first observation: asked again and again."""
    access = Access(credentials=data / "bus/collector.creds", ca=data / "bus/ca.pem")

    async def ask() -> float:
        deadline = time.monotonic() + PATIENCE_S
        async with bus.connected([f"tls://{ADDRESS}:4222"], "benchmark", access) as connection:
            while time.monotonic() < deadline:
                (flow,) = (await connection.query("flows", {}))["flows"]
                if flow["checked"]:
                    return time.time()
                await asyncio.sleep(0.02)
        sys.exit(f"no report: {(folder / 'agent').read_text()}")

    return asyncio.run(ask())


@contextlib.contextmanager
def _program(
    command: list[str], folder: Path, log: str = "peer"
) -> Iterator["subprocess.Popen[bytes]"]:
    with (folder / log).open("ab") as output:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _until(condition: Callable[[], bool], folder: Path) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        if time.monotonic() > deadline:
            sys.exit((folder / "collector").read_text())
        time.sleep(0.02)


def _memory_mb(pid: int) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    return 0.0


def _cpu_s(pid: int) -> float:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _say(**row: object) -> None:
    print(json.dumps(row), flush=True)


if __name__ == "__main__":
    inside()
