"""Who holds a port: asked of the real kernel."""

import os
import socket
import sys

import pytest

from reachmap_agent import holders
from reachmap_agent.holders import Ports
from reachmap_shared.vocabulary import Transport

LOOPBACK = ("127.0.0.1",)


@pytest.fixture(params=["netlink", "proc", "bind"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """All ways to find out: for sandboxes without netlink, and for other systems."""

    def refuse(*_: object) -> None:
        raise PermissionError

    if request.param == "proc":
        monkeypatch.setattr(holders, "_dump", refuse)
    if request.param == "bind":
        monkeypatch.setattr(holders, "_listening", lambda _transport: None)
    elif sys.platform != "linux":
        pytest.skip("netlink is Linux's")
    return str(request.param)


@pytest.mark.parametrize(
    ("transport", "kind"),
    [(Transport.TCP, socket.SOCK_STREAM), (Transport.UDP, socket.SOCK_DGRAM)],
)
def test_a_held_port_has_a_holder(way: str, transport: Transport, kind: int) -> None:
    """Held while another socket is bound to it, free afterwards; own sockets do not count."""
    with socket.socket(socket.AF_INET, kind) as other:
        other.bind(("127.0.0.1", 0))
        if kind == socket.SOCK_STREAM:
            other.listen()
        port = other.getsockname()[1]
        holder = Ports([transport], own=()).holder(LOOPBACK, port, transport)
        assert holder is not None
        own = [os.fstat(other.fileno()).st_ino]
        if way != "bind":
            assert Ports([transport], own).holder(LOOPBACK, port, transport) is None
    assert Ports([transport], own=()).holder(LOOPBACK, port, transport) is None


@pytest.mark.skipif(sys.platform != "linux", reason="netlink is Linux's")
def test_the_holder_is_named_as_far_as_it_can_be() -> None:
    """A unit of systemd's, or else the owner of the socket."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        ports = Ports([Transport.TCP], own=())
        holder = ports.holder(LOOPBACK, server.getsockname()[1], Transport.TCP)
    assert holder is not None
    named = holder.description
    assert named == f"a program of uid {os.getuid()}" or named.endswith((".service", ".scope"))


def test_looking_does_not_touch_the_port() -> None:
    """A service may bind the port at the very moment of the look."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    for _ in range(200):
        Ports([Transport.TCP], own=()).holder(("0.0.0.0", "::"), port, Transport.TCP)
        with socket.create_server(("127.0.0.1", port)):
            pass
