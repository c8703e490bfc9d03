"""Runs the lab in a process of its own, and says why where it cannot.

In CI (CI=true) it must: there, what is missing is a failure.
"""

import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import pytest

LAB = Path(__file__).with_name("lab.py")
PATIENCE_S = 60

Seen = dict[tuple[str, str], dict[str, Any]]
"""What a check saw, by its row's name and its family."""

TABLE = pytest.StashKey[list[tuple[str, str, str, str]]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--table", action="store_true", help="print what the lab's checks saw")
    parser.addoption("--matrix", metavar="FILE", help="run the whole fault matrix, and write it")


def pytest_configure(config: pytest.Config) -> None:
    config.stash[TABLE] = []


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    if not config.getoption("--table", default=False) or not config.stash.get(TABLE, []):
        return
    terminalreporter.section("the lab")
    rows = [("row", "expected", "seen", "evidence"), *config.stash[TABLE]]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    for row in rows:
        start = "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=False))
        terminalreporter.write_line(f"{start}  {row[3]}")


class Laboratory:
    """The lab as a program, started under the least that lets it make namespaces."""

    def __init__(self) -> None:
        self._command = self._enter()
        self._running: list[subprocess.Popen[str]] = []

    def _enter(self) -> list[str]:
        if sys.platform != "linux":
            _give_up(f"network namespaces are Linux's, and this is {platform.system()}")
        path = f"{os.environ['PATH']}:/usr/sbin:/sbin"
        programs = {"ip": "iproute2", "nft": "nftables", "unshare": "util-linux"}
        missing = [
            package for name, package in programs.items() if not shutil.which(name, path=path)
        ]
        if missing:
            _give_up(f"the lab needs {', '.join(missing)}; on Debian: apt install them")
        if not Path("/proc/sys/net/ipv6").exists():
            _give_up("the lab needs a kernel with IPv6")
        # An ordinary user needs a user namespace first; root in a container may lack either right.
        command = ["unshare", "-n"]
        if os.geteuid() != 0 or _complaint(command):
            command = ["unshare", "-Urn"]
        if complaint := _complaint(command):
            _give_up(f"no network namespace can be made here: {complaint}")
        return [*command, sys.executable]

    def start(self, program: Path = LAB) -> subprocess.Popen[str]:
        """Start the lab, or another program in it; it waits for its rows."""
        process = subprocess.Popen(
            [*self._command, str(program)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            # As the tests themselves find what is tested, wherever it is.
            env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
        )
        self._running.append(process)
        return process

    def run(self, rows: list[dict[str, Any]], program: Path = LAB) -> Seen:
        """Set up and check all rows at once."""
        results = self.collect(rows, program, PATIENCE_S)
        return {(result["name"], result["family"]): result for result in results}

    def collect(
        self, rows: list[dict[str, Any]], program: Path, patience_s: float
    ) -> list[dict[str, Any]]:
        """Have a program look into all rows, and return what it tells of each."""
        process = self.start(program)
        output, errors = process.communicate(json.dumps(rows), timeout=patience_s)
        if errors.startswith("impossible: "):
            _give_up(errors.strip())
        assert process.returncode == 0, errors
        results: list[dict[str, Any]] = json.loads(output.splitlines()[-1])
        return results

    def end(self) -> None:
        """Away with what still runs."""
        for process in self._running:
            process.kill()
            with process:  # and its pipes
                pass


def _complaint(command: list[str]) -> str:
    """What is wrong with running a program in this way; empty when nothing is."""
    tried = subprocess.run([*command, "true"], capture_output=True, text=True, check=False)
    return tried.stderr.strip() or "it fails" if tried.returncode else ""


def _give_up(reason: str) -> NoReturn:
    if os.environ.get("CI") == "true":
        pytest.fail(f"in CI the lab must run: {reason}", pytrace=False)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def laboratory() -> Iterator[Laboratory]:
    """The lab, or the reason why there is none."""
    made = Laboratory()
    yield made
    made.end()


@pytest.fixture
def record(request: pytest.FixtureRequest) -> Callable[..., None]:
    """Puts a row into the table that `make lab` prints."""

    def add(row: str, expected: str, seen: str, evidence: str) -> None:
        request.config.stash[TABLE].append((row, expected, seen, evidence))

    return add


def processes_in(namespaces: list[int]) -> list[str]:
    """The processes that live in any of these network namespaces."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if (folder / "ns/net").stat().st_ino in namespaces:
                found.append(folder.name)
        except OSError:
            continue
    return found


@pytest.fixture
def none_left() -> Callable[[list[int]], None]:
    """Waits until no process is in these namespaces, and fails when one stays."""

    def wait(namespaces: list[int]) -> None:
        deadline = time.monotonic() + 5
        while (left := processes_in(namespaces)) and time.monotonic() < deadline:
            time.sleep(0.02)
        assert left == []

    return wait


@pytest.fixture
def kill_hard() -> Callable[[subprocess.Popen[str]], None]:
    """Ends a process without giving it any chance to clean up."""

    def kill(process: subprocess.Popen[str]) -> None:
        process.send_signal(signal.SIGKILL)
        process.wait()

    return kill
