"""The agent as a service: what systemd hears, and what a hangup does, to a real process."""

import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

PATIENCE_S = 20.0

if not hasattr(socket, "AF_UNIX") or not hasattr(signal, "SIGHUP"):
    pytest.skip("a service of this kind is a Unix thing", allow_module_level=True)


class Service:
    """An agent that was started as systemd starts it, with its socket's other end."""

    def __init__(self, folder: Path, port: int) -> None:
        self.settings = folder / "agent.toml"
        self._url = f"nats://127.0.0.1:{port}"  # where nobody is
        self.configure()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(folder / "notify"))
        self.heard: list[str] = []
        self._output = folder / "output"
        with self._output.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "reachmap_agent", "run", "--config", str(self.settings)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={
                    **{key: its for key, its in os.environ.items() if "REACHMAP_" not in key},
                    "NOTIFY_SOCKET": str(folder / "notify"),
                    "WATCHDOG_USEC": "600000",
                    "REACHMAP_STATE": str(folder / "state"),
                },
            )

    def configure(self, text: str = 'id = "pc-17"') -> None:
        """Write its settings."""
        self.settings.write_text(f'nats = "{self._url}"\n{text}\n')

    def until(self, word: str) -> str:
        """Wait until systemd would have heard a line with a word, and take all up to it."""
        deadline = time.monotonic() + PATIENCE_S
        while True:
            for number, line in enumerate(self.heard):
                if word in line:
                    del self.heard[: number + 1]
                    return line
            left = deadline - time.monotonic()
            if not select.select([self._socket], [], [], max(left, 0))[0]:
                pytest.fail(f"never heard {word}: {self.heard}\n{self.output()}")
            self.heard += self._socket.recv(4096).decode().split("\n")

    def output(self) -> str:
        return self._output.read_text()

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        self._socket.close()


@pytest.fixture
def service(tmp_path: Path, port: int) -> Iterator[Service]:
    """An agent that is ready, on no bus."""
    made = Service(tmp_path, port)
    yield made
    made.close()


def test_it_is_ready_without_a_bus_lives_on_and_stops_in_time(service: Service) -> None:
    """An outage of the bus must not look like a service that fails to start."""
    service.until("STATUS=waits for a plan; no bus")
    service.until("READY=1")
    service.until("WATCHDOG=1")
    service.until("WATCHDOG=1")
    begun = time.monotonic()
    service.process.terminate()
    service.until("STOPPING=1")
    assert service.process.wait(timeout=PATIENCE_S) == 0
    assert time.monotonic() - begun < 5


def test_a_hangup_makes_it_begin_anew_by_other_settings(service: Service) -> None:
    """In the same process: what counted for systemd, its pid and its start, stays."""
    service.until("READY=1")
    service.configure('id = "pc-18"')
    service.process.send_signal(signal.SIGHUP)
    service.until("RELOADING=1")
    service.until("READY=1")
    assert '"id": "pc-18"' in service.output()
    assert service.process.poll() is None


def test_a_hangup_without_news_disturbs_nobody(service: Service) -> None:
    """The agent goes on as it was."""
    service.until("READY=1")
    service.process.send_signal(signal.SIGHUP)
    service.until("RELOADING=1")
    service.until("READY=1")
    assert service.output().count("agent starting") == 1
    assert "agent stopped" not in service.output()


def test_wrong_settings_are_refused_and_said(service: Service) -> None:
    """A mistake in the file stops nothing that works, and `systemctl status` shows it."""
    service.until("READY=1")
    service.configure("id = 17")
    service.process.send_signal(signal.SIGHUP)
    service.until("RELOADING=1")
    status = service.until("STATUS=")
    assert "new settings refused" in status
    assert f"{service.settings}: id: expected a string" in status
    service.until("READY=1")
    assert service.process.poll() is None
    service.configure()
    service.process.send_signal(signal.SIGHUP)
    assert "refused" not in service.until("STATUS=")


def test_wrong_settings_at_the_start_are_exit_code_2(tmp_path: Path, port: int) -> None:
    """systemd does not try again: its unit says so."""
    (tmp_path / "agent.toml").write_text("id = 17\n")
    done = subprocess.run(
        [sys.executable, "-m", "reachmap_agent", "run", "--config", str(tmp_path / "agent.toml")],
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE_S,
    )
    assert done.returncode == 2
    assert "id: expected a string" in done.stderr
    assert "Traceback" not in done.stderr
