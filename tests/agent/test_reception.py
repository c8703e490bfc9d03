"""Whoever connects, on real sockets: strangers cost little and keep nobody out."""

import asyncio
import contextlib
import gc
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from visitors import LOOPBACK, asked, connect, heard, is_reset

from reachmap_agent import streams
from reachmap_agent.limits import ListenerLimits
from reachmap_agent.reception import Reception, endpoint
from reachmap_shared.vocabulary import AnsweredBy

LIMITS = ListenerLimits()

linux = pytest.mark.skipif(sys.platform != "linux", reason="as Linux does it")


@pytest.mark.parametrize("words", [b"", b"\x16", b"GET / HTTP/1.1\r\nHost:"])
@pytest.mark.parametrize("protocol", ["http", "nats", "tls", "postgres"])
async def test_who_has_been_there_for_longest_makes_room(
    open_port: Any,
    port: int,
    eventually: Any,
    check: Any,
    protocol: str,
    words: bytes,
) -> None:
    """Whatever strangers say or not, only so many have a place, and an honest check gets one."""
    made = open_port(protocol, limits=ListenerLimits(idle_places=8, talking_places=8))
    with contextlib.ExitStack() as clients:
        strangers = []
        for _ in range(40):
            stranger = clients.enter_context(await connect(port))
            with contextlib.suppress(OSError):
                stranger.send(words)
            strangers.append(stranger)
        assert await check(port, protocol) is AnsweredBy.LISTENER
        assert made.reception.connections <= 16
        await eventually(lambda: all(is_reset(stranger) for stranger in strangers[:20]))


def bound_dialler(stack: contextlib.ExitStack, source: str, port: int) -> socket.socket:
    made = stack.enter_context(
        socket.create_connection((LOOPBACK, port), source_address=(source, 0))
    )
    made.setblocking(False)
    return made


@linux
async def test_a_flood_from_one_address_takes_no_place_of_others(
    open_port: Any, wire: Any, port: int, eventually: Any
) -> None:
    """An honest visitor who is slow keeps its place, silent or in conversation."""
    made = open_port("http", limits=ListenerLimits(idle_places=16, talking_places=16))
    with contextlib.ExitStack() as clients:
        for _ in range(30):
            bound_dialler(clients, "127.9.9.9", port).send(b"G")
        honest = [bound_dialler(clients, LOOPBACK, port) for _ in range(2)]
        honest[0].send(b"GET")
        for words in (b"G", b""):
            for _ in range(60):
                bound_dialler(clients, "127.9.9.9", port).send(words)
                await asyncio.sleep(0)
        await eventually(lambda: len(made.reception._idle) == 16)
        await eventually(lambda: len(made.reception._talking) == 16)
        honest[0].send(asked(wire)[len(b"GET") :])
        honest[1].send(asked(wire))
        for visitor in honest:
            visitor.shutdown(socket.SHUT_WR)
            assert (await heard(visitor) or b"").startswith(b"HTTP/1.1 200 OK")


def test_an_endpoint_has_neither_zone_nor_prefix() -> None:
    """As text it is the same for all who look at it."""
    assert endpoint(("fe80::1%eth0", 1, 0, 2)) == ("fe80::1", 1)
    assert endpoint(("::ffff:192.0.2.1", 1, 0, 0)) == ("192.0.2.1", 1)
    assert endpoint(("192.0.2.1", 1)) == ("192.0.2.1", 1)


async def test_a_flood_is_worth_one_line(
    open_port: Any, port: int, eventually: Any, logged: list[dict[str, Any]]
) -> None:
    """Strangers do not fill the log."""
    made = open_port("http", limits=ListenerLimits(idle_places=2))
    with contextlib.ExitStack() as clients:
        for _ in range(30):
            clients.enter_context(await connect(port))
        await eventually(lambda: made.reception.connections == 2)
    assert len(logged) == 1


FLOOD = r"""
import itertools, os, socket, struct, sys, time
ports = [int(port) for port in sys.argv[2:]]
words = [b"", b"\x16\x03\x01\x02\x00\x01", b"GET / HTTP/1.1\r\n", os.urandom(2000), b"\0"]
held = []
print("ready", flush=True)
for number in itertools.count():
    if number == 400:
        print("flooding", flush=True)
    if number % 10 == 0:
        time.sleep(0.001)  # what is more than the kernel's queue takes is lost, whatever we do
    stranger = socket.socket()
    stranger.setblocking(False)
    stranger.bind(("127.9.9.9", 0))
    stranger.connect_ex(("127.0.0.1", ports[number % len(ports)]))
    held.append((stranger, words[number % len(words)]))
    if len(held) > 40:
        late, word = held[-20]
        try:
            late.send(word if sys.argv[1] != "silent" else b"")
        except OSError:
            pass
    if len(held) > 800:
        gone, _ = held.pop(0)
        if number % 2:
            gone.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        gone.close()
"""


@asynccontextmanager
async def flood(kind: str, *ports: int) -> AsyncIterator[asyncio.subprocess.Process]:
    """Somebody who connects as fast as one can, until the block ends."""
    pipe = subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", FLOOD, kind, *map(str, ports), stdin=pipe, stdout=pipe
    )
    assert process.stdout is not None
    try:
        for _ in range(2):
            assert await process.stdout.readline()
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.communicate()


@linux
async def test_checks_go_on_in_a_flood(open_port: Any, port: int, check: Any) -> None:
    """Whoever speaks first, and inside TLS: of all that comes, the honest visitor is served too."""
    reception = Reception(LIMITS)
    ports = {name: port + number for number, name in enumerate(("http", "https", "nats", "tcp"))}
    for name, number in ports.items():
        open_port(name, number, reception=reception)
    async with flood("garbage", *ports.values()):
        for name in (*ports, *ports):
            await check(ports[name], name)
    assert reception.connections <= LIMITS.descriptors


def memory_kb() -> int:
    gc.collect()
    return int(Path("/proc/self/smaps_rollup").read_text().partition("Rss:")[2].split()[0])


@linux
@pytest.mark.parametrize("kind", ["silent", "garbage"])
async def test_memory_does_not_grow_with_strangers(
    open_port: Any, port: int, kind: str, eventually: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Silent ones cost less than 1 MB, however many; TLS sessions no more than their places."""
    counted = [0]
    accept = streams._accept

    def count(bound: socket.socket) -> Any:
        counted[0] += 1
        return accept(bound)

    monkeypatch.setattr(streams, "_accept", count)
    open_port("tls")
    with await connect(port) as first:
        first.send(b"GET / HTTP/1.1\r\n\r\n")
        assert not await heard(first)
    before = memory_kb()
    async with flood(kind, port):
        await eventually(lambda: counted[0] > 3000)
        grown = memory_kb() - before
    assert grown < (1024 if kind == "silent" else 12 * 1024)
