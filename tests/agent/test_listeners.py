"""Stand-ins on real sockets: they answer, they yield to real services, and they cost little."""

import asyncio
import contextlib
import dataclasses
import errno
import os
import resource
import socket
import struct
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from visitors import ESTABLISHED, LISTENS, LOOPBACK, connect, kernel_states

from reachmap_agent import holders
from reachmap_agent import streams as module
from reachmap_agent.ceded import Ceded
from reachmap_agent.credentials import Contexts
from reachmap_agent.limits import ListenerLimits
from reachmap_agent.listeners import Listeners
from reachmap_agent.protocols import REGISTRY, postgres, udp
from reachmap_agent.wire.proof import Identity
from reachmap_shared import keys
from reachmap_shared.messages import CheckSpec, ListenerSpec, WindowRequest
from reachmap_shared.vocabulary import (
    AnsweredBy,
    ListenerState,
    ListenMode,
    Outcome,
    Transport,
)

STREAMS = sorted(set(REGISTRY) - {"udp"})
LISTENING, CEDED, FAILED = ListenerState.LISTENING, ListenerState.CEDED, ListenerState.FAILED

SECRET = bytes(range(32))
IDENTITY = Identity("db-1", keys.host_key(SECRET, "db-1"), keys.deployment_key(SECRET))

linux = pytest.mark.skipif(sys.platform != "linux", reason="looks into Linux's /proc")


ipv6 = pytest.mark.ipv6


@asynccontextmanager
async def listening(*addresses: str, **limits: Any) -> AsyncIterator[Listeners]:
    """Listeners that close with the block."""
    with TemporaryDirectory() as folder:
        ceded = Ceded(Path(folder) / "ceded.json")
        made = Listeners(addresses or (LOOPBACK,), ceded, ListenerLimits(**limits))
        try:
            yield made
        finally:
            made.close()


def can_bind(port: int, address: str = "") -> bool:
    """Whether a service without SO_REUSEADDR could start here."""
    with contextlib.ExitStack() as open_:
        for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
            probe = open_.enter_context(socket.socket(socket.AF_INET, kind))
            try:
                probe.bind((address, port))
                if kind is socket.SOCK_STREAM:
                    probe.listen()
            except OSError:
                return False
    return True


def spec(port: int, protocol: str = "tcp", transport: Transport = Transport.TCP) -> ListenerSpec:
    return ListenerSpec(f"role:{port}", port, transport, protocol)


def states(listeners: Listeners) -> list[ListenerState]:
    return [report.state for report in listeners.reports()]


async def read(connection: socket.socket) -> bytes:
    async with asyncio.timeout(15):
        return await asyncio.get_running_loop().sock_recv(connection, 1000)


async def greeting(port: int) -> bytes | None:
    """A listener's first words; None when it resets the connection, at once or later."""
    try:
        with await connect(port) as connection:
            return await read(connection)
    except ConnectionResetError:
        return None


@pytest.mark.parametrize("protocol", STREAMS)
@pytest.mark.parametrize("address", [LOOPBACK, pytest.param("::1", marks=ipv6)])
async def test_a_listener_answers_its_own_check(
    wire: Any, contexts: Contexts, port: int, protocol: str, address: str
) -> None:
    """Over real sockets, in every protocol, on both families."""
    async with listening(address) as listeners:
        listeners.apply([spec(port, protocol)], contexts, IDENTITY)
        check = CheckSpec("d", "d:1", address, port, Transport.TCP, protocol, "")
        seen = await wire.probe(check, 10, challenge=wire.challenge())
        assert (seen.outcome, seen.answered_by) == (Outcome.OPEN, AnsweredBy.LISTENER)
        [report] = listeners.reports()
        assert (report.service, report.port, report.transport, report.state, report.detail) == (
            f"role:{port}",
            port,
            Transport.TCP,
            LISTENING,
            "",
        )


@pytest.mark.parametrize("address", [LOOPBACK, pytest.param("::1", marks=ipv6)])
async def test_a_udp_listener_answers_its_own_check(
    wire: Any, contexts: Contexts, port: int, address: str
) -> None:
    """By a datagram, on both families."""
    async with listening(address) as listeners:
        listeners.apply([spec(port, "udp", Transport.UDP)], contexts, IDENTITY)
        check = CheckSpec("d", "d:1", address, port, Transport.UDP, "udp", "")
        seen = await wire.probe(check, 10, challenge=wire.challenge())
        assert (seen.outcome, seen.answered_by) == (Outcome.OPEN, AnsweredBy.LISTENER)


@ipv6
async def test_without_addresses_it_listens_everywhere(
    contexts: Contexts, port: int, tmp_path: Path
) -> None:
    """On every interface and both families, as the real services do."""
    listeners = Listeners((), Ceded(tmp_path / "ceded.json"))
    listeners.apply([spec(port)], contexts, IDENTITY)
    try:
        for address in (LOOPBACK, "127.77.1.1", "::1"):
            with await connect(port, address) as connection:
                assert await read(connection)
    finally:
        listeners.close()


async def test_tcp_and_udp_share_a_number(contexts: Contexts, port: int) -> None:
    """They are two ports to the kernel and two listeners to us."""
    async with listening() as listeners:
        listeners.apply([spec(port), spec(port, "udp", Transport.UDP)], contexts, IDENTITY)
        assert states(listeners) == [LISTENING, LISTENING]


async def test_a_held_port_is_ceded_for_good(contexts: Contexts, port: int, wire: Any) -> None:
    """A real service was seen there: even when it stops, its port is not taken from under it."""
    async with listening() as listeners:
        with socket.create_server((LOOPBACK, port)):
            listeners.apply([spec(port)], contexts, IDENTITY)
            [report] = listeners.reports()
            assert report.state is CEDED
            assert f"(pid {os.getpid()})" in report.holder
        listeners.apply([spec(port)], contexts, IDENTITY)
        listeners.apply([], contexts, IDENTITY)
        listeners.apply([spec(port)], contexts, IDENTITY)
        assert states(listeners) == [CEDED]
        assert can_bind(port, LOOPBACK)


async def test_a_holder_is_named_once(
    contexts: Contexts, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To look for its name may take long, so it is done when it has changed, and not at each look."""
    searched: list[int] = []

    def counted(sockets: Any, *rest: Any) -> Any:
        searched.append(len(sockets))
        return holders.identify(sockets, *rest)

    monkeypatch.setattr("reachmap_agent.listeners.identify", counted)
    async with listening() as listeners:
        both = [on_demand(port), on_demand(port + 1)]
        listeners.apply(both, contexts, IDENTITY)
        assert searched == []
        with socket.create_server((LOOPBACK, port)), socket.create_server((LOOPBACK, port + 1)):
            for _ in range(3):
                listeners.look()
                assert f"(pid {os.getpid()})" in listeners.window(asked(port)).detail
            assert searched == [2]
        listeners.look()
        assert listeners.holders() == ("", "")
        with socket.create_server((LOOPBACK, port)):
            listeners.look()
            assert searched == [2, 1]


async def test_a_port_that_is_reclaimed_too_early_is_ceded_again(
    contexts: Contexts, port: int
) -> None:
    """Its holder is no news, and still it is there."""
    async with listening() as listeners:
        with socket.create_server((LOOPBACK, port)):
            listeners.apply([on_demand(port)], contexts, IDENTITY)
            listeners._ceded.remove((Transport.TCP, port))
            assert states(listeners) == [READY]
            listeners.look()
            assert states(listeners) == [CEDED]


async def test_one_held_port_does_not_cost_the_others(contexts: Contexts, port: int) -> None:
    """Each stands for itself."""
    async with listening() as listeners:
        with socket.create_server((LOOPBACK, port)):
            listeners.apply([spec(port), spec(port + 1)], contexts, IDENTITY)
            assert states(listeners) == [CEDED, LISTENING]


async def test_a_port_held_on_one_address_is_left_alone_on_all(
    contexts: Contexts, port: int
) -> None:
    """A service that binds one address now may bind them all later."""
    async with listening(LOOPBACK, "127.77.1.1") as listeners:
        with socket.create_server(("127.77.1.1", port)):
            listeners.apply([spec(port)], contexts, IDENTITY)
            assert states(listeners) == [CEDED]
            assert can_bind(port, LOOPBACK)


async def test_a_held_udp_port_is_ceded_too(contexts: Contexts, port: int) -> None:
    """And so it is between two agents on one host: the second does not share with the first."""
    async with listening() as first, listening() as second:
        for listeners in (first, second):
            listeners.apply([spec(port), spec(port, "udp", Transport.UDP)], contexts, IDENTITY)
        assert states(first) == [LISTENING, LISTENING]
        assert states(second) == [CEDED, CEDED]


async def test_what_cannot_be_opened_has_failed_with_the_reason(
    contexts: Contexts, port: int
) -> None:
    """An address that is not this host's is no reason to stay away for good."""
    async with listening("192.0.2.1") as listeners:
        listeners.apply([spec(port)], contexts, IDENTITY)
        [report] = listeners.reports()
        assert report.state is FAILED
        assert report.detail.startswith("EADDRNOTAVAIL: ")


async def test_what_has_failed_is_tried_again(
    contexts: Contexts, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the next plan, when the address may be there."""

    def refuse(*_: Any) -> None:
        raise OSError(errno.EACCES, "Permission denied")

    async with listening() as listeners:
        with monkeypatch.context() as patch:
            patch.setattr(socket.socket, "bind", refuse)
            listeners.apply([spec(port)], contexts, IDENTITY)
            assert states(listeners) == [FAILED]
        listeners.apply([spec(port)], contexts, IDENTITY)
        assert states(listeners) == [LISTENING]


async def test_a_port_is_open_on_all_addresses_or_on_none(contexts: Contexts, port: int) -> None:
    """Half a listener would be a half-true map."""
    async with listening(LOOPBACK, "192.0.2.1") as listeners:
        listeners.apply([spec(port)], contexts, IDENTITY)
        assert states(listeners) == [FAILED]
        assert can_bind(port)


async def test_a_host_without_ipv6_listens_on_the_rest(
    contexts: Contexts, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether the kernel has no IPv6 at all, or has it switched off."""
    create, bind = socket.socket.__init__, socket.socket.bind

    def no_family(self: Any, family: int = -1, *rest: Any, **its: Any) -> None:
        if family == socket.AF_INET6:
            raise OSError(errno.EAFNOSUPPORT, "no such family")
        create(self, family, *rest, **its)

    def no_address(self: Any, address: Any) -> None:
        if self.family == socket.AF_INET6:
            raise OSError(errno.EADDRNOTAVAIL, "no such address")
        bind(self, address)

    for name, broken in (("__init__", no_family), ("bind", no_address)):
        async with listening("0.0.0.0", "::") as listeners:
            with monkeypatch.context() as patch:
                patch.setattr(socket.socket, name, broken)
                listeners.apply([spec(port)], contexts, IDENTITY)
            assert states(listeners) == [LISTENING]


async def test_a_new_plan_keeps_ports_open_without_a_gap(contexts: Contexts, port: int) -> None:
    """A connection that waits to be accepted survives it, and is served by the new plan."""
    async with listening() as listeners:
        listeners.apply([spec(port)], contexts, IDENTITY)
        with socket.create_connection((LOOPBACK, port)) as connection:  # not accepted yet
            changed = dataclasses.replace(spec(port), service="other:1")
            listeners.apply([changed, spec(port + 1)], contexts, IDENTITY)
            connection.setblocking(False)
            assert await read(connection) == b"reachmap\r\n"
        assert [report.service for report in listeners.reports()] == ["other:1", f"role:{port + 1}"]


async def test_what_a_plan_leaves_out_is_closed(contexts: Contexts, port: int) -> None:
    """With the connections that were served there; the others stay."""
    async with listening() as listeners:
        listeners.apply([spec(port), spec(port + 1)], contexts, IDENTITY)
        with await connect(port) as gone, await connect(port + 1) as stays:
            assert await read(gone) and await read(stays)
            listeners.apply([spec(port + 1)], contexts, IDENTITY)
            with pytest.raises(ConnectionRefusedError):
                await connect(port)
            with pytest.raises(ConnectionResetError):
                await read(gone)
            with await connect(port + 1) as again:
                assert await read(again)
            assert states(listeners) == [LISTENING]


@linux
@pytest.mark.parametrize("protocol", STREAMS)
async def test_checks_leave_nothing_on_the_service_s_port(
    wire: Any, contexts: Contexts, port: int, eventually: Any, protocol: str
) -> None:
    """No TIME_WAIT, by which a service without SO_REUSEADDR would not start for a minute."""
    async with listening() as listeners:
        listeners.apply([spec(port, protocol)], contexts, IDENTITY)
        check = CheckSpec("d", "d:1", LOOPBACK, port, Transport.TCP, protocol, "")
        for _ in range(3):
            await wire.probe(check, 10, challenge=wire.challenge())
        await eventually(lambda: kernel_states(port) == [LISTENS])  # it listens, and that is all
        listeners.close()
        assert can_bind(port)


@pytest.mark.parametrize("protocol", ["http", "tcp", "tls"])
async def test_close_frees_the_port_at_once(
    wire: Any, contexts: Contexts, port: int, eventually: Any, protocol: str
) -> None:
    """Also from clients that sit there, that have gone, and that nobody has accepted yet."""
    async with listening() as listeners:
        listeners.apply([spec(port, protocol)], contexts, IDENTITY)
        with contextlib.ExitStack() as clients:
            for number in range(6):
                connection = clients.enter_context(await connect(port))
                connection.send(b"GET / HTTP/1.1\r\nX: %s\r\n\r\n" % wire.challenge().text)
                await asyncio.sleep(0.01)
                if number % 3 == 1:
                    connection.close()
                elif number % 3 == 2:
                    with contextlib.suppress(OSError):  # over TLS such words end it at once
                        connection.shutdown(socket.SHUT_WR)
            clients.enter_context(socket.create_connection((LOOPBACK, port)))
            listeners.close()
            await eventually(lambda: can_bind(port), within_s=1)


async def test_a_client_that_closes_first_is_let_go_in_order(
    wire: Any, contexts: Contexts, port: int
) -> None:
    """It has heard all, down to the end: nothing is lost to a reset."""
    async with listening() as listeners:
        listeners.apply([spec(port, "http")], contexts, IDENTITY)
        with await connect(port) as connection:
            connection.send(b"GET / HTTP/1.1\r\nX: %s\r\n\r\n" % wire.challenge().text)
            connection.shutdown(socket.SHUT_WR)
            heard = b""
            while chunk := await read(connection):
                heard += chunk
            assert heard.startswith(b"HTTP/1.1 200 OK\r\n")


async def test_a_burst_is_served_to_the_last(contexts: Contexts, port: int) -> None:
    """A hundred checks that come at once all find their listener."""
    async with listening() as listeners:
        listeners.apply([spec(port)], contexts, IDENTITY)
        with contextlib.ExitStack() as clients:
            connections = [
                clients.enter_context(socket.create_connection((LOOPBACK, port)))
                for _ in range(200)
            ]
            for connection in connections:
                connection.setblocking(False)
            heard = await asyncio.gather(*(read(connection) for connection in connections))
            assert all(word == b"reachmap\r\n" for word in heard)


@pytest.mark.parametrize("talks", [False, True], ids=["silent", "slow"])
@pytest.mark.parametrize("protocol", ["http", "tcp", "tls"])
async def test_a_slow_stranger_is_dropped(
    contexts: Contexts,
    port: int,
    eventually: Any,
    protocol: str,
    talks: bool,
) -> None:
    """In its time, whether it says nothing or a little at a time."""
    async with listening(visit_s=0.3) as listeners:
        listeners.apply([spec(port, protocol)], contexts, IDENTITY)
        with await connect(port) as stranger:

            def is_dropped() -> bool:
                try:
                    if talks:
                        stranger.send(b"\x16")
                    stranger.recv(1000)
                except BlockingIOError:
                    pass
                except (ConnectionResetError, BrokenPipeError):
                    return True
                return False

            await eventually(is_dropped)


@linux
async def test_a_stranger_who_does_not_read_is_dropped(
    contexts: Contexts, port: int, eventually: Any
) -> None:
    """What was said to it is not kept for it."""
    async with listening(visit_s=0.2) as listeners:
        listeners.apply([spec(port, "tcp")], contexts, IDENTITY)
        with await connect(port):
            await eventually(lambda: ESTABLISHED in kernel_states(port))
            await eventually(lambda: kernel_states(port) == [LISTENS])


@pytest.mark.parametrize("protocol", STREAMS)
async def test_no_stranger_harms_a_listener(
    wire: Any, contexts: Contexts, port: int, protocol: str
) -> None:
    """Whatever bytes come and however it leaves: the next check is answered."""
    junk = [b"", b"\0" * 100, b"\x16\x03\x01\x02\x00\x01", b"GET / HTTP/1.1\r\n\r\n", bytes(40_000)]
    async with listening() as listeners:
        listeners.apply([spec(port, protocol)], contexts, IDENTITY)
        for words in junk:
            for reset in (False, True):
                with await connect(port) as stranger:
                    if reset:
                        linger = struct.pack("ii", 1, 0)
                        stranger.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                    with contextlib.suppress(OSError):
                        await asyncio.get_running_loop().sock_sendall(stranger, words)
        check = CheckSpec("d", "d:1", LOOPBACK, port, Transport.TCP, protocol, "")
        seen = await wire.probe(check, 10, challenge=wire.challenge())
        assert seen.answered_by is AnsweredBy.LISTENER


async def test_tls_without_a_certificate_answers_nobody(port: int) -> None:
    """The connection is closed; the agent lives, and plain listeners are none the worse."""
    async with listening() as listeners:
        listeners.apply([spec(port, "tls"), spec(port + 1, "tcp")], Contexts.from_pem(""), IDENTITY)
        assert await greeting(port) is None
        assert await greeting(port + 1)


class Datagrams:
    """Somebody who sends datagrams to a listener."""

    def __init__(self, port: int) -> None:
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.setblocking(False)
        self.socket.connect((LOOPBACK, port))

    async def answer(self, datagram: bytes) -> bytes:
        self.socket.send(datagram)
        return await read(self.socket)


@pytest.fixture
def stranger(port: int) -> Iterator[Datagrams]:
    made = Datagrams(port)
    yield made
    made.socket.close()


@pytest.mark.parametrize("protocol", sorted(set(REGISTRY) - {"tls", "https"}))
async def test_no_datagram_is_answered_with_more_than_it_was(
    wire: Any, contexts: Contexts, port: int, stranger: Datagrams, protocol: str
) -> None:
    """In whatever protocol: a forged source address makes a listener no weapon."""
    question = wire.feed(udp.check(wire.target())).sent
    datagrams = [b"", b"x", bytes(20), question[:-1], question, postgres.SSL_REQUEST]
    datagrams += [b"GET / HTTP/1.1\r\n\r\n", b"\r\n\r\n" * 300]
    async with listening() as listeners:
        specs = [spec(port, protocol, Transport.UDP), spec(port + 1, "udp", Transport.UDP)]
        listeners.apply(specs, contexts, IDENTITY)
        other = Datagrams(port + 1)
        with other.socket:
            for datagram in datagrams:
                stranger.socket.send(datagram)
                assert await other.answer(question)  # so the one before has been dealt with
                with contextlib.suppress(BlockingIOError):
                    assert len(stranger.socket.recv(4000)) <= len(datagram)


async def test_a_udp_answer_that_cannot_be_sent_is_lost(
    wire: Any, contexts: Contexts, port: int, stranger: Datagrams, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when this host's own firewall forbids it; the next one is answered."""
    question = wire.feed(udp.check(wire.target())).sent
    troubles: list[Any] = []
    tried = asyncio.Event()
    asyncio.get_running_loop().set_exception_handler(lambda _, context: troubles.append(context))

    def forbidden(*_: Any) -> None:
        tried.set()
        raise PermissionError(errno.EPERM, "Operation not permitted")

    async with listening() as listeners:
        listeners.apply([spec(port, "udp", Transport.UDP)], contexts, IDENTITY)
        with monkeypatch.context() as patch:
            patch.setattr(socket.socket, "sendto", forbidden)
            stranger.socket.send(question)
            await asyncio.wait_for(tried.wait(), 15)
        assert (await stranger.answer(question)).startswith(b"reachmap!")
    assert troubles == []


async def test_without_descriptors_the_loop_is_not_spun(
    contexts: Contexts, port: int, eventually: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A connection that cannot be accepted is tried again after a pause, and then served."""
    monkeypatch.setattr(module, "_PAUSE_S", 0.1)
    attempts = []
    accept = module._accept

    def counted(self: socket.socket) -> Any:
        attempts.append(time.monotonic())
        return accept(self)

    monkeypatch.setattr(module, "_accept", counted)
    async with listening() as listeners:
        listeners.apply([spec(port)], contexts, IDENTITY)
        with socket.socket() as connection:
            connection.setblocking(False)
            with no_descriptors_left():
                await asyncio.get_running_loop().sock_connect(connection, (LOOPBACK, port))
                await eventually(lambda: len(attempts) >= 3)
            assert attempts[2] - attempts[0] >= 0.15
            assert await read(connection)


@contextlib.contextmanager
def no_descriptors_left() -> Iterator[None]:
    """This process can open nothing more within the block."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest = os.open(os.devnull, os.O_RDONLY)
    os.close(lowest)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def test_closing_right_after_a_connection_leaks_nothing(
    contexts: Contexts, port: int, eventually: Any
) -> None:
    """Not even a connection that came in the same turn."""
    async with listening() as listeners:
        for _ in range(5):
            listeners.apply([spec(port)], contexts, IDENTITY)
            with socket.create_connection((LOOPBACK, port)) as connection:
                connection.setblocking(False)
                # One turn accepts it, or the port is closed before.
                accepted = asyncio.Event()
                asyncio.get_running_loop().call_soon(accepted.set)
                await accepted.wait()
                listeners.close()
                with pytest.raises(ConnectionResetError):
                    while await read(connection):
                        pass
        assert listeners._reception.connections == 0


READY, NEVER = ListenerState.READY, ListenerState.NEVER


def on_demand(port: int, protocol: str = "tcp") -> ListenerSpec:
    return dataclasses.replace(spec(port, protocol), mode=ListenMode.ON_DEMAND)


def asked(port: int, seconds: float = 5.0) -> WindowRequest:
    return WindowRequest("pc-1", port, Transport.TCP, seconds)


async def test_on_demand_a_port_is_closed_until_somebody_asks(
    contexts: Contexts, port: int, eventually: Any, check: Any
) -> None:
    """It is open for the check that was announced, and closes as soon as that has been answered."""
    async with listening(window_s=60) as listeners:
        listeners.apply([on_demand(port)], contexts, IDENTITY)
        assert states(listeners) == [READY]
        assert can_bind(port, LOOPBACK)
        assert listeners.window(asked(port, 60)).state is LISTENING
        assert await check(port, "tcp") is AnsweredBy.LISTENER
        await eventually(lambda: states(listeners) == [READY])
        assert can_bind(port, LOOPBACK)


async def test_a_window_stays_for_all_who_asked(
    contexts: Contexts, port: int, eventually: Any, check: Any
) -> None:
    """Two checks that were announced are both answered; a stranger in between is neither."""
    async with listening(window_s=60) as listeners:
        listeners.apply([on_demand(port)], contexts, IDENTITY)
        for _ in range(2):
            assert listeners.window(asked(port, 60)).state is LISTENING
        assert await check(port, "tcp") is AnsweredBy.LISTENER
        assert await greeting(port)
        assert states(listeners) == [LISTENING]
        assert await check(port, "tcp") is AnsweredBy.LISTENER
        await eventually(lambda: states(listeners) == [READY])


@pytest.mark.parametrize("seconds", [0.0, 0.05, -1.0])
async def test_a_window_closes_by_itself(
    contexts: Contexts, port: int, eventually: Any, seconds: float
) -> None:
    """Whoever asked and never came does not keep the port from the service."""
    async with listening() as listeners:
        listeners.apply([on_demand(port)], contexts, IDENTITY)
        listeners.window(asked(port, seconds))
        await eventually(lambda: states(listeners) == [READY])
        assert can_bind(port)


async def test_no_window_is_open_longer_than_its_bound(
    contexts: Contexts, port: int, eventually: Any
) -> None:
    """Whatever another agent asks for, and however often."""
    async with listening(window_s=0.1) as listeners:
        listeners.apply([on_demand(port)], contexts, IDENTITY)
        for _ in range(3):
            listeners.window(asked(port, 1e9))
        await eventually(lambda: states(listeners) == [READY])


async def test_no_window_where_a_service_listens_or_ever_did(contexts: Contexts, port: int) -> None:
    """The answer says who has the port; once seen, it is the service's for good."""
    async with listening() as listeners:
        listeners.apply([on_demand(port)], contexts, IDENTITY)
        with socket.create_server((LOOPBACK, port)):
            reply = listeners.window(asked(port))
            assert reply.state is CEDED
            assert reply.detail
        assert listeners.window(asked(port)).state is CEDED
        assert can_bind(port)


async def test_a_look_cedes_what_a_service_took_meanwhile(contexts: Contexts, port: int) -> None:
    """Also when nobody asked for a window since."""
    async with listening() as listeners:
        listeners.apply([on_demand(port)], contexts, IDENTITY)
        with socket.create_server((LOOPBACK, port)):
            listeners.look()
            [report] = listeners.reports()
            assert (report.state, bool(report.holder)) == (CEDED, True)
        listeners.look()
        [report] = listeners.reports()
        assert (report.state, report.holder) == (CEDED, "")


async def test_never_means_never(contexts: Contexts, port: int) -> None:
    """Neither by itself nor for anybody who asks; a port of no role is nobody's to open either."""
    never = dataclasses.replace(spec(port), mode=ListenMode.NEVER)
    async with listening() as listeners:
        listeners.apply([never], contexts, IDENTITY)
        assert listeners.window(asked(port)).state is NEVER
        assert listeners.window(asked(port + 1)).state is NEVER
        assert states(listeners) == [NEVER]
        assert can_bind(port)


async def test_a_changed_mode_takes_hold_at_once(contexts: Contexts, port: int) -> None:
    """From always to on demand closes the port, and back opens it."""
    async with listening() as listeners:
        for mode, state in ((spec, LISTENING), (on_demand, READY), (spec, LISTENING)):
            listeners.apply([mode(port)], contexts, IDENTITY)
            assert states(listeners) == [state]


async def test_a_stranger_in_a_window_leaves_nothing_on_the_port(
    contexts: Contexts, port: int, eventually: Any
) -> None:
    """When the window closes on a connection, that is reset: no TIME_WAIT keeps the service out."""
    async with listening() as listeners:
        listeners.apply([on_demand(port, "http")], contexts, IDENTITY)
        listeners.window(asked(port, 0.1))
        with await connect(port):
            await eventually(lambda: states(listeners) == [READY])
            await eventually(lambda: can_bind(port))
