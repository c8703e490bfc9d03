"""One check with all that the kernel tells of it, on loopback; real faults are the lab's."""

import asyncio
import random
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from reachmap_agent.diagnosis.line import Ports, random_block
from reachmap_agent.diagnosis.probe import Subject, hop, lasts, recheck
from reachmap_agent.protocols import REGISTRY
from reachmap_agent.wire.exchange import Exchange, Target, Verdict
from reachmap_shared.diagnosis import BLOCK, Met
from reachmap_shared.vocabulary import Outcome, Transport


def ask(_: Target) -> Exchange:
    answer = yield b"?"
    return Verdict(Outcome.OPEN if answer else Outcome.RESET)


def subject(port: int, transport: Transport = Transport.TCP, block: int | None = None) -> Subject:
    ports = Ports(block, random.Random(1)) if block is not None else None
    return Subject(("127.0.0.1", port), transport, lambda: ask(Target("x")), None, ports, 1111)


@pytest.fixture
def server(port: int) -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", port)) as made:
        made.setblocking(False)
        yield made


async def accept(server: socket.socket) -> socket.socket:
    accepted, _ = await asyncio.get_running_loop().sock_accept(server)
    return accepted


async def test_a_check_that_is_answered(server: socket.socket, port: int) -> None:
    """It went well, and the kernel counted."""
    loop = asyncio.get_running_loop()

    async def serve() -> None:
        with await accept(server) as accepted:
            await loop.sock_recv(accepted, 10)
            await loop.sock_sendall(accepted, b"!")
            await loop.sock_recv(accepted, 10)

    async with asyncio.TaskGroup() as tasks:
        serving = tasks.create_task(serve())
        seen = await recheck(subject(port), 5.0)
        serving.cancel()
    assert (seen.outcome, seen.met) == (Outcome.OPEN, Met.SYN_ACK)
    assert (seen.sent, seen.received, seen.unacked, seen.unsent) == (1, 1, 0, 0)
    assert seen.segments_out > 0 < seen.segments_in


async def test_a_check_that_is_refused(port: int) -> None:
    """RST came back, not an ICMP error."""
    seen = await recheck(subject(port), 5.0)
    assert (seen.outcome, seen.met, seen.icmp) == (Outcome.REFUSED, Met.RST, None)


async def test_a_check_that_is_not_answered(server: socket.socket, port: int) -> None:
    """Connected, and all that was said was heard."""
    seen = await recheck(subject(port), 0.2)
    assert (seen.outcome, seen.met) == (Outcome.STALLED, Met.SYN_ACK)
    assert (seen.unacked, seen.received) == (0, 0)


async def test_a_connection_that_is_broken_off(server: socket.socket, port: int) -> None:
    """It was made: that is not a refusal, however soon it ends."""

    async def reset() -> None:
        accepted = await accept(server)
        accepted.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        accepted.close()

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(reset())
        seen = await recheck(subject(port), 5.0)
    assert (seen.outcome, seen.met) == (Outcome.RESET, Met.SYN_ACK)


async def test_a_closed_udp_port_says_who_says_so(port: int) -> None:
    """The ICMP error has a sender."""
    seen = await recheck(subject(port, Transport.UDP), 5.0)
    assert (seen.outcome, seen.met) == (Outcome.REFUSED, Met.ICMP)
    assert seen.icmp is not None
    assert (seen.icmp.type, seen.icmp.code, seen.icmp.offender) == (3, 3, "127.0.0.1")


async def test_a_datagram_that_is_answered(port: int) -> None:
    """By data."""
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as bound:
        bound.bind(("127.0.0.1", port))
        loop.add_reader(bound, lambda: bound.sendto(b"!", bound.recvfrom(10)[1]))
        seen = await recheck(subject(port, Transport.UDP), 5.0)
        loop.remove_reader(bound)
    assert (seen.outcome, seen.met, seen.received) == (Outcome.OPEN, Met.DATA, 1)


async def test_source_ports_come_from_the_block(port: int) -> None:
    """In the order that was drawn for it, each once; one that is taken is passed over."""
    block = random_block(random.Random(1))
    order = [*Ports(block, random.Random(1)).draw()]
    assert sorted(order) == [*range(block, block + BLOCK)]
    made = subject(port, block=block)
    with socket.socket(socket.AF_INET) as taken:
        for first in order:  # any other may be taken too, by whatever runs here besides
            try:
                taken.bind(("", first))
                break
            except OSError:
                continue
        ports = [(await recheck(made, 1.0)).port for _ in range(3)]
    assert first not in ports
    assert ports == sorted(set(ports), key=order.index)


async def test_a_block_that_is_used_up_begins_again(port: int) -> None:
    """There are more probes than ports in a long diagnosis, never too few ports."""
    made = subject(port, block=random_block(random.Random(2)))
    ports = [(await recheck(made, 1.0)).port for _ in range(BLOCK + 2)]
    assert set(ports) <= set(range(made.ports.block, made.ports.block + BLOCK))
    assert len(set(ports)) < len(ports)


@pytest.mark.parametrize("seed", range(20))
def test_blocks_are_aligned_and_within_the_range_of_outgoing_ports(seed: int) -> None:
    """So no service's port is ever taken."""
    block = random_block(random.Random(seed))
    low, high = map(int, Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split())
    assert block % BLOCK == 0
    assert low <= block
    assert block + BLOCK - 1 <= high


async def test_an_address_that_cannot_be_dialled(port: int) -> None:
    """That is this host's own doing."""
    made = Subject(("255.255.255.255", port), Transport.TCP, lambda: ask(Target("x")))
    assert (await recheck(made, 1.0)).met is Met.OWN


async def test_a_hop_that_is_the_last(server: socket.socket, port: int) -> None:
    """Here the first is."""
    seen = await hop(subject(port), 1, 1.0)
    assert (seen.ttl, seen.met, seen.by) == (1, Met.SYN_ACK, "127.0.0.1")


async def test_whether_a_silent_connection_lasts(server: socket.socket, port: int) -> None:
    """One that nobody breaks off does; where nobody is, there is none."""
    assert await lasts(subject(port), 0.1)
    server.close()
    assert not await lasts(subject(port), 0.1)


async def test_a_connection_that_is_broken_off_does_not_last(
    server: socket.socket, port: int
) -> None:
    """Whether that is noticed while it is made, or after."""
    loop = asyncio.get_running_loop()

    def reset() -> None:
        accepted, _ = server.accept()
        accepted.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        accepted.close()

    loop.add_reader(server, reset)
    assert not any([await lasts(subject(port), 0.05) for _ in range(20)])
    loop.remove_reader(server)


@pytest.mark.parametrize("transport", Transport)
async def test_a_protocols_mistake_is_not_the_networks(port: int, transport: Transport) -> None:
    """Nor does it end the agent."""

    def mistaken() -> Exchange:
        yield b"?"
        raise KeyError

    def echo(bound: socket.socket) -> None:
        data, peer = bound.recvfrom(10)
        bound.sendto(data, peer)

    loop = asyncio.get_running_loop()
    made = Subject(("127.0.0.1", port), transport, mistaken)
    with (
        socket.create_server(("127.0.0.1", port)) as server,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as bound,
    ):
        bound.bind(("127.0.0.1", port))
        loop.add_reader(bound, echo, bound)
        loop.add_reader(server, lambda: server.accept()[0].close())
        seen = await recheck(made, 5.0)
        loop.remove_reader(bound)
        loop.remove_reader(server)
    assert seen.outcome is Outcome.LOCAL_ERROR


async def test_segments_can_be_held_short(server: socket.socket, port: int) -> None:
    """And it is told how short they were."""
    seen = await recheck(subject(port), 0.1, 500)
    assert seen.mss == 500


async def test_a_patient_protocol_takes_silence_for_an_answer(
    server: socket.socket, port: int
) -> None:
    """As everyday checks do."""
    check = REGISTRY["tcp"].check
    made = Subject(("127.0.0.1", port), Transport.TCP, lambda: check(Target("x")), 0.1)
    assert (await recheck(made, 5.0)).outcome is Outcome.OPEN


def test_ports_are_drawn_in_an_order_that_cannot_be_guessed() -> None:
    """Whoever names those that were used has seen the packets."""
    orders = []
    for seed in range(3):
        ports = Ports(40_000, random.Random(seed))
        assert ports.drawn == ()
        orders.append([next(ports.draw()) for _ in range(5)])
        assert ports.drawn == tuple(sorted(orders[-1]))
        assert set(orders[-1]) <= set(range(40_000, 40_000 + BLOCK))
    assert len({tuple(order) for order in orders}) == 3
