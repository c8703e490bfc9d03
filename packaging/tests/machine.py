"""A machine with a systemd of its own, in a network of its own: a root that systemd-nspawn boots."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

PATIENCE_S = 40.0
OUTSIDE, INSIDE = "10.88.0.1", "10.88.0.2"


class Network:
    """Two network namespaces and the cable between; they vanish with the processes that hold them."""

    def __init__(self) -> None:
        self._holders = [self._hold() for _ in range(2)]
        self.outside, self.inside = (holder.pid for holder in self._holders)
        for pid in (self.outside, self.inside):
            until(lambda pid=pid: _namespace(pid) != _namespace("self"), "a namespace is made")
            self.run(pid, "ip", "link", "set", "lo", "up")
        self.run(
            self.outside,
            *("ip", "link", "add", "reachmap0", "type", "veth"),
            *("peer", "name", "host0", "netns", str(self.inside)),
        )
        for pid, name, address in (
            (self.outside, "reachmap0", OUTSIDE),
            (self.inside, "host0", INSIDE),
        ):
            self.run(pid, "ip", "address", "add", f"{address}/24", "dev", name)
            self.run(pid, "ip", "link", "set", name, "up")

    @staticmethod
    def _hold() -> "subprocess.Popen[bytes]":
        return subprocess.Popen(["unshare", "--net", "--", "sleep", "infinity"])

    @staticmethod
    def run(pid: int, *command: str) -> None:
        """Run a command in one of the two."""
        subprocess.run(["nsenter", "--net", "--target", str(pid), "--", *command], check=True)

    def unplug(self) -> None:
        """No packet goes through any more."""
        self.run(self.outside, "ip", "link", "set", "reachmap0", "down")

    def plug(self) -> None:
        """And they do again."""
        self.run(self.outside, "ip", "link", "set", "reachmap0", "up")

    def close(self) -> None:
        """Let go of both."""
        for holder in self._holders:
            holder.kill()
            holder.wait()


class Machine:
    """The root, booted."""

    def __init__(self, root: Path, network: Network, log: Path) -> None:
        self.root = root
        self._log = log
        with log.open("ab") as output:
            self._nspawn = subprocess.Popen(
                [
                    *("systemd-nspawn", "--quiet", "--boot", "--register=no", "--keep-unit"),
                    *("--console=pipe", "--hostname=pc-17", f"--directory={root}"),
                    f"--network-namespace-path=/proc/{network.inside}/ns/net",
                ],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        self._leader = 0
        until(self._is_up, "the machine is up", log.read_text)

    def _is_up(self) -> bool:
        assert self._nspawn.poll() is None, self._log.read_text()
        children = Path(f"/proc/{self._nspawn.pid}/task/{self._nspawn.pid}/children").read_text()
        if not children.split():
            return False
        self._leader = int(children.split()[0])
        return self.run("systemctl", "is-system-running", check=False).strip() in (
            "running",
            "degraded",
        )

    def run(self, *command: str, check: bool = True, text: str | None = None) -> str:
        """Run a command in the machine as root; returns what it printed."""
        try:
            done = subprocess.run(
                ["nsenter", "--all", "--target", str(self._leader), "--", *command],
                input=text or "",
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                check=False,
                timeout=PATIENCE_S,
                env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"},
            )
        except subprocess.TimeoutExpired as error:
            raise AssertionError(f"{command}: {error.stdout!r}\n{self.journal()}") from error
        if check:
            assert done.returncode == 0, f"{command}: {done.stdout}\n{self.journal()}"
        return done.stdout

    def install(self, package: Path, *options: str, check: bool = True) -> str:
        """Give it a package, as an administrator does."""
        shutil.copy(package, self.root / "root")
        return self.run("dpkg", *options, "--install", f"/root/{package.name}", check=check)

    def show(self, name: str, unit: str = "reachmap-agent") -> str:
        """A property of a unit."""
        return self.run("systemctl", "show", "--value", f"--property={name}", unit).strip()

    def journal(self) -> str:
        """What agent and collector logged."""
        with contextlib.suppress(subprocess.SubprocessError):
            return subprocess.run(
                [
                    *("nsenter", "--all", "--target", str(self._leader), "--", "journalctl"),
                    *("--no-pager", "--unit", "reachmap-*", "--lines", "40"),
                ],
                capture_output=True,
                text=True,
                check=False,
                timeout=PATIENCE_S,
            ).stdout
        return ""

    def power_off(self) -> None:
        """Shut it down, and insist."""
        if self._nspawn.poll() is None and self._leader:
            os.kill(self._leader, signal.SIGRTMIN + 4)
        try:
            self._nspawn.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self._nspawn.kill()
            self._nspawn.wait()


def until(condition: Callable[[], object], what: str, more: Callable[[], str] = lambda: "") -> None:
    """Wait until a condition holds."""
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, f"not within {PATIENCE_S:g} s: {what}\n{more()}"
        time.sleep(0.1)


@contextlib.contextmanager
def network() -> Iterator[Network]:
    """A network that goes with the block."""
    made = Network()
    try:
        yield made
    finally:
        made.close()


def files(root: Path) -> set[str]:
    """Every file that has to do with us, wherever packages, units and state may be."""
    found = set()
    for folder in ("etc", "usr", "var", "opt", "run"):
        for path, folders, names in os.walk(root / folder):
            found |= {f"{path}/{name}" for name in (*folders, *names) if "reachmap" in name}
    return {
        path
        for path in found
        # dpkg's log and apt's archives are other programs' memories.
        if "/var/log/" not in path
    }


def repacked(name: str, version: str, into: Path, kind: str = "deb") -> Path:
    """A package again, of another version."""
    top = Path(__file__).parent.parent.parent
    python = top / ".venv-package/bin/python"
    subprocess.run(
        [
            *(str(python), "packaging/build.py", name, "--repack"),
            *("--kind", kind, "--version", version, "--into", str(into)),
        ],
        check=True,
        cwd=top,
        stdout=sys.stderr,
    )
    (made,) = into.glob(f"*.{kind}")
    return made


def _namespace(pid: int | str) -> str:
    return os.readlink(f"/proc/{pid}/ns/net")
