"""Beside OpenUEM on its own NATS server: one account, its certificates, its permissions.

The server is configured the way OpenUEM's containers configure theirs: `verify_and_map`, users by
whole subject, each with its own subjects. All of OpenUEM's agents show one and the same
certificate, so it says what somebody is, and not which host.
"""

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from nats.aio.client import Client

from reachmap_collector.identity import servers, tokens
from reachmap_collector.identity.servers import Mode, User
from reachmap_shared import bus
from reachmap_shared.access import Access, write_secret
from reachmap_shared.errors import AccessRefused
from reachmap_shared.permissions import Party, inbox

ORGANISATION = "Example, Inc."


class Authority:
    """Certificates as OpenUEM's tool makes them: RSA, and a subject without other names."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._key = rsa.generate_private_key(65537, 2048)
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "OpenUEM CA")])
        made = self._builder(self._name, self._key).add_extension(
            x509.BasicConstraints(ca=True, path_length=None), critical=True
        )
        self.ca = folder / "ca.cer"
        pem = made.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
        self.ca.write_bytes(pem)

    def _builder(self, name: x509.Name, key: rsa.RSAPrivateKey) -> x509.CertificateBuilder:
        now = datetime.now(UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(minutes=5))
            .not_valid_after(now + timedelta(days=2))
        )

    def issue(self, common: str, unit: str = "", *, server: bool = False) -> Access:
        """A certificate and key, in files."""
        parts = [(NameOID.COUNTRY_NAME, "ES"), (NameOID.ORGANIZATION_NAME, ORGANISATION)]
        parts += [(NameOID.ORGANIZATIONAL_UNIT_NAME, unit)] if unit else []
        parts += [(NameOID.COMMON_NAME, common)]
        key = rsa.generate_private_key(65537, 2048)
        name = x509.Name([x509.NameAttribute(oid, text) for oid, text in parts])
        usage = ExtendedKeyUsageOID.SERVER_AUTH if server else ExtendedKeyUsageOID.CLIENT_AUTH
        builder = self._builder(name, key).add_extension(
            x509.ExtendedKeyUsage([usage]), critical=False
        )
        if server:
            names = [x509.DNSName("localhost")]
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        path = self._folder / f"{common.replace(' ', '-')}.cer"
        signed = builder.sign(self._key, hashes.SHA256())
        path.write_bytes(signed.public_bytes(serialization.Encoding.PEM))
        pem = key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.TraditionalOpenSSL,
            serialization.NoEncryption(),
        )
        write_secret(path.with_suffix(".key"), pem.decode())
        return Access(ca=self.ca, certificate=path, key=path.with_suffix(".key"))


def subject(common: str, unit: str = "") -> str:
    """As the server writes it."""
    escaped = ORGANISATION.replace(",", "\\,")
    return ",".join([f"CN={common}", *([f"OU={unit}"] if unit else []), f"O={escaped}", "C=ES"])


def new_key(folder: Path, name: str) -> tuple[Path, str]:
    seed = tokens.new_seed(tokens.USER, os.urandom(tokens.SEED_SIZE))
    write_secret(folder / f"{name}.nk", seed)
    return folder / f"{name}.nk", tokens.public_key(seed)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


def start(server: Any, authority: Authority, folder: Path, ours: str) -> str:
    """OpenUEM's server, with our users in the same list; returns its URL."""
    own = authority.issue("OpenUEM NATS", "nats", server=True)
    server.stop()
    server.configure(f"""
jetstream {{ store_dir: {servers.quoted(folder / "jetstream")} }}
tls {{
  cert_file: {servers.quoted(own.certificate)}
  key_file: {servers.quoted(own.key)}
  ca_file: {servers.quoted(authority.ca)}
  verify_and_map: true
}}
authorization: {{
  users = [
    {{ user: {servers.quoted(subject("OpenUEM Agent", "agent"))}, permissions: {{
      sub: {{ allow: ["_INBOX.>", "agent.report.>"] }}, publish: ["report", "_INBOX.>"] }} }},
    {{ user: {servers.quoted(subject("OpenUEM Console"))}, permissions: {{
      publish: ["agent.>", "ping.>"] }} }},
{ours}  ]
}}""")
    server.start()
    return f"tls://localhost:{server.port}"


async def refusals(url: str, access: Access, *said: str) -> list[str]:
    """Those of the subjects that the server does not let somebody publish to."""
    async with bus.connected([url], "test", access) as connection:
        refused: list[str] = []

        async def note(error: Exception) -> None:
            refused.append(str(error))

        client: Client = connection._client
        client._error_cb = note
        for one in said:
            await connection.publish(one, b"")
            await connection.flush()
        return [one for one in said if any(f'"{one.lower()}"' in it.lower() for it in refused)]


async def test_keys_tell_hosts_apart_behind_one_certificate(
    nats_server: Any, authority: Authority, tmp_path: Path
) -> None:
    """OpenUEM's certificate opens TLS, and a key of each host's own says which it is."""
    agent = authority.issue("OpenUEM Agent", "agent")
    console = authority.issue("OpenUEM Console")
    users, access = [], {}
    for name, party in (
        ("pc-1", Party.AGENT),
        ("pc-2", Party.AGENT),
        ("collector", Party.COLLECTOR),
    ):
        path, public = new_key(tmp_path, name)
        of_agent = name if party is Party.AGENT else ""
        users.append(User(public, party, of_agent))
        shown = agent if of_agent else console
        access[name] = Access(
            nkey=path,
            ca=shown.ca,
            certificate=shown.certificate,
            key=shown.key,
            inbox=inbox(name) if of_agent else "_INBOX",
        )
    entries = servers.users_configuration(Mode.NKEY, users, entries_only=True)
    url = start(nats_server, authority, tmp_path, entries)
    said = ("reachmap.report.pc-1", "reachmap.report.pc-2", "report", "agent.report.x")
    assert await refusals(url, access["pc-1"], *said) == list(said[1:])
    assert await refusals(url, access["pc-2"], *said) == [said[0], *said[2:]]
    assert await refusals(url, access["collector"], *said) == list(said[2:])
    # OpenUEM's own parts go on as before, and get nowhere near reachmap's subjects.
    assert await refusals(url, agent, *said) == [*said[:2], said[3]]
    assert await refusals(url, console, *said) == list(said[:3])
    stranger, _ = new_key(tmp_path, "stranger")
    with pytest.raises(AccessRefused, match="does not accept"):
        unknown = Access(nkey=stranger, ca=agent.ca, certificate=agent.certificate, key=agent.key)
        async with bus.connected([url], "stranger", unknown):
            pytest.fail("any key will do")


async def test_a_certificate_for_each_host_tells_them_apart(
    nats_server: Any, authority: Authority, tmp_path: Path
) -> None:
    """Made by OpenUEM's own authority, known by its whole subject."""
    access = {name: authority.issue(name, "agent") for name in ("pc-1", "pc-2")}
    users = [User(subject(name, "agent"), Party.AGENT, name) for name in access]
    entries = servers.users_configuration(Mode.MTLS, users, entries_only=True)
    url = start(nats_server, authority, tmp_path, entries)
    said = ("reachmap.report.pc-1", "reachmap.report.pc-2", "report")
    assert await refusals(url, access["pc-1"], *said) == list(said[1:])
    assert await refusals(url, access["pc-2"], *said) == [said[0], said[2]]
