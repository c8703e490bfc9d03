"""How a process connects to the bus: what it shows of itself, and whom it believes.

Files are read anew at each connection, so that renewed ones need no restart. What is secret in
them is never logged, and in no error: those name the file.
"""

import base64
import ssl
import stat
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from reachmap_shared.errors import InvalidSettings
from reachmap_shared.permissions import INBOX

_PRIVATE_SCHEMES: Final = ("tls", "wss")
_WEBSOCKET_SCHEMES: Final = ("ws", "wss")


@dataclass(frozen=True, slots=True)
class Proof:
    """What a server that knows us by a key is shown."""

    signature: bytes
    """Of what the server asked to be signed, in base64."""
    public: str
    """The key it can be checked by."""
    jwt: str
    """Who vouches for that key; empty where the server knows it by itself."""


@dataclass(frozen=True, slots=True)
class Access:
    """What a connection to the bus shows of itself, and whom it believes."""

    credentials: Path | None = None
    """NATS credentials: a JWT and the seed of its key, as `reachmap enroll` and nsc make them."""
    nkey: Path | None = None
    """The seed of a key that the server knows by itself."""
    ca: Path | None = None
    """PEM of who vouches for the server; None for whom the system believes. Demands TLS."""
    certificate: Path | None = None
    """PEM, shown to the server (mutual TLS). Demands TLS."""
    key: Path | None = None
    """PEM of the key for it; None when it stands in the same file."""
    user: str = ""
    password: str = field(default="", repr=False)
    token: str = field(default="", repr=False)
    server_name: str = ""
    """What the server's certificate is for, where that is not what its URL says."""
    inbox: str = INBOX
    """What the subjects begin with at which this connection is answered."""

    @property
    def shown(self) -> str:
        """What it shows of itself, for people: files and names, and no secret."""
        parts = [str(path) for path in (self.credentials, self.nkey, self.certificate) if path]
        if self.user:
            parts.append(f"the user {self.user}")
        if self.token:
            parts.append("a token")
        return " and ".join(parts)

    def demands_tls(self, url: str) -> bool:
        """Whether nothing may be said to the server at `url` in the clear."""
        scheme = urlsplit(url).scheme if "://" in url else ""
        return scheme in _PRIVATE_SCHEMES or self.ca is not None or self.certificate is not None

    def check(self, urls: Sequence[str]) -> None:
        """Raise InvalidSettings, which says what to do, if it cannot be used as it is."""
        if self.credentials is not None and self.nkey is not None:
            raise InvalidSettings(
                f"{self.credentials} and {self.nkey} both say who this is: give one"
            )
        if self.key is not None and self.certificate is None:
            raise InvalidSettings(f"{self.key}: a key is of no use without its certificate")
        websocket = {url.partition("://")[0] in _WEBSOCKET_SCHEMES for url in urls}
        if len(websocket) > 1:
            raise InvalidSettings("NATS URLs are either all of websockets or none: ws://, wss://")
        if True in websocket:
            _need_websockets()
        if self.credentials is not None or self.nkey is not None:
            self.prove("")
        if any(self.demands_tls(url) for url in urls):
            self.tls()

    def prove(self, nonce: str) -> Proof | None:
        """Sign what a server asks to be signed; None where there is no key to do it by.

        Raises:
            InvalidSettings: The file cannot be used, or others may read it.
        """
        if self.credentials is not None:
            text = _secret(self.credentials)
            jwt, seed = _block(text, "NATS USER JWT"), _block(text, "USER NKEY SEED")
            if not jwt or not seed:
                raise InvalidSettings(
                    f"{self.credentials}: not NATS credentials: expected a JWT and a seed"
                )
            return _signed(self.credentials, nonce, seed, jwt)
        if self.nkey is not None:
            text = _secret(self.nkey)
            return _signed(self.nkey, nonce, _block(text, "USER NKEY SEED") or text.strip(), "")
        return None

    def tls(self) -> ssl.SSLContext:
        """Whom to believe, and what to show.

        Raises:
            InvalidSettings: A file cannot be used, or others may read the key.
        """
        try:
            context = trusting(self.ca)
        except (OSError, ValueError) as error:
            raise InvalidSettings(
                f"{self.ca}: cannot be used: {_why(error)}; expected certificates in PEM"
            ) from error
        if self.certificate is not None:
            _refuse_loose(self.key or self.certificate)
            try:
                # Without a password, OpenSSL would ask whoever sits at the terminal for one.
                context.load_cert_chain(self.certificate, self.key, password="")
            except (OSError, ValueError) as error:
                raise InvalidSettings(
                    f"{self.certificate} and its key cannot be used: {_why(error)}; "
                    "expected PEM, the key without a password"
                ) from error
        return context


ANYBODY: Final = Access()
"""Shows nothing, and believes whom the system does."""


def trusting(authority: Path | str | None) -> ssl.SSLContext:
    """Believes an authority, or those that the system does. Raises OSError and ValueError.

    As strict as programs in Go are, and Python before 3.13: since then its default refuses an
    authority that does not say what its key is for, as many do not that somebody made by hand.
    """
    context = ssl.create_default_context(cafile=authority)
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    return context


def write_secret(path: Path, text: str) -> None:
    """Write a file whole, for its owner only from the first moment on."""
    draft = path.with_name(path.name + ".new")
    draft.unlink(missing_ok=True)
    draft.touch(0o600, exist_ok=False)
    draft.write_text(text, encoding="utf-8")
    draft.replace(path)


def _secret(path: Path) -> str:
    _refuse_loose(path)
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise InvalidSettings(f"{path}: cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise InvalidSettings(f"{path}: not text") from error


def _refuse_loose(path: Path) -> None:
    """A group may have been given a key on purpose; all who are on the machine have not."""
    if sys.platform == "win32":
        return
    try:
        mode = path.stat().st_mode
    except OSError as error:
        raise InvalidSettings(f"{path}: cannot be read: {error.strerror}") from error
    if mode & (stat.S_IROTH | stat.S_IWOTH):
        raise InvalidSettings(
            f"{path}: a secret that everybody on this machine can read or write: chmod 600 {path}"
        )


def _block(text: str, name: str) -> str:
    """What stands between a pair of lines such as `-----BEGIN NATS USER JWT-----`."""
    _, _, rest = text.partition(f"BEGIN {name}")
    body, end, _ = rest.partition(f"END {name}")
    return "".join(line for line in body.split() if not line.startswith("-")) if end else ""


def _signed(path: Path, nonce: str, seed: str, jwt: str) -> Proof:
    # Here, since it costs an agent that needs none of it 1 MB of memory.
    import nkeys

    try:
        pair = nkeys.from_seed(bytearray(seed.encode()))
        public = pair.public_key.decode()
        if not public.startswith("U"):  # an account's, say, which must never get to a host
            raise ValueError("not a user's")
        return Proof(base64.b64encode(pair.sign(nonce.encode())), public, jwt)
    except (nkeys.NkeysError, ValueError) as error:
        raise InvalidSettings(f"{path}: its seed is no user's: expected SU and 56 more") from error


def _need_websockets() -> None:
    try:
        import aiohttp  # noqa: F401  the NATS client has its websockets from it
    except ImportError as error:
        raise InvalidSettings(
            "ws:// and wss:// need one package more: pip install 'reachmap-shared[websocket]'"
        ) from error


def _why(error: Exception) -> str:
    if isinstance(error, ssl.SSLError):
        return (error.reason or "no certificate is in it").replace("_", " ").lower()
    return (error.strerror if isinstance(error, OSError) else "") or "not PEM"
