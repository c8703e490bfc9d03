"""Whether the certificates of the login are still good, by who answers for them.

A server that asks the responder about its clients lets nobody in while that is away, though its
port is open: so this host's own certificate is asked about too. It is asked as a nats-server asks,
by GET and for two seconds. What a server staples cannot be seen here.
"""

import asyncio
import base64
import ssl
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Final
from urllib.parse import quote, urlsplit

from reachmap_agent.doctor import ocsp, way
from reachmap_agent.doctor.ocsp import Identified, NoAnswer
from reachmap_agent.doctor.patient import Patient, Told
from reachmap_agent.doctor.steps import Finding, failed, passed, skipped
from reachmap_agent.wire import web
from reachmap_agent.wire.der import MalformedDer

_ANSWER_S: Final = 2.0
_MAX_ANSWER: Final = 65_536
_HTTP: Final = 80

_MEANINGS: Final = {
    "revoked": "give it a new certificate",
    "unknown": "see whether this is its authority's responder, and whether its database has it",
}
_AWAY: Final = (
    "see whether the responder runs (OpenUEM's starts once its database answers), and what is in "
    "the way; servers that ask it let nobody in until then"
)


async def ask(patient: Patient) -> AsyncIterator[Finding]:
    """Ask about the server's certificate, and about this host's."""
    known = [*_identified(patient.chain), *_authorities(patient.context)]
    asked = False
    for whose, certificate in _asked_about(patient):
        if not certificate.responders:
            continue
        asked = True
        issuer = next((one for one in known if one.subject == certificate.issuer), None)
        if issuer is None:
            yield skipped(f"{whose} certificate: its authority's own is not at hand to ask by")
        else:
            yield await _answered(patient, whose, certificate, issuer)
    if not asked:
        yield skipped("no certificate here names a responder")


def _asked_about(patient: Patient) -> Iterator[tuple[str, Identified]]:
    for certificate in list(_identified(patient.chain[:1])):
        yield "the server's", certificate
    own = patient.settings.nats_certificate
    if own is not None:
        for certificate in list(_identified(_ders(own)))[:1]:
            yield "this host's", certificate


async def _answered(
    patient: Patient, whose: str, certificate: Identified, issuer: Identified
) -> Finding:
    url = certificate.responders[0]
    if not _can_be_asked(url):
        return skipped(f"{whose} certificate names {url}, which is not asked from here")
    try:
        async with asyncio.timeout(_ANSWER_S):
            response = await _got(url, ocsp.question(certificate, issuer))
        _note_time(patient, url, response)
        if response.code != 200:
            raise NoAnswer(f"HTTP status {response.code}")
        said = ocsp.answer(response.body, certificate)
    except TimeoutError:
        return failed(f"{url}: no answer in {_ANSWER_S:g} s about {whose} certificate", _AWAY)
    except OSError as error:
        return failed(f"{url}: {way.why(error)}", _AWAY)
    except NoAnswer as error:
        return failed(f"{url}: {error}", "see the responder's log, and what stands between")
    if said.status != "good":
        return failed(f"{url} calls {whose} certificate {said.status}", _MEANINGS[said.status])
    if said.until is not None and said.until < datetime.now(UTC):
        stale = f"{url}: its answer held until {said.until:%Y-%m-%d %H:%M} UTC"
        return failed(stale, "have the responder make new answers, or set this host's clock")
    return passed(f"{url} calls {whose} certificate good")


def _can_be_asked(url: str) -> bool:
    """Whether it names a host and a port: a certificate may say anything."""
    try:
        parts = urlsplit(url)
        host, port = (parts.hostname or "").encode("idna"), parts.port
    except ValueError:
        return False
    return parts.scheme == "http" and host != b"" and port != 0


async def _got(url: str, question: bytes) -> web.Response:
    """Ask by GET, over HTTP/1.0: the answer comes in one piece, and ends the connection."""
    parts = urlsplit(url)
    assert parts.hostname is not None
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port or _HTTP)
    try:
        path = f"{parts.path.rstrip('/')}/{quote(base64.b64encode(question), safe='')}"
        head = f"GET {path} HTTP/1.0\r\nHost: {parts.netloc}\r\nUser-Agent: reachmap\r\n\r\n"
        writer.write(head.encode())
        received = b""
        while len(received) < _MAX_ANSWER and (chunk := await reader.read(_MAX_ANSWER)):
            received += chunk
        before, end, body = received.partition(web.END)
        return web.Response(before + end, body)
    finally:
        writer.transport.abort()


def _note_time(patient: Patient, url: str, response: web.Response) -> None:
    try:
        then = parsedate_to_datetime(web.header(response.head, "Date"))
        skew = datetime.now(UTC) - then
    except (ValueError, TypeError, OverflowError):  # it says none, or one without a zone or end
        return
    patient.times.append(Told(url, skew))


def _authorities(context: ssl.SSLContext | None) -> Iterator[Identified]:
    if context is not None:
        yield from _identified(context.get_ca_certs(binary_form=True))


def _identified(ders: list[bytes] | tuple[bytes, ...]) -> Iterator[Identified]:
    for der in ders:
        try:
            yield ocsp.identify(der)
        except MalformedDer:
            continue


def _ders(path: Path) -> list[bytes]:
    """The certificates in a PEM file; whoever gets here has connected by it."""
    begin, end = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"
    try:
        parts = path.read_text(encoding="utf-8").split(begin)[1:]
        return [ssl.PEM_cert_to_DER_cert(begin + part.partition(end)[0] + end) for part in parts]
    except (OSError, ValueError):
        return []
