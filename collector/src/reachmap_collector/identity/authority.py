"""A small certificate authority of our own, for those who have none.

It vouches for our own NATS server, and, where the bus knows its clients by certificates, for them.
"""

import datetime
import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

_BEHIND: Final = datetime.timedelta(days=1)
"""For clocks that are behind."""
_AUTHORITY_DAYS: Final = 3650
LEAF_DAYS: Final = 825
"""The longest that all clients still take from a server (macOS)."""


@dataclass(frozen=True, slots=True)
class Pair:
    """A certificate and its key, as PEM."""

    certificate: str
    key: str


@dataclass(frozen=True, slots=True)
class Authority:
    """Who vouches."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @classmethod
    def from_pair(cls, pair: Pair) -> Self:
        """Load one; raises ValueError when it is none."""
        key = serialization.load_pem_private_key(pair.key.encode(), password=None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)  # we made it
        return cls(x509.load_pem_x509_certificate(pair.certificate.encode()), key)

    def issue_server(self, names: Iterable[str], now: datetime.datetime) -> Pair:
        """For a server that is known by these DNS names and addresses."""
        alternatives = [_alternative(name) for name in dict.fromkeys(names)]
        return self._issue(
            "reachmap NATS server", alternatives, ExtendedKeyUsageOID.SERVER_AUTH, now
        )

    def issue_client(self, name: str, now: datetime.datetime) -> Pair:
        """For a client, whom a server's `verify_and_map` then knows by this name."""
        return self._issue(name, [x509.DNSName(name)], ExtendedKeyUsageOID.CLIENT_AUTH, now)

    def _issue(
        self,
        name: str,
        alternatives: list[x509.GeneralName],
        usage: x509.ObjectIdentifier,
        now: datetime.datetime,
    ) -> Pair:
        key = ec.generate_private_key(ec.SECP256R1())
        own = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
        above = x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key())
        certificate = (
            _builder(name, self.certificate.subject, key, now, LEAF_DAYS)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(signs_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
            .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
            .add_extension(own, critical=False)
            .add_extension(above, critical=False)
            .sign(self.key, hashes.SHA256())
        )
        return _pair(certificate, key)


def new_authority(now: datetime.datetime) -> Pair:
    """A fresh authority."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = "reachmap CA"
    own = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    certificate = (
        _builder(name, _name(name), key, now, _AUTHORITY_DAYS)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(signs_certificates=True), critical=True)
        .add_extension(own, critical=False)
        .sign(key, hashes.SHA256())
    )
    return _pair(certificate, key)


def names_in(certificate: str) -> frozenset[str]:
    """The DNS names and addresses that a server's certificate is for; raises ValueError."""
    loaded = x509.load_pem_x509_certificate(certificate.encode())
    try:
        found = loaded.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return frozenset()
    addresses = [str(address) for address in found.get_values_for_type(x509.IPAddress)]
    return frozenset([*found.get_values_for_type(x509.DNSName), *addresses])


def expires(certificate: str) -> datetime.datetime:
    """Until when it is valid; raises ValueError."""
    return x509.load_pem_x509_certificate(certificate.encode()).not_valid_after_utc


def _builder(
    name: str,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    now: datetime.datetime,
    days: int,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(_name(name))
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BEHIND)
        .not_valid_after(now + datetime.timedelta(days=days))
    )


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _alternative(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _pair(certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> Pair:
    return Pair(
        certificate.public_bytes(serialization.Encoding.PEM).decode(),
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ).decode(),
    )
