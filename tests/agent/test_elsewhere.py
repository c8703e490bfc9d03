"""Who listens on which port, as psutil has it: of a fake that has its shape, and the real one."""

import os
import socket
import subprocess
import sys
from collections import namedtuple
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from reachmap_agent import elsewhere
from reachmap_agent.sockdiag import Listening
from reachmap_shared.vocabulary import Transport

TCP, UDP = Transport.TCP, Transport.UDP
Address = namedtuple("Address", "ip port")


@dataclass(frozen=True)
class Connection:
    """As psutil's sconn and pconn, of which only the first has a process."""

    laddr: Any
    raddr: Any = ()
    status: str = "LISTEN"
    pid: int | None = None


@dataclass
class FakeProcess:
    """One that tells its name and connections, or does not."""

    fake: "FakePsutil"
    pid: int

    def name(self) -> str:
        if self.pid not in self.fake.names:
            raise FakePsutil.NoSuchProcess
        if not (name := self.fake.names[self.pid]):
            raise FakePsutil.AccessDenied
        return name

    def net_connections(self, kind: str) -> list[Connection]:
        self.name()
        return [one for one in self.fake.connections[kind] if one.pid == self.pid]


@dataclass
class FakePsutil:
    """What the agent uses of psutil, by the same names."""

    class Error(Exception):
        pass

    class AccessDenied(Error):
        pass

    class NoSuchProcess(Error):
        pass

    CONN_LISTEN = "LISTEN"
    CONN_NONE = "NONE"

    connections: dict[str, list[Connection]] = field(default_factory=lambda: {"tcp": [], "udp": []})
    names: dict[int, str] = field(default_factory=dict)
    """By pid; an empty one is not told."""
    tells_all: bool = True

    def net_connections(self, kind: str) -> list[Connection]:
        if not self.tells_all:
            raise self.AccessDenied
        return self.connections[kind]

    def process_iter(self) -> Iterator[FakeProcess]:
        return (FakeProcess(self, pid) for pid in self.names)

    def Process(self, pid: int) -> FakeProcess:  # noqa: N802  psutil's name for it
        return FakeProcess(self, pid)


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakePsutil:
    made = FakePsutil()
    monkeypatch.setitem(sys.modules, "psutil", made)  # type: ignore[arg-type]  # no module, but like it
    return made


def listening(address: str, port: int, pid: int | None) -> Listening:
    return Listening(address, port, ":" in address, None, 0, None, pid)


def test_who_listens_and_who_does_not(fake: FakePsutil) -> None:
    """Connections, connected datagram sockets, unbound ones and our own are no listeners."""
    fake.connections["tcp"] = [
        Connection(Address("0.0.0.0", 80), pid=5),
        Connection(Address("::", 81), pid=6),
        Connection(Address("fe80::1%eth0", 82), pid=None),
        Connection(Address("10.0.0.1", 80), Address("10.0.0.2", 5000), "ESTABLISHED", 5),
        Connection(Address("10.0.0.1", 83), (), "TIME_WAIT", None),
        Connection(Address("0.0.0.0", 84), pid=os.getpid()),
    ]
    fake.connections["udp"] = [
        Connection(Address("0.0.0.0", 53), (), "NONE", 7),
        Connection(Address("10.0.0.1", 54), Address("10.0.0.2", 53), "NONE", 7),
        Connection((), (), "NONE", 7),
    ]
    assert elsewhere.listening(TCP) == [
        listening("0.0.0.0", 80, 5),
        listening("::", 81, 6),
        listening("fe80::1", 82, None),
    ]
    assert elsewhere.listening(UDP) == [listening("0.0.0.0", 53, 7)]


def test_where_others_are_not_told_of_one_s_own_are(fake: FakePsutil) -> None:
    """As macOS has it for all but root."""
    fake.tells_all = False
    fake.names = {4: "", 5: "mine", 6: "also-mine", os.getpid(): "agent"}
    fake.connections["tcp"] = [
        Connection(Address("0.0.0.0", 80), pid=4),
        Connection(Address("0.0.0.0", 81), pid=6),
        Connection(Address("0.0.0.0", 82), pid=os.getpid()),
    ]
    assert elsewhere.listening(TCP) is None
    assert elsewhere.of_own_user(TCP, 80) is None
    assert elsewhere.of_own_user(TCP, 81) == listening("0.0.0.0", 81, 6)
    assert elsewhere.of_own_user(TCP, 82) is None


def test_a_process_that_has_gone_or_is_closed_has_no_name(fake: FakePsutil) -> None:
    """It is no reason to fail."""
    fake.names = {4: "", 5: "mine"}
    assert [elsewhere.process_name(pid) for pid in (3, 4, 5)] == ["", "", "mine"]


def test_without_psutil_nothing_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """The agent goes on by what it finds out by itself."""
    monkeypatch.setitem(sys.modules, "psutil", None)
    assert elsewhere.listening(TCP) is None
    assert elsewhere.of_own_user(TCP, 80) is None
    assert elsewhere.process_name(1) == ""


@pytest.mark.parametrize(
    ("transport", "kind"), [(TCP, socket.SOCK_STREAM), (UDP, socket.SOCK_DGRAM)]
)
def test_the_real_psutil_tells_the_same(transport: Transport, kind: int) -> None:
    """Of another process: that it listens, and what it is called; and nothing once it has gone."""
    program = (
        f"import socket; s = socket.socket(socket.AF_INET, {int(kind)}); s.bind(('127.0.0.1', 0))\n"
        f"if {kind == socket.SOCK_STREAM}: s.listen()\n"
        "print(s.getsockname()[1], flush=True); input()"
    )
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", program], stdin=pipe, stdout=pipe) as other:
        assert other.stdout is not None
        port = int(other.stdout.readline())
        found = elsewhere.listening(transport)
        assert found is not None
        assert listening("127.0.0.1", port, other.pid) in found
        assert elsewhere.of_own_user(transport, port) == listening("127.0.0.1", port, other.pid)
        assert elsewhere.process_name(other.pid).startswith("python")
        other.communicate(b"\n")
    assert port not in [one.port for one in elsewhere.listening(transport) or ()]
    assert elsewhere.process_name(other.pid) == ""
