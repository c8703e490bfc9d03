"""Connect checks a second on one core: the engine, C epoll loops, nmap and blackbox_exporter.

A second is one of CPU time, the kernel's work for the contestant included, so that it does not
matter who else is at work on the machine. Rounds alternate between the contestants, and medians are
compared. Client and server have a core each where there are two. Peers that are not installed are
left out, and said so (Debian: nmap, prometheus-blackbox-exporter).

Work always waits, as in an agent at full load. That is when the engine hands a socket on from check
to check; the C loops make a new one for each.
"""

import resource
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

from common import (
    ADDRESS,
    HERE,
    accepting,
    build,
    figure,
    free_port,
    left_out,
    on_core,
    python_flags,
)

ROUNDS = 7
COUNT = 40_000
IN_FLIGHT = 64

OURS, FLOOR = "reachmap's engine", "C epoll loop"
EVIDENCE, NMAP, BLACKBOX = "C epoll loop, same evidence", "nmap -sT", "blackbox_exporter"

GOALS = {
    "open": {FLOOR: 0.85, NMAP: 0.9, BLACKBOX: 8.0},
    "closed": {FLOOR: 0.78, NMAP: 0.9, BLACKBOX: 8.0},
}
"""The engine's rate as a multiple of theirs. One without a goal says where the rest goes."""


def main() -> None:
    """To an open port and to a closed one."""
    for state in ("open", "closed"):
        print(f"\nconnect checks a second of CPU, {state} port")
        with ExitStack() as stack:
            is_open = state == "open"
            port = stack.enter_context(accepting("spin")) if is_open else free_port()
            contestants = _contestants(port, is_open, stack)
            _compare(contestants, GOALS[state])


def _contestants(port: int, is_open: bool, stack: ExitStack) -> dict[str, Callable[[], float]]:
    arguments = [ADDRESS, str(port), str(COUNT), str(IN_FLIGHT)]
    engine = [sys.executable, *python_flags(), str(HERE / "engine.py")]
    found = {
        FLOOR: lambda: _rate([build("connect"), *arguments], is_open),
        EVIDENCE: lambda: _rate([build("connect"), *arguments, "evidence"], is_open),
        OURS: lambda: _rate([*engine, *arguments], is_open),
    }
    if shutil.which("nmap"):
        found[NMAP] = lambda: _nmap_rate(port)
    else:
        left_out("nmap is not installed")
    blackbox = shutil.which("prometheus-blackbox-exporter") or shutil.which("blackbox_exporter")
    if blackbox:
        url, process = stack.enter_context(_exporter(blackbox))
        found[BLACKBOX] = lambda: _blackbox_rate(url, process, port)
    else:
        left_out("prometheus-blackbox-exporter is not installed")
    return found


def _compare(contestants: dict[str, Callable[[], float]], goals: dict[str, float]) -> None:
    results: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(ROUNDS):
        for name, run in contestants.items():
            results[name].append(run())
    for name, rates in results.items():
        spread = f"({min(rates):,.0f} to {max(rates):,.0f})"
        figure(f"{name} {spread}", f"{statistics.median(rates):,.0f}/s")
    for name, rates in results.items():
        if name != OURS:
            ratio = statistics.median(results[OURS]) / statistics.median(rates)
            goal = goals.get(name)
            wanted = "" if goal is None else f"{goal:g} or more"
            figure(f"reachmap / {name}", f"{ratio:.2f}", wanted, goal is None or ratio >= goal)


def _rate(command: list[str], is_open: bool) -> float:
    """By what one of our programs printed; all its checks must have found what is true."""
    done = subprocess.run(on_core(0, command), capture_output=True, text=True, check=True)
    _, each_us, opened = done.stdout.split()
    if int(opened) != COUNT * is_open:
        sys.exit(f"{command[0]} found {opened} of {COUNT} open, where the port is open: {is_open}")
    return 1e6 / float(each_us)


def _nmap_rate(port: int) -> float:
    """Nmap's connect scan of a whole /20 of loopback, each address once: 4,096 connections."""
    command = ["nmap", "-sT", "-n", "-Pn", "-T5", "--min-rate", "100000", "--max-retries", "0"]
    command += ["-oG", "-", "-p", str(port)]
    many, one = (_work(on_core(0, [*command, where])) for where in ("127.88.0.0/20", "127.88.0.1"))
    return 4096 / max(1e-3, many - one)


def _work(command: list[str]) -> float:
    """Run a program; the seconds of CPU that it took."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, capture_output=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def _blackbox_rate(url: str, process: int, port: int) -> float:
    """Probes through blackbox_exporter's own HTTP interface, several at once."""
    probes = 400
    target = f"{url}/probe?module=tcp_connect&target={ADDRESS}:{port}"

    def probe(_number: int) -> None:
        with urllib.request.urlopen(target) as answer:
            answer.read()

    with ThreadPoolExecutor(16) as pool:
        before = _worked(process)
        list(pool.map(probe, range(probes)))
        return probes / (_worked(process) - before)


def _worked(process: int) -> float:
    """The seconds of CPU that a process has taken so far, all its threads together."""
    threads = Path(f"/proc/{process}/task").glob("*/schedstat")
    return sum(int(thread.read_text().split()[0]) for thread in threads) / 1e9


@contextmanager
def _exporter(binary: str) -> Iterator[tuple[str, int]]:
    """A blackbox_exporter of our own on a free port, on the core that the engine has too."""
    port = free_port()
    with tempfile.NamedTemporaryFile("w", suffix=".yml") as config:
        config.write("modules: {tcp_connect: {prober: tcp, timeout: 3s}}\n")
        config.flush()
        command = [binary, f"--web.listen-address=127.0.0.1:{port}", f"--config.file={config.name}"]
        with subprocess.Popen(on_core(0, command), stderr=subprocess.DEVNULL) as process:
            try:
                while True:
                    try:
                        socket.create_connection((ADDRESS, port)).close()
                        break
                    except OSError:
                        time.sleep(0.05)
                yield f"http://127.0.0.1:{port}", process.pid
            finally:
                process.kill()
