"""What every request meets before it is answered, and every answer on its way out.

Who may ask, under which name, how much one may send; and headers that keep browsers from making
more of an answer than it is.
"""

import hmac
from collections.abc import Mapping
from http import HTTPStatus
from typing import Final

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from reachmap_collector.http.openapi import PROBLEM_TYPE
from reachmap_collector.http.settings import HttpSettings

OPEN_TO_ALL: Final = frozenset({"/healthz", "/readyz"})
"""Paths that need no token: they tell nothing but that somebody is there."""

_HEADERS: Final[Mapping[str, str]] = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


def problem(status: int, detail: str, headers: Mapping[str, str] | None = None) -> JSONResponse:
    """An error as RFC 9457 has it."""
    content = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
    }
    return JSONResponse(content, status, headers, PROBLEM_TYPE)


class Guard:
    """Stands around the whole application."""

    def __init__(self, app: ASGIApp, settings: HttpSettings) -> None:
        self._app = app
        self._expected = None if settings.token is None else b"Bearer " + settings.token
        own = settings.authority.rpartition(":")[0]
        self._names = frozenset({"localhost", "127.0.0.1", "[::1]", own})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or let the application do so."""
        if scope["type"] != "http":
            return

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(_HEADERS)
            await send(message)

        refusal = self._refusal(scope["path"], Headers(scope=scope))
        await (refusal or self._app)(scope, receive, send_guarded)

    def _refusal(self, path: str, headers: Headers) -> JSONResponse | None:
        if headers.get("content-length", "0") != "0" or "transfer-encoding" in headers:
            # Nothing is read of it, and the connection does not go on behind it.
            return problem(413, "a question here has no body", {"Connection": "close"})
        if self._expected is None:
            # A page on the web may have its own name lead here, and its scripts read the answer.
            name = headers.get("host", "").lower()
            host = name if name.endswith("]") else name.rpartition(":")[0] or name
            if host not in self._names:
                return problem(421, f"{name!r} is no name of this server")
        elif path not in OPEN_TO_ALL:
            shown = headers.get("authorization", "").encode("latin-1")
            if not hmac.compare_digest(shown, self._expected):
                why = "expected Authorization: Bearer and the token of --http-token-file"
                return problem(401, why, {"WWW-Authenticate": "Bearer"})
        return None
