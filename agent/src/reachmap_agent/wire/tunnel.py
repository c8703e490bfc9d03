"""TLS as a pump between an exchange and the wire. Pure: it works on memory alone."""

import contextlib
import ipaddress
import ssl
from collections.abc import Callable, Generator
from dataclasses import replace

from reachmap_agent.wire.exchange import Exchange, Offer, Result, StandIn, Target, Verdict
from reachmap_shared.vocabulary import Outcome

Pump = Generator[bytes, bytes, Result]


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

    def handshake(self) -> Pump[None]:
        """Shake hands; raises ssl.SSLError as the session does."""
        while True:
            try:
                self.session.do_handshake()
            except ssl.SSLWantReadError:
                self._feed((yield self._outgoing.read()))
            else:
                return

    def carry(self, inner: Generator[bytes, bytes, Result]) -> Pump[Result]:
        """Run `inner` inside; returns what it returns. Raises ssl.SSLError too."""
        try:
            plain = next(inner)
            while True:
                if plain:
                    self.session.write(plain)
                plain = inner.send((yield from self._read()))
        except StopIteration as stop:
            return stop.value  # type: ignore[no-any-return]  # a generator's value is untyped here

    @property
    def certificate(self) -> bytes:
        """DER of the other side's certificate; empty when it showed none."""
        return self.session.getpeercert(binary_form=True) or b""

    def sealed(self, last: bytes = b"") -> bytes:
        """What to send so that the other side reads `last`, and then the end."""
        if last:
            self.session.write(last)
        with contextlib.suppress(ssl.SSLError):  # it waits for the other side's farewell too
            self.session.unwrap()
        return self._outgoing.read()

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


def check_inside(target: Target, inner: Callable[[Tunnel], Exchange]) -> Exchange:
    """Shake hands with whoever is dialled, then run the exchange that `inner` makes in the tunnel.

    Whose certificate it is does not matter here: that something speaks TLS is what is asked.
    """
    assert target.tls is not None
    tunnel = Tunnel(target.tls, server=False, server_name=_server_name(target.host))
    try:
        yield from tunnel.handshake()
        verdict = yield from tunnel.carry(inner(tunnel))
        # With it goes what is left of the handshake, or the server would log one that failed.
        return replace(verdict, farewell=tunnel.sealed())
    except ssl.SSLError as error:
        return Verdict(Outcome.TLS_FAILURE, (f"TLS failed: {_reason(error)}",))


def stand_in_inside(offer: Offer, inner: StandIn) -> StandIn:
    """The listener's side of `check_inside`; a stranger that speaks no TLS gets nothing."""
    assert offer.tls is not None
    tunnel = Tunnel(offer.tls, server=True)
    try:
        yield from tunnel.handshake()
        return tunnel.sealed((yield from tunnel.carry(inner)))
    except ssl.SSLError:
        return b""


def _server_name(host: str) -> str | None:
    """What to send as SNI, which names hosts and never addresses (RFC 6066, 3)."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return host
    return None


def _reason(error: ssl.SSLError) -> str:
    return error.reason.replace("_", " ").lower() if error.reason else str(error)
