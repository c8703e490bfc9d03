"""Connecting: any server will do, and what is none, or lets nobody in, is told."""

import asyncio
import socket
import time
from typing import Any

import pytest
from played import playing

from reachmap_shared import bus
from reachmap_shared.errors import BusUnavailable
from reachmap_shared.urls import without_password


async def test_no_server_is_told_at_once(dead_url: str) -> None:
    """A command line that asks where nothing listens says so, with address and reason."""
    started = time.monotonic()
    with pytest.raises(BusUnavailable) as caught:
        async with bus.connected([dead_url], "test"):
            pytest.fail("there is no server")
    assert time.monotonic() - started < bus._CONNECT_TIMEOUT_S
    assert dead_url in str(caught.value)
    assert (
        "refused" in str(caught.value).lower() or "connect call failed" in str(caught.value).lower()
    )


async def test_any_server_of_several_will_do(nats_server: Any, dead_url: str) -> None:
    """Those that are down are passed over."""
    for _ in range(5):  # the client tries them in any order
        async with bus.connected([dead_url, nats_server.url], "test") as connection:
            assert connection.server_host == "127.0.0.1"


@pytest.mark.parametrize("greeting", [b"SSH-2.0-Go\r\n", b"\xff\0garbage", b"INFO {nonsense\r\n"])
async def test_what_is_no_nats_server_is_told_at_once(greeting: bytes) -> None:
    """A wrong port is no reason to wait, and leaves no socket open."""

    async def greet(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(greeting)

    async with playing(greet) as url:
        started = time.monotonic()
        with pytest.raises(BusUnavailable, match=url):
            async with bus.connected([url], "test"):
                pytest.fail("that was no server")
        assert time.monotonic() - started < bus._CONNECT_TIMEOUT_S


async def test_a_mute_server_is_not_waited_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """A port that is open and says nothing ends in the time for a connection."""
    monkeypatch.setattr(bus, "_CONNECT_TIMEOUT_S", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as mute:
        url = f"nats://127.0.0.1:{mute.getsockname()[1]}"
        with pytest.raises(BusUnavailable, match="no NATS server answers"):
            async with bus.connected([url], "test"):
                pytest.fail("it said nothing")


@pytest.mark.parametrize("url", ["nats://h:port", "nats://", "", "nats://127.0.0.1:99999"])
async def test_a_url_that_is_none_is_no_crash(url: str) -> None:
    """The error names it."""
    with pytest.raises(BusUnavailable, match="no NATS server answers"):
        async with bus.connected([url], "test"):
            pytest.fail("nowhere to connect to")


async def test_no_url_at_all_is_no_endless_loop() -> None:
    """The client would go round nothing for ever, and nothing could stop it."""
    with pytest.raises(BusUnavailable):
        async with bus.connected([], "test"):
            pytest.fail("nowhere to connect to")
    with pytest.raises(BusUnavailable):
        async with bus.staying([], "test"):
            pytest.fail("nowhere to connect to")


async def test_a_wrong_password_is_told(nats_server: Any) -> None:
    """The reason is the server's own."""
    nats_server.stop()
    nats_server.configure('authorization { user: "a", password: "b" }')
    nats_server.start()
    with pytest.raises(BusUnavailable, match=r"(?i)authorization"):
        async with bus.connected([nats_server.url], "test") as connection:
            await connection.query("status", {})
    right = nats_server.url.replace("nats://", "nats://a:b@")
    async with bus.connected([right], "test") as connection:
        assert connection.is_connected


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("nats://h:4222", "nats://h:4222"),
        ("nats://user:pass@h:4222", "nats://h:4222"),
        ("tls://token@h", "tls://h"),
        ("user:p@ss@h:4222", "h:4222"),
        ("h", "h"),
        ("", ""),
    ],
)
async def test_no_password_is_shown(url: str, shown: str) -> None:
    """Neither in a log nor in an error, which often ends up in one."""
    assert without_password(url) == shown
    with pytest.raises(BusUnavailable) as caught:
        async with bus.connected([url.replace("h", "127.0.0.1:99999")], "test"):
            pytest.fail("nowhere to connect to")
    assert "pass" not in str(caught.value) and "p@ss" not in str(caught.value)
