"""An OCSP responder: OCSP over HTTP (RFC 6960, appendix A). Pure.

A small request is a GET whose path is the request in base64. Ours asks about a certificate that
is nowhere, in octets that spell `health` and `reachmap` in base64: so those who read the access
log know who asks, and OpenUEM's responder, which takes any path with `health` in it for its health
page, tells besides whether its database is there.
"""

import base64
from dataclasses import replace
from typing import Final

from reachmap_agent.wire import web
from reachmap_agent.wire.der import ENUMERATED, SEQUENCE, MalformedDer, expect
from reachmap_agent.wire.exchange import Exchange, Target, Verdict, answered, wrong_service

_REQUEST: Final = (
    # OCSPRequest, TBSRequest, requestList, Request and CertID; hash algorithm SHA-1
    bytes.fromhex("3046 3044 3042 3040 303e 3009 0605 2b0e03021a 0500")
    # issuerNameHash and issuerKeyHash, 20 octets each
    + b"\x04\x14\0" + base64.b64decode("health" * 4) + b"\0"
    + b"\x04\x14" + base64.b64decode("reachmap" * 3) + b"\0\0"
    # serialNumber
    + b"\x02\x05\1\1\1\1\1"
)  # fmt: skip
_PATH: Final = "/" + base64.b64encode(_REQUEST).decode()

_STATUS: Final = {
    0: "successful",
    1: "malformedRequest",
    2: "internalError",
    3: "tryLater",
    5: "sigRequired",
    6: "unauthorized",
}
"""OCSPResponseStatus. None says anything of health: some call our question an internal error."""

_HEALTH_PAGE: Final = b"OCSP Responder is "
"""How OpenUEM's begins: 200 and healthy, or 500 and not."""

_NOBODY_BEHIND: Final = frozenset({502, 503, 504})
"""A proxy's words for a responder that is away."""

stand_in = web.stand_in


def check(target: Target) -> Exchange:
    """Ask by GET, and by POST where that is not taken for OCSP and the server stays."""
    response = yield from web.whole(web.request(target, _PATH, {}))
    if (listener := web.by_listener(target, response)) is not None:
        return listener
    if response.reusable and _recognized(response) is None:
        headers = {"Content-Type": "application/ocsp-request", "Connection": "close"}
        asked = web.request(target, "/", headers, _REQUEST, method="POST")
        posted = yield from web.whole(asked)
        response = posted if posted.head else response
    return _judge(response)


def _judge(response: web.Response) -> Verdict:
    if response.code is None:
        return wrong_service("an HTTP response", response.head)
    recognized = _recognized(response)
    if recognized is None and response.code not in _NOBODY_BEHIND:
        return wrong_service("an OCSP response", response.head)
    verdict = answered(recognized or f"HTTP status {response.code}")
    unwell = response.code >= 500 and _status(response.body) is None
    return replace(verdict, healthy=not unwell)


def _recognized(response: web.Response) -> str | None:
    """What only a responder says, in words; None when it is anything else."""
    if (status := _status(response.body)) is not None:
        return f"OCSP status {status}"
    if response.body.startswith(_HEALTH_PAGE):
        return f"a responder's health page, HTTP status {response.code}"
    return None


def _status(body: bytes) -> str | None:
    """The status in an OCSPResponse; None when it is none."""
    try:
        status = expect(ENUMERATED, expect(SEQUENCE, body))
    except MalformedDer:
        return None
    return _STATUS.get(status[0]) if len(status) == 1 else None
