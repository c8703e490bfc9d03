"""Whether certificates are still good, by a real responder: openssl's."""

import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from reachmap_agent.doctor import responders
from reachmap_agent.doctor.steps import Result
from reachmap_agent.settings import Settings


def by(settings: Settings, server: Any, authority: Any) -> Settings:
    return replace(settings, nats=(server.url,), nats_ca=authority.ca)


@pytest.mark.parametrize(
    ("status", "result", "found"),
    [("V", Result.PASS, "calls the server's certificate good"), ("R", Result.FAIL, "revoked")],
)
async def test_the_responder_is_asked(
    settings: Settings,
    look: Any,
    tls_server: Any,
    authority: Any,
    port: int,
    status: str,
    result: Result,
    found: str,
) -> None:
    """By what the server's certificate says of it; the login is tried in any case."""
    tls_server.shows(authority.issue(responder=f"http://127.0.0.1:{port}", status=status))
    with authority.responding(port):
        seen = await look(by(settings, tls_server, authority))
    assert seen["ocsp"].result is result
    assert found in seen["ocsp"].found
    assert seen["login"].result is Result.PASS


async def test_one_that_does_not_know_the_certificate(
    settings: Settings, look: Any, tls_server: Any, authority: Any, port: int
) -> None:
    """Another authority's, or one that has lost its database."""
    tls_server.shows(authority.issue(responder=f"http://127.0.0.1:{port}"))
    authority.index.write_text("")
    with authority.responding(port):
        one = (await look(by(settings, tls_server, authority)))["ocsp"]
    assert one.result is Result.FAIL
    assert one.found.endswith("calls the server's certificate unknown")
    assert "database" in one.to_do


async def test_one_that_is_away(
    settings: Settings, look: Any, tls_server: Any, authority: Any, port: int
) -> None:
    """The port of the bus looks open then, and servers that ask let nobody in."""
    tls_server.shows(authority.issue(responder=f"http://127.0.0.1:{port}"))
    one = (await look(by(settings, tls_server, authority)))["ocsp"]
    assert one.result is Result.FAIL
    assert one.found == f"http://127.0.0.1:{port}: Connection refused"
    assert "let nobody in" in one.to_do


async def test_this_host_s_own_certificate_is_asked_about(
    settings: Settings, look: Any, tls_server: Any, authority: Any, port: int
) -> None:
    """A server asks about its clients; what is wrong with theirs looks like a broken login."""
    tls_server.shows(authority.issue(), tls=f', verify: true, ca_file: "{authority.ca}"')
    path, key = authority.issue("DNS:pc-1", responder=f"http://127.0.0.1:{port}", status="R")
    there = by(settings, tls_server, authority)
    with authority.responding(port):
        one = (await look(replace(there, nats_certificate=path, nats_key=key)))["ocsp"]
    assert one.result is Result.FAIL
    assert "calls this host's certificate revoked" in one.found


async def test_a_certificate_that_names_none(
    settings: Settings, look: Any, tls_server: Any, authority: Any
) -> None:
    """There is nobody to ask."""
    tls_server.shows(authority.issue())
    one = (await look(by(settings, tls_server, authority)))["ocsp"]
    assert one.result is Result.SKIPPED
    assert "names a responder" in one.found


@pytest.mark.parametrize(
    "url",
    [
        "ldap://directory.example",
        "http://",
        "http://[::1",
        "http://localhost:99999",
        f"http://{'x' * 64}.example",
    ],
)
async def test_what_cannot_be_asked_is_said(
    settings: Settings, look: Any, tls_server: Any, authority: Any, url: str
) -> None:
    """HTTP is what responders speak; and whoever made the certificate may have mistyped."""
    tls_server.shows(authority.issue(responder=url))
    one = (await look(by(settings, tls_server, authority)))["ocsp"]
    assert one.result is Result.SKIPPED
    assert f"names {url}, which is not asked" in one.found


@pytest.mark.parametrize(
    ("says", "found"),
    [
        (b"HTTP/1.0 502 Bad Gateway\r\n\r\n", "HTTP status 502"),
        (b"HTTP/1.0 200 OK\r\n\r\nhello", "no OCSP response"),
        (b"HTTP/1.0 502 x\r\nDate: 1 Jan 99999999999 00:00:00 GMT\r\n\r\n", "HTTP status 502"),
        (b"HTTP/1.0 200 OK\r\n\r\n\x30\x03\x0a\x01\x02", "internal error"),
        (b"220 mail.example ESMTP\r\n", "HTTP status None"),
    ],
)
async def test_somebody_else_is_there(
    settings: Settings, look: Any, tls_server: Any, authority: Any, says: bytes, found: str
) -> None:
    """Or a proxy whose responder is away."""

    async def say(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(says)
        writer.close()

    async with await asyncio.start_server(say, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        tls_server.shows(authority.issue(responder=f"http://127.0.0.1:{port}/path/"))
        one = (await look(by(settings, tls_server, authority)))["ocsp"]
    assert one.result is Result.FAIL
    assert found in one.found


async def test_silence_has_an_end(
    settings: Settings,
    look: Any,
    tls_server: Any,
    authority: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As for a server that asks."""
    monkeypatch.setattr(responders, "_ANSWER_S", 0.05)

    async def say(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.transport.abort()

    async with await asyncio.start_server(say, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        tls_server.shows(authority.issue(responder=f"http://127.0.0.1:{port}"))
        one = (await look(by(settings, tls_server, authority)))["ocsp"]
    assert one.result is Result.FAIL
    assert "no answer in 0.05 s" in one.found


async def test_an_answer_of_long_ago(
    settings: Settings,
    look: Any,
    tls_server: Any,
    authority: Any,
    port: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It held until then, and a server that asks refuses it."""
    ask = responders.ocsp.answer

    def old(response: bytes, of: Any) -> Any:
        fresh = ask(response, of)
        return replace(fresh, until=fresh.produced - timedelta(days=3))

    monkeypatch.setattr(responders.ocsp, "answer", old)
    tls_server.shows(authority.issue(responder=f"http://127.0.0.1:{port}"))
    with authority.responding(port):
        one = (await look(by(settings, tls_server, authority)))["ocsp"]
    assert one.result is Result.FAIL
    assert "held until" in one.found
