"""The NATS client, as we use it: it proves itself, keeps its words private, and comes back.

Only `bus` and what it is made of use it. What it overrides are seams of nats-py's without a name of
their own; the tests hold each to a real server.
"""

import asyncio
import ssl
from collections.abc import Mapping
from typing import Any, Final

from reachmap_shared import lean
from reachmap_shared.access import Access
from reachmap_shared.errors import InvalidSettings
from reachmap_shared.straight import Delivery, Listener, StraightParser

with lean.imports():
    from nats import errors
    from nats.aio.client import Client
    from nats.aio.msg import Msg
    from nats.aio.transport import TcpTransport

__all__ = ["Client", "GuardedClient", "Msg", "errors"]

_PERMISSIONS: Final = "permissions violation"
_STALE: Final = "stale connection"
_ERROR: Final = b"-ERR "

_REFUSALS: Final = {
    "authorization violation": "it does not accept {shown}",
    "authentication expired": "{shown} expired",
    "authentication revoked": "{shown} was revoked",
    "authentication timeout": "it waited in vain for {shown}",
    "maximum account active connections": "no more connections have room beside {shown}",
}
"""What a server says when it does not let a client in, and what that means."""


class NotPrivate(errors.Error):
    """The server would have us speak in the clear."""


class Unusable(errors.Error):
    """What we are to show is missing or cannot be used; says which file, and why."""


class GuardedClient(Client):
    """A client of one `Access`."""

    def __init__(self, access: Access, *, stays: bool) -> None:
        """Make one.

        Args:
            access: What it shows, and whom it believes.
            stays: Whether it comes back when a server throws it out: an administrator may let it
                in again.
        """
        super().__init__()
        self._access = access
        self.stays: Final = stays
        self._jwt = ""
        self._ps = self._straight = StraightParser(self)

    async def listen(self, subject: str, heard: Listener) -> None:
        """Have each message on a subject handed over as it comes."""

        async def deliver(message: Msg) -> None:
            heard(Delivery(message.subject, message.data, message.reply, message.headers or {}))

        subscription = await self.subscribe(subject, cb=deliver)
        self._straight.listeners[b"%d" % subscription._id] = heard

    def proving(self) -> dict[str, Any]:
        """The options of `connect` by which it shows what it has."""
        access = self._access
        options: dict[str, Any] = {"inbox_prefix": access.inbox}
        if access.credentials is not None or access.nkey is not None:
            options["signature_cb"] = self._sign
        if access.credentials is not None:
            options["user_jwt_cb"] = self._vouch
        if access.user:
            options |= {"user": access.user, "password": access.password}
        if access.token:
            options["token"] = access.token
        if access.server_name:
            options["tls_hostname"] = access.server_name
        return options

    def refusal(self, error: BaseException) -> str:
        """Why a server did not let us in; empty when the error is another."""
        access = self._access
        if isinstance(error, (NotPrivate, Unusable)):
            return str(error)
        if isinstance(error, ssl.SSLCertVerificationError):
            whom = access.ca or "this system"
            return f"its certificate is not one that {whom} vouches for: {error.verify_message}"
        text = str(error).lower()
        for words, meaning in _REFUSALS.items():
            if words in text:
                return f"{meaning.format(shown=self._shown())} ({words})"
        # A server that finds a certificate wrong hangs up, with or without an alert (TLS 1.3).
        if self._server_info.get("tls_verify") and isinstance(
            error, (ssl.SSLError, ConnectionError)
        ):
            return f"it does not accept the certificate {access.certificate}"
        return ""

    def _shown(self) -> str:
        url = self._current_server.uri if self._current_server else None
        if url is not None and url.username is not None:
            return "the user or token in its URL"
        return self._access.shown or "a client without credentials"

    @property
    def ssl_context(self) -> ssl.SSLContext:
        """Of the files as they are now."""
        try:
            return self._access.tls()
        except InvalidSettings as error:
            raise Unusable(str(error)) from error

    def _sign(self, nonce: str) -> bytes:
        try:
            proof = self._access.prove(nonce)
        except InvalidSettings as error:
            raise Unusable(str(error)) from error
        assert proof is not None
        self._public_nkey = proof.public
        self._jwt = proof.jwt
        return proof.signature

    def _vouch(self) -> bytearray:
        return bytearray(self._jwt.encode())  # of the same reading of the file as the signature

    async def _process_connect_init(self) -> None:
        """Let a connection go whose handshake failed, and find out why it did.

        asyncio does not tell the stream that it took the connection from, and the client, which
        waits for that stream's end before each new attempt, would wait for ever. It takes a
        connection that ended without an answer for one that was made, too.
        """
        try:
            await super()._process_connect_init()
            if not self.is_connected and self._transport is not None and self._transport.at_eof():
                raise ConnectionResetError("it hung up before it let us in")
        except BaseException as error:
            words = self._last_words() if isinstance(error, ConnectionError) else ""
            self._let_go()
            if words:
                raise errors.Error(f"nats: {words}") from error
            raise

    def _last_words(self) -> str:
        """What the server said at last, if it came before our first word, which nobody answers."""
        reader = self._transport._io_reader if isinstance(self._transport, TcpTransport) else None
        said = bytes(getattr(reader, "_buffer", b""))  # no method shows it where the writing failed
        _, found, rest = said.partition(_ERROR)
        return rest.partition(b"\r\n")[0].decode(errors="replace").strip() if found else ""

    def _let_go(self) -> None:
        transport = self._transport
        if isinstance(transport, TcpTransport) and transport._io_writer is not None:
            transport._io_writer.transport.abort()
            transport._io_writer = transport._io_reader = None
        for task in (self._reading_task, self._ping_interval_task, self._flusher_task):
            if task is not None:
                task.cancel()

    async def _process_info(self, info: dict[str, Any], initial_connection: bool = False) -> None:
        """Go on in the clear only where nobody asked for TLS: a stranger may take it away."""
        url = self._current_server.uri.geturl() if self._current_server else ""
        if initial_connection and self._access.demands_tls(url) and not url.startswith("wss:"):
            if not _offers_tls(info) or url.startswith("ws:"):
                raise NotPrivate("it does not offer TLS, which a CA or tls:// asks for")
            info["tls_required"] = True
        if initial_connection and info.get("tls_verify") and self._access.certificate is None:
            raise Unusable("it wants to be shown a certificate (mutual TLS), and none was given")
        await super()._process_info(info, initial_connection)
        if initial_connection:
            # A server that has lost its patience meanwhile has said so, and whoever writes to it
            # now gets to read no more: so have the loop read that first, which takes two rounds.
            await asyncio.sleep(0)
            await asyncio.sleep(0)

    async def _process_pong(self) -> None:
        """Let one go by that nobody waits for any longer; the client would stop to listen."""
        if self._pongs and self._pongs[0].done():
            self._pongs[0] = asyncio.get_running_loop().create_future()
        await super()._process_pong()

    async def _process_err(self, err_msg: str) -> None:
        """Where the client would give up for good, try again."""
        text = err_msg.lower()
        if not self.stays or self.is_connecting or _PERMISSIONS in text or _STALE in text:
            await super()._process_err(err_msg)
            return
        words = err_msg.strip("' \r\n")
        error = errors.Error(f"nats: {words}")
        await self._error_cb(error)
        await self._process_op_err(error)


def _offers_tls(info: Mapping[str, Any]) -> bool:
    return bool(info.get("tls_required") or info.get("tls_available"))
