"""TLS contexts from a plan's certificate: usable, or refused before anything is changed."""

import contextlib
import socket
import ssl
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

from reachmap_agent.credentials import Contexts
from reachmap_shared.errors import InvalidSettings

KEY = "-----BEGIN PRIVATE KEY-----"


def test_a_plan_s_certificate_is_made_into_contexts(contexts: Contexts, pem: str) -> None:
    """Both sides, and the certificate as a check will see it."""
    assert contexts.server is not None
    assert contexts.certificate == ssl.PEM_cert_to_DER_cert(
        pem[pem.index("-----BEGIN C") : pem.index(KEY)]
    )


def test_checks_ask_for_tls_and_not_for_whom(contexts: Contexts) -> None:
    """No certificate is refused: a self-signed one is no reason to call a service unreachable."""
    assert contexts.client.verify_mode is ssl.CERT_NONE
    assert contexts.client.check_hostname is False


def test_without_a_certificate_checks_still_work() -> None:
    """A plan with no TLS listener brings none."""
    contexts = Contexts.from_pem("")
    assert contexts.server is None
    assert contexts.certificate == b""
    assert contexts.client.verify_mode is ssl.CERT_NONE


@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(lambda pem: "garbage", id="garbage"),
        pytest.param(lambda pem: "\0\N{SNOWMAN}", id="odd characters"),
        pytest.param(lambda pem: pem[: pem.index(KEY)], id="no key"),
        pytest.param(lambda pem: pem[pem.index(KEY) :], id="no certificate"),
        pytest.param(lambda pem: pem.replace("MII", "XXX"), id="damaged"),
        pytest.param(lambda pem: pem[:-50], id="cut off"),
    ],
)
def test_what_is_no_certificate_is_refused(pem: str, spoil: Any) -> None:
    """With an error that the agent takes for a reason to refuse the plan."""
    with pytest.raises((ssl.SSLError, ValueError)):
        Contexts.from_pem(spoil(pem))


def test_an_encrypted_key_is_refused_and_nobody_is_asked() -> None:
    """OpenSSL would ask for the password on the terminal, and the agent would hang there."""
    code = (
        "import sys, pathlib\n"
        "from reachmap_agent.credentials import Contexts\n"
        "try:\n"
        "    Contexts.from_pem(pathlib.Path(sys.argv[1]).read_text())\n"
        "except (ValueError, OSError) as error:\n"
        "    print(type(error).__name__)\n"
    )
    end = subprocess.run(
        [sys.executable, "-c", code, Path(__file__).parent / "encrypted.pem"],
        input="x\n",
        capture_output=True,
        text=True,
        timeout=30,
        start_new_session=True,  # away from the terminal of whoever runs this
        check=True,
    )
    assert end.stdout == "SSLError\n", end.stderr
    assert "phrase" not in end.stderr


def test_the_key_is_not_left_on_disk(
    pem: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It protects nothing, but looks as if it did."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    Contexts.from_pem(pem)
    with pytest.raises(ssl.SSLError):
        Contexts.from_pem("garbage")
    assert list(tmp_path.iterdir()) == []


def test_the_contexts_understand_each_other(contexts: Contexts) -> None:
    """Over real sockets, without the tunnel of ours."""
    assert contexts.server is not None
    here, there = socket.socketpair()
    here.setblocking(False)
    there.setblocking(False)
    ours = contexts.client.wrap_socket(here, do_handshake_on_connect=False)
    theirs = contexts.server.wrap_socket(there, server_side=True, do_handshake_on_connect=False)
    with ours, theirs:
        for _ in range(10):
            for side in (ours, theirs):
                with contextlib.suppress(ssl.SSLWantReadError):
                    side.do_handshake()
        assert ours.getpeercert(binary_form=True) == contexts.certificate


@pytest.mark.parametrize(
    ("name", "key", "reason"),
    [
        ("missing.pem", None, "missing.pem is not there"),
        ("no.pem", None, "cannot be used"),
        ("agent.pem", "missing.key", "missing.key is not there"),
        ("agent.pem", "no.pem", "cannot be used"),
        (".", None, "certificate: "),
    ],
)
def test_a_certificate_that_cannot_be_used_says_why(
    pem: str, tmp_path: Path, name: str, key: str | None, reason: str
) -> None:
    """At once, and not when the first server asks for it."""
    (tmp_path / "agent.pem").write_text(pem)
    (tmp_path / "no.pem").write_text("nothing of the kind")
    with pytest.raises(InvalidSettings) as caught:
        Contexts.from_pem("", tmp_path / name, tmp_path / key if key else None)
    assert reason in str(caught.value)
