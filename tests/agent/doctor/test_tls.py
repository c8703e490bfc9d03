"""Whether the server proves who it is: real servers with certificates that are wrong in every way."""

import asyncio
import re
from dataclasses import replace
from typing import Any

import pytest

from reachmap_agent.doctor.steps import Result
from reachmap_agent.settings import Settings


def by(settings: Settings, server: Any, authority: Any) -> Settings:
    return replace(settings, nats=(server.url,), nats_ca=authority.ca)


async def test_a_good_certificate_is_told(
    settings: Settings, take: Any, tls_server: Any, authority: Any
) -> None:
    """With whose it is, and until when."""
    tls_server.shows(authority.issue())
    one = (await take(by(settings, tls_server, authority)))["tls"]
    assert one.result is Result.PASS and not one.to_do
    assert one.found.startswith("TLSv1.3, certificate of server, valid until 2")


async def test_one_that_ends_soon_is_told_in_time(
    settings: Settings, take: Any, tls_server: Any, authority: Any
) -> None:
    """It is good today."""
    tls_server.shows(authority.issue(days=3))
    one = (await take(by(settings, tls_server, authority)))["tls"]
    assert one.result is Result.PASS
    assert one.to_do == "renew the server's certificate: it ends in 2 days"


@pytest.mark.parametrize(
    ("certificate", "found", "to_do"),
    [
        (
            {"name": "DNS:other.example"},
            "certificate is not valid for 'localhost'.: certificate of server, valid until "
            "[-0-9]+; the certificate is not for localhost, but for other.example",
            "use one of its names",
        ),
        ({"days": -1}, "certificate has expired: certificate of server, valid until", "renew"),
    ],
)
async def test_a_bad_certificate_is_told_with_whose_it_is(
    settings: Settings,
    take: Any,
    tls_server: Any,
    authority: Any,
    certificate: dict[str, Any],
    found: str,
    to_do: str,
) -> None:
    """And what to do about just that."""
    tls_server.shows(authority.issue(**certificate))
    one = (await take(by(settings, tls_server, authority)))["tls"]
    assert one.result is Result.FAIL
    assert re.search(found, one.found), one.found
    assert to_do in one.to_do


@pytest.mark.parametrize("whole", [False, True])
async def test_one_of_an_authority_that_nobody_named(
    settings: Settings, take: Any, tls_server: Any, authority: Any, stranger: Any, whole: bool
) -> None:
    """Whether the server shows its whole chain or not: it is the settings that lack it."""
    path, key = stranger.issue()
    if whole:
        path.write_text(path.read_text() + stranger.ca.read_text())
    tls_server.shows((path, key))
    one = (await take(by(settings, tls_server, authority)))["tls"]
    assert one.result is Result.FAIL
    assert "certificate of server" in one.found
    assert "nats_ca" in one.to_do


async def test_a_server_without_tls_where_it_is_asked_for(
    settings: Settings, look: Any, nats_server: Any, authority: Any
) -> None:
    """Then nothing is sent."""
    found = await look(replace(settings, nats=(nats_server.url,), nats_ca=authority.ca))
    assert found["server"].result is Result.PASS
    assert found["tls"].result is Result.FAIL
    assert "offers no TLS" in found["tls"].found
    assert found["login"].result is Result.SKIPPED


async def test_where_nobody_asks_for_tls_it_is_skipped(
    settings: Settings, look: Any, nats_server: Any
) -> None:
    """And the login is not."""
    found = await look(replace(settings, nats=(nats_server.url,)))
    assert found["tls"].result is Result.SKIPPED
    assert "in the clear" in found["tls"].found
    assert found["login"].result is Result.PASS


async def test_a_file_of_the_settings_that_is_none(
    settings: Settings, take: Any, tls_server: Any, authority: Any
) -> None:
    """It is named."""
    tls_server.shows(authority.issue())
    there = replace(settings, nats=(tls_server.url,), nats_ca=settings.state / "gone.pem")
    one = (await take(there))["tls"]
    assert one.result is Result.FAIL and one.to_do
    assert "gone.pem: cannot be used" in one.found


async def test_somebody_between_who_breaks_off(
    settings: Settings, take: Any, authority: Any
) -> None:
    """It is no certificate's fault."""

    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b'INFO {"tls_required": true}\r\n')
        await reader.read(1)
        writer.transport.abort()

    async with await asyncio.start_server(hang_up, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        there = replace(settings, nats=(f"nats://127.0.0.1:{port}",), nats_ca=authority.ca)
        one = (await take(there))["tls"]
    assert one.result is Result.FAIL
    assert one.found == "no handshake: the server hung up"
    assert "what stands between" in one.to_do


async def test_mutual_tls_without_a_certificate_of_ones_own(
    settings: Settings, look: Any, tls_server: Any, authority: Any
) -> None:
    """The server says that it wants one, before anything is sent."""
    mutual = f'verify: true, ca_file: "{authority.ca}"'
    tls_server.shows(authority.issue(), tls=f", {mutual}")
    found = await look(by(settings, tls_server, authority))
    assert found["tls"].result is Result.FAIL
    assert "nats_certificate" in found["tls"].to_do


async def test_mutual_tls_with_one(
    settings: Settings, look: Any, tls_server: Any, authority: Any, stranger: Any
) -> None:
    """One that the server does not believe is told at the login, where the server says so."""
    tls_server.shows(authority.issue(), tls=f', verify: true, ca_file: "{authority.ca}"')
    there = by(settings, tls_server, authority)
    for who, result in ((authority, Result.PASS), (stranger, Result.FAIL)):
        path, key = who.issue("DNS:pc-1")
        found = await look(replace(there, nats_certificate=path, nats_key=key))
        assert found["tls"].result is Result.PASS
        assert found["login"].result is result
    assert f"does not accept the certificate {path}" in found["login"].found
