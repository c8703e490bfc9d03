"""Certificates of our own authority, as OpenSSL sees them."""

import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from reachmap_collector.identity import authority
from reachmap_collector.identity.authority import Authority, Pair

NOW = datetime(2026, 11, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def own() -> Pair:
    return authority.new_authority(datetime.now(UTC))


def verify(folder: Path, own: Pair, pair: Pair, *options: str) -> str:
    """What `openssl verify` says, in its strict mode, which Python 3.13 has by default."""
    (folder / "ca.pem").write_text(own.certificate)
    (folder / "leaf.pem").write_text(pair.certificate)
    command = ["openssl", "verify", "-x509_strict", "-CAfile", str(folder / "ca.pem"), *options]
    done = subprocess.run(
        [*command, str(folder / "leaf.pem")], capture_output=True, text=True, check=False
    )
    return done.stdout + done.stderr


def test_a_server_is_vouched_for_by_names_and_addresses(own: Pair, tmp_path: Path) -> None:
    """As a server, and by no other name."""
    names = ("map.example", "10.0.0.5", "fd00::5")
    pair = Authority.from_pair(own).issue_server(names, datetime.now(UTC))
    assert authority.names_in(pair.certificate) == set(names)
    server = ("-purpose", "sslserver")
    assert "OK" in verify(tmp_path, own, pair, *server, "-verify_hostname", "map.example")
    assert "OK" in verify(tmp_path, own, pair, *server, "-verify_ip", "fd00::5")
    assert "mismatch" in verify(tmp_path, own, pair, *server, "-verify_hostname", "other.example")
    assert "OK" not in verify(tmp_path, own, pair, "-purpose", "sslclient").splitlines()[-1]


def test_a_client_is_vouched_for_as_a_client(own: Pair, tmp_path: Path) -> None:
    """It cannot pass for the server."""
    pair = Authority.from_pair(own).issue_client("pc-17.5f3a", datetime.now(UTC))
    assert authority.names_in(pair.certificate) == {"pc-17.5f3a"}
    assert "OK" in verify(tmp_path, own, pair, "-purpose", "sslclient")
    assert "unsuitable certificate purpose" in verify(tmp_path, own, pair, "-purpose", "sslserver")


def test_another_authority_vouches_for_none_of_ours(own: Pair, tmp_path: Path) -> None:
    """Though it bears the same name."""
    pair = Authority.from_pair(own).issue_server(("map.example",), datetime.now(UTC))
    other = authority.new_authority(datetime.now(UTC))
    assert "OK" not in verify(tmp_path, other, pair)


def test_certificates_bear_clocks_that_are_behind() -> None:
    """And end when clients still take them."""
    own = authority.new_authority(NOW)
    pair = Authority.from_pair(own).issue_server(("a",), NOW)
    assert authority.expires(pair.certificate) == NOW + timedelta(days=authority.LEAF_DAYS)
    assert authority.expires(own.certificate) > NOW + timedelta(days=3000)
