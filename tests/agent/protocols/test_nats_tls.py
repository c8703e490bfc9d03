"""NATS beyond its INFO line: TLS on the same connection, and a PING where nobody must log in."""

import json
import ssl
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

from reachmap_agent.protocols import nats
from reachmap_agent.wire.tunnel import Tunnel, stand_in_inside
from reachmap_shared.vocabulary import AnsweredBy, Outcome

CLIENT = {"server_id": "X", "version": "2.12.1", "client_id": 5, "client_ip": "10.0.0.7"}
ROUTE = {"server_id": "X", "version": "2.12.1", "nonce": "abc", "cluster": "c"}
TLS = {"tls_required": True}
TURNED_AWAY = "it lets in only clients that show a certificate"
SHOOK_HANDS = "shook hands over TLSv1.3"
PONG = "answered PING with PONG"

Said = Generator[bytes, bytes, bytes]


def info(*options: dict[str, Any]) -> bytes:
    merged = {key: value for one in options for key, value in one.items()}
    return b"INFO " + json.dumps(merged).encode() + b" \r\n"


def after(greeting: bytes, rest: Said) -> Said:
    """A server that says something first, and then goes on."""
    chunk = yield greeting
    next(rest)
    try:
        while True:
            chunk = yield rest.send(chunk)
    except StopIteration as stop:
        return bytes(stop.value)


def conversation(answer: bytes) -> Said:
    """A server that is told to CONNECT, answers, and waits until it is left."""
    heard = b""
    while b"PING\r\n" not in heard:
        heard += yield b""
    assert heard.startswith(b"CONNECT {") and heard.endswith(b"}\r\nPING\r\n")
    yield answer
    return b""


def mute() -> Said:
    """A server that waits for more than the handshake."""
    while (yield b""):
        raise AssertionError("nothing is to be said here")
    return b""


def strict(context: ssl.SSLContext) -> Said:
    """The server's side of a handshake that fails for want of a certificate."""
    tunnel = Tunnel(context, server=True)
    try:
        yield from tunnel.handshake()
    except ssl.SSLError:
        return tunnel.sealed()
    raise AssertionError("it was let in")


def verdict_on(wire: Any, server: Said, **how: Any) -> Any:
    target = wire.target(stand_in_certificate=b"")
    return wire.meet(nats.check(target), server, closes=True, **how)[0]


@pytest.mark.parametrize("size", [1, 50, 10_000])
@pytest.mark.parametrize("offer", [TLS, {"tls_available": True}])
def test_it_changes_to_tls_where_that_is_offered(
    wire: Any, offer: dict[str, Any], size: int
) -> None:
    """And pings inside, where everybody may; then the certificate is told, too."""
    server = stand_in_inside(wire.offer(), conversation(b"PONG\r\n"))
    verdict = verdict_on(wire, after(info(CLIENT, offer), server), size=size)
    assert (verdict.outcome, verdict.answered_by) == (Outcome.OPEN, AnsweredBy.SERVICE)
    assert verdict.evidence[:2] == ("answered with a NATS INFO line", PONG)
    assert verdict.evidence[2].startswith("certificate of reachmap listener, valid until 2126-")
    assert verdict.certificate_until is not None


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({**CLIENT, "auth_required": True}, id="clients log in"),
        pytest.param(ROUTE, id="a port for other servers"),
    ],
)
def test_it_says_nothing_inside_where_it_would_have_to_log_in(
    wire: Any, options: dict[str, Any]
) -> None:
    """The handshake is all, and it is whole: the server has nothing to log."""
    verdict = verdict_on(wire, after(info(options, TLS), stand_in_inside(wire.offer(), mute())))
    assert (verdict.outcome, verdict.answered_by) == (Outcome.OPEN, AnsweredBy.SERVICE)
    assert verdict.evidence[:2] == ("answered with a NATS INFO line", SHOOK_HANDS)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("more", [{}, {"auth_required": True}])
def test_a_server_that_wants_our_certificate_is_open(
    wire: Any, pem: str, tmp_path: Path, version: ssl.TLSVersion, more: dict[str, Any]
) -> None:
    """It does what it is meant to do, in either version, and the evidence says what."""
    (tmp_path / "pem").write_text(pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "pem")
    context.load_verify_locations(tmp_path / "pem")
    context.verify_mode = ssl.CERT_REQUIRED
    context.maximum_version = version
    greeting = info(CLIENT, TLS, {"tls_verify": True}, more)
    verdict = verdict_on(wire, after(greeting, strict(context)))
    assert (verdict.outcome, verdict.answered_by) == (Outcome.OPEN, AnsweredBy.SERVICE)
    assert verdict.healthy
    assert TURNED_AWAY in verdict.evidence
    # In TLS 1.2 it is told before hands are shaken, when the certificate is not to be had yet.
    shown = version is ssl.TLSVersion.TLSv1_3
    assert any(fact.startswith("certificate of") for fact in verdict.evidence) is shown


@pytest.mark.parametrize(
    ("verifies", "outcome"), [(True, Outcome.OPEN), (False, Outcome.TLS_FAILURE)]
)
def test_a_failed_handshake_is_excused_only_where_a_certificate_is_wanted(
    wire: Any, verifies: bool, outcome: Outcome
) -> None:
    """`handshake failure` by itself may mean anything."""
    alert = bytes.fromhex("15030300020228")
    chunks = [info(CLIENT, TLS, {"tls_verify": verifies}), alert]
    assert wire.feed(nats.check(wire.target()), chunks).result.outcome is outcome


@pytest.mark.parametrize("end", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n", b"-ERR 'x'\r\n"])
def test_tls_that_does_not_come_about_is_a_tls_failure(wire: Any, end: bytes) -> None:
    """After an INFO line that promised it: that much is told."""
    chunks = [info(CLIENT, TLS), *([end] if end else [])]
    verdict = wire.feed(nats.check(wire.target()), chunks, closes=True).result
    assert verdict.outcome is Outcome.TLS_FAILURE
    assert verdict.evidence[0] == "answered with a NATS INFO line"
    assert verdict.evidence[1].startswith("TLS failed: ")


def test_silence_in_place_of_tls_is_waited_out(wire: Any) -> None:
    """It stalled, half-way."""
    assert wire.feed(nats.check(wire.target()), [info(CLIENT, TLS)]).result is None


def test_a_listener_is_challenged_as_a_server_is_asked(wire: Any) -> None:
    """By CONNECT, where a client has its name, and PING; it wants no TLS."""
    line = wire.feed(nats.stand_in(wire.offer())).sent
    sent = wire.feed(nats.check(wire.target()), [line]).sent
    assert sent.startswith(b"CONNECT {") and sent.endswith(b"}\r\nPING\r\n")
    assert b'"name": "' + wire.challenge().text + b'"' in sent


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({**CLIENT, "auth_required": True}, id="clients log in"),
        pytest.param(ROUTE, id="a port for other servers"),
        pytest.param({"server_id": "X"}, id="old"),
    ],
)
def test_in_plain_text_it_says_nothing_where_it_is_not_let_in(
    wire: Any, options: dict[str, Any]
) -> None:
    """A failed login would be in the log."""
    heard = wire.feed(nats.check(wire.target()), [info(options)])
    assert heard.sent == b""
    assert heard.result.evidence == ("answered with a NATS INFO line",)


@pytest.mark.parametrize(("offer", "pings"), [(TLS, False), ({"tls_available": True}, True)])
def test_without_a_context_it_does_not_change_to_tls(
    wire: Any, offer: dict[str, Any], pings: bool
) -> None:
    """And speaks in plain text only to a server that takes it."""
    heard = wire.feed(nats.check(wire.target(tls=None)), [info(CLIENT, offer), b"PONG\r\n"])
    assert heard.result.outcome is Outcome.OPEN
    assert (PONG in heard.result.evidence) is pings is (heard.sent != b"")


def test_connect_is_one_that_servers_take(wire: Any) -> None:
    """JSON with the fields that every client sends, and the name that says who asks."""
    sent = wire.feed(nats.check(wire.target()), [info(CLIENT)]).sent
    connect, ping, end = sent.split(b"\r\n")
    assert (ping, end) == (b"PING", b"")
    options = json.loads(connect.removeprefix(b"CONNECT "))
    assert {"verbose", "pedantic", "lang", "version"} <= set(options)
    assert options["name"] == "reachmap"


@pytest.mark.parametrize(
    "chunks",
    [
        [b"PONG\r\n"],
        [b"PO", b"NG\r", b"\n"],
        [b"+OK\r\nPONG\r\n"],
        [b"PING\r\nPONG\r\n"],
        [info(CLIENT) + b"PONG\r\nPING\r\n"],
    ],
)
def test_a_pong_is_what_counts(wire: Any, chunks: list[bytes]) -> None:
    """Whatever else a server says before it."""
    verdict = wire.feed(nats.check(wire.target()), [info(CLIENT), *chunks]).result
    assert (verdict.outcome, verdict.healthy) == (Outcome.OPEN, True)
    assert verdict.evidence == ("answered with a NATS INFO line", PONG)


def test_a_server_that_complains_is_open_and_not_well(wire: Any) -> None:
    """It lets everybody in, but not now; why, is told."""
    chunks = [info(CLIENT), b"-ERR 'maximum connections exceeded'\r\n"]
    verdict = wire.feed(nats.check(wire.target()), chunks, closes=True).result
    assert (verdict.outcome, verdict.answered_by) == (Outcome.OPEN, AnsweredBy.SERVICE)
    assert not verdict.healthy
    assert "maximum connections exceeded" in verdict.evidence[-1]


@pytest.mark.parametrize(
    ("chunks", "closes", "outcome"),
    [
        pytest.param([], True, Outcome.RESET, id="it hangs up"),
        pytest.param([b"PON"], True, Outcome.RESET, id="half-way"),
        pytest.param([b"HELLO\r\n"], False, Outcome.WRONG_SERVICE, id="it makes no sense"),
        pytest.param([b"x" * 1000] * 20, False, Outcome.WRONG_SERVICE, id="for ever"),
        pytest.param([b"PING\r\n" * 100] * 200, False, Outcome.WRONG_SERVICE, id="it only asks"),
    ],
)
def test_what_is_no_pong(wire: Any, chunks: list[bytes], closes: bool, outcome: Outcome) -> None:
    """INFO can be had by itself, of something that answers nothing."""
    verdict = wire.feed(nats.check(wire.target()), [info(CLIENT), *chunks], closes=closes).result
    assert verdict.outcome is outcome


@pytest.mark.parametrize(
    "line",
    [
        b"INFO {not JSON} \r\n",
        b'INFO {"tls_required":true\r\n',
        b"INFO {" + b'"a":{' * 2500 + b"\r\n",
        b"INFO {\xff}\r\n",
    ],
)
def test_an_info_line_that_cannot_be_read_is_one_all_the_same(wire: Any, line: bytes) -> None:
    """But nothing is made of what it may mean."""
    heard = wire.feed(nats.check(wire.target()), [line])
    assert (heard.sent, heard.result.outcome) == (b"", Outcome.OPEN)
