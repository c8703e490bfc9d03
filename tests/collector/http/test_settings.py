"""What must be so before the API listens, and what is said where it is not."""

import ipaddress
from pathlib import Path
from typing import Any

import pytest

from reachmap_collector.http import http_settings
from reachmap_shared.errors import InvalidSettings

TOKEN = "0123456789abcdef"


@pytest.fixture
def token(tmp_path: Path) -> Path:
    path = tmp_path / "token"
    path.touch(0o600)
    path.write_text(f"{TOKEN}\n")
    return path


def refused(*arguments: Any) -> str:
    with pytest.raises(InvalidSettings) as caught:
        http_settings(*arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("listen", "url"),
    [
        ("127.0.0.1:8686", "http://127.0.0.1:8686"),
        ("localhost:8686", "http://127.0.0.1:8686"),
        ("127.9.9.9:1", "http://127.9.9.9:1"),
        ("[::1]:65535", "http://[::1]:65535"),
    ],
)
def test_on_loopback_nothing_else_is_needed(listen: str, url: str) -> None:
    """Who is on the host may read."""
    settings = http_settings(listen)
    assert (settings.url, settings.token, settings.tls) == (url, None, None)


@pytest.mark.parametrize(
    "listen",
    [
        "",
        "8686",
        ":8686",
        "127.0.0.1",
        "127.0.0.1:",
        "127.0.0.1:0",
        "127.0.0.1:65536",
        "::1:80",
        "[127.0.0.1]:80",
        "web.example:80",
        "127.0.0.1:http",
        "[::1]",
        "[::1:80",
        "::1]:80",
        "[fe80::1%lo]:80",
    ],
)
def test_an_address_that_is_none_is_refused(listen: str) -> None:
    """With what was expected."""
    assert refused(listen) == (
        f"--http: {listen!r}: expected ADDRESS:PORT, as in 127.0.0.1:8686 or [::1]:8686"
    )


@pytest.mark.parametrize("address", ["0.0.0.0", "10.0.0.1", "[::]", "[fd00::1]"])
def test_beyond_loopback_it_needs_a_token_and_tls(
    address: str, token: Path, certificate: Path
) -> None:
    """Each that is missing is named, and the way without."""
    listen = f"{address}:8686"
    assert "needs --http-token-file FILE and --http-certificate FILE; or listen on" in refused(
        listen
    )
    assert "needs --http-certificate FILE; or" in refused(listen, token)
    assert "needs --http-token-file FILE; or" in refused(listen, None, certificate)
    settings = http_settings(listen, token, certificate)
    assert settings.url == f"https://{listen}"
    assert settings.address == ipaddress.ip_address(address.strip("[]"))
    assert settings.token == TOKEN.encode()


def test_a_token_does_not_show(token: Path) -> None:
    """In no log that settings end up in."""
    assert TOKEN not in repr(http_settings("127.0.0.1:1", token))


@pytest.mark.parametrize(
    "text", ["", "\n", "short", "with blanks in the midst of it", "ü" * 20, "a" * 513]
)
def test_a_token_that_is_none_is_refused(token: Path, text: str) -> None:
    """With a way to make one."""
    token.write_text(text)
    assert "`openssl rand -hex 32` makes one" in refused("127.0.0.1:1", token)


def test_a_token_that_everybody_may_read_is_refused(token: Path) -> None:
    """It would be none."""
    token.chmod(0o644)
    assert refused("127.0.0.1:1", token).endswith(f"chmod 600 {token}")
    token.chmod(0o640)
    assert http_settings("127.0.0.1:1", token).token


def test_files_that_cannot_be_used_are_named(
    tmp_path: Path, token: Path, certificate: Path
) -> None:
    """Missing, not a certificate, or without their key."""
    missing = tmp_path / "missing"
    assert refused("127.0.0.1:1", missing) == (
        f"--http-token-file: {missing}: No such file or directory"
    )
    for wrong in (missing, token):
        assert refused("127.0.0.1:1", None, wrong).startswith(f"--http-certificate: {wrong}: ")
    alone = tmp_path / "alone.pem"
    alone.write_text(certificate.read_text().partition("-----BEGIN PRIVATE")[0])
    assert "expected a certificate and its key, as PEM" in refused("127.0.0.1:1", None, alone)
    key = certificate.with_name("key.pem")
    assert http_settings("127.0.0.1:1", None, alone, key).tls
    assert refused("127.0.0.1:1", None, None, key) == "--http-key: expected --http-certificate too"
