"""Where the HTTP API listens, and what must be so before it does."""

import ipaddress
import os
import re
import ssl
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from reachmap_shared.errors import InvalidSettings
from reachmap_shared.names import port_number

_LISTEN: Final = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([0-9.]+)):([0-9]{1,5})")

_TOKEN: Final = re.compile(rb"[A-Za-z0-9._~+/-]{16,512}=*")
"""What an Authorization header may bear (RFC 6750, 2.1), and too long to be guessed."""

_BEYOND: Final = (
    "--http: {address} can be reached from other hosts, so it needs {missing}; or listen on "
    "127.0.0.1, behind a proxy of your own"
)


@dataclass(frozen=True, slots=True)
class HttpSettings:
    """How the API is served."""

    address: ipaddress.IPv4Address | ipaddress.IPv6Address
    port: int
    token: bytes | None = field(default=None, repr=False)
    """What a client has to show; None where whoever reaches it may read."""
    tls: ssl.SSLContext | None = None

    @property
    def authority(self) -> str:
        """As it stands in a URL."""
        host = f"[{self.address}]" if self.address.version == 6 else str(self.address)
        return f"{host}:{self.port}"

    @property
    def url(self) -> str:
        """Where it is."""
        return f"{'https' if self.tls else 'http'}://{self.authority}"


def http_settings(
    listen: str,
    token_file: Path | None = None,
    certificate: Path | None = None,
    key: Path | None = None,
) -> HttpSettings:
    """Read the settings; raises InvalidSettings when they are wrong or not safe.

    Args:
        listen: `ADDRESS:PORT`, an IPv6 address in brackets.
        token_file: Whose first line is the token.
        certificate: PEM, with the chain.
        key: PEM; None where the certificate's file has it too.
    """
    address, port = _listen(listen)
    if key is not None and certificate is None:
        raise InvalidSettings("--http-key: expected --http-certificate too")
    if not address.is_loopback:
        needed = {"--http-token-file": token_file, "--http-certificate": certificate}
        missing = [f"{option} FILE" for option, given in needed.items() if given is None]
        if missing:
            raise InvalidSettings(_BEYOND.format(address=address, missing=" and ".join(missing)))
    return HttpSettings(
        address=address,
        port=port,
        token=None if token_file is None else _token(token_file),
        tls=None if certificate is None else _tls(certificate, key),
    )


def _listen(text: str) -> tuple[ipaddress.IPv4Address | ipaddress.IPv6Address, int]:
    found = _LISTEN.fullmatch(text.replace("localhost:", "127.0.0.1:"))
    try:
        if found is None:
            raise ValueError(text)
        v6, v4, port = found.groups()
        address = ipaddress.IPv6Address(v6) if v6 else ipaddress.IPv4Address(v4)
        return address, port_number(int(port))
    except ValueError:
        raise InvalidSettings(
            f"--http: {text!r}: expected ADDRESS:PORT, as in 127.0.0.1:8686 or [::1]:8686"
        ) from None


def _token(path: Path) -> bytes:
    try:
        mode = path.stat().st_mode
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise InvalidSettings(f"--http-token-file: {path}: {error.strerror}") from error
    if os.name == "posix" and mode & 0o007:
        raise InvalidSettings(
            f"--http-token-file: {path} can be read by everybody on this host: chmod 600 {path}"
        )
    token = lines[0].strip() if lines else b""
    if not _TOKEN.fullmatch(token):
        raise InvalidSettings(
            f"--http-token-file: {path}: expected a line of 16 to 512 of A-Z a-z 0-9 . _ ~ + / -, "
            "as `openssl rand -hex 32` makes one"
        )
    return token


def _tls(certificate: Path, key: Path | None) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        # Without a password at hand OpenSSL would ask the terminal for one.
        context.load_cert_chain(certificate, key, password=b"")
    except OSError as error:  # which ssl.SSLError is too
        where = f"{certificate}" if key is None else f"{certificate} with {key}"
        reason = getattr(error, "reason", None) or error.strerror or str(error)
        raise InvalidSettings(
            f"--http-certificate: {where}: {reason}: expected a certificate and its key, as PEM"
        ) from error
    return context
