"""The way to the bus, up to what the server says first."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from reachmap_agent import identity
from reachmap_agent.doctor import way
from reachmap_agent.doctor.steps import Diagnosis, Result
from reachmap_agent.settings import Settings

Steps = Callable[[str], Awaitable[dict[str, Diagnosis]]]


@pytest.fixture
def steps(take: Any) -> Steps:
    """What of the way could be gone to a URL."""

    async def go(url: str) -> dict[str, Diagnosis]:
        found = await take(Settings(nats=(url,), id="pc-1"))
        return {name: one for name, one in found.items() if one.result is not Result.SKIPPED}

    return go


@asynccontextmanager
async def saying(greeting: bytes) -> AsyncIterator[str]:
    """A server of any kind."""

    async def greet(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(greeting)
        writer.close()

    async with await asyncio.start_server(greet, "127.0.0.1", 0) as server:
        yield f"nats://127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def test_all_the_way_to_a_server(steps: Steps, nats_server: Any) -> None:
    """It tells which one, and what it wants."""
    taken = await steps(nats_server.url)
    assert [*taken] == ["name", "route", "tcp", "server"]
    assert all(step.result is Result.PASS and not step.to_do for step in taken.values())
    assert taken["route"].found == "127.0.0.1 to 127.0.0.1"
    assert "which wants no TLS" in taken["server"].found


@pytest.mark.parametrize("host", ["no-such-host.invalid", "x" * 64, "a..b"])
async def test_a_name_that_does_not_resolve_ends_it(steps: Steps, host: str) -> None:
    """Nothing can be said of the rest."""
    taken = await steps(f"nats://{host}:4222")
    assert [*taken] == ["name"]
    assert taken["name"].result is Result.FAIL
    assert taken["name"].to_do == "see the URL, and this host's resolver"


async def test_a_closed_port(steps: Steps, port: int) -> None:
    """It says which one, in the system's words, and what to do."""
    taken = await steps(f"127.0.0.1:{port}")
    assert [*taken] == ["name", "route", "tcp"]
    assert taken["tcp"].found == f"port {port} of 127.0.0.1: Connection refused"
    assert "NATS server runs" in taken["tcp"].to_do


async def test_silence_has_an_end(steps: Steps, port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A firewall that drops must not keep whoever asks waiting."""
    local_end = identity.local_end

    def last_step_before(address: str) -> str | None:
        monkeypatch.setattr(way, "STEP_S", 0.05)
        return local_end(address)

    monkeypatch.setattr(identity, "local_end", last_step_before)
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
        (b"INFO " + b"[" * 60_000 + b"\r\n", "its INFO is not JSON"),
    ],
)
async def test_somebody_else_is_there(steps: Steps, greeting: bytes, found: str) -> None:
    """An open port is not yet a bus."""
    async with saying(greeting) as url:
        step = (await steps(url))["server"]
    assert step.result is Result.FAIL
    assert step.found == found


async def test_a_server_that_wants_tls(steps: Steps) -> None:
    """It says so before anything secret is sent."""
    async with saying(
        b'INFO {"version": "2.12", "server_name": "n", "tls_required": true}\r\n'
    ) as url:
        step = (await steps(url))["server"]
    assert step == Diagnosis("server", Result.PASS, "nats-server 2.12 named n, which wants TLS")


async def test_the_first_open_address_is_gone_on_from(
    nats_server: Any, monkeypatch: pytest.MonkeyPatch, take: Any
) -> None:
    """Each that is closed is told, and none of them keeps the login from being tried."""
    loop = asyncio.get_running_loop()
    resolve = loop.getaddrinfo

    async def both(_host: str, port: int, **options: Any) -> Any:
        return [*await resolve("127.0.0.9", port, **options), *await resolve("127.0.0.1", port)]

    monkeypatch.setattr(loop, "getaddrinfo", both)
    found = await take(Settings(nats=(nats_server.url,), id="pc-1"))
    assert found["name"].found == "127.0.0.1 is 127.0.0.9, 127.0.0.1"
    assert found["tcp"].result is Result.PASS
    assert found["server"].result is Result.PASS


async def test_without_a_route_nothing_is_sent(
    steps: Steps, monkeypatch: pytest.MonkeyPatch, port: int
) -> None:
    """As where a host has no network yet."""
    monkeypatch.setattr(way.identity, "local_end", lambda _address: None)
    taken = await steps(f"127.0.0.1:{port}")
    assert [*taken] == ["name", "route"]
    assert taken["route"].found == "no route to 127.0.0.1"
    assert "ip route" in taken["route"].to_do


async def test_behind_a_websocket_nothing_is_expected_to_be_said(take: Any) -> None:
    """HTTP's servers wait to be asked, on ports of their own."""
    async with saying(b"") as url:
        settings = Settings(nats=(url.replace("nats:", "ws:"),), id="pc-1")
        found = await take(settings)
    assert found["tcp"].result is Result.PASS
    assert found["server"].result is found["tls"].result is Result.SKIPPED


async def test_no_server_paints_our_terminal(steps: Steps) -> None:
    """Whatever it calls itself."""
    async with saying(b'INFO {"version": "2\\u001b[31m", "server_name": "a\\nb"}\r\n') as url:
        step = (await steps(url))["server"]
    assert step.found == "nats-server 2.[31m named a.b, which wants no TLS"
