"""TLS as a pump between an exchange and the wire. Pure: it works on memory alone."""

import contextlib
import ipaddress
import ssl
from collections.abc import Callable, Collection, Generator
from dataclasses import replace
from typing import Final

from reachmap_agent.wire import certificate
from reachmap_agent.wire.exchange import (
    Exchange,
    Lost,
    Offer,
    Result,
    Silence,
    StandIn,
    Target,
    Verdict,
    leave,
)
from reachmap_shared.vocabulary import AnsweredBy, Outcome

Pump = Generator[bytes, bytes, Result]

_WANTS_CERTIFICATE: Final = frozenset(
    {"TLSV13_ALERT_CERTIFICATE_REQUIRED", "SSLV3_ALERT_BAD_CERTIFICATE"}
)
"""What a server says to a client that showed no certificate and had to (RFC 8446, 4.4.2.4)."""

_TURNED_AWAY: Final = "it lets in only clients that show a certificate"

_MAY_WANT_CERTIFICATE: Final = _WANTS_CERTIFICATE | {"SSLV3_ALERT_HANDSHAKE_FAILURE"}
"""In TLS 1.2 it says this, and to others as well (RFC 5246, 7.4.6)."""


class Tunnel:
    """One TLS session, as a pair of memory buffers.

    `server_name` is sent as SNI; None for a server, and for a client that dials an address.
    """

    def __init__(self, context: ssl.SSLContext, *, server: bool, server_name: str | None = None):
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self.session = context.wrap_bio(
            self._incoming, self._outgoing, server_side=server, server_hostname=server_name
        )
        self.certificate = b""
        """DER of the other side's, once hands are shaken; empty when it showed none."""
        self._over = False

    def handshake(self) -> Pump[None]:
        """Shake hands; raises ssl.SSLError as the session does.

        Its last word is sent with what comes next, so something has to.
        """
        while True:
            try:
                self.session.do_handshake()
            except ssl.SSLWantReadError:
                self._feed((yield self._outgoing.read()))
            else:
                self.certificate = self.session.getpeercert(binary_form=True) or b""
                return

    def carry(self, inner: Generator[bytes, bytes, Result]) -> Pump[Result]:
        """Run `inner` inside; returns what it returns. Raises ssl.SSLError too."""
        try:
            plain = next(inner)
            while True:
                if plain:
                    self.session.write(plain)
                try:
                    received = yield from self._read()
                except (Silence, Lost) as end:
                    self._over = True
                    plain = inner.throw(end)
                else:
                    self._over = not received
                    plain = inner.send(received)
        except StopIteration as stop:
            return stop.value  # type: ignore[no-any-return]  # a generator's value is untyped here

    def sealed(self, last: bytes = b"") -> bytes:
        """What to send so that the other side reads `last`, and then the end."""
        if last:
            self.session.write(last)
        with contextlib.suppress(ssl.SSLError):  # it waits for the other side's farewell too
            self.session.unwrap()
        return self._outgoing.read()

    def farewell(self) -> Pump[None]:
        """End the session, and let the other side end the connection.

        Raises ssl.SSLError when it turns us away only now, as it may in TLS 1.3.
        """
        if self._over:
            return
        self._incoming.write((yield from leave(self.sealed())))
        self._over = True
        with contextlib.suppress(ssl.SSLWantReadError, ssl.SSLZeroReturnError, ssl.SSLEOFError):
            while self.session.read(16_384):
                pass

    def _read(self) -> Pump[bytes]:
        while True:
            try:
                return self.session.read(16_384)
            except ssl.SSLWantReadError:
                self._feed((yield self._outgoing.read()))
            except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
                return b""

    def _feed(self, chunk: bytes) -> None:
        if chunk:
            self._incoming.write(chunk)
        else:
            self._incoming.write_eof()


def check_inside(
    target: Target,
    inner: Callable[[Tunnel], Exchange],
    *,
    waits: bool = False,
    wants_certificate: bool = False,
) -> Exchange:
    """Shake hands with whoever is dialled, then run the exchange that `inner` makes in the tunnel.

    Whose certificate it is does not matter for the outcome, but is told. A server that turns us
    away because we have none is open: it does what it is meant to do.

    Args:
        target: Whom; its `tls` is there.
        inner: Makes the exchange, once hands are shaken.
        waits: Whether a service would wait for more when `inner` has ended.
        wants_certificate: Whether the server has said that it wants a certificate of its clients.
    """
    assert target.tls is not None
    excused = _MAY_WANT_CERTIFICATE if wants_certificate else _WANTS_CERTIFICATE
    tunnel = Tunnel(target.tls, server=False, server_name=_server_name(target.host))
    try:
        yield from tunnel.handshake()
        verdict = yield from tunnel.carry(inner(tunnel))
        if waits and verdict.answered_by is AnsweredBy.SERVICE:
            verdict = yield from _part(tunnel, verdict, excused)
        else:
            # With it goes what is left of the handshake, or the server would log one that failed.
            verdict = replace(verdict, farewell=tunnel.sealed())
    except ssl.SSLError as error:
        if error.reason in excused:
            verdict = Verdict(Outcome.OPEN, (_TURNED_AWAY,), AnsweredBy.SERVICE)
        else:
            verdict = Verdict(Outcome.TLS_FAILURE, (f"TLS failed: {_reason(error)}",))
    return _with_certificate(verdict, target, tunnel.certificate)


def _part(tunnel: Tunnel, verdict: Verdict, excused: Collection[str]) -> Exchange:
    try:
        yield from tunnel.farewell()
    except ssl.SSLError as error:
        if error.reason in excused:
            return replace(verdict, evidence=(*verdict.evidence, _TURNED_AWAY))
    return verdict


def shook_hands(tunnel: Tunnel) -> Exchange:
    """For `check_inside`, where the handshake itself is the answer."""
    yield from ()
    evidence = (f"shook hands over {tunnel.session.version()}",)
    return Verdict(Outcome.OPEN, evidence, AnsweredBy.SERVICE)


def stand_in_inside(offer: Offer, inner: StandIn) -> StandIn:
    """The listener's side of `check_inside`; a stranger that speaks no TLS gets nothing."""
    assert offer.tls is not None
    tunnel = Tunnel(offer.tls, server=True)
    try:
        yield from tunnel.handshake()
        return tunnel.sealed((yield from tunnel.carry(inner)))
    except ssl.SSLError:
        return b""


def _with_certificate(verdict: Verdict, target: Target, der: bytes) -> Verdict:
    """The verdict, with what the certificate tells; that of our listeners tells nothing."""
    if not der or der == target.stand_in_certificate:
        return verdict
    try:
        shown = certificate.read(der)
    except certificate.MalformedCertificate as error:
        told = (f"its certificate is not readable: {error}",)
        return replace(verdict, evidence=verdict.evidence + told)
    return replace(
        verdict,
        evidence=verdict.evidence + certificate.facts(shown, target.host),
        certificate_until=shown.not_after,
    )


def _server_name(host: str) -> str | None:
    """What to send as SNI, which names hosts and never addresses (RFC 6066, 3)."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return host
    return None


def _reason(error: ssl.SSLError) -> str:
    return error.reason.replace("_", " ").lower() if error.reason else str(error)
