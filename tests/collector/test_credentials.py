"""A deployment's own secrets: made once, kept, and nobody else's to read."""

import datetime
import ssl
import stat
import sys
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from reachmap_collector import credentials


def test_they_are_made_once(tmp_path: Path) -> None:
    """A collector that starts again makes the same plans as before."""
    first = credentials.load_or_create(tmp_path)
    assert credentials.load_or_create(tmp_path) == first
    assert len(first.secret) == 32


def test_each_deployment_has_its_own(tmp_path: Path) -> None:
    """Nobody's listener can pass for another deployment's."""
    deployments = [tmp_path / "one", tmp_path / "two"]
    for folder in deployments:
        folder.mkdir()
    one, two = map(credentials.load_or_create, deployments)
    assert one.secret != two.secret
    assert one.certificate != two.certificate


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such modes")
def test_only_their_owner_may_read_them(tmp_path: Path) -> None:
    """From the first moment on: they are never there under another mode."""
    credentials.load_or_create(tmp_path)
    files = sorted(tmp_path.iterdir())
    assert [file.name for file in files] == ["listener.pem", "secret"]
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}


def test_a_start_that_was_cut_short_is_made_good(tmp_path: Path) -> None:
    """What a killed collector left half-written is not taken for a secret."""
    (tmp_path / "secret.new").write_bytes(b"half")
    made = credentials.load_or_create(tmp_path)
    assert len(made.secret) == 32
    assert not (tmp_path / "secret.new").exists()


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    """Rather than going on with secrets that the next start will not know."""
    with pytest.raises(OSError, match="gone"):
        credentials.load_or_create(tmp_path / "gone")


def test_the_certificate_serves_tls(tmp_path: Path) -> None:
    """With its own key, in one PEM, as listeners load it; it outlives clocks that are behind."""
    pem = credentials.new_certificate()
    (tmp_path / "both.pem").write_bytes(pem)
    ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(tmp_path / "both.pem")
    certificate = x509.load_pem_x509_certificate(pem)
    key = serialization.load_pem_private_key(pem, password=None)
    assert key.public_key() == certificate.public_key()
    now = datetime.datetime.now(datetime.UTC)
    assert certificate.not_valid_before_utc < now - datetime.timedelta(hours=23)
    assert certificate.not_valid_after_utc > now + datetime.timedelta(days=3000)
    assert "reachmap" in certificate.subject.rfc4514_string()
    assert len(pem) < 8192  # what a plan has room for
