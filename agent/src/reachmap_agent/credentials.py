"""The TLS contexts of checks and listeners, made from the plan's throw-away certificate.

They are no secret: they let a listener stand in for a TLS service. That is all they prove.
"""

import os
import ssl
import tempfile
from dataclasses import dataclass
from typing import Self


@dataclass(frozen=True, slots=True)
class Contexts:
    """What checks and listeners of one plan need for TLS."""

    client: ssl.SSLContext
    server: ssl.SSLContext | None
    """None when the plan brought no certificate."""
    certificate: bytes
    """DER of the listeners' certificate; empty when there is none."""

    @classmethod
    def from_pem(cls, pem: str) -> Self:
        """Load certificate and key from one PEM text; raises ssl.SSLError or ValueError."""
        client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        # That something speaks TLS is asked here, not who it is.
        client.check_hostname = False
        client.verify_mode = ssl.CERT_NONE
        if not pem:
            return cls(client, None, b"")
        server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        handle, path = tempfile.mkstemp()  # for its owner only; ssl reads keys from files alone
        try:
            with os.fdopen(handle, "w") as file:
                file.write(pem)
            # Without a password, OpenSSL would ask whoever sits at the terminal for one.
            server.load_cert_chain(path, password="")
        finally:
            os.unlink(path)  # noqa: PTH108  mkstemp gives a string, and nothing else is done with it
        head, _, _ = pem.partition("-----END CERTIFICATE-----")
        _, begin, body = head.partition("-----BEGIN CERTIFICATE-----")
        return cls(
            client, server, ssl.PEM_cert_to_DER_cert(f"{begin}{body}-----END CERTIFICATE-----\n")
        )
