"""What is told of a certificate, and that no bytes of anybody's make it raise anything else."""

import base64
import ipaddress
import random
import ssl
import time
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reachmap_agent.wire.certificate import (
    MAX_SIZE,
    Certificate,
    MalformedCertificate,
    facts,
    read,
)

REAL = base64.b64decode("""
MIICSjCCAfCgAwIBAgIUct94qk242U/8l8GKXZigg93tS3wwCgYIKoZIzj0EAwIw
RjELMAkGA1UEBhMCREUxEDAOBgNVBAoMB0V4YW1wbGUxDDAKBgNVBAsMA09wczEX
MBUGA1UEAwwObmF0cy0xLmV4YW1wbGUwHhcNMjYxMTIzMDUxMzAzWhcNMzYxMTIw
MDUxMzAzWjBGMQswCQYDVQQGEwJERTEQMA4GA1UECgwHRXhhbXBsZTEMMAoGA1UE
CwwDT3BzMRcwFQYDVQQDDA5uYXRzLTEuZXhhbXBsZTBZMBMGByqGSM49AgEGCCqG
SM49AwEHA0IABD6TJztAVnOGDZdmBMMWHEe7Omb2bQuZ8cFt/C5csTY7Yqi0AZ4h
Oy6VfmNtLtKpc6ijWP32fFaIX58CE4ChOzijgbswgbgwHQYDVR0OBBYEFO7faNyQ
nUY6pRT+4ODsjtvVEUB5MB8GA1UdIwQYMBaAFO7faNyQnUY6pRT+4ODsjtvVEUB5
MA8GA1UdEwEB/wQFMAMBAf8wZQYDVR0RAQH/BFswWYIObmF0cy0xLmV4YW1wbGWC
DioubmF0cy5leGFtcGxlhwQKAAAFhxD9AAAAAAAAAAAAAAAAAAAFgQthQGIuZXhh
bXBsZYYSaHR0cHM6Ly94LmV4YW1wbGUvMAoGCCqGSM49BAMCA0gAMEUCIQDOpK+S
FvR6TfeG2Ee4aC5yCgHNncdqTLCqh6nyovAMtQIgVQQG/vuoIs1nnUmwcg24Yd4F
NBrD5mRJJF7k3cMuPMA=
""")
"""Made by OpenSSL, with names and addresses, critical, and e-mail and URI besides."""

UTF8, PRINTABLE, TELETEX, IA5, UNIVERSAL, BMP = 0x0C, 0x13, 0x14, 0x16, 0x1C, 0x1E
COMMON_NAME, ORGANISATION = "550403", "55040a"
ALTERNATIVE_NAMES, KEY_USAGE = "551d11", "551d0f"


def der(tag: int, *content: bytes) -> bytes:
    """One element."""
    inside = b"".join(content)
    if len(inside) < 0x80:
        return bytes([tag, len(inside)]) + inside
    size = len(inside).to_bytes(4, "big").lstrip(b"\0")
    return bytes([tag, 0x80 | len(size)]) + size + inside


def oid(number: str) -> bytes:
    return der(0x06, bytes.fromhex(number))


def name(*pairs: tuple[str, int, bytes]) -> bytes:
    """A distinguished name of (attribute, tag of the string, its bytes)."""
    return der(0x30, *(der(0x31, der(0x30, oid(key), der(tag, text))) for key, tag, text in pairs))


def utc(text: str) -> bytes:
    """UTCTime or GeneralizedTime, by its length."""
    return der(0x17 if len(text) == 13 else 0x18, text.encode())


def extension(number: str, value: bytes, critical: bool = False) -> bytes:
    flag = [der(0x01, b"\xff")] if critical else []
    return der(0x30, oid(number), *flag, der(0x04, value))


def certificate(
    subject: bytes = name((COMMON_NAME, UTF8, b"server")),
    names: tuple[str, ...] = (),
    addresses: tuple[str, ...] = (),
    validity: tuple[str, str] = ("260101000000Z", "270101000000Z"),
    version: bool = True,
) -> bytes:
    """A certificate that nobody signed: nothing here asks who did."""
    alternatives = [der(0x82, one.encode()) for one in names]
    alternatives += [der(0x87, ipaddress.ip_address(one).packed) for one in addresses]
    extensions = [extension(KEY_USAGE, b"\x03\x02\x05\xa0", critical=True)]
    if alternatives:
        extensions.append(extension(ALTERNATIVE_NAMES, der(0x30, *alternatives)))
    algorithm = der(0x30, oid("2a8648ce3d040302"))
    to_be_signed = der(
        0x30,
        *([der(0xA0, der(0x02, b"\2"))] if version else []),
        der(0x02, b"\x01\x02"),
        algorithm,
        name((COMMON_NAME, UTF8, b"the issuer, whom nobody asks for")),
        der(0x30, *map(utc, validity)),
        subject,
        der(0x30, algorithm, der(0x03, b"\0key")),
        *([der(0xA3, der(0x30, *extensions))] if version else []),
    )
    return der(0x30, to_be_signed, algorithm, der(0x03, b"\0signature"))


def moment(second: int) -> str:
    """As GeneralizedTime."""
    return f"{EPOCH + timedelta(seconds=second):%Y%m%d%H%M%SZ}"


def test_a_real_certificate_is_read() -> None:
    """With all that is told of one."""
    assert read(REAL) == Certificate(
        subject="nats-1.example",
        names=("nats-1.example", "*.nats.example"),
        addresses=("10.0.0.5", "fd00::5"),
        not_before=int(datetime(2026, 11, 23, 5, 13, 3, tzinfo=UTC).timestamp()),
        not_after=int(datetime(2036, 11, 20, 5, 13, 3, tzinfo=UTC).timestamp()),
    )


def test_the_listeners_certificate_is_read(pem: str) -> None:
    """As another library made it."""
    body = pem[pem.index("-----BEGIN CERTIFICATE") :]
    end = "-----END CERTIFICATE-----"
    found = read(ssl.PEM_cert_to_DER_cert(body[: body.index(end)] + end))
    assert found.subject == "reachmap listener"
    assert found.not_before < found.not_after


labels = st.text("abcdefghijklmnopqrstuvwxyz0123456789-", min_size=1, max_size=20)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
seconds = st.integers(-(20 * 365 * 86_400), 253_402_300_799)
"""From 1950 to the end of 9999."""


@given(
    subject=st.text(max_size=40),
    names=st.lists(labels, max_size=5),
    addresses=st.lists(st.ip_addresses().map(str), max_size=5),
    begin=seconds,
    end=seconds,
)
def test_what_was_written_is_read(
    subject: str, names: list[str], addresses: list[str], begin: int, end: int
) -> None:
    """Whatever it names, and whenever it ends."""
    validity = (moment(begin), moment(end))
    encoded = name((COMMON_NAME, UTF8, subject.encode("utf-8", "replace")))
    found = read(certificate(encoded, tuple(names), tuple(addresses), validity))
    assert found.subject == subject.encode("utf-8", "replace").decode()
    assert found.names == tuple(names)
    assert found.addresses == tuple(addresses)
    assert (found.not_before, found.not_after) == (begin, end)


@pytest.mark.parametrize(
    ("subject", "read_as"),
    [
        (name(), ""),
        (name((ORGANISATION, UTF8, b"Example")), ""),
        (name((COMMON_NAME, PRINTABLE, b"a.example")), "a.example"),
        (name((COMMON_NAME, IA5, b"a.example")), "a.example"),
        (name((COMMON_NAME, UTF8, "Müller".encode())), "Müller"),
        (name((COMMON_NAME, TELETEX, "Müller".encode("latin-1"))), "Müller"),
        (name((COMMON_NAME, BMP, "Müller".encode("utf-16-be"))), "Müller"),
        (name((COMMON_NAME, UNIVERSAL, "Müller".encode("utf-32-be"))), "Müller"),
        (name((COMMON_NAME, UTF8, b"\xff!")), r"\xff!"),
        (name((COMMON_NAME, BMP, b"\0a\xd8")), r"a\xd8"),
        (name((COMMON_NAME, 0x02, b"a")), "a"),
        (name((COMMON_NAME, UTF8, b"first"), (COMMON_NAME, UTF8, b"last")), "last"),
        (name((ORGANISATION, UTF8, b"Example"), (COMMON_NAME, UTF8, b"server")), "server"),
    ],
)
def test_the_subject_is_its_common_name(subject: bytes, read_as: str) -> None:
    """In any of the forms of text that X.509 has, and even in none."""
    assert read(certificate(subject)).subject == read_as


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("491231235959Z", datetime(2049, 12, 31, 23, 59, 59, tzinfo=UTC)),
        ("500101000000Z", datetime(1950, 1, 1, tzinfo=UTC)),
        ("20500101000000Z", datetime(2050, 1, 1, tzinfo=UTC)),
        ("99991231235959Z", datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)),
        ("240229000000Z", datetime(2024, 2, 29, tzinfo=UTC)),
    ],
)
def test_a_time_is_read(text: str, moment: datetime) -> None:
    """With the centuries of RFC 5280, 4.1.2.5; the last one means for ever."""
    found = read(certificate(validity=("260101000000Z", text)))
    assert found.not_after == int(moment.timestamp())


@pytest.mark.parametrize(
    "text",
    [
        "230229000000Z",
        "261301000000Z",
        "260101250000Z",
        "260101000060Z",
        "2601010000Z",
        "260101000000+0100",
        "00000101000000Z",
        "20260101000000.5Z",
        "x60101000000Z",
        "26",
        "",
    ],
)
def test_a_time_that_is_none_is_an_error(text: str) -> None:
    """A day that does not exist, a zone that DER does not have."""
    with pytest.raises(MalformedCertificate):
        read(certificate(validity=("260101000000Z", text)))


def test_the_first_version_has_neither_version_nor_extensions() -> None:
    """Old devices make such certificates to this day."""
    found = read(certificate(names=("a",), version=False))
    assert (found.subject, found.names) == ("server", ())


@pytest.mark.parametrize(
    ("host", "is_for"),
    [
        ("nats-1.example", True),
        ("NATS-1.Example.", True),
        ("a.nats.example", True),
        ("a.b.nats.example", False),
        ("nats.example", False),
        ("xnats.example", False),
        ("example", False),
        ("server", False),
        ("", False),
        ("*.nats.example", True),
    ],
)
def test_for_whom_it_is(host: str, is_for: bool) -> None:
    """As clients see it: a star stands for one label, and the common name for nothing."""
    found = Certificate("server", ("nats-1.example", "*.nats.example"), (), 0, 0)
    assert found.is_for(host) is is_for


YEAR_2027 = 1798761600


@pytest.mark.parametrize(
    ("found", "dialled", "told"),
    [
        pytest.param(
            Certificate("server", ("a.example",), (), 0, YEAR_2027),
            "a.example",
            ("certificate of server, valid until 2027-01-01",),
            id="for the name",
        ),
        pytest.param(
            Certificate("server", ("a.example",), (), 0, YEAR_2027),
            "10.0.0.1",
            ("certificate of server, valid until 2027-01-01",),
            id="an address does not matter",
        ),
        pytest.param(
            Certificate("server", (), (), 0, YEAR_2027),
            "fd00::1",
            ("certificate of server, valid until 2027-01-01",),
            id="nor does one of IPv6",
        ),
        pytest.param(
            Certificate("", ("a.example", "b.example"), (), 0, YEAR_2027 - 1),
            "c.example",
            (
                "certificate of a.example, valid until 2026-12-31",
                "the certificate is not for c.example, but for a.example, b.example",
            ),
            id="for others",
        ),
        pytest.param(
            Certificate("", tuple(f"{i}.example" for i in range(7)), (), 0, 0),
            "c.example",
            (
                "certificate of 0.example, valid until 1970-01-01",
                "the certificate is not for c.example, but for 0.example, 1.example, 2.example, "
                "3.example and 3 more",
            ),
            id="for many others",
        ),
        pytest.param(
            Certificate("", (), ("10.0.0.5",), 0, 0),
            "c.example",
            (
                "certificate of 10.0.0.5, valid until 1970-01-01",
                "the certificate is not for c.example: it names no host",
            ),
            id="for an address",
        ),
        pytest.param(
            Certificate("", (), (), 0, -62135596800),
            "10.0.0.1",
            ("certificate of nobody, valid until 0001-01-01",),
            id="nobody's",
        ),
        pytest.param(
            Certificate("a\r\n\x1b[31m" + "x" * 100, (), (), 0, 253402300799),
            "10.0.0.1",
            (f"certificate of a...[31m{'x' * 52} ..., valid until 9999-12-31",),
            id="somebody's who would paint our terminal",
        ),
    ],
)
def test_what_is_told(found: Certificate, dialled: str, told: tuple[str, ...]) -> None:
    """Whose it is, until when, and whether it is for whom we dialled."""
    assert facts(found, dialled) == told


@given(st.binary(max_size=400))
def test_noise_is_no_certificate(data: bytes) -> None:
    """And nothing else happens."""
    with pytest.raises(MalformedCertificate):
        read(data)


@pytest.mark.parametrize("whole", [REAL, certificate(names=("a", "b"), addresses=("::1",))])
def test_a_certificate_that_is_cut_short_is_none(whole: bytes) -> None:
    """Wherever it is."""
    for end in range(len(whole)):
        with pytest.raises(MalformedCertificate):
            read(whole[:end])


@given(st.lists(st.tuples(st.integers(0, len(REAL) - 1), st.integers(0, 255)), max_size=4))
def test_a_damaged_certificate_is_read_or_is_none(damage: list[tuple[int, int]]) -> None:
    """What is read can be told, and printed."""
    data = bytearray(REAL)
    for place, byte in damage:
        data[place] = byte
    try:
        found = read(bytes(data))
    except MalformedCertificate:
        return
    for sentence in facts(found, "a.example"):
        assert sentence.isprintable()


def test_a_huge_certificate_is_not_even_looked_at() -> None:
    """A client would not take it either."""
    with pytest.raises(MalformedCertificate, match="too large"):
        read(certificate(names=("x" * 60,) * (MAX_SIZE // 60)))


def test_the_worst_certificate_is_read_in_a_moment() -> None:
    """One made of nothing but tiny elements does not hold up the other checks."""
    crowd = certificate(names=("",) * 30_000)
    assert len(crowd) < MAX_SIZE
    noise = random.Random(1).randbytes(60_000)
    began = time.process_time()
    assert len(read(crowd).names) == 30_000
    with pytest.raises(MalformedCertificate):
        read(der(0x30, der(0x30, noise)))
    assert time.process_time() - began < 1
