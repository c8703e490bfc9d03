"""OCSP's bytes, held to openssl's own reading and writing of them."""

import contextlib
import ssl
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reachmap_agent.doctor import ocsp
from reachmap_agent.wire.der import MalformedDer, elements

_PEM = (Path(__file__).parent.parent / "stand-in.pem").read_text()


def der(path: Path) -> bytes:
    return subprocess.run(
        ["openssl", "x509", "-in", str(path), "-outform", "DER"], check=True, capture_output=True
    ).stdout


def answered(authority: Any, asked: Path, folder: Path, *options: str) -> bytes:
    """What openssl's responder answers to one question."""
    into = folder / "response.der"
    command = ["openssl", "ocsp", "-index", str(authority.index), "-CA", str(authority.ca)]
    command += ["-rsigner", str(authority.ca), "-rkey", str(authority.key), *options]
    subprocess.run(
        [*command, "-reqin", str(asked), "-respout", str(into)], check=True, capture_output=True
    )
    return into.read_bytes()


def test_a_certificate_is_read_as_openssl_reads_it(authority: Any) -> None:
    """Serial number, names, and who answers for it."""
    path, _ = authority.issue(responder="http://127.0.0.1:8000")
    own, issuer = ocsp.identify(der(path)), ocsp.identify(der(authority.ca))
    serial = subprocess.run(
        ["openssl", "x509", "-in", str(path), "-noout", "-serial"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    assert f"serial={own.serial.hex().upper()}" == serial.strip()
    assert own.responders == ("http://127.0.0.1:8000",)
    assert own.issuer == issuer.subject == issuer.issuer
    assert issuer.responders == ()


def test_a_question_is_openssl_s(authority: Any, tmp_path: Path) -> None:
    """Byte for byte."""
    path, _ = authority.issue()
    asked = tmp_path / "request.der"
    command = ["openssl", "ocsp", "-issuer", str(authority.ca), "-cert", str(path), "-no_nonce"]
    subprocess.run([*command, "-reqout", str(asked)], check=True, capture_output=True)
    made = ocsp.question(ocsp.identify(der(path)), ocsp.identify(der(authority.ca)))
    assert made == asked.read_bytes()


@pytest.mark.parametrize(("kind", "status"), [("V", "good"), ("R", "revoked"), ("", "unknown")])
def test_an_answer_is_understood(authority: Any, tmp_path: Path, kind: str, status: str) -> None:
    """Each of the three that there are, with until when it holds."""
    path, _ = authority.issue(status=kind or "V")
    if not kind:
        authority.index.write_text("")
    own = ocsp.identify(der(path))
    asked = tmp_path / "request.der"
    asked.write_bytes(ocsp.question(own, ocsp.identify(der(authority.ca))))
    answer = ocsp.answer(answered(authority, asked, tmp_path, "-nmin", "5"), own)
    assert answer.status == status
    assert answer.until is not None
    assert timedelta(0) < answer.until - datetime.now(UTC) <= timedelta(minutes=5)
    forever = ocsp.answer(answered(authority, asked, tmp_path), own)
    assert forever.until is None


def test_an_answer_about_another_is_none(authority: Any, tmp_path: Path) -> None:
    """However good that one is."""
    own, other = (ocsp.identify(der(authority.issue()[0])) for _ in range(2))
    asked = tmp_path / "request.der"
    asked.write_bytes(ocsp.question(other, ocsp.identify(der(authority.ca))))
    with pytest.raises(ocsp.NoAnswer, match="another certificate"):
        ocsp.answer(answered(authority, asked, tmp_path), own)


def test_a_refusal_says_why(authority: Any, tmp_path: Path) -> None:
    """As OpenUEM's responder, whose database is away."""
    own = ocsp.identify(der(authority.ca))
    for number, says in ((2, "internal error"), (3, "try later"), (6, "does not answer"), (9, "9")):
        with pytest.raises(ocsp.NoAnswer, match=says):
            ocsp.answer(bytes((0x30, 3, 0x0A, 1, number)), own)


OWN = ocsp.Identified(b"\1", b"", b"", b"", ())


@given(st.binary(max_size=200))
def test_whatever_comes_is_an_answer_or_none(data: bytes) -> None:
    """It comes from whoever listens there."""
    with pytest.raises(ocsp.NoAnswer):
        ocsp.answer(data, OWN)


@given(st.binary(max_size=200))
def test_whatever_is_shown_is_a_certificate_or_none(data: bytes) -> None:
    """It comes from whoever listens there, too."""
    with pytest.raises(MalformedDer):
        ocsp.identify(data)


@given(st.data())
def test_a_damaged_certificate_is_one_or_none(data: st.DataObject) -> None:
    """No octet changed or missing makes anything else of it."""
    begin, end = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"
    body = _PEM.partition(begin)[2].partition(end)[0]
    whole = bytearray(ssl.PEM_cert_to_DER_cert(begin + body + end))
    whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    cut = bytes(whole[: data.draw(st.integers(0, len(whole)))])
    with contextlib.suppress(MalformedDer):
        assert isinstance(ocsp.identify(cut), ocsp.Identified)


def made(tag: int, *parts: bytes) -> bytes:
    return ocsp.encoded(tag, b"".join(parts))


TIME = made(0x18, b"20260101000000Z")
ABOUT = made(0x30, made(0x30), made(4, b"name"), made(4, b"key"), made(2, OWN.serial))
SINGLE = made(0x30, ABOUT, made(0x80), TIME, made(0xA0, TIME))
BASIC = made(0x30, made(0x30, made(0xA1), TIME, made(0x30, SINGLE)))
GOOD = made(0x30, made(0x0A, b"\0"), made(0xA0, made(0x30, made(6, b"+"), made(4, BASIC))))


def certificate(*descriptions: bytes) -> bytes:
    """One with these in its authority information access (RFC 5280, 4.2.2.1)."""
    access = made(0x30, made(6, ocsp._AUTHORITY_INFORMATION), made(4, made(0x30, *descriptions)))
    key = made(0x30, made(0x30), made(3, b"\0key"))
    names = (made(0x30, name) for name in (b"", b"", b"", b""))
    return made(0x30, made(0x30, made(2, b"\1"), *names, key, made(0xA3, made(0x30, access))))


RESPONDER = made(0x30, made(6, ocsp._OCSP), made(0x86, b"http://a"))


@pytest.mark.parametrize("status", [b"", b"\0\0", b"\1" * 2000])
def test_a_status_is_one_octet(status: bytes) -> None:
    """None is no success, and a thousand are no number to be told."""
    response = made(0x30, made(0x0A, status))
    with pytest.raises(ocsp.NoAnswer, match="status"):
        ocsp.answer(response, OWN)


def test_a_description_of_nothing_names_no_responder() -> None:
    """Those beside it do all the same."""
    assert ocsp.identify(certificate(made(0x30), RESPONDER)).responders == ("http://a",)


def damaged(data: st.DataObject, der: bytes) -> bytes:
    """With one element, however deep inside, without its content, of noise, of another kind, or
    gone; all lengths are right."""
    parts = [ocsp.encoded(*part) for part in elements(der)]
    place = data.draw(st.integers(0, len(parts) - 1))
    [(tag, content)] = elements(parts[place])
    with contextlib.suppress(MalformedDer):
        if [*elements(content)] and data.draw(st.booleans()):
            parts[place] = made(tag, damaged(data, content))
            return b"".join(parts)
    noise = data.draw(st.binary(max_size=9)) * data.draw(st.sampled_from([1, 400]))
    other = data.draw(st.integers(0, 0xBF).filter(lambda one: one & 0x1F != 0x1F))
    choices = [made(tag), made(tag, noise), made(other, content), b""]
    parts[place] = data.draw(st.sampled_from(choices))
    return b"".join(parts)


@given(st.data())
def test_whatever_is_wrong_inside_is_an_answer_or_none(data: st.DataObject) -> None:
    """Of a response, and of a certificate."""
    assert ocsp.answer(GOOD, OWN).status == "good"
    with contextlib.suppress(ocsp.NoAnswer):
        ocsp.answer(damaged(data, GOOD), OWN)
    with contextlib.suppress(MalformedDer):
        ocsp.identify(damaged(data, certificate(RESPONDER)))


@given(st.integers(0, 255), st.binary(max_size=70_000))
def test_what_is_encoded_can_be_read(tag: int, content: bytes) -> None:
    """Of any length."""
    if tag & 0x1F != 0x1F:
        assert [*elements(ocsp.encoded(tag, content))] == [(tag, content)]
