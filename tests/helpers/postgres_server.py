"""A PostgreSQL server of the tests' own."""

import contextlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest


class Postgres:
    """On loopback, run as an ordinary user also when the test is root's; in CI it must be there.

    Its user is `tester`, who needs no password where none is given.
    """

    def __init__(self, port: int, address: str = "127.0.0.1", password: str = "") -> None:
        found = sorted(
            Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parts[-2])
        )
        if not found:
            reason = "needs PostgreSQL's server (Debian: postgresql)"
            if os.environ.get("CI") == "true":
                pytest.fail(reason)
            pytest.skip(reason)
        self._bin = found[-1]
        self._user = ["runuser", "-u", "nobody", "--"] if os.geteuid() == 0 else []
        # Not below pytest's own directory, which is closed to other users.
        self._folder = Path(tempfile.mkdtemp(prefix="reachmap-test-postgres-"))
        self.port = port
        try:
            self._make(address, password)
        except BaseException:
            shutil.rmtree(self._folder)
            raise

    def _make(self, address: str, password: str) -> None:
        if self._user:
            shutil.chown(self._folder, "nobody")
        initdb = ["initdb", "--no-sync", "-U", "tester", "-E", "UTF8", "--locale", "C"]
        if password:
            file = self._folder / "password"
            file.write_text(password)
            file.chmod(0o644)
            self._run(*initdb, "-A", "scram-sha-256", "--pwfile", str(file))
        else:
            self._run(*initdb, "-A", "trust")
        with (self._folder / "data" / "postgresql.conf").open("a") as settings:
            settings.write(f"port={self.port}\nlisten_addresses='{address}'\nfsync=off\n")
            settings.write("unix_socket_directories=''\n")

    def _run(self, command: str, *arguments: str) -> None:
        done = subprocess.run(
            [*self._user, str(self._bin / command), "-D", str(self._folder / "data"), *arguments],
            cwd="/",
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr

    def start(self) -> None:
        """Start it, and wait until it answers."""
        self._run("pg_ctl", "-w", "-s", "-l", str(self._folder / "log"), "start")

    def stop(self) -> None:
        """End it as if it had crashed."""
        self._run("pg_ctl", "-w", "-s", "-m", "immediate", "stop")

    def log(self) -> str:
        """What it has said since it was made."""
        return (self._folder / "log").read_text()

    def remove(self) -> None:
        """End it, and leave nothing behind."""
        with contextlib.suppress(AssertionError):  # it was stopped already
            self.stop()
        shutil.rmtree(self._folder)
