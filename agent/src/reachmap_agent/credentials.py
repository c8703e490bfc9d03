"""The TLS contexts of checks and listeners.

The plan's throw-away certificate is no secret: it lets a listener stand in for a TLS service, and
proves nothing. What checks show to servers that ask for a certificate is this host's own.
"""

import contextlib
import os
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from reachmap_shared.errors import InvalidSettings


@dataclass(frozen=True, slots=True)
class Contexts:
    """What checks and listeners of one plan need for TLS."""

    client: ssl.SSLContext
    server: ssl.SSLContext | None
    """None when the plan brought no certificate."""
    certificate: bytes
    """DER of the listeners' certificate; empty when there is none."""

    @classmethod
    def from_pem(cls, pem: str, certificate: Path | None = None, key: Path | None = None) -> Self:
        """Load them.

        Args:
            pem: The listeners' certificate and key, as plans bring them.
            certificate: What checks show to servers that ask for one; read anew each time, since
                certificates are renewed.
            key: The key for it; None when it stands in the same file.

        Raises:
            ssl.SSLError: The listeners' certificate is none, or its key is another's.
            ValueError: Likewise.
            InvalidSettings: This host's own certificate cannot be used, and why.
        """
        client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        # That something speaks TLS is asked here, not who it is.
        client.check_hostname = False
        client.verify_mode = ssl.CERT_NONE
        if certificate is not None:
            _show(client, certificate, key)
        if not pem:
            return cls(client, None, b"")
        server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        with _file_of(pem) as path:
            # Without a password, OpenSSL would ask whoever sits at the terminal for one.
            server.load_cert_chain(path, password="")
        head, _, _ = pem.partition("-----END CERTIFICATE-----")
        _, begin, body = head.partition("-----BEGIN CERTIFICATE-----")
        return cls(
            client, server, ssl.PEM_cert_to_DER_cert(f"{begin}{body}-----END CERTIFICATE-----\n")
        )


@contextlib.contextmanager
def _file_of(text: str) -> Iterator[str]:
    """A file of this text, for its owner only: ssl reads keys from files alone."""
    if hasattr(os, "memfd_create"):  # it is on no disk
        handle = os.memfd_create("certificate")
        with os.fdopen(handle, "w") as file:
            file.write(text)
            file.flush()
            yield f"/proc/self/fd/{handle}"
        return
    import tempfile  # with what it needs in turn, 0.5 MB of memory

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "certificate")
        path.write_text(text)
        yield str(path)


def _show(context: ssl.SSLContext, certificate: Path, key: Path | None) -> None:
    try:
        context.load_cert_chain(certificate, key, password="")
    except FileNotFoundError as error:
        missing = next(path for path in (certificate, key) if path and not path.exists())
        raise InvalidSettings(f"certificate: {missing} is not there") from error
    except ssl.SSLError as error:
        reason = f": {error.reason.replace('_', ' ').lower()}" if error.reason else ""
        raise InvalidSettings(
            f"certificate: {certificate} and its key cannot be used{reason}; "
            "expected PEM, the key without a password"
        ) from error
    except OSError as error:
        raise InvalidSettings(f"certificate: cannot be read: {error.strerror}") from error
