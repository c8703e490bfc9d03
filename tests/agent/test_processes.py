"""Which process has a socket: asked of the real kernel."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from reachmap_agent import processes
from reachmap_agent.processes import Process, all_pids, with_sockets

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks into Linux's /proc")


def inode(held: socket.socket) -> int:
    return os.fstat(held.fileno()).st_ino


def test_who_has_a_socket_is_found_among_all() -> None:
    """By pid and name; several at once; what nobody has is not found."""
    own = Process(os.getpid(), Path("/proc/self/comm").read_text().strip())
    with socket.socket() as one, socket.socket() as other:
        inodes = {inode(one), inode(other), 0}
        assert with_sockets(inodes, all_pids(), 10) == {inode(one): own, inode(other): own}


def test_the_first_of_several_that_have_it_is_told() -> None:
    """A server that forks has it in every child, and its oldest process is the one to know."""
    with socket.socket() as held:
        command = [sys.executable, "-c", "print('ready', flush=True); input()"]
        pipe = subprocess.PIPE
        with subprocess.Popen(command, stdin=pipe, stdout=pipe, pass_fds=[held.fileno()]) as other:
            assert other.stdout is not None
            other.stdout.readline()
            for pids in ([os.getpid(), other.pid], [other.pid, os.getpid()]):
                assert with_sockets({inode(held)}, pids, 10)[inode(held)].pid == pids[0]
            other.communicate(b"\n")


def test_a_process_that_has_gone_or_is_closed_is_passed_over() -> None:
    """It is no reason to fail."""
    with subprocess.Popen(["true"]) as gone:
        pass
    with socket.socket() as held:
        pids = [gone.pid, 1 << 30, os.getpid()]
        assert with_sockets({inode(held)}, pids, 10)[inode(held)].pid == os.getpid()
    assert processes._name(gone.pid) == ""


def test_without_patience_nothing_is_looked_at() -> None:
    """A host of a hundred thousand processes does not hold up the checks."""
    with socket.socket() as held:
        assert with_sockets({inode(held)}, [os.getpid()], 0) == {}


def test_nothing_wanted_is_nothing_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """And the search ends with the last that is found."""
    looked: list[int] = []
    monkeypatch.setattr(processes, "_sockets", lambda pid: looked.append(pid) or [pid])
    assert with_sockets((), [1, 2], 10) == {}
    assert with_sockets({2}, [1, 2, 3], 10).keys() == {2}
    assert looked == [1, 2]
