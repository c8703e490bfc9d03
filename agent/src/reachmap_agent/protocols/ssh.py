"""SSH: both sides begin with an identification line (RFC 4253, 4.2). Pure."""

from reachmap_agent.wire.exchange import (
    Exchange,
    Offer,
    StandIn,
    Target,
    answered,
    signature,
    until,
    wrong_service,
)


def check(target: Target) -> Exchange:
    """Read the server's identification, and leave before any key is exchanged."""
    line = yield from until(b"\n", begins=b"SSH-")
    if not line.startswith(b"SSH-"):
        return wrong_service("an SSH identification", line)
    return answered(target, line, "an SSH identification")


def stand_in(offer: Offer) -> StandIn:
    """Identify as an SSH server whose software is reachmap."""
    yield from ()
    return b"SSH-2.0-" + signature(offer.token, "_") + b"\r\n"
