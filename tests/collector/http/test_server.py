"""The server itself: it starts, bears slow clients, and ends with what it is a part of."""

import asyncio
import socket
import ssl
import time
from typing import Any

import pytest

from reachmap_collector.errors import ServerError
from reachmap_collector.http import http_settings, server, serving
from reachmap_collector.queries import Queries


async def test_without_settings_nothing_listens(collector_of: Any) -> None:
    """Off is the default."""
    async with serving(None, Queries(collector_of()), lambda: True):
        assert [task for task in asyncio.all_tasks() if task is not asyncio.current_task()] == []


async def test_a_port_that_is_taken_is_told(collector_of: Any, port: int) -> None:
    """In a line, before anything runs."""
    with socket.create_server(("127.0.0.1", port)):
        with pytest.raises(ServerError, match=f"cannot listen for HTTP on 127.0.0.1:{port}: "):
            async with serving(
                http_settings(f"127.0.0.1:{port}"), Queries(collector_of()), lambda: True
            ):
                pytest.fail("it does not come so far")


async def test_it_ends_at_once_and_leaves_the_port(
    served: Any, collector_of: Any, port: int
) -> None:
    """Idle connections keep nothing waiting, also where all is cancelled."""
    settings = http_settings(f"127.0.0.1:{port}")

    async def run(started: asyncio.Event) -> None:
        async with served(settings, collector_of()):
            started.set()
            await asyncio.get_running_loop().create_future()

    for _ in range(2):  # the second finds the port free
        started = asyncio.Event()
        async with asyncio.TaskGroup() as tasks:
            task = tasks.create_task(run(started))
            await started.wait()
            with socket.create_connection(("127.0.0.1", port)):
                began = time.monotonic()
                task.cancel()
                await asyncio.wait([task])
                assert time.monotonic() - began < server._GRACE_S
        assert task.cancelled()
    with pytest.raises(OSError):
        socket.create_connection(("127.0.0.1", port), 1)


async def test_who_keeps_a_connection_waiting_loses_it(
    served: Any, collector_of: Any, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With half a request, with none, or with none after the first."""
    monkeypatch.setattr(server, "PATIENCE_S", 0.2)
    head = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n"
    async with served(http_settings(f"127.0.0.1:{port}"), collector_of()) as client:
        for sent, told in ((b"", b""), (head, b""), (head + b"\r\n", b"HTTP/1.1 200")):
            try:
                answer = await client.raw(sent)
            except ConnectionResetError:
                answer = b""
            assert answer.startswith(told)


async def test_there_are_only_so_many_places(
    served: Any, collector_of: Any, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who comes when all are taken is told so, and later finds one."""
    monkeypatch.setattr(server, "MAX_CONNECTIONS", 4)
    async with served(http_settings(f"127.0.0.1:{port}"), collector_of()) as client:
        idle = [socket.create_connection(("127.0.0.1", port)) for _ in range(4)]
        while (await client.get("/healthz")).status != 503:
            await asyncio.sleep(0.01)
        for one in idle:
            one.close()
        while (await client.get("/healthz")).status != 200:
            await asyncio.sleep(0.01)


async def test_a_crowd_is_cut(
    served: Any, collector_of: Any, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At once, so that idle connections take only so many descriptors."""
    monkeypatch.setattr(server, "MAX_CONNECTIONS", 2)
    most = server.CROWD * 2
    async with served(http_settings(f"127.0.0.1:{port}"), collector_of()):
        idle = [await asyncio.open_connection("127.0.0.1", port) for _ in range(most + 3)]

        def cut() -> int:
            return sum(reader.at_eof() or reader.exception() is not None for reader, _ in idle)

        async with asyncio.timeout(10):
            while cut() < 3:
                await asyncio.sleep(0.01)
        assert cut() == 3
        for _, writer in idle:
            writer.close()


async def test_it_speaks_tls(served: Any, collector_of: Any, port: int, certificate: Any) -> None:
    """Of this century; and plain text gets no answer there."""
    settings = http_settings(f"127.0.0.1:{port}", None, certificate)
    async with served(settings, collector_of()) as client:
        assert (await client.get("/healthz")).status == 200
        assert not (await client.raw(b"GET / HTTP/1.1\r\n\r\n")).startswith(b"HTTP")
    assert settings.tls is not None
    assert settings.tls.minimum_version >= ssl.TLSVersion.TLSv1_2


@pytest.mark.ipv6
async def test_it_listens_on_ipv6(served: Any, collector_of: Any, port: int) -> None:
    """On its own address alone."""
    async with served(http_settings(f"[::1]:{port}"), collector_of()) as client:
        assert (await client.get("/healthz")).status == 200
        with pytest.raises(OSError):
            socket.create_connection(("127.0.0.1", port), 1)
