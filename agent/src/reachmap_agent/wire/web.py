"""HTTP/1.1, as far as one request and the head of its response go. Pure."""

from reachmap_agent.wire.exchange import (
    Exchange,
    Offer,
    StandIn,
    Target,
    Verdict,
    answered,
    signature,
    until,
    wrong_service,
)

_END = b"\r\n\r\n"


def get(target: Target, path: str) -> Exchange:
    """Ask for `path`; any HTTP response is right, and one of 500 or more says it is not well."""
    head = yield from until(_END, _request(target.host, path), begins=b"HTTP/")
    code = _status(head)
    if code is None:
        return wrong_service("an HTTP response", head)
    verdict = answered(target, head, f"HTTP status {code}")
    if code < 500:
        return verdict
    return Verdict(verdict.outcome, verdict.evidence, verdict.answered_by, healthy=False)


def stand_in(offer: Offer) -> StandIn:
    """Answer any request with an empty response that bears the token."""
    head = yield from until(_END)
    if _END not in head:
        return b""
    return (
        b"HTTP/1.1 200 OK\r\nServer: "
        + signature(offer.token)
        + b"\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    )


def _request(host: str, path: str) -> bytes:
    """A GET that says who asks, so that nobody wonders at it in a log."""
    host = f"[{host}]" if ":" in host else host
    return (
        f"GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: reachmap\r\nAccept: */*\r\n"
        "Connection: close\r\n\r\n"
    ).encode()


def _status(head: bytes) -> int | None:
    """The status code of a response's head; None when it is no HTTP response."""
    version, _, rest = head.partition(b" ")
    code = rest[:3]
    if not version.startswith(b"HTTP/") or len(code) != 3 or not code.isdigit():
        return None
    return int(code)
