"""The protocols that checks and listeners speak: one small file each, one line here each.

None of them knows another, nor a socket: see `reachmap_agent.wire.exchange` for how one is
written.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from reachmap_agent.protocols import (
    dns,
    http,
    https,
    nats,
    ntp,
    ocsp,
    postgres,
    smtp,
    ssh,
    tcp,
    tls,
    udp,
    websocket,
    wss,
)
from reachmap_agent.wire.exchange import Exchange, Offer, StandIn, Target


@dataclass(frozen=True, slots=True)
class Protocol:
    """How to check a service, and how to stand in for it."""

    check: Callable[[Target], Exchange]
    stand_in: Callable[[Offer], StandIn]
    uses_tls: bool = False
    patience_s: float | None = None
    """How long to wait for an answer where silence is one; None: until the check's time is up."""
    reset: bool = True
    """Whether a check may end with RST, which leaves nothing behind on either host or on the way.

    Not where the server would log it as a fault.
    """

    @property
    def greeted_patience_s(self) -> float | None:
        """The same where a listener of ours is, which greets whoever comes.

        Silence means somebody else there: not a handshake whose last packet was lost.
        """
        return None if self.patience_s is None else max(self.patience_s, _GREETED_WITHIN_S)


_GREETED_WITHIN_S: Final = 1.5
"""By whoever has accepted: where the handshake's last packet is lost, the one before it is sent
again after one second."""

REGISTRY: Final[Mapping[str, Protocol]] = {
    "dns": Protocol(dns.check, dns.stand_in),
    "http": Protocol(http.check, http.stand_in),
    "https": Protocol(https.check, https.stand_in, uses_tls=True, reset=False),
    "nats": Protocol(nats.check, nats.stand_in, reset=False),
    "ntp": Protocol(ntp.check, ntp.stand_in),
    "ocsp": Protocol(ocsp.check, ocsp.stand_in),
    "postgres": Protocol(postgres.check, postgres.stand_in, reset=False),
    "smtp": Protocol(smtp.check, smtp.stand_in, reset=False),
    "ssh": Protocol(ssh.check, ssh.stand_in, reset=False),
    "tcp": Protocol(tcp.check, tcp.stand_in, patience_s=0.5),
    "tls": Protocol(tls.check, tls.stand_in, uses_tls=True, reset=False),
    "udp": Protocol(udp.check, udp.stand_in),
    "websocket": Protocol(websocket.check, websocket.stand_in, reset=False),
    "wss": Protocol(wss.check, wss.stand_in, uses_tls=True, reset=False),
}
