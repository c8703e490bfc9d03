"""`make bench`: how much reachmap costs, as ratios to a floor or a peer in the same run.

Absolute numbers belong to the machine; the ratios are what to look at. Client and server have a
core each where there are two, rounds alternate between the contestants, and medians are printed.
Peers that are not installed are left out, and said so (Debian: nmap, prometheus-blackbox-exporter).
"""

import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

HERE = Path(__file__).parent
ROUNDS = 5
COUNT = 60_000
IN_FLIGHT = 64
ADDRESS = "127.0.0.1"


def main() -> None:
    """Measure everything and print it."""
    with tempfile.TemporaryDirectory() as folder:
        built = {name: build(name, Path(folder)) for name in ("connect", "accept")}
        connect_rate(built)


def build(name: str, folder: Path) -> str:
    """Compile one of the C programs."""
    target = str(folder / name)
    subprocess.run(["cc", "-O2", "-o", target, str(HERE / f"{name}.c")], check=True)
    return target


def connect_rate(built: dict[str, str]) -> None:
    """Connect checks a second on one core, to an open port and to a closed one."""
    engine = [sys.executable, str(HERE / "engine.py")]
    for title, is_open in (("open port", True), ("closed port", False)):
        port = free_port()
        arguments = [ADDRESS, str(port), str(COUNT), str(IN_FLIGHT)]
        contestants: dict[str, Callable[[], float]] = {
            "C epoll loop": lambda a=arguments: rate([built["connect"], *a]),
            "reachmap's engine": lambda a=arguments: rate([*engine, *a]),
        }
        if shutil.which("nmap"):
            contestants["nmap -sT"] = lambda p=port: nmap_rate(p)
        else:
            print("nmap is not installed: left out")
        blackbox = shutil.which("prometheus-blackbox-exporter") or shutil.which("blackbox_exporter")
        with serving(built["accept"], port, wanted=is_open):
            if blackbox:
                with exporter(blackbox) as url:
                    contestants["blackbox_exporter"] = lambda p=port, u=url: blackbox_rate(u, p)
                    compare(f"connect checks a second, {title}", contestants)
            else:
                print("prometheus-blackbox-exporter is not installed: left out")
                compare(f"connect checks a second, {title}", contestants)


def compare(title: str, contestants: dict[str, Callable[[], float]]) -> None:
    """Run the contestants in turn, several times; print medians, and the engine's ratio to each."""
    results: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(ROUNDS):
        for name, run in contestants.items():
            results[name].append(run())
    medians = {name: statistics.median(rates) for name, rates in results.items()}
    ours = medians["reachmap's engine"]
    print(f"\n{title}")
    for name, median in medians.items():
        spread = f"{min(results[name]):,.0f} to {max(results[name]):,.0f}"
        print(f"  {name:20} {median:>10,.0f}   ({spread})   reachmap / this: {ours / median:.2f}")


def rate(command: list[str]) -> float:
    """What one of our programs printed first."""
    done = subprocess.run(on_core(0, command), capture_output=True, text=True, check=True)
    return float(done.stdout.split()[0])


def nmap_rate(port: int) -> float:
    """Nmap's connect scan of a whole /20 of loopback, each address once: 4,096 connections."""
    command = ["nmap", "-sT", "-n", "-Pn", "-T5", "--min-rate", "100000", "--max-retries", "0"]
    command += ["-p", str(port), "127.88.0.0/20", "-oG", "-"]
    began = time.perf_counter()
    subprocess.run(on_core(0, command), capture_output=True, check=True)
    scan = time.perf_counter() - began
    began = time.perf_counter()
    subprocess.run(
        on_core(0, [*command[:-3], "127.88.0.1", "-oG", "-"]), capture_output=True, check=True
    )
    return 4096 / max(1e-3, scan - (time.perf_counter() - began))


def blackbox_rate(url: str, port: int) -> float:
    """Probes through blackbox_exporter's own HTTP interface, several at once."""
    probes = 400
    target = f"{url}/probe?module=tcp_connect&target={ADDRESS}:{port}"

    def probe(_number: int) -> None:
        with urllib.request.urlopen(target) as answer:
            answer.read()

    with ThreadPoolExecutor(16) as pool:
        began = time.perf_counter()
        list(pool.map(probe, range(probes)))
        return probes / (time.perf_counter() - began)


@contextmanager
def serving(program: str, port: int, *, wanted: bool):
    """The C accept loop on a port, if wanted; nothing there otherwise."""
    if not wanted:
        yield
        return
    command = on_core(1, [program, "0.0.0.0", str(port)])
    with subprocess.Popen(command, stdout=subprocess.PIPE) as server:
        assert server.stdout is not None
        server.stdout.readline()
        try:
            yield
        finally:
            server.kill()


@contextmanager
def exporter(binary: str):
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
                yield f"http://127.0.0.1:{port}"
            finally:
                process.kill()


def on_core(number: int, command: list[str]) -> list[str]:
    """A command pinned to one core, where the machine has as many and taskset."""
    if shutil.which("taskset") and (os.cpu_count() or 1) > number:
        return ["taskset", "-c", str(number), *command]
    return command


def free_port() -> int:
    """A port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind((ADDRESS, 0))
        port: int = probe.getsockname()[1]
        return port


if __name__ == "__main__":
    main()
