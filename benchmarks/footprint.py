"""What an idle agent costs its host, beside what monitoring systems put there.

All in one run, in a network of its own: the agent as packaged where `make packages` was run, else
from this environment, which has more installed than an agent needs; with one check every 30 s. The
others are Debian's packages, as they come, with nobody who asks them anything.

Memory is RSS, of all processes of a program: what lies in memory of it now, the pages of files that
others may share with it included; PSS beside it counts those by the share. "Of its own" is what no
file holds.
"""

import asyncio
import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path

from common import ADDRESS as LOOPBACK
from common import HERE, figure, in_a_network_of_its_own, left_out

from reachmap_collector import embedded
from reachmap_shared import bus
from reachmap_shared.access import Access

ADDRESS = "10.89.0.1"
PORT, PLAIN_PORT = 4222, 4333
SETTLE_S = 10.0
IDLE_S = 60.0
WITH_TLS = "the agent with TLS and credentials"
WITHOUT = "the agent without"
GOAL_MB = {WITH_TLS: 31.0, WITHOUT: 28.0}
GOAL_CPU = 0.1
GOAL_START_S = 1.5
STARTS = 3
PATIENCE_S = 60.0

PACKAGED = HERE.parent / "build/agent/reachmap-agent/reachmap-agent"
AGENT = [str(PACKAGED)] if PACKAGED.exists() else [sys.executable, "-m", "reachmap_agent"]
COLLECTOR = [sys.executable, "-m", "reachmap_collector"]
_UNPACKED = "" if PACKAGED.exists() else " (not packaged)"

TOPOLOGY = """
checks = {{ interval_s = 30, timeout_s = 3.5 }}
[hosts.pc]
roles = ["client"]
[hosts.map]
roles = ["bus"]
addresses = ["{address}"]
[roles.bus]
listens = {{ "bus:{port}" = {{ protocol = "nats" }} }}
[roles.client]
connects = ["bus:{port}"]
"""

PEERS = (
    ("prometheus-node-exporter", ["--web.listen-address=127.0.0.1:0"]),
    (
        "prometheus-blackbox-exporter",
        ["--web.listen-address=127.0.0.1:0", "--config.file=/etc/prometheus/blackbox.yml"],
    ),
    ("zabbix_agent2", ["--foreground"]),
)

PARTS = (
    ("Python itself", ""),
    ("asyncio and ssl, with OpenSSL", "asyncio, ssl"),
    ("the rest of the standard library", "{rest}"),
    ("msgpack", "msgpack"),
    ("nats-py", "reachmap_shared.client"),
    ("nkeys, PyNaCl and cffi, where it shows who it is", "nkeys"),
    ("reachmap's own modules", "reachmap_agent.cli"),
)
"""What an agent is made of, each imported after those before it."""

_UNCOMPILED = "PYTHONDONTWRITEBYTECODE"

ELSEWHERE = ("msgpack", "nats", "nkeys", "nacl", "_cffi_backend", "reachmap_")


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
    _say(what="load average of this machine", value=f"{os.getloadavg()[0]:.1f}")
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as running:
        folder = Path(name)
        everyone = {
            WITH_TLS: _agent(running, folder / "tls"),
            WITHOUT: _plain_agent(running, folder / "plain"),
        }
        for program, options in PEERS:
            found = shutil.which(program, path=f"{os.environ['PATH']}:/usr/sbin:/usr/bin")
            if found is None:
                _say(left_out=f"{program} is not installed")
            else:
                process = running.enter_context(_program([found, *options], folder / "peer"))
                everyone[program] = process.pid
        time.sleep(SETTLE_S)
        before = {who: _cpu_s(pid) for who, pid in everyone.items()}
        time.sleep(IDLE_S)
        for who, pid in everyone.items():
            if not Path(f"/proc/{pid}/stat").exists():
                _say(left_out=f"{who} does not run here")
                continue
            _tell(who, pid, (_cpu_s(pid) - before[who]) / IDLE_S * 100)
    with tempfile.TemporaryDirectory() as compiled:
        _tell_parts(compiled)


def _tell(who: str, pid: int, share: float) -> None:
    """Say what a program takes, by all of its processes."""
    sizes = Counter[str]()
    for one in _family(pid):
        sizes.update(_memory_kb(one))
    size = sizes["Rss"] / 1024
    goal = GOAL_MB.get(who)
    told = f"RSS {size:.1f} MB"
    _say(
        what=f"memory of {who}",
        value=told,
        goal=f"{goal:g} MB" if goal else "",
        met=goal is None or size <= goal,
    )
    _say(
        what="  PSS; of its own",
        value=f"{sizes['Pss'] / 1024:.1f}; {sizes['Anonymous'] / 1024:.1f} MB",
    )
    _say(
        what=f"processor time of {who}",
        value=f"{share:.2f} %",
        goal=f"{GOAL_CPU:g} %" if goal else "",
        met=share <= GOAL_CPU,
    )


def _tell_parts(compiled: str) -> None:
    """Say what each dependency costs: memory once it is imported, and processor time for that."""
    rest = _rest_of_the_standard_library(compiled)
    program = "import resource, sys; sys.modules['aiohttp'] = None  # no agent has it\n"
    sizes, times = [], []
    imported: list[str] = []
    for _, modules in PARTS:
        imported += [modules.format(rest=rest)] if modules else []
        lines = program + "\n".join(f"import {one}" for one in imported)
        lines += "\nprint(open('/proc/self/smaps_rollup').read())"
        lines += "\nprint('Cpu:', round(1e6 * sum(resource.getrusage(0)[:2])), 'kB')"
        told = [_numbers(_python(lines, compiled)) for _ in range(3)]
        sizes.append(min(one["Rss"] for one in told))
        times.append(min(one["Cpu"] for one in told))
    for number, (what, _) in enumerate(PARTS):
        size = sizes[number] - (sizes[number - 1] if number else 0)
        took = times[number] - (times[number - 1] if number else 0)
        _say(what=f"of it: {what}", value=f"{size / 1024:.1f} MB, {max(took, 0) / 1e3:.0f} ms")


def _rest_of_the_standard_library(compiled: str) -> str:
    """What an agent imports of it, and nothing of which is asyncio's or ssl's own."""
    program = "import sys; sys.modules['aiohttp'] = None; import reachmap_agent.cli"
    program += "; print(*sys.modules)"
    names = [
        name
        for name in _python(program, compiled).split()
        if not name.startswith((*ELSEWHERE, "__", "_distutils_hack", "sitecustomize"))
        and name.partition(".")[0] in sys.stdlib_module_names
    ]
    return ", ".join(names)


def _python(program: str, compiled: str) -> str:
    """Run it as the package is frozen; what it imports is compiled once, by the first."""
    environment = {its: value for its, value in os.environ.items() if its != _UNCOMPILED}
    environment |= {"PYTHONNODEBUGRANGES": "1", "PYTHONPYCACHEPREFIX": compiled}
    done = subprocess.run(
        [sys.executable, "-OO", "-c", program],
        check=True,
        capture_output=True,
        text=True,
        env=environment,
    )
    return done.stdout


def _agent(running: contextlib.ExitStack, folder: Path) -> int:
    """Start a collector, and agents whose first report is waited for; returns the last one's pid.

    The collector's own server speaks TLS beyond loopback, and lets in who was enrolled.
    """
    log = _collector(folder, ADDRESS, PORT)
    data = folder / "data"
    options = ["--nats-port", str(PORT), "--nats-listen", ADDRESS, "--nats-name", ADDRESS]
    running.enter_context(_program([*_serve(folder), *options], log))
    _until(lambda: "collector ready" in log.read_text(), log)
    config, bundle = ["--config", str(folder / "agent.toml")], folder / "bundle"
    enroll = ["enroll", "pc", "--data", str(data), "--output", str(bundle)]
    subprocess.run([*COLLECTOR, *enroll], check=True, capture_output=True)
    subprocess.run([*AGENT, "join", str(bundle), *config], check=True, capture_output=True)
    access = Access(credentials=data / "bus/collector.creds", ca=data / "bus/ca.pem")
    took = []
    with contextlib.ExitStack() as latest:
        for start in range(STARTS):
            latest.close()
            begun = time.time()
            run = [*AGENT, "run", *config, "--state", str(folder / f"state-{start}")]
            own = latest.enter_context(_program(run, folder / "agent"))
            took.append(_first_report(f"tls://{ADDRESS}:{PORT}", access, begun) - begun)
        running.enter_context(latest.pop_all())
    _say(
        what=f"start to first report, {STARTS} starts{_UNPACKED}",
        value=f"{min(took):.2f} to {max(took):.2f} s",
        goal=f"{GOAL_START_S:g} s",
        met=max(took) <= GOAL_START_S,
    )
    return own.pid


def _plain_agent(running: contextlib.ExitStack, folder: Path) -> int:
    """The same on a server that lets everybody in, in the clear."""
    log = _collector(folder, LOOPBACK, PLAIN_PORT)
    server = [
        str(asyncio.run(embedded.find_server())),
        "-a",
        LOOPBACK,
        "-p",
        str(PLAIN_PORT),
        "-js",
    ]
    running.enter_context(_program([*server, "-sd", str(folder / "jetstream")], folder / "server"))
    url = f"nats://{LOOPBACK}:{PLAIN_PORT}"
    running.enter_context(_program([*_serve(folder), "--nats", url], log))
    _until(lambda: "collector ready" in log.read_text(), log)
    run = ["run", "--id", "pc", "--nats", url, "--state", str(folder / "state")]
    begun = time.time()
    own = running.enter_context(_program([*AGENT, *run, "--config", os.devnull], folder / "agent"))
    _first_report(url, Access(), begun)
    return own.pid


def _collector(folder: Path, address: str, port: int) -> Path:
    """Lay out what a collector reads; returns where it will log."""
    folder.mkdir()
    (folder / "topology.toml").write_text(TOPOLOGY.format(address=address, port=port))
    return folder / "collector"


def _serve(folder: Path) -> list[str]:
    paths = ["--topology", str(folder / "topology.toml"), "--data", str(folder / "data")]
    return [*COLLECTOR, "serve", *paths]


def _first_report(url: str, access: Access, begun: float) -> float:
    """When the collector had an observation of the agent's that is younger than its start."""

    async def ask() -> float:
        deadline = time.monotonic() + PATIENCE_S
        async with bus.connected([url], "benchmark", access) as connection:
            while time.monotonic() < deadline:
                (flow,) = (await connection.query("flows", {}))["flows"]
                if flow["checked"] and datetime.fromisoformat(flow["checked"]).timestamp() >= begun:
                    return time.time()
                await asyncio.sleep(0.02)
        sys.exit("no report")

    return asyncio.run(ask())


@contextlib.contextmanager
def _program(command: list[str], log: Path) -> Iterator["subprocess.Popen[bytes]"]:
    with log.open("ab") as output:
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


def _until(condition: Callable[[], bool], log: Path) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        if time.monotonic() > deadline:
            sys.exit(log.read_text())
        time.sleep(0.02)


def _family(pid: int) -> list[int]:
    """A process and all that came of it."""
    children: list[str] = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        children += (task / "children").read_text().split()
    return [pid, *(one for child in children for one in _family(int(child)))]


def _memory_kb(pid: int) -> dict[str, int]:
    return _numbers(Path(f"/proc/{pid}/smaps_rollup").read_text())


def _numbers(text: str) -> dict[str, int]:
    return {name: int(number) for name, number in re.findall(r"(?m)^(\w+):\s+(\d+) kB", text)}


def _cpu_s(pid: int) -> float:
    """By all of its processes, by the scheduler's own clock: a tick is too coarse for idleness."""
    total = 0
    for one in _family(pid):
        for task in Path(f"/proc/{one}/task").iterdir():
            total += int((task / "schedstat").read_text().split()[0])
    return total / 1e9


def _say(**row: object) -> None:
    print(json.dumps(row), flush=True)


if __name__ == "__main__":
    inside()
