"""The way to the bus: the first step that fails is the one to mend."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from reachmap_agent import way


async def steps(url: str) -> dict[str, way.Step]:
    return {step.name: step async for step in way.walk(url)}


@asynccontextmanager
async def saying(greeting: bytes) -> AsyncIterator[str]:
    """A server of any kind."""

    async def greet(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(greeting)
        writer.close()

    async with await asyncio.start_server(greet, "127.0.0.1", 0) as server:
        yield f"nats://127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def test_all_the_way_to_a_server(nats_server: Any) -> None:
    """It tells which one, and what it wants."""
    taken = await steps(nats_server.url)
    assert [*taken] == ["name", "route", "tcp", "server"]
    assert all(step.passed and not step.to_do for step in taken.values())
    assert taken["route"].found == "127.0.0.1 to 127.0.0.1"
    assert "which wants no TLS" in taken["server"].found


async def test_a_name_that_does_not_resolve_ends_it() -> None:
    """Nothing can be said of the rest."""
    taken = await steps("nats://no-such-host.invalid:4222")
    assert [*taken] == ["name"]
    assert not taken["name"].passed
    assert taken["name"].to_do


async def test_a_closed_port(port: int) -> None:
    """It says which one, in the system's words, and what to do."""
    taken = await steps(f"127.0.0.1:{port}")
    assert [*taken] == ["name", "route", "tcp"]
    assert taken["tcp"].found == f"port {port} of 127.0.0.1: Connection refused"
    assert "NATS server runs" in taken["tcp"].to_do


async def test_silence_has_an_end(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A firewall that drops must not keep whoever asks waiting."""
    monkeypatch.setattr(way, "_STEP_S", 0.05)
    hang: Callable[..., Any] = lambda *_: asyncio.sleep(60)  # noqa: E731  it stands in for a function
    monkeypatch.setattr(asyncio, "open_connection", hang)
    taken = await steps(f"127.0.0.1:{port}")
    assert taken["tcp"].found == f"port {port} of 127.0.0.1: no answer in 0.05 s"
    assert "firewall" in taken["tcp"].to_do


@pytest.mark.parametrize(
    ("greeting", "found"),
    [
        (b"220 mail.example ESMTP\r\n", "expected NATS's INFO, got '220 mail.example ESMTP\\r\\n'"),
        (b"", "expected NATS's INFO, got nothing"),
        (b"INFO {nonsense}\r\n", "its INFO is not JSON"),
        (b"INFO []\r\n", "its INFO is not JSON"),
    ],
)
async def test_somebody_else_is_there(greeting: bytes, found: str) -> None:
    """An open port is not yet a bus."""
    async with saying(greeting) as url:
        step = (await steps(url))["server"]
    assert not step.passed
    assert step.found == found


async def test_a_server_that_wants_tls() -> None:
    """It says so before anything secret is sent."""
    async with saying(
        b'INFO {"version": "2.12", "server_name": "n", "tls_required": true}\r\n'
    ) as url:
        step = (await steps(url))["server"]
    assert step == way.Step("server", True, "nats-server 2.12 named n, which wants TLS")
