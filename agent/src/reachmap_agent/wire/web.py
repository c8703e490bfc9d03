"""HTTP/1.1, as far as a request or two and the beginning of their responses go. Pure."""

import contextlib
import re
from collections.abc import Generator, Mapping
from dataclasses import dataclass, replace
from typing import Final

from reachmap_agent.wire.exchange import (
    MAX_READ,
    Exchange,
    Lost,
    Offer,
    Silence,
    StandIn,
    Target,
    Verdict,
    answered,
    proven_text,
    until,
    wrong_service,
)

END: Final = b"\r\n\r\n"
"""Of the head of a request or a response."""

_LINE: Final = b"\r\n"
_PROOF: Final = "Reachmap-Proof"


@dataclass(frozen=True, slots=True)
class Response:
    """A response, as far as it was read."""

    head: bytes
    body: bytes = b""
    reusable: bool = False
    """Whether it was read to its end, and the server waits for the next request."""

    @property
    def code(self) -> int | None:
        """Its status; None when it is no HTTP response."""
        version, _, rest = self.head.partition(b" ")
        code = rest[:3]
        if not version.startswith(b"HTTP/") or len(code) != 3 or not code.isdigit():
            return None
        return int(code)


def get(target: Target, path: str) -> Exchange:
    """Ask for `path`; any HTTP response is right, and one of 500 or more says it is not well."""
    response = yield from whole(request(target, path, {"Connection": "close"}))
    code = response.code
    if code is None:
        return wrong_service("an HTTP response", response.head)
    if (listener := by_listener(target, response)) is not None:
        return listener
    verdict = answered(f"HTTP status {code}")
    return verdict if code < 500 else replace(verdict, healthy=False)


def stand_in(offer: Offer) -> StandIn:
    """Answer a request that bears a challenge with an empty response that bears the proof."""
    head = yield from until(END)
    proof = offer.prove_text(head)
    return empty_response(proof) if proof and END in head else b""


def empty_response(proof: bytes) -> bytes:
    """A stand-in's answer where nothing better fits."""
    return (
        b"HTTP/1.1 200 OK\r\nServer: reachmap\r\n"
        + proof_line(proof)
        + b"Content-Length: 0\r\nConnection: close\r\n\r\n"
    )


def proof_line(proof: bytes) -> bytes:
    """The header by which a stand-in proves who it is."""
    return _PROOF.encode() + b": " + proof + _LINE


def by_listener(target: Target, response: "Response") -> Verdict | None:
    """The verdict on a response that is a listener's; None where it is not."""
    proof = header(response.head, _PROOF)
    return proven_text(target, proof.encode("latin-1")) if proof else None


def request(
    target: Target, path: str, headers: Mapping[str, str], body: bytes = b"", method: str = "GET"
) -> bytes:
    """A request that says who asks, so that nobody wonders at it in a log."""
    host = f"[{target.host}]" if ":" in target.host else target.host
    own = {"Host": host, "User-Agent": "reachmap", "Accept": "*/*"}
    if target.challenge is not None:
        own["Reachmap-Challenge"] = target.challenge.text.decode()
    if body:
        own["Content-Length"] = str(len(body))
    lines = [f"{method} {path} HTTP/1.1"]
    lines += [f"{name}: {value}" for name, value in {**own, **headers}.items()]
    return "\r\n".join(lines).encode() + END + body


def header(head: bytes, name: str) -> str:
    """The value of a header; empty when it is not there."""
    for line in head.split(_LINE)[1:]:
        key, _, value = line.partition(b":")
        if key.decode("latin-1").lower() == name.lower():
            return value.strip().decode("latin-1")
    return ""


def beginning(asked: bytes) -> Generator[bytes, bytes, Response]:
    """Send a request; the head of the response, and what came with it of the body."""
    head, end, body = (yield from until(END, asked, begins=b"HTTP/")).partition(END)
    return Response(head + end, body)


def whole(asked: bytes) -> Generator[bytes, bytes, Response]:
    """Send a request; the response with its body, of which no more than MAX_READ is read.

    A server that finds nobody reading its body may log an error. One that keeps it to itself, or
    breaks off, has answered all the same.
    """
    response = yield from beginning(asked)
    received = response.body
    body, complete = _body(response.head, received)
    with contextlib.suppress(Silence, Lost):
        while not complete and END in response.head and len(received) < MAX_READ:
            chunk = yield b""
            if not chunk:
                break
            received += chunk
            body, complete = _body(response.head, received)
    stays = response.head.startswith(b"HTTP/1.1 ")
    stays = stays and "close" not in header(response.head, "Connection").lower()
    return Response(response.head, body, complete and stays)


def _body(head: bytes, received: bytes) -> tuple[bytes, bool]:
    """The body in what was received, and whether that is all of it (RFC 9112, 6.3)."""
    if header(head, "Transfer-Encoding").lower() == "chunked":
        return _unchunked(received)
    length = header(head, "Content-Length")
    if not re.fullmatch("[0-9]{1,9}", length):
        return received, False  # it ends with the connection
    return received[: int(length)], len(received) >= int(length)


def _unchunked(received: bytes) -> tuple[bytes, bool]:
    body = b""
    while True:
        line, end, rest = received.partition(_LINE)
        size = re.match(rb"[0-9A-Fa-f]{1,6}(?![0-9A-Fa-f])", line)
        if not end or size is None:
            return body, False
        length = int(size[0], 16)
        if not length:
            return body, rest.startswith(_LINE)
        body += rest[:length]
        if len(rest) < length + len(_LINE):
            return body, False
        received = rest[length + len(_LINE) :]
