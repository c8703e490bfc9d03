"""Whether the server proves who it is: handshake, chain, name, and until when."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from reachmap_agent.doctor import way
from reachmap_agent.doctor.patient import Patient
from reachmap_agent.doctor.steps import Finding, failed, passed, skipped
from reachmap_agent.wire import certificate
from reachmap_agent.wire.certificate import MalformedCertificate
from reachmap_shared.errors import InvalidSettings

_SOON: Final = timedelta(days=14)
"""For a certificate's end: time enough to renew it."""

_CLOCK: Final = "or set this host's clock, if that is wrong"
_MEANINGS: Final = {
    9: f"see the server's certificate, {_CLOCK}",
    10: f"renew the server's certificate, {_CLOCK}",
    18: "its certificate vouches for itself: name it, or its authority, by nats_ca",
    19: "name the authority that vouches for it by nats_ca",
    20: "name its authority by nats_ca, or have the server show its whole chain",
    62: "use one of its names in the URL, or give it a certificate for this one",
    64: "use one of its names in the URL, or give it a certificate for this address",
}
"""By X.509's reasons, as OpenSSL numbers them: not yet valid, expired, self-signed, ... in the
chain, issuer unknown, another name, another address."""


@dataclass(frozen=True, slots=True)
class Shown:
    """What a handshake came to."""

    version: str
    chain: tuple[bytes, ...]


async def tls(patient: Patient) -> AsyncIterator[Finding]:
    """Whether it has a certificate that is to be believed, for its name and for now."""
    server, access = patient.server, patient.settings.access
    demanded = access.demands_tls(server.url)
    offered = bool(patient.info.get("tls_required") or patient.info.get("tls_available"))
    if not server.is_websocket:
        if demanded and not offered:
            yield failed(
                "the server offers no TLS, which nats_ca, nats_certificate or tls:// asks for",
                "give it a certificate (docs/bus.md), or see who stands between",
            )
            return
        demanded = demanded or bool(patient.info.get("tls_required"))
    if not demanded or server.scheme == "ws":
        yield skipped("neither the server nor the settings ask for TLS: all is said in the clear")
        return
    if patient.info.get("tls_verify") and access.certificate is None:
        yield failed(
            "the server wants to be shown a certificate (mutual TLS), and none is set",
            "set nats_certificate and nats_key: a bundle from `reachmap enroll` brings them",
        )
        return
    try:
        context = access.tls()
    except InvalidSettings as error:
        yield failed(str(error), "mend it; nothing is sent until then")
        return
    try:
        shown = await _shake_hands(patient, context)
    except ssl.SSLCertVerificationError as error:
        found = f"{error.verify_message}{await _whose(patient)}"
        yield failed(found, _MEANINGS.get(error.verify_code, "see the server's certificate"))
        return
    except (OSError, TimeoutError) as error:
        yield failed(
            f"no handshake: {_why(error)}", "see the server's log, and what stands between"
        )
        return
    patient.context, patient.chain = context, shown.chain
    yield _of(shown, server.host)


def _of(shown: Shown, host: str) -> Finding:
    try:
        read = certificate.read(shown.chain[0])
    except MalformedCertificate:  # which was believed all the same
        return passed(shown.version)
    left = datetime.fromtimestamp(read.not_after, UTC) - datetime.now(UTC)
    found = f"{shown.version}, {'; '.join(certificate.facts(read, host))}"
    if left < _SOON:
        return passed(found, f"renew the server's certificate: it ends in {left.days} days")
    return passed(found)


async def _whose(patient: Patient) -> str:
    """Whose the certificate is that was not believed, as far as it tells."""
    stranger = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    stranger.check_hostname = False
    stranger.verify_mode = ssl.CERT_NONE
    with contextlib.suppress(OSError, TimeoutError, MalformedCertificate):
        shown = await _shake_hands(patient, stranger)
        read = certificate.read(shown.chain[0])
        return f": {'; '.join(certificate.facts(read, patient.server.host))}"
    return ""


async def _shake_hands(patient: Patient, context: ssl.SSLContext) -> Shown:
    async with _connected(patient) as writer, asyncio.timeout(way.STEP_S):
        await writer.start_tls(context, server_hostname=patient.server.host)
        ended: ssl.SSLObject = writer.get_extra_info("ssl_object")
        own = ended.getpeercert(binary_form=True)
        assert own is not None  # a server always shows one
        # From Python 3.13 on the rest can be asked for too.
        rest: list[bytes] = getattr(ended, "get_unverified_chain", list)()
        return Shown(ended.version() or "TLS", tuple(dict.fromkeys((own, *rest))))


@asynccontextmanager
async def _connected(patient: Patient) -> AsyncIterator[asyncio.StreamWriter]:
    """Up to where the handshake begins."""
    async with asyncio.timeout(way.STEP_S):
        reader, writer = await asyncio.open_connection(patient.address, patient.server.port)
    try:
        if not patient.server.is_websocket:
            await way.greeting(reader)
        yield writer
    finally:
        writer.transport.abort()


def _why(error: Exception) -> str:
    if isinstance(error, ssl.SSLError):
        return (error.reason or "it broke off").replace("_", " ").lower()
    if isinstance(error, ConnectionError):
        return "the server hung up"
    return way.why(error)
