"""What one deployment has for itself: a secret, and the listeners' throw-away certificate.

Both are made at the collector's first start and kept in its data directory, for its owner only,
so that plans stay the same over restarts.
"""

import datetime
import os
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


@dataclass(frozen=True, slots=True)
class Credentials:
    """The secrets that plans are made with."""

    secret: bytes
    """What listeners' keys are derived from; never leaves the collector."""
    certificate: str
    """PEM, certificate and key; it stands in for TLS services and proves nobody's identity."""


def load_or_create(data: Path) -> Credentials:
    """The deployment's credentials, from or into the directory `data`."""
    secret = _kept(data / "secret", lambda: secrets.token_bytes(32))
    return Credentials(secret, _kept(data / "listener.pem", new_certificate).decode())


def new_certificate() -> bytes:
    """A fresh self-signed certificate and its key, as PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "reachmap listener")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        # A day back, for clocks that are behind; ten years on, since it protects nothing.
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=3650))
        .sign(key, hashes.SHA256())
    )
    return certificate.public_bytes(serialization.Encoding.PEM) + key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def _kept(path: Path, make: Callable[[], bytes]) -> bytes:
    """The file's content; made, and written whole, if it is not there yet."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        content = make()
        draft = path.with_suffix(".new")
        draft.unlink(missing_ok=True)
        handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        draft.replace(path)
        return content
