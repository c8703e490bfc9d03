"""Who holds a port: asked of the real system, in every way that there is."""

import contextlib
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from reachmap_agent import elsewhere, holders
from reachmap_agent.holders import Holder, Ports, identify
from reachmap_agent.sockdiag import Listening
from reachmap_shared.vocabulary import Transport

LOOPBACK = ("127.0.0.1",)
TCP = Transport.TCP

KINDS = [(Transport.TCP, socket.SOCK_STREAM), (Transport.UDP, socket.SOCK_DGRAM)]

linux = pytest.mark.skipif(sys.platform != "linux", reason="as Linux tells it")


@pytest.fixture(params=["netlink", "proc", "psutil", "bind"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """All ways to find out: for sandboxes without netlink, and for other systems."""

    def refuse(*_: object) -> None:
        raise PermissionError

    if request.param in ("netlink", "proc") and sys.platform != "linux":
        pytest.skip("as Linux tells it")
    if request.param == "proc":
        monkeypatch.setattr(holders, "_dump", refuse)
    if request.param in ("psutil", "bind"):
        monkeypatch.setattr(holders, "_LINUX", False)
    if request.param == "bind":
        monkeypatch.setattr(elsewhere, "listening", lambda _transport: None)
    return str(request.param)


@contextlib.contextmanager
def another(kind: int = socket.SOCK_STREAM) -> Iterator[tuple[int, int]]:
    """Another process that holds a port; its pid, and the port."""
    program = (
        f"import socket; s = socket.socket(socket.AF_INET, {int(kind)}); s.bind(('127.0.0.1', 0))\n"
        f"if {kind == socket.SOCK_STREAM}: s.listen()\n"
        "print(s.getsockname()[1], flush=True); input()"
    )
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", program], stdin=pipe, stdout=pipe) as other:
        assert other.stdout is not None
        yield other.pid, int(other.stdout.readline())
        other.communicate(b"\n")


@pytest.mark.parametrize(("transport", "kind"), KINDS)
def test_a_held_port_has_a_holder(way: str, transport: Transport, kind: int) -> None:
    """Held while another process has it, free afterwards; and it is named, whatever the way."""
    with another(kind) as (pid, port):
        held = Ports([transport], own=()).held(LOOPBACK, port, transport)
        assert held is not None
        assert Ports([transport], own=()).held(LOOPBACK, port, transport) == held
        holder = identify([held], transport, 10)[held]
        assert holder.pid == pid
        assert holder.process.startswith("python")
        assert f"(pid {pid})" in holder.description
    assert Ports([transport], own=()).held(LOOPBACK, port, transport) is None


@linux
@pytest.mark.parametrize(("transport", "kind"), KINDS)
def test_own_sockets_do_not_count(transport: Transport, kind: int) -> None:
    """Those that are named; another of this process would."""
    with socket.socket(socket.AF_INET, kind) as own:
        own.bind(("127.0.0.1", 0))
        if kind == socket.SOCK_STREAM:
            own.listen()
        port = own.getsockname()[1]
        inodes = [os.fstat(own.fileno()).st_ino]
        assert Ports([transport], inodes).held(LOOPBACK, port, transport) is None
        assert Ports([transport], own=()).held(LOOPBACK, port, transport) is not None


def test_where_sockets_have_no_number_others_still_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """Elsewhere than on Linux all would have the same one, and none of this process counts."""
    monkeypatch.setattr(holders, "_LINUX", False)
    with socket.create_server(("127.0.0.1", 0)) as own, another() as (_, port):
        inodes = [holders.inode(own)]
        assert inodes == [0]
        assert Ports([TCP], inodes).held(LOOPBACK, own.getsockname()[1], TCP) is None
        assert Ports([TCP], inodes).held(LOOPBACK, port, TCP) is not None


@linux
def test_of_several_on_one_port_it_is_always_the_same() -> None:
    """Or a service with a socket for each worker would be news at every look."""
    with contextlib.ExitStack() as workers:
        first = workers.enter_context(socket.create_server(("127.0.0.1", 0), reuse_port=True))
        address = first.getsockname()
        for _ in range(5):
            workers.enter_context(socket.create_server(address, reuse_port=True))
        held = Ports([TCP], own=()).held(LOOPBACK, address[1], TCP)
        assert held is not None
        assert held.inode == os.fstat(first.fileno()).st_ino


@linux
def test_who_may_not_look_into_a_process_still_tells_its_owner(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As for an ordinary user and root's service: no search, for it would find nothing."""
    searched: list[object] = []
    with another() as (_, port):
        held = Ports([TCP], own=()).held(LOOPBACK, port, TCP)
        assert held is not None
        monkeypatch.setattr(os, "geteuid", lambda: 4711)
        monkeypatch.setattr(holders, "all_pids", lambda: searched.append(1) or [])
        holder = identify([held], TCP, 10)[held]
    named = holder.description
    assert named == f"a program of uid {os.getuid()}" or holder.unit
    assert searched == []


@linux
def test_a_unit_s_own_processes_are_looked_at_first(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """They are few, and one of them it is, as a rule."""
    group = tmp_path / "system.slice" / "web.service"
    group.mkdir(parents=True)
    monkeypatch.setattr(holders, "_CGROUPS", tmp_path)
    monkeypatch.setattr(holders, "all_pids", lambda: pytest.fail("it looks at all"))
    with another() as (pid, port):
        (group / "cgroup.procs").write_text(f"{pid}\n")
        held = Ports([TCP], own=()).held(LOOPBACK, port, TCP)
        assert held is not None
        in_unit = Listening("", port, False, 0, held.inode, group.stat().st_ino)
        holder = identify([in_unit], TCP, 10)[in_unit]
    assert holder.description == f"{holder.process} (pid {pid}) of web.service"


@linux
def test_a_group_that_is_no_unit_names_nobody(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Nor does one that has gone, or the root of all."""
    (tmp_path / "docker").mkdir()
    monkeypatch.setattr(holders, "_CGROUPS", tmp_path)
    for group in ((tmp_path / "docker").stat().st_ino, 999_999_999, 1, 0, None):
        socket_ = Listening("", 1, False, 33, 0, group)
        assert identify([socket_], TCP, 1)[socket_].description == "a program of uid 33"


@pytest.mark.parametrize(
    ("holder", "description"),
    [
        (Holder(), "another program"),
        (Holder(uid=33), "a program of uid 33"),
        (Holder(uid=0), "a program of uid 0"),
        (Holder("nats.service", 33), "nats.service"),
        (Holder("nats.service", 33, 812, "nats-server"), "nats-server (pid 812) of nats.service"),
        (Holder(uid=33, pid=7, process="nginx"), "nginx (pid 7) of uid 33"),
        (Holder(pid=7, process="nginx.exe"), "nginx.exe (pid 7)"),
        (Holder(pid=7), "a program (pid 7)"),
    ],
)
def test_how_a_holder_is_described(holder: Holder, description: str) -> None:
    """By all that is known, in words that follow `held by`."""
    assert holder.description == description


def test_looking_does_not_touch_the_port() -> None:
    """A service may bind the port at the very moment of the look."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    for _ in range(200):
        Ports([TCP], own=()).held(("0.0.0.0", "::"), port, TCP)
        with socket.create_server(("127.0.0.1", port)):
            pass
