"""What the benchmarks share: programs, cores, ports, namespaces, and how a figure is printed."""

import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path

HERE = Path(__file__).parent
ADDRESS = "127.0.0.1"


def figure(what: str, value: str, goal: str = "", met: bool = True) -> None:
    """Print one line: what was measured, the goal beside it, and whether it is met."""
    verdict = f"goal {goal}: {'met' if met else 'NOT MET'}" if goal else ""
    print(f"  {what:48} {value:>14}   {verdict}".rstrip())


def left_out(why: str) -> None:
    """Say that something cannot be measured here."""
    print(f"  left out: {why}")


@cache
def _folder() -> "tempfile.TemporaryDirectory[str]":
    return tempfile.TemporaryDirectory()


@cache
def build(name: str) -> str:
    """Compile one of the C programs, once."""
    target = str(Path(_folder().name) / name)
    subprocess.run(["cc", "-O2", "-o", target, str(HERE / f"{name}.c")], check=True)
    return target


@contextmanager
def accepting(how: str = "") -> Iterator[int]:
    """The C accept loop on a port of every address, on the second core; which port."""
    for _ in range(5):  # a port that is free now may be taken in a moment
        port = free_port()
        command = on_core(1, [build("accept"), "0.0.0.0", str(port), *([how] if how else [])])
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as server:
            assert server.stdout is not None
            if server.stdout.readline():
                try:
                    yield port
                finally:
                    server.kill()
                return
    sys.exit("the accept loop finds no port")


def in_a_network_of_its_own(program: str, arguments: Sequence[str] = ()) -> str | None:
    """Run one of our programs in a fresh network namespace; what it printed, None if impossible.

    Root there is whoever runs this; nothing outside the namespace can be touched or is.
    """
    unshare = ["unshare", "--net", "--"] if os.geteuid() == 0 else ["unshare", "-r", "--net", "--"]
    if subprocess.run([*unshare, "true"], capture_output=True, check=False).returncode:
        return None
    command = [*unshare, sys.executable, *python_flags(), str(HERE / program), *arguments]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return done.stdout


def python_flags() -> list[str]:
    """A child imports what its parent did: neither looks into the folder that it is started in."""
    return ["-P"] if sys.flags.safe_path else []


def on_core(number: int, command: list[str]) -> list[str]:
    """A command pinned to one core, where the machine has as many and taskset."""
    if shutil.which("taskset") and (os.cpu_count() or 1) > number:
        return ["taskset", "-c", str(number), *command]
    return command


def stay_on_core(number: int) -> None:
    """Pin this process to one core, where the machine has as many."""
    if hasattr(os, "sched_setaffinity") and number in os.sched_getaffinity(0):
        os.sched_setaffinity(0, {number})


def free_port() -> int:
    """A port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind((ADDRESS, 0))
        port: int = probe.getsockname()[1]
        return port


def percentile(values: Sequence[float], part: float) -> float:
    """The value that so many hundredths of all are not above."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * part / 100))]
